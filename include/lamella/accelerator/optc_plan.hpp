// The exponents that a step of OPTC works with and writes back (optc.hpp), chosen from a tensor's maxima before the
// lanes run.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../core/decimal.hpp"
#include "../core/format.hpp"
#include "../core/rounding.hpp"
#include "optc_lanes.hpp"
#include "optc_step.hpp"

namespace lamella::accelerator {

namespace detail {

// Exponents of the working values, from the tensor's maxima; see optc_lanes.hpp for the bounds that they keep.
inline optc_plan plan_step(const optc_step& s, const optc_tensor& t, const optc_maxima& m,
                           optc_saturations& cut) noexcept {
    constexpr int absent = no_exponent;
    optc_plan p;
    p.direction = s.direction;

    // g
    bool has_gradient = m.sum != 0 && s.inverse_batch.mantissa != 0;
    int exponent = 0, length = 0;  // of g
    if (has_gradient) {
        const int zeros = __builtin_ctz(static_cast<std::uint32_t>(s.inverse_batch.mantissa));
        const std::uint64_t factor = static_cast<std::uint64_t>(s.inverse_batch.mantissa) >> zeros;
        exponent = t.gradient_exponent + s.inverse_batch.exponent + zeros;
        p.inverse_batch = static_cast<std::int64_t>(factor);
        p.long_product = bit_length(m.sum) + bit_length(factor) > 62;
        std::uint64_t product = m.sum * factor;
        if (p.long_product) {
            p.sum_shift = std::max(0, 63 - bit_length(m.sum));
            const std::uint64_t moved = m.sum << p.sum_shift, low = (moved & 0xFFFFFFFFu) * factor;
            product = ((moved >> 32) * factor + (low >> 32)) | ((low & 0xFFFFFFFFu) != 0 ? 1u : 0u);
            exponent += 32 - p.sum_shift;
        }
        int dropped = bit_length(product) - (optc_mean_width - 1);
        if (dropped < 0) {
            p.sum_shift -= dropped;  // an exact left shift
            product <<= -dropped;
        }
        p.mean_dropped = std::max(dropped, 0);
        const auto largest = [&] { return round_nearest(static_cast<std::int64_t>(product), p.mean_dropped); };
        if (largest() > largest_mantissa(optc_mean_width)) ++p.mean_dropped, ++dropped;
        length = bit_length(static_cast<std::uint64_t>(largest()));
        exponent += dropped;
        if (exponent > optc_exponent_limit) {
            exponent = optc_exponent_limit;
            cut.gradients += t.gradient.size();
        }
        has_gradient = exponent >= -optc_exponent_limit;
        if (!has_gradient) p.inverse_batch = 0;
    }

    // g'
    const int weight_length = bit_length(m.weight);
    p.decays = s.decay.mantissa != 0 && m.weight != 0;
    if (p.decays) {
        const int top_gradient = has_gradient ? length + exponent : absent;
        const int top_decay = weight_length + 31 + t.exponent + s.decay.exponent;
        p.gradient_exponent = std::max(top_gradient, top_decay) - 29;
        if (has_gradient) p.gradient = make_term(1, exponent - p.gradient_exponent);
        p.decay = make_term(s.decay.mantissa, t.exponent + s.decay.exponent - p.gradient_exponent);
        has_gradient = true;
        length = 31;
    } else {
        p.gradient_exponent = has_gradient ? exponent : 0;
    }

    // M
    has_gradient = has_gradient && s.c1.mantissa != 0;
    const bool remembers = s.b1.mantissa != 0 && m.first != 0;
    const int top_first = remembers ? bit_length(m.first) + 31 + t.state.first_exponent + s.b1.exponent : absent;
    const int top_fresh = has_gradient ? length + 31 + p.gradient_exponent + s.c1.exponent : absent;
    const bool moves = remembers || has_gradient;
    if (moves) {
        p.moment_exponent = std::max(top_first, top_fresh) - 61;
        if (remembers) p.first = make_term(s.b1.mantissa, t.state.first_exponent + s.b1.exponent - p.moment_exponent);
        if (has_gradient) p.fresh = make_term(s.c1.mantissa, p.gradient_exponent + s.c1.exponent - p.moment_exponent);
    }

    // V + eps^2
    p.b2 = s.b2.mantissa;
    p.b2_exponent = s.b2.exponent;
    p.c2 = s.c2.mantissa;
    p.c2_exponent = s.c2.exponent;
    p.epsilon_squared = s.epsilon_squared.mantissa;
    p.epsilon_exponent = p.epsilon_squared != 0 ? s.epsilon_squared.exponent : absent;

    // W
    int update_length = 31, update_at = p.moment_exponent + 32;
    if (s.direction == optc_direction::sign) update_length = 1, update_at = 0;
    if (s.direction == optc_direction::normalised) update_at = update_exponent;
    const bool updates = moves && s.rate.mantissa != 0;
    const bool shrinks = s.shrink.mantissa != 0 && m.weight != 0;
    const int top_weight = m.weight != 0 ? weight_length + t.exponent : absent;
    const int top_update = updates ? update_length + 31 + update_at + s.rate.exponent : absent;
    const int top_shrink = shrinks ? weight_length + 31 + t.exponent + s.shrink.exponent : absent;
    const int top = std::max({top_weight, top_update, top_shrink});
    if (top == absent) return p;
    const int at = top - 60;
    p.fresh_exponent = at;
    if (m.weight != 0) p.weight = make_term(1, t.exponent - at);
    if (updates) p.update = make_term(-s.rate.mantissa, update_at + s.rate.exponent - at);
    if (shrinks) p.shrink = make_term(-s.shrink.mantissa, t.exponent + s.shrink.exponent - at);
    return p;
}

// The smallest exponent at which no value clips, whichever way it is rounded.
constexpr optc_write plan_write(std::uint64_t maximum, int exponent, int width) noexcept {
    if (maximum == 0) return {};
    const std::uint64_t largest = static_cast<std::uint64_t>(lamella::largest_mantissa(width));
    int dropped = bit_length(maximum) - (width - 1);
    if (dropped > 0 && ((maximum - 1) >> dropped) + 1 > largest) ++dropped;
    const int wanted = exponent + dropped;
    const int given = std::clamp(wanted, -optc_exponent_limit, optc_exponent_limit);
    dropped = std::max(dropped + given - wanted, bit_length(maximum) - 62);
    if (dropped > 62) return {};
    return {dropped, given, false, given < wanted};
}

// The write-back if a tensor's exponent stays what it was.
constexpr optc_write expect_write(int kept, int exponent) noexcept {
    const int dropped = kept - exponent;
    return dropped < 16 || dropped > 62 ? optc_write{} : optc_write{dropped, kept, false, false};
}

}  // namespace detail

}  // namespace lamella::accelerator
