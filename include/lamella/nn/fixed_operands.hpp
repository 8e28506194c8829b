// Part of fixed_product_definition.hpp. How operands are made: wide tensors and master weights rounded to the layer's
// widths, with the border of zeros that a convolution reads around each image.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

#include "../core/largest.hpp"
#include "../core/quantise.hpp"
#include "../core/rounding.hpp"
#include "fixed_product.hpp"

namespace lamella::nn {

namespace detail {

// Beyond these, every bit is clipped or lost anyway.
constexpr int storable(int dropped) noexcept { return std::clamp(dropped, -31, 48); }

}  // namespace detail

LAMELLA_ONCE void fixed::product::choose(const engine& e, operand& o, role what, const radix_policy& policy,
                                         const histogram& seen, int exponent, int width, rounding mode,
                                         std::uint16_t draw) const {
    o.width = width;
    o.zero = seen.maximum == 0;
    const std::optional<int> given = e.controller->exponent(layer_, what);
    o.dropped = o.zero ? 0 : given ? *given - exponent : dropped_bits(policy, seen, width, mode, draw);
    o.exponent = o.zero ? 0 : exponent + o.dropped;
}

LAMELLA_ONCE void fixed::product::store(const engine& e, operand& o, const std::int32_t* wide, std::int64_t samples,
                                        const image_shape& shape, rounding mode, stream use, const border& edge) const {
    o.bytes.resize(static_cast<std::size_t>(2 * samples * shape.size()));
    const quantise_job job{wide,    samples, shape.size(),      detail::storable(o.dropped),
                           o.width, mode,    e.site(key_, use), e.first_position};
    o.clips = quantise(job, o.bytes.data(), e.isa(), e.threads());
    o.data = o.bytes.data();
    if (!edge.none()) add_border(o, samples, shape, edge);
}

LAMELLA_ONCE void fixed::product::add_border(operand& o, std::int64_t samples, const image_shape& s,
                                             const border& edge) {
    const std::int64_t height = s.height + edge.top + edge.bottom, width = s.width + edge.left + edge.right;
    o.bordered.resize(static_cast<std::size_t>(2 * samples * height * width * s.channels));
    const std::int64_t pixel = s.channels * o.unit(), row = s.width * pixel;
    std::int8_t* to = o.bordered.data();
    const std::int8_t* from = o.bytes.data();
    const auto zeros = [&](std::int64_t count) {
        std::memset(to, 0, static_cast<std::size_t>(count * pixel));
        to += count * pixel;
    };
    for (std::int64_t i = 0; i < samples; ++i) {
        zeros(edge.top * width + edge.left);
        for (std::int64_t y = 0; y < s.height; ++y, from += row) {
            std::memcpy(to, from, static_cast<std::size_t>(row));
            to += row;
            zeros(y + 1 < s.height ? edge.right + edge.left : edge.right);
        }
        zeros(edge.bottom * width);
    }
    o.data = o.bordered.data();
}

// EP reads errors at (input + padding - tap) / stride: the zeros that this reaches outside the error image.
LAMELLA_ONCE fixed::product::border fixed::product::error_padding() const noexcept {
    const geometry& g = geometry_;
    const auto before = [&](std::int64_t kernel) { return (kernel - 1 - g.padding) / g.stride; };
    const auto after = [&](std::int64_t in, std::int64_t out) {
        return std::max<std::int64_t>(0, (in - 1 + g.padding) / g.stride - (out - 1));
    };
    return {before(g.kernel_height), after(g.in.height, g.out.height), before(g.kernel_width),
            after(g.in.width, g.out.width)};
}

LAMELLA_ONCE void fixed::product::quantise_activation(engine& e, tensor& in) {
    if (e.training) {
        e.count(in);
        running_.add(in.seen, in.exponent);
        choose(e, activation_, role::activation, e.options.activation, in.seen, in.exponent, widths_.activation,
               e.options.activation_rounding, allowance_draw(e, role::activation));
        store(e, activation_, in.data.data(), in.samples, geometry_.in, e.options.activation_rounding,
              stream::activation, input_border());
        return;
    }
    if (e.calibrating) {
        e.count(in);
        running_.add(in.seen, in.exponent);
    }
    if (running_.empty())
        throw error("evaluation needs a network that was trained for at least one step, or calibrated");
    int exponent = 0;
    const histogram seen = running_.at(exponent);
    radix_policy policy = e.options.activation;
    policy.allowance = 0;
    choose(e, activation_, role::activation, policy, seen, exponent, widths_.activation, rounding::nearest, 0);
    // What was nothing but zero in training stays zero: there is no exponent for it.
    activation_.dropped = activation_.zero ? 48 : activation_.exponent - in.exponent;
    store(e, activation_, in.data.data(), in.samples, geometry_.in, rounding::nearest, stream::activation,
          input_border());
}

LAMELLA_ONCE void fixed::product::quantise_weight(engine& e, const fixed_parameter& weight) {
    weight_seen_ = histogram{};
    const auto count = static_cast<std::int64_t>(weight.mantissa.size());
    weight_source_ = {nullptr, weight.mantissa.data(), count, weight.exponent};
    radix_policy policy = e.options.weight;
    if (policy.rule == radix_rule::no_overflow && !e.observed())  // nobody looks at anything else
        weight_seen_.maximum = static_cast<std::uint32_t>(largest_magnitude(e.isa(), weight.mantissa.data(), count));
    else
        count_magnitudes(weight.mantissa.data(), count, weight_seen_, e.isa(), e.threads());
    if (!e.training) policy.allowance = 0;
    const rounding mode = e.training ? e.options.weight_rounding : rounding::nearest;
    choose(e, weight_, role::weight, policy, weight_seen_, weight.exponent, widths_.weight, mode,
           allowance_draw(e, role::weight));
    store_weight(e, weight_, weight, mode);
}

LAMELLA_ONCE void fixed::product::store_weight(const engine& e, operand& o, const fixed_parameter& weight,
                                               rounding mode) const {
    const auto count = static_cast<std::int64_t>(weight.mantissa.size());
    o.bytes.resize(static_cast<std::size_t>(2 * count));
    const basic_quantise_job<std::int16_t> job{
        weight.mantissa.data(), 1, count, detail::storable(o.dropped), o.width, mode, e.site(key_, stream::weight), 0};
    o.clips = quantise(job, o.bytes.data(), e.isa(), e.threads());
    o.data = o.bytes.data();
}

LAMELLA_ONCE void fixed::product::quantise_error(engine& e, tensor& error) {
    e.count(error);
    choose(e, error_, role::error, e.options.error, error.seen, error.exponent, widths_.error, e.options.error_rounding,
           allowance_draw(e, role::error));
    store(e, error_, error.data.data(), error.samples, geometry_.out, e.options.error_rounding, stream::error, ep_);
}

LAMELLA_ONCE std::int64_t fixed::product::align(const fixed_parameter& bias, int exponent) {
    const std::size_t count = bias.mantissa.size();
    aligned_.resize(count);
    const int left = bias.exponent - exponent;
    constexpr std::int64_t limit = std::int64_t{1} << 61;
    std::int64_t largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::int64_t mantissa = bias.mantissa[i];
        if (left > 45)
            aligned_[i] = mantissa > 0 ? limit : mantissa < 0 ? -limit : 0;
        else
            aligned_[i] = round_nearest(mantissa, -left);
        largest = std::max(largest, aligned_[i] < 0 ? -aligned_[i] : aligned_[i]);
    }
    return largest;
}

}  // namespace lamella::nn
