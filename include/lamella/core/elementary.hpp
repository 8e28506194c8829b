// Elementary functions in integers: square root, reciprocals, powers, exponentials, cosine, and arithmetic on `scaled`
// settings. Everything is constexpr and exact to the bit on every machine; each function states its units and error.
//
// "Qn" is an unsigned or signed integer in units of 2^-n. The table sizes and polynomial degrees are this library's
// choice, held by known answers in tests/elementary_test.cpp. Users: softmax (exp_negative, reciprocal), loss
// (logarithm), batch norm and OPTC (reciprocal_square_root), initial weights (square_root), optimizer and schedules
// (powers, cosine, scaled).
#pragma once

#include <array>
#include <cstdint>

#include "decimal.hpp"
#include "format.hpp"
#include "rounding.hpp"

namespace lamella {

namespace detail {
__extension__ using uint128 = unsigned __int128;
__extension__ using int128 = __int128;

constexpr int bit_length(uint128 magnitude) noexcept {
    const auto high = static_cast<std::uint64_t>(magnitude >> 64);
    return high != 0 ? 64 + lamella::bit_length(high) : lamella::bit_length(static_cast<std::uint64_t>(magnitude));
}

// numerator x 2^exponent / denominator, to nearest, ties to even; beyond +-limit, that limit. Needs |numerator| <
// 2^126, 1 <= denominator < 2^62, 0 <= limit < 2^62.
constexpr std::int64_t quotient_nearest(int128 numerator, std::int64_t denominator, int exponent,
                                        std::int64_t limit) noexcept {
    const bool negative = numerator < 0;
    auto n = static_cast<uint128>(negative ? -numerator : numerator);
    auto d = static_cast<uint128>(denominator);
    if (n == 0) return 0;
    const int bits = bit_length(n) + exponent - bit_length(d);  // of the quotient, or one less
    if (bits < -1) return 0;
    if (bits > 63) return negative ? -limit : limit;
    (exponent > 0 ? n : d) <<= exponent > 0 ? exponent : -exponent;  // below 2^125, and below 2^127
    uint128 quotient = n / d;
    const uint128 rest = n - quotient * d;
    quotient += static_cast<uint128>(rest > d - rest || (rest == d - rest && (quotient & 1) != 0));
    const std::int64_t kept = quotient > static_cast<uint128>(limit) ? limit : static_cast<std::int64_t>(quotient);
    return negative ? -kept : kept;
}
}  // namespace detail

// ---------------------------------------------------------------------------------------------- roots and reciprocals

// floor(sqrt(x)), exact.
constexpr std::uint32_t square_root(std::uint64_t x) noexcept {
    std::uint64_t root = 0, rest = x;
    for (std::uint64_t bit = std::uint64_t{1} << 62; bit != 0; bit >>= 2) {
        const bool take = rest >= root + bit;
        if (take) rest -= root + bit;
        root = (root >> 1) + (take ? bit : 0);
    }
    return static_cast<std::uint32_t>(root);
}

// A positive number mantissa x 2^exponent with its mantissa's top bit set: 2^31 <= mantissa < 2^32.
struct positive {
    std::uint32_t mantissa = std::uint32_t{1} << 31;
    int exponent = -31;
    friend constexpr bool operator==(const positive&, const positive&) = default;
};

// 1 / x for x >= 1, relative error below 2^-30. (Powers of two give 2^32 - 1, one unit below.)
constexpr positive reciprocal(std::uint64_t x) noexcept {
    const int shift = 64 - bit_length(x);
    const std::uint64_t top = (x << shift) >> 32;                         // 32 bits, the rest is under 2^-31 of it
    const std::uint64_t quotient = ((std::uint64_t{1} << 63) - 1) / top;  // in [2^31, 2^32)
    return {static_cast<std::uint32_t>(quotient), shift - 32 - 63};
}

namespace detail {

// 1 / sqrt(s) in Q32 for s = 1 + 1/64, 1 + 3/64, .., 4 - 1/64: the middles of 96 intervals of [1, 4).
inline constexpr std::array<std::uint32_t, 96> rsqrt_start = [] {
    std::array<std::uint32_t, 96> table{};
    for (std::uint64_t i = 0; i < table.size(); ++i)  // sqrt(2^70 / (2^6 s)) = 2^32 / sqrt(s), in two halves of 64 bits
        table[i] = square_root((std::uint64_t{1} << 63) / (65 + 2 * i) << 7);
    return table;
}();

}  // namespace detail

// 1 / sqrt(s) in Q32, at most 2^32 - 1, for s in Q30 with 2^30 <= s < 2^32 (1 <= s < 4): a start from a table, within
// 2^-6.9, and two Newton steps from there, which leave a relative error below 2^-26. In two parts because a compiler
// makes vector code of the steps but not of a table.
constexpr std::uint64_t reciprocal_square_root_start(std::uint64_t s) noexcept {
    return detail::rsqrt_start[static_cast<std::size_t>((s >> 25) - 32)];
}
constexpr std::uint64_t reciprocal_square_root_step(std::uint64_t s, std::uint64_t y) noexcept {
    const std::uint64_t squared = (y * y) >> 32;                                  // Q32
    const std::uint64_t factor = ((std::uint64_t{3} << 62) - s * squared) >> 32;  // 3 - s y^2 in Q30
    const std::uint64_t next = (y * factor) >> 31;                                // half of the product, in Q32
    return next > 0xFFFFFFFFu ? 0xFFFFFFFFu : next;
}
constexpr std::uint64_t reciprocal_square_root_q30(std::uint64_t s) noexcept {
    return reciprocal_square_root_step(s, reciprocal_square_root_step(s, reciprocal_square_root_start(s)));
}

// 1 / sqrt(x) for x >= 1, relative error below 2^-26.
constexpr positive reciprocal_square_root(std::uint64_t x) noexcept {
    const int shift = (64 - bit_length(x)) & ~1;  // even, so that the root of the power of two is one too
    const std::uint64_t y = reciprocal_square_root_q30((x << shift) >> 32);  // x 2^shift is s 2^62
    const std::uint64_t top = y >> 31 == 0 ? std::uint64_t{1} << 31 : y;     // s just below 4 may give just below 1/2
    return {static_cast<std::uint32_t>(top), -32 - (62 - shift) / 2};
}

// ------------------------------------------------------------------------------------------------------- exponentials

// 2^f in Q31, in [2^31, 2^32), for f in Q32. Polynomial of degree 6 that meets 2^f at 0 and 1; relative error below
// 2^-27.5, never falls when f grows. Branch-free.
constexpr std::uint32_t exp2_fraction(std::uint32_t f) noexcept {
    constexpr std::array<std::uint64_t, 6> coefficient{939632,    5326341,    41580458,
                                                       238299268, 1031777648, 2977043950};  // of f^6 .. f^1, Q32
    std::uint64_t sum = 0;
    for (const std::uint64_t c : coefficient) sum = c + ((sum * f) >> 32);
    const std::uint64_t result = (std::uint64_t{1} << 31) + ((sum * f) >> 33);
    return static_cast<std::uint32_t>(result > 0xFFFFFFFFu ? 0xFFFFFFFFu : result);
}

// 2^-x in Q31, in [0, 2^31], for x in Q32. Relative error below 2^-27.5 plus half a unit of the result.
constexpr std::uint32_t exp2_negative(std::uint64_t x) noexcept {
    const std::uint64_t negated = 0u - x;  // 2^-x = 2^(fraction of -x) 2^-(ceil of x)
    const std::uint64_t drop = (x >> 32) + static_cast<std::uint64_t>((x & 0xFFFFFFFFu) != 0);
    if (drop > 32) return 0;
    const std::uint64_t power = exp2_fraction(static_cast<std::uint32_t>(negated));
    return static_cast<std::uint32_t>((power + ((std::uint64_t{1} << drop) >> 1)) >> drop);
}

// exp(-magnitude x 2^exponent) in Q31, in [0, 2^31]; any exponent. Relative error below 2^-26 plus half a unit of the
// result. For a softmax: magnitude = largest logit - logit, both int32 mantissas of one exponent.
constexpr std::uint32_t exp_negative(std::uint32_t magnitude, int exponent) noexcept {
    constexpr std::uint64_t log2_e = 3098164009;                      // Q31
    const std::uint64_t product = std::uint64_t{magnitude} * log2_e;  // x 2^(exponent - 31) is the power of two
    const int shift = exponent + 1;                                   // to Q32
    if (shift <= 0) return exp2_negative(-shift > 63 ? 0 : product >> -shift);
    const bool vanishes = product != 0 && (shift > 38 || product >> (38 - shift) != 0);  // 2^-64 or less
    return vanishes ? 0 : exp2_negative(product == 0 ? 0 : product << shift);
}

// b^t for b <= 1 and the result in Q63 (1 is 2^63); error below (2 t b^t + 2) 2^-63.
constexpr std::uint64_t power(std::uint64_t b, std::uint64_t t) noexcept {
    std::uint64_t result = std::uint64_t{1} << 63;
    for (; t != 0; t >>= 1) {
        if ((t & 1) != 0) result = static_cast<std::uint64_t>((detail::uint128{result} * b) >> 63);
        b = static_cast<std::uint64_t>((detail::uint128{b} * b) >> 63);
    }
    return result;
}

// floor(2^16 log2(x)) for x >= 1, at most one unit below it: bit by bit, by squaring.
constexpr std::uint32_t logarithm(std::uint64_t x) noexcept {
    const int whole = bit_length(x) - 1;
    std::uint64_t y = x << (63 - whole);  // Q63, in [1, 2)
    std::uint32_t result = static_cast<std::uint32_t>(whole);
    for (int bit = 0; bit < 16; ++bit) {
        const detail::uint128 square = detail::uint128{y} * y;  // Q126
        const bool two = square >> 127 != 0;
        y = static_cast<std::uint64_t>(square >> (two ? 64 : 63));
        result = result << 1 | static_cast<std::uint32_t>(two);
    }
    return result;
}

// cos(pi x numerator / denominator) in Q62, for numerator <= denominator, denominator >= 1; error below 2^-56.
constexpr std::int64_t cosine(std::uint64_t numerator, std::uint64_t denominator) noexcept {
    constexpr std::uint64_t pi = 7244019458077122842u;  // Q61
    if (numerator == denominator - numerator) return 0;
    const bool mirrored = numerator > denominator - numerator;  // cos(pi - a) = -cos(a)
    const std::uint64_t n = mirrored ? denominator - numerator : numerator;
    const detail::uint128 fraction = (detail::uint128{n} << 64) / denominator;      // Q64, at most 1/2
    const std::uint64_t angle = static_cast<std::uint64_t>((fraction * pi) >> 64);  // Q61
    const std::uint64_t squared = static_cast<std::uint64_t>((detail::uint128{angle} * angle) >> 61);
    std::uint64_t term = std::uint64_t{1} << 62;  // angle^(2k) / (2k)!, Q62
    std::int64_t sum = 0;
    for (unsigned k = 0; term != 0; k += 2) {
        sum += k % 4 == 0 ? static_cast<std::int64_t>(term) : -static_cast<std::int64_t>(term);
        term = static_cast<std::uint64_t>((detail::uint128{term} * squared) >> 61) / ((k + 1) * (k + 2));
    }
    return mirrored ? -sum : sum;
}

// ------------------------------------------------------------------------------------------ arithmetic on `scaled`

// magnitude x 2^exponent to the nearest 31-bit mantissa, ties to even.
constexpr scaled to_scaled(std::uint64_t magnitude, int exponent, bool negative = false) noexcept {
    if (magnitude == 0) return {};
    int dropped = bit_length(magnitude) - 31;
    std::uint64_t mantissa = magnitude;
    if (dropped > 0) {
        const std::uint64_t half = std::uint64_t{1} << (dropped - 1);
        const std::uint64_t rest = magnitude & ((half << 1) - 1);
        mantissa = magnitude >> dropped;
        mantissa += static_cast<std::uint64_t>(rest > half || (rest == half && (mantissa & 1) != 0));
        if (mantissa == std::uint64_t{1} << 31) {
            mantissa >>= 1;
            ++dropped;
        }
    } else {
        mantissa <<= -dropped;
    }
    const std::int32_t value = static_cast<std::int32_t>(mantissa);
    return {negative ? -value : value, exponent + dropped};
}

// a x b, relative error at most 2^-31.
constexpr scaled multiply(const scaled& a, const scaled& b) noexcept {
    const std::int64_t product = std::int64_t{a.mantissa} * b.mantissa;
    return to_scaled(static_cast<std::uint64_t>(product < 0 ? -product : product), a.exponent + b.exponent,
                     product < 0);
}

// a / b for b > 0, relative error at most 2^-30.
constexpr scaled divide(const scaled& a, const scaled& b) noexcept {
    const std::int64_t magnitude = a.mantissa < 0 ? -std::int64_t{a.mantissa} : std::int64_t{a.mantissa};
    const std::int64_t quotient = (magnitude << 32) / b.mantissa;
    return to_scaled(static_cast<std::uint64_t>(quotient), a.exponent - 32 - b.exponent, a.mantissa < 0);
}

// sqrt(a) for a >= 0, relative error at most 2^-30.
constexpr scaled square_root(const scaled& a) noexcept {
    const int shift = 32 + (a.exponent & 1);  // leaves an even exponent
    return to_scaled(square_root(static_cast<std::uint64_t>(a.mantissa) << shift), (a.exponent - shift) / 2);
}

// a in Q63 for 0 <= a <= 1; rounds down below 2^-63.
constexpr std::uint64_t to_q63(const scaled& a) noexcept {
    const int shift = a.exponent + 63;
    const std::uint64_t mantissa = static_cast<std::uint64_t>(a.mantissa);
    return shift >= 0 ? mantissa << shift : shift < -31 ? 0 : mantissa >> -shift;
}

}  // namespace lamella
