// How many slices of an array of mantissas are not zero: the work of a machine that skips zero slices. Taken from the
// mantissas as they lie in memory, without making planes; cheap enough for every GEMM of every training step.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "../core/path.hpp"
#include "digits.hpp"
#include "encoding.hpp"

namespace lamella::slice {
namespace detail {

// Is the digit of this order not zero? 0 or 1, as a lane of the mantissa's own size.
template <encoding E, int Order>
struct digit_used {
    // Inlined whatever its size: a loop with a call in it is not vectorised.
    template <class Mantissa>
    LAMELLA_ALWAYS_INLINE constexpr std::make_unsigned_t<Mantissa> operator()(Mantissa mantissa) const noexcept {
        if constexpr (E ==
                      encoding::signed_slice) {  // digit() != 0 without shifts and selections, which vectorise badly
            using bits = std::make_unsigned_t<Mantissa>;
            const auto own = static_cast<bits>(mantissa);
            constexpr int last = 8 * static_cast<int>(sizeof(Mantissa)) - 1;
            constexpr int above = 3 * (Order + 1) < last ? 3 * (Order + 1) : last;
            constexpr auto field = static_cast<bits>(7 << (3 * Order));
            constexpr auto all_ones_above = static_cast<bits>(-(1 << above)),
                           all_ones = static_cast<bits>(-(1 << (3 * Order)));
            return (((static_cast<bits>(own & field) != 0) | (own >= all_ones_above)) & (Order == 0 || own < all_ones))
                       ? 1
                       : 0;
        } else {
            constexpr auto field = static_cast<Mantissa>(15 << (4 * Order));
            const int bits = E == encoding::sign_magnitude && mantissa < 0 ? -mantissa : mantissa;
            return static_cast<Mantissa>(bits & field) != 0 ? 1 : 0;
        }
    }
};

template <class Used, class Mantissa>
LAMELLA_ALWAYS_INLINE void sum_used_body(Used used, const Mantissa* LAMELLA_RESTRICT mantissa, std::int64_t count,
                                         std::uint64_t& sum) {
    constexpr std::int64_t block = 255 * chunk;  // a lane's sum stays below 256
    for (std::int64_t first = 0; first < count; first += block) {
        alignas(64) std::make_unsigned_t<Mantissa> lane[chunk] = {};
        const std::int64_t end = std::min(first + block, count);
        for (std::int64_t base = first; base < end; base += chunk)
            for (int i = 0; i < chunk; ++i)
                lane[i] = static_cast<std::make_unsigned_t<Mantissa>>(lane[i] + used(mantissa[base + i]));
        std::uint32_t total = 0;
        for (int i = 0; i < chunk; ++i) total += lane[i];
        sum += total;
    }
}
LAMELLA_MULTIVERSION_TEMPLATE(sum_used, (class Used, class Mantissa),
                              (Used used, const Mantissa* mantissa, std::int64_t count, std::uint64_t& sum),
                              (used, mantissa, count, sum))

// Calls action(digit_used<encoding, plane>, plane) for every plane of such mantissas.
template <class Mantissa, class Action>
void for_each_plane(encoding digits, int width, Action&& action) {
    with_encoding(digits, [&]<encoding E>(std::integral_constant<encoding, E>) {
        for_each_order<E, Mantissa>(width, [&]<int Order>(std::integral_constant<int, Order>) {
            action(digit_used<E, Order>{}, static_cast<std::size_t>(Order));
        });
    });
}

// Calls action(row_sum): row_sum(bytes) is the sum of `columns` bytes, each 0 or 1; up to 8 bytes past the last one are
// read. The action loops over rows, so that short rows cost a few instructions.
template <class Action>
void with_row_sum(std::int64_t columns, Action&& action) {
    constexpr std::uint64_t each_byte = 0x0101010101010101u;
    constexpr std::uint64_t each_pair = 0x0001000100010001u;
    constexpr std::uint64_t even = 0x00ff00ff00ff00ffu;
    constexpr std::int64_t block = 32;  // words: byte lanes stay below 256
    const auto load = [](const std::uint8_t* from) {
        std::uint64_t word;
        std::memcpy(&word, from, sizeof word);
        return word;
    };
    const std::int64_t words = (columns - 1) / 8;  // all but the last, which is cut to `kept`
    const std::uint64_t kept = ~std::uint64_t{0} >> (64 - 8 * (columns - 8 * words));
    if (words == 0)  // the sum stays below 256, too
        return action([=](const std::uint8_t* row) { return ((load(row) & kept) * each_byte) >> 56; });
    if (words == 1)
        return action(
            [=](const std::uint8_t* row) { return ((load(row) + (load(row + 8) & kept)) * each_byte) >> 56; });
    action([=](const std::uint8_t* row) {
        std::uint64_t last = load(row + 8 * words) & kept;
        std::uint64_t total = 0;
        for (std::int64_t first = 0; first < words; first += block) {
            std::uint64_t lanes = last;
            last = 0;
            for (std::int64_t word = first; word < std::min(first + block, words); ++word)
                lanes += load(row + 8 * word);
            total += (((lanes & even) + ((lanes >> 8) & even)) * each_pair) >> 48;
        }
        return total;
    });
}

}  // namespace detail

// Digits of one plane that are not zero, of `count` contiguous mantissas.
template <class Used, class Mantissa>
std::uint64_t used_digits(Used used, const Mantissa* mantissa, std::int64_t count, path isa) {
    const std::int64_t whole = count / detail::chunk * detail::chunk;
    std::uint64_t sum = 0;
    if (whole != 0) detail::sum_used(isa, used, mantissa, whole, sum);
    if (whole == count) return sum;
    std::array<Mantissa, detail::chunk> rest{};  // zeros count nothing
    std::copy(mantissa + whole, mantissa + count, rest.begin());
    detail::sum_used(isa, used, rest.data(), detail::chunk, sum);
    return sum;
}

// Slices that are not zero, of `count` contiguous mantissas of `width` bits (int8 up to 8 bits, int16 above): of each
// plane.
template <class Mantissa>
std::array<std::uint64_t, max_slices> nonzero_slices(const Mantissa* mantissa, std::int64_t count, encoding digits,
                                                     int width, path isa) {
    static_assert(std::is_same_v<Mantissa, std::int8_t> || std::is_same_v<Mantissa, std::int16_t>);
    std::array<std::uint64_t, max_slices> sums{};
    detail::for_each_plane<Mantissa>(digits, width, [&](auto used, std::size_t plane) {
        sums[plane] = used_digits(used, mantissa, count, isa);
    });
    return sums;
}

}  // namespace lamella::slice
