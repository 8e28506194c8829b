// One digit of one mantissa in closed form: what split() of encoding.hpp gives, without its loops, so that whole arrays
// become planes with one vectorised loop a plane. tests/encoding_test.cpp holds the two equal over all mantissas.
//
// With h = mantissa >> (bits x order), arithmetic shift:
//   sign_magnitude   sign x ((|mantissa| >> 4 order) & 15)
//   twos_complement  h & 15, the top digit h
//   signed_slice     h when every higher bit is a one (the digits above have lent -8 down to this one), else h & 7;
//                    0 when h is -1, lent further down, unless there is nothing below
//
// Next: sliced_matrix.hpp (planes), counts.hpp (how many digits are not zero).
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "../core/path.hpp"
#include "encoding.hpp"

namespace lamella::slice {

// Digit of weight radix^Order of an int8 or int16 mantissa; `Top` only matters to twos_complement. Written with masks
// in the mantissa's own type: compilers then keep narrow lanes.
template <encoding E, int Order, bool Top, class Mantissa>
constexpr Mantissa digit(Mantissa mantissa) noexcept {
    constexpr int bits = radix_bits(E);
    constexpr int last = 8 * static_cast<int>(sizeof(Mantissa)) - 1;
    if constexpr (E == encoding::sign_magnitude) {
        const auto sign = static_cast<Mantissa>(mantissa >> last);
        const auto magnitude = static_cast<Mantissa>((mantissa ^ sign) - sign);
        const auto own = static_cast<Mantissa>((magnitude >> (bits * Order)) & 15);
        return static_cast<Mantissa>((own ^ sign) - sign);
    } else if constexpr (E == encoding::twos_complement) {
        return static_cast<Mantissa>(Top ? mantissa >> (bits * Order) : (mantissa >> (bits * Order)) & 15);
    } else {
        constexpr int above = bits * (Order + 1) < last ? bits * (Order + 1) : last;
        const auto h = static_cast<Mantissa>(mantissa >> (bits * Order));
        const auto higher = static_cast<Mantissa>(mantissa >> above);
        const auto borrowed = static_cast<Mantissa>(higher == -1 ? -1 : 0);
        const auto kept = static_cast<Mantissa>(Order > 0 && h == -1 ? 0 : -1);
        return static_cast<Mantissa>(h & (borrowed | 7) & kept);
    }
}

namespace detail {

template <encoding E, int Order, bool Top>
struct digit_of {
    template <class Mantissa>
    constexpr Mantissa operator()(Mantissa mantissa) const noexcept {
        return digit<E, Order, Top>(mantissa);
    }
};
inline constexpr int chunk = 64;  // mantissas that a loop body handles; a fixed trip count is vectorised even at -O2

// Writes one plane of `count` mantissas; count is a multiple of `chunk`.
template <class Digit, class Mantissa>
LAMELLA_ALWAYS_INLINE void write_plane_body(Digit digit_at, const Mantissa* LAMELLA_RESTRICT mantissa,
                                            std::int8_t* LAMELLA_RESTRICT plane, std::int64_t count) {
    for (std::int64_t base = 0; base < count; base += chunk)
        for (int i = 0; i < chunk; ++i) plane[base + i] = static_cast<std::int8_t>(digit_at(mantissa[base + i]));
}
LAMELLA_MULTIVERSION_TEMPLATE(write_plane, (class Digit, class Mantissa),
                              (Digit digit_at, const Mantissa* mantissa, std::int8_t* plane, std::int64_t count),
                              (digit_at, mantissa, plane, count))

// Calls action(std::integral_constant<encoding, e>).
template <class Action>
void with_encoding(encoding e, Action&& action) {
    switch (e) {
        case encoding::sign_magnitude:
            return action(std::integral_constant<encoding, encoding::sign_magnitude>{});
        case encoding::twos_complement:
            return action(std::integral_constant<encoding, encoding::twos_complement>{});
        default: return action(std::integral_constant<encoding, encoding::signed_slice>{});
    }
}

}  // namespace detail

// Calls action(std::integral_constant<int, 0>) ... with every order of a mantissa of slice_count(E, width) digits.
template <encoding E, class Mantissa, class Action>
void for_each_order(int width, Action&& action) {
    constexpr int most = slice_count(E, 8 * static_cast<int>(sizeof(Mantissa)));
    const int count = slice_count(E, width);
    [&]<int... Order>(std::integer_sequence<int, Order...>) {
        ((Order < count ? action(std::integral_constant<int, Order>{}) : void()), ...);
    }(std::make_integer_sequence<int, most>{});
}

// Splits `count` contiguous mantissas (a multiple of 64) of `width` bits: digit `order` of mantissa i goes to
// planes[order x plane_stride + i]. Mantissa is int8 (width up to 8) or int16.
template <class Mantissa>
void split_planes(path isa, encoding digits, int width, const Mantissa* mantissa, std::int64_t count,
                  std::int8_t* planes, std::int64_t plane_stride) {
    const int top = slice_count(digits, width) - 1;
    detail::with_encoding(digits, [&]<encoding E>(std::integral_constant<encoding, E>) {
        for_each_order<E, Mantissa>(width, [&]<int Order>(std::integral_constant<int, Order>) {
            std::int8_t* const plane = planes + Order * plane_stride;
            if (E == encoding::twos_complement && Order == top)
                detail::write_plane(isa, detail::digit_of<E, Order, true>{}, mantissa, plane, count);
            else
                detail::write_plane(isa, detail::digit_of<E, Order, false>{}, mantissa, plane, count);
        });
    });
}

}  // namespace lamella::slice
