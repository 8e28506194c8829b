// The GEMMs of fixed_product.hpp, which says what they are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "../core/rounding.hpp"
#include "feedback.hpp"
#include "fixed_operands.hpp"
#include "fixed_probes.hpp"
#include "fixed_product.hpp"
#include "fixed_views.hpp"

namespace lamella::nn {

namespace detail {

// Bits that the wide tensor of accumulators up to `bound` drops: max(0, bit length - 31), and one more when the bound
// itself would round up to 2^31.
inline int wide_shift(std::int64_t bound) noexcept {
    const int shift = std::max(0, bit_length(static_cast<std::uint64_t>(bound)) - 31);
    return round_nearest(bound, shift) >> 31 == 0 ? shift : shift + 1;
}

// Pairs (position, tap) whose error pixel first + position - tap lies inside the error image.
inline std::int64_t pairs_inside(std::int64_t positions, std::int64_t taps, std::int64_t first,
                                 std::int64_t size) noexcept {
    std::int64_t count = 0;
    for (std::int64_t u = 0; u < positions; ++u)
        for (std::int64_t t = 0; t < taps; ++t) count += first + u - t >= 0 && first + u - t < size;
    return count;
}

}  // namespace detail

LAMELLA_ONCE void fixed::product::build(engine& e, const geometry& g, int layer, std::uint16_t key) {
    geometry_ = g;
    layer_ = layer;
    key_ = key;
    e.controller->layer_built(layer, g.weights());
    const int ceiling = e.controller->ceiling();
    const std::int64_t most = gemm::largest_bound / 2 / gemm::accumulator_bound(ceiling, ceiling, 1);
    for (const std::int64_t depth : {g.depth(), g.error_depth(), g.out_pixels()})
        if (depth > most)
            throw argument_error(
                "layer " + std::to_string(layer) + " depth",
                "at most " + std::to_string(most) + " products of " + std::to_string(ceiling) + " bits",
                std::to_string(depth));
}

LAMELLA_ONCE void fixed::product::forward(engine& e, tensor& in, const fixed_parameter& weight,
                                          const fixed_parameter& bias, tensor& out) {
    const geometry& g = geometry_;
    widths_ = e.controller->widths(layer_);
    quantise_activation(e, in);
    quantise_weight(e, weight);

    const bool empty = activation_.zero || weight_.zero;
    const int exponent = empty ? bias.exponent : activation_.exponent + weight_.exponent;
    const std::int64_t largest_bias = align(bias, exponent);
    const std::int64_t bound = gemm::accumulator_bound(widths_.activation, widths_.weight, g.depth(), largest_bias);
    const int shift = detail::wide_shift(bound);

    out.reshape(in.samples, g.out);
    out.exponent = exponent + shift;
    out.bits = std::min(31, bit_length(static_cast<std::uint64_t>(empty ? largest_bias : bound)));
    for (std::int64_t group = 0; group < g.groups; ++group) {
        const gemm::problem p = forward_problem(activation_, weight_, in.samples, group);
        gemm::output to;
        to.rows = gemm::axis::linear(p.m(), g.out.channels);
        to.wide = out.data.data() + group * g.out_part();
        to.bias = aligned_.empty() ? nullptr : aligned_.data() + group * g.out_part();
        to.largest_bias = largest_bias;
        to.shift = shift;
        // Observers come first, while the operands are still in the cache.
        if (e.observed()) e.notify(describe(e, stage::feed_forward, p, in.samples, false, &in));
        gemm::multiply(p, to, e.options.kernels, e.workspace);
    }
    if (e.training) reserve_probes(in.samples);
    if (probed(e, stage::feed_forward)) probe_forward(e, in, weight);
}

LAMELLA_ONCE void fixed::product::backward(engine& e, const tensor& in, tensor& error, fixed_parameter& weight,
                                           fixed_parameter& bias, tensor* in_error) {
    const bool direct = e.options.feedback == feedback::direct;
    ep_ = in_error != nullptr && !direct ? error_padding() : border{};
    quantise_error(e, error);
    choose_samples(e, in.samples);
    weight_gradient(e, in.samples, error, weight, bias);
    if (probed(e, stage::error_propagation)) probe_error(e, in.samples, error);
    if (in_error == nullptr) return;
    if (direct)
        project(e, in, *in_error);
    else
        propagate(e, in, error, *in_error);
}

LAMELLA_ONCE void fixed::product::weight_gradient(engine& e, std::int64_t samples, const tensor& error,
                                                  fixed_parameter& weight, fixed_parameter& bias) {
    if (multiplied_ == 0) weight.gradient.fill_zero();
    for (std::int64_t group = 0; group < geometry_.groups; ++group) {
        const gemm::problem p = gradient_problem(error_, activation_, samples, group);
        if (e.observed()) e.notify(describe(e, stage::weight_gradient, p, samples, false, &error));
        if (multiplied_ == 0) continue;
        gemm::output to;
        to.rows = gemm::axis::linear(p.m(), p.n());
        to.exact = weight.gradient.data() + group * p.m() * p.n();
        gemm::multiply(multiplied_ == samples ? p : gradient_problem(active_error_, active_input_, multiplied_, group),
                       to, e.options.kernels, e.workspace);
    }
    weight.gradient_exponent = error_.exponent + activation_.exponent;
    if (e.controller->wants_gradients())
        e.controller->on_gradient(layer_, weight.gradient.span(), weight.gradient_exponent);

    if (bias.gradient.empty()) return;
    const auto sum = [&](const auto* mantissas) {
        channel_sums_(e.isa(), mantissas, geometry_.out.size(), active_.places(), bias.gradient.span());
    };
    if (error_.width <= byte_width)
        sum(error_.bytes.data());
    else
        sum(reinterpret_cast<const std::int16_t*>(error_.bytes.data()));
    bias.gradient_exponent = error_.exponent;
}

// EP in gather form. With a stride, the input pixels of one residue class see a fixed subset of the taps: one GEMM a
// class, and no zero that a stride inserts is ever multiplied.
LAMELLA_ONCE void fixed::product::propagate(engine& e, const tensor& in, const tensor& error, tensor& in_error) {
    const geometry& g = geometry_;
    in_error.reshape(in.samples, g.in);
    const std::int64_t bound = gemm::accumulator_bound(widths_.error, widths_.weight, g.error_depth());
    const int shift = detail::wide_shift(bound);
    in_error.exponent = error_.exponent + weight_.exponent + shift;
    in_error.bits = std::min(31, bit_length(static_cast<std::uint64_t>(bound)));
    if (multiplied_ == 0 || g.stride > g.kernel_height || g.stride > g.kernel_width) in_error.data.fill_zero();
    for (std::int64_t group = 0; group < g.groups; ++group) propagate(e, in, error, in_error, shift, group);
    if (multiplied_ != in.samples && multiplied_ != 0) active_.scatter(in_error.data.data(), g.in.size());
}

LAMELLA_ONCE void fixed::product::propagate(engine& e, const tensor& in, const tensor& error, tensor& in_error,
                                            int shift, std::int64_t group) {
    const geometry& g = geometry_;
    const bool whole = multiplied_ == in.samples;
    const std::int64_t row = (g.out.width + ep_.left + ep_.right) * g.out.channels;
    const std::int64_t image = (g.out.height + ep_.top + ep_.bottom) * row;
    for (std::int64_t y = 0; y < std::min(g.stride, g.in.height); ++y)
        for (std::int64_t x = 0; x < std::min(g.stride, g.in.width); ++x) {
            const std::int64_t top = (y + g.padding) % g.stride, left = (x + g.padding) % g.stride;
            const std::int64_t taps_down = (g.kernel_height - top + g.stride - 1) / g.stride;
            const std::int64_t taps_across = (g.kernel_width - left + g.stride - 1) / g.stride;
            if (taps_down <= 0 || taps_across <= 0) continue;
            const std::int64_t down = (g.in.height - y + g.stride - 1) / g.stride;
            const std::int64_t across = (g.in.width - x + g.stride - 1) / g.stride;
            const std::int64_t first_row = (y + g.padding - top) / g.stride + ep_.top;
            const std::int64_t first_column = (x + g.padding - left) / g.stride + ep_.left;
            const std::int64_t depth = g.depth(), first_channel = group * g.out_part();

            const auto errors = [&](const operand& o, std::int64_t samples) {
                return gemm::operand_view{
                    o.at(first_row * row + first_column * g.out.channels + first_channel), o.width, o.exponent,
                    gemm::axis::nested({samples, down, across}, {image, row, g.out.channels}),
                    gemm::axis::nested({taps_down, taps_across, g.out_part()}, {-row, -g.out.channels, 1})};
            };
            const auto places = [&](std::int64_t samples) {
                return gemm::axis::nested({samples, down, across}, {g.in.size(), g.stride * g.in.width * g.in.channels,
                                                                    g.stride * g.in.channels});
            };
            gemm::problem p;
            p.a = errors(error_, in.samples);
            p.b = {weight_.at(first_channel * depth + (top * g.kernel_width + left) * g.in_part()), weight_.width,
                   weight_.exponent, gemm::axis::linear(g.in_part(), 1),
                   gemm::axis::nested({taps_down, taps_across, g.out_part()},
                                      {g.stride * g.kernel_width * g.in_part(), g.stride * g.in_part(), depth})};
            const std::int64_t origin = (y * g.in.width + x) * g.in.channels + group * g.in_part();
            if (multiplied_ != 0) {
                gemm::output to;
                to.rows = places(multiplied_);
                to.wide = in_error.data.data() + origin;
                to.shift = shift;
                gemm::multiply(whole ? p : gemm::problem{errors(active_error_, multiplied_), p.b}, to,
                               e.options.kernels, e.workspace);
            }
            if (e.observed()) {
                const std::int64_t rows_inside =
                    detail::pairs_inside(down, taps_down, (y + g.padding - top) / g.stride, g.out.height);
                const std::int64_t columns_inside =
                    detail::pairs_inside(across, taps_across, (x + g.padding - left) / g.stride, g.out.width);
                gemm::gemm_event event = describe(e, stage::error_propagation, p, in.samples, false, &error);
                event.macs = in.samples * rows_inside * columns_inside * g.in_part() * g.out_part();
                if (in.gated) event.gate = in.data.data() + origin;
                event.gate_rows = places(in.samples);
                e.notify(event);
            }
        }
}

LAMELLA_ONCE void fixed::product::project(engine& e, const tensor& in, tensor& in_error) {
    const std::int64_t inputs = geometry_.in.size(), outputs = e.output_error.shape.size();
    tensor& from = e.output_error;
    e.count(from);
    choose(e, output_error_, role::error, e.options.error, from.seen, from.exponent, widths_.error,
           e.options.error_rounding, random_16(e.site(key_, stream::feedback_allowance), 0, 0));
    store(e, output_error_, from.data.data(), in.samples, from.shape, e.options.error_rounding, stream::feedback_error,
          border{});
    e.feedback.resize(static_cast<std::size_t>(inputs * outputs));
    detail::fill_feedback(e.isa(), e.seed, key_, std::int8_t{1}, e.feedback.span());

    const std::int64_t bound = gemm::accumulator_bound(widths_.error, detail::feedback_width, outputs);
    gemm::output to;
    to.shift = detail::wide_shift(bound);
    in_error.reshape(in.samples, geometry_.in);
    in_error.exponent = output_error_.exponent + detail::feedback_exponent(inputs) + to.shift;
    in_error.bits = std::min(31, bit_length(static_cast<std::uint64_t>(bound)));
    to.rows = gemm::axis::linear(in.samples, inputs);
    to.wide = in_error.data.data();
    const gemm::axis depth = gemm::axis::linear(outputs, 1);
    gemm::problem p;
    p.a = {output_error_.data, output_error_.width, output_error_.exponent, gemm::axis::linear(in.samples, outputs),
           depth};
    p.b = {e.feedback.data(), detail::feedback_width, detail::feedback_exponent(inputs),
           gemm::axis::linear(inputs, outputs), depth};
    gemm::multiply(p, to, e.options.kernels, e.workspace);
    if (!e.observed()) return;
    gemm::gemm_event event;
    event.step = e.step;
    event.layer = layer_;
    event.where = stage::error_propagation;
    event.samples = in.samples;
    event.macs = in.samples * inputs * outputs;
    event.a = {p.a,
               images(output_error_, in.samples, from.shape, border{}),
               role::error,
               &from.seen,
               output_error_.clips,
               {from.data.data(), nullptr, from.size(), from.exponent}};
    event.b = {p.b, {e.feedback.data(), 1, 1, 1, inputs * outputs}, role::weight, nullptr, {}, {}};
    event.generated = true;
    if (in.gated) event.gate = in.data.data();
    event.gate_rows = to.rows;
    e.notify(event);
}

LAMELLA_ONCE void fixed::product::choose_samples(const engine& e, std::int64_t samples) {
    const geometry& g = geometry_;
    const auto reserve = [&](operand& o, const image_shape& s, const border& edge) {
        const std::int64_t image =
            (s.height + edge.top + edge.bottom) * (s.width + edge.left + edge.right) * s.channels;
        o.bytes.resize(static_cast<std::size_t>(2 * samples * image));
        return image;
    };
    const std::int64_t error_image = reserve(active_error_, g.out, ep_);
    const std::int64_t input_image = reserve(active_input_, g.in, input_border());
    active_.find(error_.bytes.data(), samples, g.out.size() * error_.unit());
    multiplied_ = e.options.kernels.skip_zeros && active_.pays() ? active_.count() : samples;
    if (multiplied_ == samples || multiplied_ == 0) return;
    const auto take = [&](const operand& from, std::int64_t image, operand& to) {
        active_.gather(from.data, image * from.unit(), to.bytes.data());
        to.data = to.bytes.data();
        to.width = from.width;
        to.exponent = from.exponent;
    };
    take(error_, error_image, active_error_);
    take(activation_, input_image, active_input_);
}

}  // namespace lamella::nn
