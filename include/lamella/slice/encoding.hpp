// How a mantissa becomes slices (digits of 4 bits in hardware): mantissa = sum over s of slice_s x radix^s.
//
//   twos_complement  radix 16; low slices unsigned in [0, 15], the top one signed in [-8, 7]
//   signed_slice     radix 8; every slice its own sign, in [-8, 7], so one 4b x 4b signed multiplier serves every pair
//                    (KAIST's Sibia and patent application US20240330664, abstracts; the borrow rule is our
//                    reconstruction)
//   sign_magnitude   radix 16; the mantissa's sign times the digits of its magnitude, in [-15, 15]
//
// Encodings change counts, never results. Next: sliced_matrix.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "../core/format.hpp"

namespace lamella::slice {

// How a mantissa becomes slices: the head of this page has their digits.
enum class encoding : std::uint8_t { sign_magnitude, twos_complement, signed_slice };
inline constexpr std::array<std::string_view, 3> encoding_names{"sign-magnitude", "twos-complement", "signed-slice"};
constexpr std::string_view name_of(encoding e) noexcept { return encoding_names[static_cast<std::size_t>(e)]; }

// Throws argument_error for an unknown name.
inline encoding parse_encoding(std::string_view name) {
    for (std::size_t i = 0; i < encoding_names.size(); ++i)
        if (encoding_names[i] == name) return static_cast<encoding>(i);
    throw argument_error("encoding", "sign-magnitude, twos-complement or signed-slice", std::string(name));
}

inline constexpr int max_slices = 5;  // 16 bits in signed_slice

// Bits by which neighbouring slices differ in weight.
constexpr int radix_bits(encoding e) noexcept { return e == encoding::signed_slice ? 3 : 4; }

// Slices of a mantissa of `width` bits.
constexpr int slice_count(encoding e, int width) noexcept {
    switch (e) {
        case encoding::twos_complement: return (width + 3) / 4;
        case encoding::sign_magnitude: return (width + 2) / 4;
        default: return (width + 1) / 3;
    }
}

using slices = std::array<std::int8_t, max_slices>;  // lowest order first; unused ones are zero

// The digits of a mantissa of that width.
constexpr slices split(encoding e, int mantissa, int width) noexcept {
    slices digit{};
    const int count = slice_count(e, width);
    if (e == encoding::sign_magnitude) {
        const int sign = mantissa < 0 ? -1 : 1;
        int magnitude = mantissa * sign;
        for (int i = 0; i < count; ++i, magnitude >>= 4)
            digit[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(sign * (magnitude & 15));
        return digit;
    }
    const int bits = radix_bits(e);
    const int mask = (1 << bits) - 1;
    for (int i = 0; i < count - 1; ++i, mantissa >>= bits)
        digit[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(mantissa & mask);
    digit[static_cast<std::size_t>(count - 1)] = static_cast<std::int8_t>(mantissa);
    if (e == encoding::signed_slice)  // a leading -1 becomes 0 by lending -8 to the slice below
        for (int i = count - 1; i > 0 && digit[static_cast<std::size_t>(i)] == -1; --i) {
            digit[static_cast<std::size_t>(i)] = 0;
            digit[static_cast<std::size_t>(i - 1)] =
                static_cast<std::int8_t>(digit[static_cast<std::size_t>(i - 1)] - 8);
        }
    return digit;
}

// The mantissa that has these digits.
constexpr int join(encoding e, const slices& digit) noexcept {
    int mantissa = 0;
    for (int i = max_slices - 1; i >= 0; --i)
        mantissa = mantissa * (1 << radix_bits(e)) + digit[static_cast<std::size_t>(i)];
    return mantissa;
}

// Slices of a mantissa that are not zero.
constexpr int nonzero_slices(encoding e, int mantissa, int width) noexcept {
    int count = 0;
    for (const std::int8_t d : split(e, mantissa, width)) count += d != 0;
    return count;
}

// The widths on which a controller's ladder stands: one rung a number of slices (between rungs nothing is saved).
// sign_magnitude stops at 8 and 12 although 9 and 13 bits would fill its slices: 8 stays in a byte, 12 in a 16-bit
// dot product's range.
struct ladder {
    std::array<int, max_slices> width{};
    int rungs = 0;
};
constexpr ladder ladder_of(encoding e) noexcept {
    switch (e) {
        case encoding::twos_complement: return {{4, 8, 12, 16, 0}, 4};
        case encoding::sign_magnitude: return {{5, 8, 12, 16, 0}, 4};
        default: return {{4, 7, 10, 13, 16}, 5};
    }
}

// The rung at or next above a width of up to 16 bits: what costs no more slices than that width.
constexpr int rung_at_least(const ladder& l, int width) noexcept {
    int r = 0;
    while (r + 1 < l.rungs && l.width[static_cast<std::size_t>(r)] < width) ++r;
    return l.width[static_cast<std::size_t>(r)];
}

}  // namespace lamella::slice
