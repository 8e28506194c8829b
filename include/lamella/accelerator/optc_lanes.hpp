// The lanes of OPTC: 256 elements of one tensor through one step, in 64-bit integers. Definitions of the step and of
// all formats are in optc.hpp, which is to be read first.
//
// Every quantity of a tensor travels with one *working* exponent, chosen from the tensor's maxima before the lanes run,
// so that no sum can pass 62 bits and no lane has to decide anything; the second moment alone has an exponent an
// element. The mean is rounded to nearest, ties to even; guard bits (2^-29 of the tensor's largest value, mostly 2^-60)
// to nearest, ties upwards, or cut; what is written back, at random. The loops have a constant length and no branches,
// so that compilers turn them into vector code on every path.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "../core/config.hpp"
#include "../core/decimal.hpp"
#include "../core/elementary.hpp"
#include "../core/format.hpp"
#include "../core/largest.hpp"
#include "../core/path.hpp"
#include "../core/rounding.hpp"
#include "optc_step.hpp"

namespace lamella::accelerator::detail {

inline constexpr std::size_t optc_block = 256;  // elements

// x x coefficient at a working exponent: (x factor 2^left + half a unit) >> right. A factor of 0 takes no part.
struct optc_term {
    std::int64_t factor = 0;
    int left = 0, right = 0;  // one of them is 0
    std::int64_t half = 0;
};

// The term of mantissa x 2^shift. |x mantissa| < 2^62, also after a left shift.
constexpr optc_term make_term(std::int32_t mantissa, int shift) noexcept {
    if (mantissa == 0) return {};
    if ((mantissa & (mantissa - 1)) == 0) {  // a power of two needs no multiplier
        shift += bit_length(static_cast<std::uint64_t>(mantissa)) - 1;
        mantissa = 1;
    }
    if (shift < -62) return {};
    if (shift >= 0) return {mantissa, shift, 0, 0};
    return {mantissa, 0, -shift, std::int64_t{1} << (-shift - 1)};
}

// out = or out += the term of x. (Terms and plans go by value: a store could otherwise change them, for all that a
// compiler knows.)
template <bool Adds, class T>
LAMELLA_ALWAYS_INLINE void optc_apply(const optc_term t, const T* x, std::int64_t* out) noexcept {
    const auto put = [&](std::size_t i, std::int64_t value) { out[i] = Adds ? out[i] + value : value; };
    if (t.factor == 0) {
        if (!Adds)
            for (std::size_t i = 0; i < optc_block; ++i) out[i] = 0;
    } else if (t.factor == 1 && t.right == 0) {
        for (std::size_t i = 0; i < optc_block; ++i) put(i, std::int64_t{x[i]} << t.left);
    } else if (t.factor == 1) {
        for (std::size_t i = 0; i < optc_block; ++i) put(i, (std::int64_t{x[i]} + t.half) >> t.right);
    } else if (t.left == 0) {
        for (std::size_t i = 0; i < optc_block; ++i) put(i, (x[i] * t.factor + t.half) >> t.right);
    } else {
        for (std::size_t i = 0; i < optc_block; ++i) put(i, x[i] * t.factor << t.left);
    }
}

// A value's write-back: `dropped` low bits go at random.
struct optc_write {
    int dropped = 0;  // -62 .. 62
    int exponent = 0;
    bool vanishes = true;    // every value is zero
    bool saturates = false;  // some value may have to be clipped to the width
    friend bool operator==(const optc_write&, const optc_write&) = default;
};

// One tensor's step.
struct optc_plan {
    optc_direction direction = optc_direction::moment;
    // g: sum times 1/B, cut to 24 bits. When the product passes 63 bits, only its upper part is kept.
    bool long_product = false;
    int sum_shift = 0;
    std::int64_t inverse_batch = 0;
    int mean_dropped = 0;  // bits of the product or of its upper part; at least 0
    bool decays = false;
    optc_term gradient, decay;         // g' = gradient(g) + decay(w), |g'| <= 2^30
    int gradient_exponent = 0;         // of g'
    optc_term first, fresh;            // M = first(m) + fresh(g'), |M| <= 2^62
    int moment_exponent = 0;           // of M
    int fresh_exponent = 0;            // of W
    optc_term weight, update, shrink;  // W = weight(w) + update(u) + shrink(w), |W| < 2^62
    // Second moment: v 2^ev -> b2 v + c2 g'^2, and what is added to it before the root.
    std::int64_t b2 = 0, c2 = 0, epsilon_squared = 0;
    int b2_exponent = 0, c2_exponent = 0, epsilon_exponent = 0;
    optc_write first_write, weight_write;
};

inline constexpr int update_exponent = -20;  // of a normalised u, whose mantissa saturates at 31 bits
inline constexpr std::int64_t largest_update = (std::int64_t{1} << 31) - 1;
inline constexpr int lowest_second_exponent = -128, highest_second_exponent = 127;
inline constexpr int no_exponent = -100000;  // of a zero that must not decide an alignment

struct optc_lanes {
    // In, and out again after a write-back. Lanes past the tensor's end hold zeros.
    alignas(64) std::int64_t sum[optc_block];
    alignas(64) std::int16_t weight[optc_block];
    alignas(64) std::int32_t first[optc_block];
    alignas(64) std::int16_t second[optc_block];
    alignas(64) std::int8_t second_exponent[optc_block];
    alignas(64) std::uint16_t draw[optc_block], first_draw[optc_block];
    // Working values.
    alignas(64) std::int64_t gradient[optc_block];  // g, then g'
    alignas(64) std::int64_t moment[optc_block];    // M
    alignas(64) std::int64_t update[optc_block];    // u
    alignas(64) std::int64_t fresh[optc_block];     // W
    alignas(64) std::uint64_t square[optc_block];   // V, below 2^63
    alignas(64) std::int64_t square_exponent[optc_block];
    alignas(64) std::uint64_t root[optc_block];  // V + eps^2, then its mantissa s in [1, 4), Q30
    alignas(64) std::int64_t root_exponent[optc_block];
    alignas(64) std::uint64_t inverse[optc_block];  // 1 / sqrt(s), Q32
    alignas(64) std::int64_t zeros[optc_block];     // leading ones of what comes next
};

// ------------------------------------------------------------------------------------------------------ the datapath

// g = nearest(sum / B). A product of up to 94 bits is held as its upper part with a sticky lowest bit, which rounds
// alike.
LAMELLA_ALWAYS_INLINE void optc_mean(const optc_plan p, optc_lanes& l) noexcept {
    const int left = p.sum_shift, dropped = p.mean_dropped;
    const std::int64_t factor = p.inverse_batch;
    const std::int64_t odd = dropped > 0 ? 1 : 0, below_half = ((std::int64_t{1} << dropped) >> 1) - odd;
    const auto put = [&](std::size_t i, std::int64_t x) {
        l.gradient[i] = (x + below_half + ((x >> dropped) & odd)) >> dropped;
    };
    if (p.long_product) {
        for (std::size_t i = 0; i < optc_block; ++i) {
            const std::int64_t x = l.sum[i] << left;
            const std::int64_t low = (x & 0xFFFFFFFF) * factor;
            const std::int64_t sticky = ((low & 0xFFFFFFFF) + 0xFFFFFFFF) >> 32;
            put(i, ((x >> 32) * factor + (low >> 32)) | sticky);
        }
    } else if (factor == 1 && left == 0) {
        for (std::size_t i = 0; i < optc_block; ++i) put(i, l.sum[i]);
    } else {
        for (std::size_t i = 0; i < optc_block; ++i) put(i, (l.sum[i] << left) * factor);
    }
}

LAMELLA_ALWAYS_INLINE void optc_first_moment(const optc_plan p, optc_lanes& l) noexcept {
    optc_apply<false>(p.fresh, l.gradient, l.moment);
    optc_apply<true>(p.first, l.first, l.moment);
}

// V = b2 v + c2 g'^2: each element aligns its own two terms.
LAMELLA_ALWAYS_INLINE void optc_second_moment(const optc_plan p, optc_lanes& l) noexcept {
    for (std::size_t i = 0; i < optc_block; ++i)
        l.zeros[i] = 64 - bit_length(static_cast<std::uint64_t>(l.gradient[i] < 0 ? -l.gradient[i] : l.gradient[i]));
    for (std::size_t i = 0; i < optc_block; ++i) {
        const std::int64_t magnitude = l.gradient[i] < 0 ? -l.gradient[i] : l.gradient[i];
        const std::int64_t shift = (l.zeros[i] - 32) & 63;  // zero stays zero, whatever the shift
        const std::uint64_t top = static_cast<std::uint64_t>(magnitude << shift);            // 32 bits
        const std::uint64_t fresh = ((top * top) >> 32) * static_cast<std::uint64_t>(p.c2);  // below 2^63
        const std::uint64_t kept = static_cast<std::uint64_t>(l.second[i]) * static_cast<std::uint64_t>(p.b2)
                                   << 16;  // below 2^62
        const std::int64_t fresh_at = fresh == 0 ? no_exponent : 2 * (p.gradient_exponent - shift) + 32 + p.c2_exponent;
        const std::int64_t kept_at = kept == 0 ? no_exponent : l.second_exponent[i] + p.b2_exponent - 16;
        const std::int64_t at = fresh_at > kept_at ? fresh_at : kept_at;
        const std::int64_t fresh_right = at - fresh_at > 63 ? 63 : at - fresh_at;
        const std::int64_t kept_right = at - kept_at > 63 ? 63 : at - kept_at;
        l.square[i] = ((fresh >> fresh_right) + (kept >> kept_right)) >> 1;
        l.square_exponent[i] = at + 1;
    }
}

// u = M / sqrt(V + eps^2), saturated.
LAMELLA_ALWAYS_INLINE void optc_normalise(const optc_plan p, optc_lanes& l) noexcept {
    for (std::size_t i = 0; i < optc_block; ++i) {
        const std::int64_t added_at = p.epsilon_exponent - 31;
        const std::int64_t at = added_at > l.square_exponent[i] ? added_at : l.square_exponent[i];
        const std::int64_t square_right = at - l.square_exponent[i] > 63 ? 63 : at - l.square_exponent[i];
        const std::int64_t added_right = at - added_at > 63 ? 63 : at - added_at;
        const std::uint64_t added = static_cast<std::uint64_t>(p.epsilon_squared) << 31;
        l.root[i] = ((l.square[i] >> square_right) + (added >> added_right)) | 1;
        l.root_exponent[i] = at;
    }
    for (std::size_t i = 0; i < optc_block; ++i) l.zeros[i] = 64 - bit_length(l.root[i]);
    for (std::size_t i = 0; i < optc_block; ++i) {
        const std::uint64_t top = l.root[i] << l.zeros[i];
        const std::int64_t exponent = l.root_exponent[i] - l.zeros[i], odd = exponent & 1;
        l.root[i] = (top >> 32) >> odd;
        l.root_exponent[i] = exponent + 62 + odd;  // even
    }
    for (std::size_t i = 0; i < optc_block; ++i) l.inverse[i] = reciprocal_square_root_start(l.root[i]);
    std::int64_t one = 1, largest = largest_update;
    asm("" : "+r"(one), "+r"(largest));  // g++ vectorises shifts by a lane's own number, but not those of a constant
    for (std::size_t i = 0; i < optc_block; ++i) {
        const std::uint64_t s = l.root[i];
        const std::uint64_t inverse = reciprocal_square_root_step(s, reciprocal_square_root_step(s, l.inverse[i]));
        const std::int64_t m = l.moment[i], high = (m >> 32) * static_cast<std::int64_t>(inverse);
        const std::uint64_t low = static_cast<std::uint64_t>(m & 0xFFFFFFFF) * inverse;
        const std::int64_t product = high + static_cast<std::int64_t>(low >> 32);  // M / sqrt(s)
        const std::int64_t halved = l.root_exponent[i] >> 1;
        const std::int64_t shift = halved - p.moment_exponent + update_exponent;
        const std::int64_t right = shift < 0 ? 0 : shift > 62 ? 62 : shift;
        const std::int64_t left = shift > 0 ? 0 : shift < -31 ? 31 : -shift;
        const std::int64_t dropping = right > 0 ? 1 : 0;
        const std::int64_t bias = ((one << right) >> 1) - dropping + ((product >> right) & dropping);
        const std::int64_t rounded = shift > 62 ? 0 : (product + bias) >> right;
        const std::int64_t limit = largest >> left;
        const std::int64_t kept = rounded > limit ? limit : rounded < -limit ? -limit : rounded;
        const std::int64_t saturated =
            kept != rounded ? (rounded < 0 ? -largest_update : largest_update) : kept << left;
        l.update[i] = saturated;
    }
}

LAMELLA_ALWAYS_INLINE void optc_update(const optc_plan p, optc_lanes& l) noexcept {
    if (p.direction == optc_direction::normalised) {
        optc_normalise(p, l);
    } else if (p.direction == optc_direction::sign) {
        for (std::size_t i = 0; i < optc_block; ++i)
            l.update[i] = (l.moment[i] > 0 ? 1 : 0) - (l.moment[i] < 0 ? 1 : 0);
    } else {
        optc_apply<false>(make_term(1, -32), l.moment, l.update);
    }
    optc_apply<false>(p.weight, l.weight, l.fresh);
    optc_apply<true>(p.update, l.update, l.fresh);
    optc_apply<true>(p.shrink, l.weight, l.fresh);
}

LAMELLA_ALWAYS_INLINE void optc_datapath(const optc_plan p, optc_lanes& l) noexcept {
    optc_mean(p, l);
    if (p.decays) {
        optc_apply<false>(p.gradient, l.gradient, l.gradient);
        optc_apply<true>(p.decay, l.weight, l.gradient);
    }
    optc_first_moment(p, l);
    if (p.direction == optc_direction::normalised) optc_second_moment(p, l);
    optc_update(p, l);
}

// ---------------------------------------------------------------------------------------------- what is compiled a
// path

// Largest magnitudes of what goes in.
struct optc_maxima {
    std::uint64_t sum = 0, weight = 0, first = 0;
    constexpr void add(const optc_maxima& o) noexcept {
        sum = std::max(sum, o.sum);
        weight = std::max(weight, o.weight);
        first = std::max(first, o.first);
    }
};

// What a pass finds: the largest working magnitudes, and how many values had to be cut.
struct optc_found {
    std::uint64_t moment = 0, fresh = 0;
    std::uint64_t updates = 0, first_moments = 0, second_moments = 0, weights = 0;
    constexpr void add(const optc_found& o) noexcept {
        moment = std::max(moment, o.moment);
        fresh = std::max(fresh, o.fresh);
        updates += o.updates;
        first_moments += o.first_moments;
        second_moments += o.second_moments;
        weights += o.weights;
    }
};

LAMELLA_ALWAYS_INLINE void optc_compute_body(const optc_plan& p, optc_lanes& l, optc_found& found) noexcept {
    optc_datapath(p, l);
    found.moment = std::max(found.moment, lamella::detail::largest_magnitude_body(l.moment, optc_block));
    found.fresh = std::max(found.fresh, lamella::detail::largest_magnitude_body(l.fresh, optc_block));
    if (p.direction != optc_direction::normalised) return;
    std::int64_t count = 0;
    for (std::size_t i = 0; i < optc_block; ++i)
        count += l.update[i] >= largest_update || l.update[i] <= -largest_update ? 1 : 0;
    found.updates += static_cast<std::uint64_t>(count);
}
LAMELLA_MULTIVERSION(optc_compute, (const optc_plan& p, optc_lanes& l, optc_found& found), (p, l, found))

// (x + floor(draw 2^(d - 16))) >> d. Returns how many values were clipped.
template <class T>
LAMELLA_ALWAYS_INLINE std::uint64_t optc_round(const optc_write w, const std::int64_t* x, const std::uint16_t* draw,
                                               T* out) noexcept {
    if (w.vanishes) {
        for (std::size_t i = 0; i < optc_block; ++i) out[i] = 0;
        return 0;
    }
    if (!w.saturates && w.dropped >= 16) {  // the draw is added to the bits that it can reach
        const int up = w.dropped - 16;
        for (std::size_t i = 0; i < optc_block; ++i) out[i] = static_cast<T>(((x[i] >> up) + draw[i]) >> 16);
        return 0;
    }
    constexpr std::int64_t largest = std::numeric_limits<T>::max();
    std::uint64_t clipped = 0;
    for (std::size_t i = 0; i < optc_block; ++i) {
        const std::int64_t rounded = round_stochastic(x[i], w.dropped, draw[i]);
        const std::int64_t kept = std::clamp(rounded, -largest, largest);
        clipped += kept != rounded ? 1u : 0u;
        out[i] = static_cast<T>(kept);
    }
    return clipped;
}

LAMELLA_ALWAYS_INLINE void optc_write_weight_body(const optc_write& w, optc_lanes& l, optc_found& found) noexcept {
    found.weights += optc_round(w, l.fresh, l.draw, l.weight);
}
LAMELLA_MULTIVERSION(optc_write_weight, (const optc_write& w, optc_lanes& l, optc_found& found), (w, l, found))

LAMELLA_ALWAYS_INLINE void optc_write_first_body(const optc_write& w, optc_lanes& l, optc_found& found) noexcept {
    found.first_moments += optc_round(w, l.moment, l.draw, l.first);
}
LAMELLA_MULTIVERSION(optc_write_first, (const optc_write& w, optc_lanes& l, optc_found& found), (w, l, found))

// V to 15 bits, each element by its own length; the carry to 2^15 becomes the next exponent.
LAMELLA_ALWAYS_INLINE void optc_write_second_body(optc_lanes& l, optc_found& found) noexcept {
    for (std::size_t i = 0; i < optc_block; ++i) l.zeros[i] = 64 - bit_length(l.square[i]);
    std::int64_t count = 0;
    for (std::size_t i = 0; i < optc_block; ++i) {
        const std::int64_t wanted = 49 - l.zeros[i];  // 15 bits stay
        const std::int64_t needed = lowest_second_exponent - l.square_exponent[i];
        const std::int64_t most = wanted > needed ? wanted : needed;
        const std::int64_t dropped = most < 16 ? 16 : most > 62 ? 62 : most;
        const std::uint64_t noise = static_cast<std::uint64_t>(l.draw[i]) << (dropped - 16);
        const std::uint64_t rounded = most > 62 ? 0 : (l.square[i] + noise) >> dropped;
        const std::uint64_t carry = rounded >> 15;
        const std::int64_t exponent = l.square_exponent[i] + dropped + static_cast<std::int64_t>(carry);
        const bool over = exponent > highest_second_exponent && rounded != 0;
        const std::uint64_t mantissa = over ? 32767u : rounded >> carry;
        l.second[i] = static_cast<std::int16_t>(mantissa);
        l.second_exponent[i] = static_cast<std::int8_t>(mantissa == 0 ? 0 : over ? highest_second_exponent : exponent);
        count += over ? 1 : 0;
    }
    found.second_moments += static_cast<std::uint64_t>(count);
}
LAMELLA_MULTIVERSION(optc_write_second, (optc_lanes & l, optc_found& found), (l, found))

}  // namespace lamella::accelerator::detail
