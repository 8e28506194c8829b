// The passes over elements of batch normalisation in integers, and the channel's numbers that they multiply with.
// fixed_norm.hpp says what is computed; read that first.
//
// All passes take whole pixels, channels innermost. A channel's numbers are repeated until a row of them has at least
// 64 lanes, so that every channel count fills vectors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../core/config.hpp"
#include "../core/elementary.hpp"
#include "../core/format.hpp"
#include "../core/memory.hpp"
#include "../core/path.hpp"
#include "../core/rounding.hpp"
#include "parameter.hpp"

namespace lamella::nn::detail {

inline constexpr int normal_fraction = 12;     // of x-hat, 16 bits
inline constexpr int normal_width = 16;        // of x, x-hat and E
inline constexpr int statistic_fraction = 32;  // of mean and variance
inline constexpr int epsilon_exponent = -17;   // what a variance is increased by: 2^-17
inline constexpr int running_shift = 3;        // running averages move by 2^-3 of the way
inline constexpr std::int64_t largest_statistic = (std::int64_t{1} << 62) - 1;

// The variance that is divided by, in Q32.
constexpr std::uint64_t with_epsilon(std::int64_t variance) noexcept {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(variance, 0)) +
           (std::uint64_t{1} << (statistic_fraction + epsilon_exponent));
}
// The largest |x| within 8 deviations of the mean, in Q32.
constexpr std::uint64_t reach_of(std::int64_t mean, std::int64_t variance) noexcept {
    const std::uint64_t deviation = std::uint64_t{square_root(with_epsilon(variance))} << (statistic_fraction / 2);
    return static_cast<std::uint64_t>(mean < 0 ? -mean : mean) + 8 * deviation;
}

// x-hat = nearest(x factor + offset, dropped): (x - mean) / deviation in Q12. factor is 2^14 .. 2^15, less for a
// deviation beyond 2^29 units of x; |x factor + offset| < 2^31 for every 16-bit x; dropped is 1 .. 31.
struct channel_normal {
    std::int32_t factor, offset;
    int dropped;
    friend constexpr bool operator==(const channel_normal&, const channel_normal&) = default;
};

// For x with that exponent, mean and variance in Q32. A deviation below a quarter of a unit of x counts as a quarter:
// so small a one is made of the cut's rounding.
constexpr channel_normal normal_of(std::int64_t mean, std::int64_t variance, int exponent) noexcept {
    const positive root = reciprocal_square_root(with_epsilon(variance));
    constexpr int least = normal_fraction + 1, most = normal_fraction + 31;
    // 1 / deviation in units of x is factor x 2^-places; the root is of the variance in Q32.
    auto factor = static_cast<std::int32_t>(round_nearest(root.mantissa, 17));
    int places = -(root.exponent + 17 + statistic_fraction / 2 + exponent);
    if (places < least) {
        factor = 1 << 15;
        places = least;
    } else if (places > most) {
        factor = static_cast<std::int32_t>(round_nearest(factor, places - most));
        places = most;
    }
    const std::int64_t offset = lamella::detail::quotient_nearest(
        -lamella::detail::int128{mean} * factor, 1, -statistic_fraction - exponent, std::int64_t{1} << 30);
    return {factor, static_cast<std::int32_t>(offset), places - normal_fraction};
}

// How scale x-hat + shift becomes a wide tensor: nearest(scale x-hat, dropped) + the aligned shift.
struct affine_output {
    int exponent = 0, dropped = 0, bits = 31;
};
inline affine_output affine_of(const fixed_parameter& scale, const fixed_parameter& shift) noexcept {
    const auto largest = [](const fixed_parameter& p) {
        std::int64_t most = 0;
        for (const std::int16_t m : p.mantissa) most = std::max<std::int64_t>(most, m < 0 ? -m : m);
        return most;
    };
    const std::int64_t product = largest(scale) * largest_mantissa(normal_width), added = largest(shift);
    if (product == 0) return {added == 0 ? 0 : shift.exponent, 31, bit_length(static_cast<std::uint64_t>(added))};
    const int exponent = scale.exponent - normal_fraction;
    for (int dropped = 0;; ++dropped) {
        const int left = added == 0 ? 0 : shift.exponent - exponent - dropped;
        if (left > 16) continue;
        const std::int64_t most = round_nearest(product, dropped) + round_nearest(added, -left);
        if (most >> 31 == 0) return {exponent + dropped, dropped, bit_length(static_cast<std::uint64_t>(most))};
    }
}

// A channel's numbers, `run` lanes of each.
struct norm_lanes {
    std::int64_t channels = 0, run = 0;
    buffer<std::int32_t> factor, offset, dropped;    // x-hat
    buffer<std::int32_t> scale, shift;               // the output
    buffer<std::int32_t> by_error, by_normal, rest;  // the error of the input

    void build(std::int64_t count) {
        channels = count;
        run = count * ((63 + count) / count);
        for (buffer<std::int32_t>* b : {&factor, &offset, &dropped, &scale, &shift, &by_error, &by_normal, &rest})
            b->resize(static_cast<std::size_t>(run));
    }
    void set(buffer<std::int32_t>& lanes, std::int64_t channel, std::int64_t value) const noexcept {
        for (std::int64_t i = channel; i < run; i += channels)
            lanes[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(value);
    }
};

// x becomes x-hat in place; out = scale x-hat + shift. dropped is 0 .. 31.
LAMELLA_ALWAYS_INLINE void normalise_body(std::int16_t* x, std::int64_t n, const norm_lanes& lanes, int dropped,
                                          std::int32_t* out) noexcept {
    for (std::int64_t begin = 0; begin < n; begin += lanes.run) {
        const std::int64_t count = std::min(lanes.run, n - begin);
        const std::int32_t* LAMELLA_RESTRICT factor = lanes.factor.data();
        const std::int32_t* LAMELLA_RESTRICT offset = lanes.offset.data();
        const std::int32_t* LAMELLA_RESTRICT places = lanes.dropped.data();
        const std::int32_t* LAMELLA_RESTRICT scale = lanes.scale.data();
        const std::int32_t* LAMELLA_RESTRICT shift = lanes.shift.data();
        std::int16_t* LAMELLA_RESTRICT normal = x + begin;
        std::int32_t* LAMELLA_RESTRICT to = out + begin;
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int32_t q = drop_nearest(normal[i] * factor[i] + offset[i], places[i]);
            const std::int32_t low = q < -32767 ? -32767 : q;
            const std::int32_t kept = low > 32767 ? 32767 : low;
            normal[i] = static_cast<std::int16_t>(kept);
            to[i] = kept * scale[i];
        }
        if (dropped != 0)
            for (std::int64_t i = 0; i < count; ++i) to[i] = drop_nearest(to[i], dropped);
        for (std::int64_t i = 0; i < count; ++i) to[i] += shift[i];
    }
}
LAMELLA_MULTIVERSION(normalise,
                     (std::int16_t * x, std::int64_t n, const norm_lanes& lanes, int dropped, std::int32_t* out),
                     (x, n, lanes, dropped, out))

// error by_error + normal by_normal + rest.
LAMELLA_ALWAYS_INLINE void normalised_error_body(const std::int16_t* error, const std::int16_t* normal, std::int64_t n,
                                                 const norm_lanes& lanes, std::int32_t* out) noexcept {
    for (std::int64_t begin = 0; begin < n; begin += lanes.run) {
        const std::int64_t count = std::min(lanes.run, n - begin);
        const std::int32_t* LAMELLA_RESTRICT by_error = lanes.by_error.data();
        const std::int32_t* LAMELLA_RESTRICT by_normal = lanes.by_normal.data();
        const std::int32_t* LAMELLA_RESTRICT rest = lanes.rest.data();
        const std::int16_t* LAMELLA_RESTRICT e = error + begin;
        const std::int16_t* LAMELLA_RESTRICT x = normal + begin;
        std::int32_t* LAMELLA_RESTRICT to = out + begin;
        for (std::int64_t i = 0; i < count; ++i) to[i] = e[i] * by_error[i] + x[i] * by_normal[i] + rest[i];
    }
}
LAMELLA_MULTIVERSION(normalised_error,
                     (const std::int16_t* error, const std::int16_t* normal, std::int64_t n, const norm_lanes& lanes,
                      std::int32_t* out),
                     (error, normal, n, lanes, out))

// Four x and their products with y, summed in 32 bits, products in halves.
struct short_sums {
    std::int32_t sum = 0, low = 0, high = 0;

    LAMELLA_ALWAYS_INLINE void add(std::int32_t x, std::int32_t y) noexcept {
        sum += x;
        low += x * y & 0xFFFF;
        high += x * y >> 16;
    }
    LAMELLA_ALWAYS_INLINE std::int64_t products() const noexcept { return std::int64_t{high} * 65536 + low; }
};

// Adds x to `first` and x y to `second`, `run` lanes of each.
LAMELLA_ALWAYS_INLINE void lane_sums_body(const std::int16_t* x, const std::int16_t* y, std::int64_t n,
                                          std::int64_t run, std::int64_t* LAMELLA_RESTRICT first,
                                          std::int64_t* LAMELLA_RESTRICT second) noexcept {
    std::int64_t begin = 0;
    for (; begin + 4 * run <= n; begin += 4 * run) {
        const std::int16_t *a = x + begin, *b = y + begin;
        for (std::int64_t i = 0; i < run; ++i) {
            short_sums four;
            four.add(a[i], b[i]);
            four.add(a[i + run], b[i + run]);
            four.add(a[i + 2 * run], b[i + 2 * run]);
            four.add(a[i + 3 * run], b[i + 3 * run]);
            first[i] += four.sum;
            second[i] += four.products();
        }
    }
    for (; begin < n; begin += run) {
        const std::int64_t count = std::min(run, n - begin);
        for (std::int64_t i = 0; i < count; ++i) {
            first[i] += x[begin + i];
            second[i] += x[begin + i] * y[begin + i];
        }
    }
}
LAMELLA_MULTIVERSION(lane_sums,
                     (const std::int16_t* x, const std::int16_t* y, std::int64_t n, std::int64_t run,
                      std::int64_t* LAMELLA_RESTRICT first, std::int64_t* LAMELLA_RESTRICT second),
                     (x, y, n, run, first, second))

}  // namespace lamella::nn::detail
