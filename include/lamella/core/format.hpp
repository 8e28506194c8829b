// The words that all other headers share: width, exponent, format, role, stage, rounding mode.
//
// A number is mantissa x 2^exponent. A tensor has one exponent; its mantissas have `width` bits, sign included, and are
// symmetric: a mantissa of width w lies in [-(2^(w-1) - 1), 2^(w-1) - 1].
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "errors.hpp"

namespace lamella {

inline constexpr int min_width = 2;   // bits, of a GEMM operand
inline constexpr int max_width = 16;  // bits, of a GEMM operand
inline constexpr int byte_width = 8;  // operands up to this width are stored as int8, wider ones as int16

// Largest mantissa of a width (bits, 2..32).
constexpr std::int32_t largest_mantissa(int width) noexcept {
    return static_cast<std::int32_t>((std::int64_t{1} << (width - 1)) - 1);
}

// Throws argument_error unless min_width <= width <= max_width.
inline int checked_width(int width, std::string_view name = "width") {
    if (width < min_width || width > max_width) throw argument_error(name, "2..16 bits", std::to_string(width));
    return width;
}

// Number of bits of a magnitude: 0 for 0, otherwise floor(log2 x) + 1.
constexpr int bit_length(std::uint64_t magnitude) noexcept {
    return magnitude == 0 ? 0 : 64 - __builtin_clzll(magnitude);
}

struct format {
    int width = 8;     // bits, sign included
    int exponent = 0;  // value = mantissa x 2^exponent
    friend bool operator==(const format&, const format&) = default;
};

// What a tensor is to the network.
enum class role : std::uint8_t { activation, weight, error, gradient };

// The three GEMMs of a layer's training step, and the update.
enum class stage : std::uint8_t { feed_forward, error_propagation, weight_gradient, weight_update };

inline constexpr std::array<std::string_view, 4> role_names{"activation", "weight", "error", "gradient"};
inline constexpr std::array<std::string_view, 4> stage_names{"feed_forward", "error_propagation", "weight_gradient",
                                                             "weight_update"};

constexpr std::string_view name_of(role r) noexcept { return role_names[static_cast<std::size_t>(r)]; }
constexpr std::string_view name_of(stage s) noexcept { return stage_names[static_cast<std::size_t>(s)]; }

// How a number loses its low bits: core/rounding.hpp.
enum class rounding : std::uint8_t { stochastic, nearest };

}  // namespace lamella
