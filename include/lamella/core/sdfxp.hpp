// SDFXP, stochastic dynamic fixed point: where the radix point of an operand stands. Radix policies choose, from the
// wide tensor's histogram, how many low bits d the operand drops; quantise.hpp then drops them, rounding at random.
// The operand's exponent is the wide tensor's plus d; a negative d shifts left, which is exact.
//
// Sourced (patent abstract US20220222523A1): the permissible overflow of dynamic fixed point is drawn anew at every
// update. Not public: its distribution, and which policy it surrounds. All but overflow_rate is our reconstruction:
//
//   no_overflow    the smallest d at which nothing is clipped: maximum <= largest x 2^d
//   overflow_rate  the smallest d at which at most a share of the non-zero elements is clipped (Courbariaux 2014)
//   least_error    the d of least expected squared error, clipping and stochastic rounding together
//   allowance      moves any of them by one step at random: the permissible overflow as a small amplitude
//
// Integers only. All but no_overflow look at d from no_overflow's downward, at most `radix_candidates` of them and none
// below 0, where nothing is rounded any more. Read core/quantise.hpp next.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "decimal.hpp"
#include "errors.hpp"
#include "format.hpp"
#include "histogram.hpp"

namespace lamella {

// The rules that the head of this page describes.
enum class radix_rule : std::uint8_t { least_error, no_overflow, overflow_rate };

inline constexpr std::array<std::string_view, 3> radix_rule_names{"least-error", "no-overflow", "overflow-rate"};
constexpr std::string_view name_of(radix_rule r) noexcept { return radix_rule_names[static_cast<std::size_t>(r)]; }

// A rule and what it depends on.
struct radix_policy {
    radix_rule rule = radix_rule::least_error;
    std::uint32_t rate = 0;       // overflow_rate only: share of the non-zero elements, in units of 2^-32
    std::uint16_t allowance = 0;  // probability of a move by one step, in units of 2^-16
    friend bool operator==(const radix_policy&, const radix_policy&) = default;
};

// Clipping 11 bits of the largest magnitude is past the optimum of every distribution met in training.
inline constexpr int radix_candidates = 12;

namespace detail {

__extension__ typedef unsigned __int128 uint128;

// Smallest d with maximum <= largest_mantissa(width) x 2^d; maximum >= 1.
constexpr int no_overflow_bits(std::uint32_t maximum, int width) noexcept {
    const std::uint64_t largest = static_cast<std::uint64_t>(largest_mantissa(width));
    const int d = bit_length(maximum) - (width - 1);  // this one or the next
    const bool fits = d >= 0 ? maximum <= largest << d : std::uint64_t{maximum} << -d <= largest;
    return fits ? d : d + 1;
}

// Elements that dropping d >= 0 bits clips, the rounding carry included: those above largest x 2^d in stochastic
// rounding (which may carry), those from the middle of the next step on in nearest. Magnitudes spread evenly over their
// bin; a bin's share is rounded up.
constexpr std::uint64_t clipped_elements(const histogram& seen, int d, int width, rounding mode) noexcept {
    std::uint64_t first = (static_cast<std::uint64_t>(largest_mantissa(width)) << d) + 1;  // first magnitude clipped
    if (mode == rounding::nearest && d > 0) first += (std::uint64_t{1} << (d - 1)) - 1;
    std::uint64_t clipped = 0;
    for (int bin = histogram::bins - 1; bin >= 0; --bin) {
        const std::uint64_t count = seen.count[static_cast<std::size_t>(bin)];
        if (count == 0) continue;
        const std::uint64_t low = histogram::lowest_of(bin);
        std::uint64_t high = histogram::highest_of(bin);
        if (high > seen.maximum) high = seen.maximum;
        if (high < first) break;
        if (low >= first) {
            clipped += count;
        } else {
            const std::uint64_t size = high - low + 1;
            clipped += static_cast<std::uint64_t>((uint128{count} * (high - first + 1) + size - 1) / size);
        }
    }
    return clipped;
}

// Sums over the bins from one on, of count, count x mid and count x mid^2. Twice the bin's middle stands for mid, so
// that it is an integer.
struct bin_sums {
    uint128 count = 0, first = 0, second = 0;
};

class error_sums {
  public:
    explicit error_sums(const histogram& seen) noexcept {
        for (int bin = histogram::bins - 1; bin >= 0; --bin) {
            const std::size_t i = static_cast<std::size_t>(bin);
            from_[i] = from_[i + 1];
            const std::uint64_t count = seen.count[i];
            if (count == 0) continue;
            const std::uint64_t twice = twice_middle(bin);
            from_[i].count += count;
            from_[i].first += uint128{count} * twice;
            from_[i].second += uint128{count} * twice * twice;
        }
    }

    // 24 x the sum over bins of count x [max(mid - largest, 0)^2 + (step^2 / 6 at or above a step,
    // mid x (step - mid) below it)], in squared units of the wide mantissa; step = 2^d, d >= 0. Each bracket is a
    // polynomial in mid, so sums of powers over ranges of bins give it; the arithmetic is exact modulo 2^128 and the
    // result is below that for counts up to 2^50.
    uint128 at(int d, int width) const noexcept {
        const uint128 step = uint128{2} << d;
        const uint128 largest = static_cast<uint128>(largest_mantissa(width)) * step;
        const bin_sums& whole = from_[0];
        const bin_sums& above = from_[index(4 * d)];  // bit length > d
        int bin = 4 * (d + width - 2);                // the octave that holds `largest`
        while (bin < histogram::bins && twice_middle(bin) <= largest) ++bin;
        const bin_sums& clipped = from_[index(bin)];
        return 6 * (step * (whole.first - above.first) - (whole.second - above.second)) + step * step * above.count +
               6 * (clipped.second - 2 * largest * clipped.first + largest * largest * clipped.count);
    }

  private:
    static constexpr std::uint64_t twice_middle(int bin) noexcept {
        return std::uint64_t{histogram::lowest_of(bin)} + histogram::highest_of(bin);
    }
    static constexpr std::size_t index(int bin) noexcept {
        return static_cast<std::size_t>(bin < histogram::bins ? bin : histogram::bins);
    }
    std::array<bin_sums, histogram::bins + 1> from_{};
};

}  // namespace detail

// Bits d to drop from wide mantissas of that histogram for an operand of `width` bits (2..32). `allowance_draw` is read
// when the policy has an allowance: 16 random bits of the stream `allowance`.
// `mode` matters to overflow_rate alone: least_error is the formula of stochastic rounding in both modes, so that
// evaluation, which rounds to nearest, picks as training does. 0 when all elements are zero (the tensor's exponent is 0
// then, by convention, and takes no part in alignment).
inline int dropped_bits(const radix_policy& policy, const histogram& seen, int width, rounding mode,
                        std::uint16_t allowance_draw) {
    if (seen.maximum == 0) return 0;
    const int highest = detail::no_overflow_bits(seen.maximum, width);
    const int lowest = highest >= radix_candidates ? highest - (radix_candidates - 1) : highest < 0 ? highest : 0;
    int best = highest;
    switch (policy.rule) {
        case radix_rule::no_overflow: break;
        case radix_rule::overflow_rate: {
            const detail::uint128 allowed = detail::uint128{policy.rate} * seen.nonzeros();
            while (best > lowest &&
                   detail::uint128{detail::clipped_elements(seen, best - 1, width, mode)} << 32 <= allowed)
                --best;
            break;
        }
        case radix_rule::least_error: {
            if (highest <= lowest) break;  // nothing is rounded or clipped
            const detail::error_sums errors(seen);
            detail::uint128 least = errors.at(highest, width);
            for (int d = highest - 1; d >= lowest; --d) {
                const detail::uint128 sum = errors.at(d, width);
                if (sum < least) {
                    least = sum;
                    best = d;
                }
            }
            break;
        }
    }
    if (allowance_draw < policy.allowance) best += allowance_draw % 2 == 0 ? 1 : -1;
    return best;
}

// "least-error", "no-overflow" or "overflow-rate:R", R a decimal share in 0..1 (1 excluded). Throws argument_error.
inline radix_policy parse_radix(std::string_view text) {
    radix_policy policy;
    if (text == name_of(radix_rule::least_error)) return policy;
    if (text == name_of(radix_rule::no_overflow)) {
        policy.rule = radix_rule::no_overflow;
        return policy;
    }
    const std::string_view rate_name = name_of(radix_rule::overflow_rate);
    if (text.size() <= rate_name.size() || text.substr(0, rate_name.size()) != rate_name ||
        text[rate_name.size()] != ':')
        throw argument_error("radix", "least-error, no-overflow or overflow-rate:R", std::string(text));
    const std::string_view share = text.substr(rate_name.size() + 1);
    const std::uint64_t rate = parse_fraction(share, 32, rate_name);
    if (rate >> 32 != 0) throw argument_error(rate_name, "a share below 1", std::string(share));
    policy.rule = radix_rule::overflow_rate;
    policy.rate = static_cast<std::uint32_t>(rate);
    return policy;
}

}  // namespace lamella
