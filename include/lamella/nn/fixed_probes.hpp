// Part of fixed_product_definition.hpp. LAPS' probes: a GEMM again at two other widths, and how far apart their results
// are.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../gemm/multiply.hpp"
#include "fixed_product.hpp"

namespace lamella::nn {

LAMELLA_ONCE void fixed::product::reserve_probes(std::int64_t samples) {
    const geometry& g = geometry_;
    const std::int64_t results = std::max(probe_samples(samples) * g.out.size(), g.weights());
    const std::int64_t padded_in = (g.in.height + 2 * g.padding) * (g.in.width + 2 * g.padding) * g.in.channels;
    const border edge = error_padding();
    const std::int64_t padded_out =
        (g.out.height + edge.top + edge.bottom) * (g.out.width + edge.left + edge.right) * g.out.channels;
    const std::int64_t bytes = 2 * std::max(probe_samples(samples) * padded_in, samples * padded_out);
    high_.resize(static_cast<std::size_t>(results));
    low_.resize(static_cast<std::size_t>(results));
    probe_a_.bytes.resize(static_cast<std::size_t>(bytes));
    probe_a_.bordered.resize(static_cast<std::size_t>(bytes));
    probe_w_.bytes.resize(static_cast<std::size_t>(2 * g.weights()));
}

// Both sides round to nearest from the same wide tensor with the same top bit, so that the probe sees the width alone.
LAMELLA_ONCE void fixed::product::at_width(operand& o, const operand& present, int width) const {
    o.width = width;
    o.zero = present.zero;
    o.dropped = present.dropped + present.width - width;
    o.exponent = present.exponent + present.width - width;
}

LAMELLA_ONCE void fixed::product::probe_forward(engine& e, const tensor& in, const fixed_parameter& weight) {
    const std::int64_t samples = probe_samples(in.samples);
    const auto run = [&](int width, buffer<std::int64_t>& result) {
        at_width(probe_a_, activation_, width);
        at_width(probe_w_, weight_, width);
        store(e, probe_a_, in.data.data(), samples, geometry_.in, rounding::nearest, stream::activation,
              input_border());
        store_weight(e, probe_w_, weight, rounding::nearest);
        for (std::int64_t group = 0; group < geometry_.groups; ++group)
            probe_multiply(e, stage::feed_forward, forward_problem(probe_a_, probe_w_, samples, group), samples,
                           geometry_.out.channels, result.data() + group * geometry_.out_part());
        return std::min(samples * geometry_.out_pixels(), probe_rows) * geometry_.out.channels;
    };
    run(e.probe->high, high_);
    compare(e, run(e.probe->low, low_), 2 * (e.probe->high - e.probe->low));
}

LAMELLA_ONCE void fixed::product::probe_error(engine& e, std::int64_t samples, const tensor& error) {
    const auto run = [&](int width, buffer<std::int64_t>& result) {
        at_width(probe_a_, error_, width);
        store(e, probe_a_, error.data.data(), samples, geometry_.out, rounding::nearest, stream::error, ep_);
        const std::int64_t depth = geometry_.depth(), rows = geometry_.out_part();
        for (std::int64_t group = 0; group < geometry_.groups; ++group)
            probe_multiply(e, stage::weight_gradient, gradient_problem(probe_a_, activation_, samples, group), samples,
                           depth, result.data() + group * rows * depth);
        return std::min(geometry_.out.channels, probe_rows) * depth;
    };
    run(e.probe->high, high_);
    compare(e, run(e.probe->low, low_), e.probe->high - e.probe->low);
}

LAMELLA_ONCE void fixed::product::probe_multiply(engine& e, stage where, const gemm::problem& p, std::int64_t samples,
                                                 std::int64_t row, std::int64_t* result) {
    gemm::output to;
    to.rows = gemm::axis::linear(p.m(), row);
    to.exact = result;
    gemm::multiply(p, to, e.options.kernels, e.workspace);
    if (e.observed()) e.notify(describe(e, where, p, samples, true, nullptr));
}

LAMELLA_ONCE void fixed::product::compare(engine& e, std::int64_t count, int shift) {
    precision::probe_result result{*e.probe, 0, 0};
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t high = high_[static_cast<std::size_t>(i)];
        const std::int64_t difference = high - (low_[static_cast<std::size_t>(i)] << shift);
        result.distance += static_cast<std::uint64_t>(difference < 0 ? -difference : difference);
        result.magnitude += static_cast<std::uint64_t>(high < 0 ? -high : high);
    }
    e.controller->on_probe(result);
}

}  // namespace lamella::nn
