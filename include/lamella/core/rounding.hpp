// The two ways in which a number loses its low bits. ARITHMETIC contract: 64-bit arithmetic, arithmetic shifts.
#pragma once

#include <cstdint>

#include "config.hpp"
#include "format.hpp"

namespace lamella {

// Drops `dropped` low bits of x, up or down at random: (x + floor(draw x 2^(dropped - 16))) >> dropped.
// Exactly unbiased for a uniform 16-bit draw while dropped <= 16, bias under 2^-16 of a step above.
// dropped <= 0 shifts left and ignores the draw. Precondition: dropped < 63, and the result fits 64 bits.
constexpr std::int64_t round_stochastic(std::int64_t x, int dropped, std::uint16_t draw) noexcept {
    if (dropped <= 0) return x << -dropped;
    const std::int64_t noise =
        dropped <= 16 ? std::int64_t{draw} >> (16 - dropped) : std::int64_t{draw} << (dropped - 16);
    return (x + noise) >> dropped;
}

// Drops `dropped` low bits of x, to nearest, ties to even. dropped <= 0 shifts left. dropped > 62 gives 0.
constexpr std::int64_t round_nearest(std::int64_t x, int dropped) noexcept {
    if (dropped <= 0) return x << -dropped;
    if (dropped > 62) return 0;
    const std::int64_t quotient = x >> dropped;
    const std::int64_t rest = x - (quotient << dropped);
    const std::int64_t half = std::int64_t{1} << (dropped - 1);
    return quotient + static_cast<std::int64_t>(rest > half || (rest == half && (quotient & 1) != 0));
}

// The same for 1 .. 31 dropped bits, in 32 bits, so that vectors hold many: the lost bits as a fraction of 2^32 carry
// when they pass a half, or make a half and the quotient is odd.
constexpr LAMELLA_ALWAYS_INLINE std::int32_t drop_nearest(std::int32_t x, int dropped) noexcept {
    const std::int32_t quotient = x >> dropped;
    const std::uint32_t lost = static_cast<std::uint32_t>(x) << (32 - dropped);
    return quotient + (lost > 0x80000000u - static_cast<std::uint32_t>(quotient & 1) ? 1 : 0);
}

// Clips to the symmetric range of a width (bits).
constexpr std::int64_t clip(std::int64_t x, int width) noexcept {
    const std::int64_t largest = largest_mantissa(width);
    return x > largest ? largest : x < -largest ? -largest : x;
}

}  // namespace lamella
