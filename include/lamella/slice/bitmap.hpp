// Zero bitmaps of digit planes: one bit a digit, and one bit an aligned group of four digits along depth (the unit that
// a byte dot product can skip). Bit i of word w belongs to digit or group 64 w + i; a set bit means "not zero".
#pragma once

#include <cstdint>

#include "../core/config.hpp"
#include "../core/path.hpp"

namespace lamella::slice {

inline constexpr int group_digits = 4;  // digits of an aligned group

// The sixteen group bits of 64 digit bits: bit i is set when any of the bits 4 i .. 4 i + 3 is.
constexpr std::uint64_t groups_of(std::uint64_t bits) noexcept {
    bits |= bits >> 1;
    bits |= bits >> 2;
    bits &= 0x1111111111111111u;
    bits = (bits | bits >> 3) & 0x0303030303030303u;
    bits = (bits | bits >> 6) & 0x000f000f000f000fu;
    bits = (bits | bits >> 12) & 0x000000ff000000ffu;
    return (bits | bits >> 24) & 0xffffu;
}

// bits[w] marks the digits 64 w .. 64 w + 63 that are not zero.
void mark_nonzero(path isa, const std::int8_t* digits, std::int64_t words, std::uint64_t* bits);

// Group bits of `words` digit words (groups: one word for each four), and the number of digits that are not zero.
void count_groups(path isa, const std::uint64_t* bits, std::int64_t words, std::uint64_t* groups,
                  std::int64_t& nonzeros);

}  // namespace lamella::slice

#if !LAMELLA_SEPARATE
#include "bitmap_definition.hpp"
#endif
