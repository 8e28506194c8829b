// The integers of a state visitor as bytes, little-endian, and element types by the names that safetensors has for
// them.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "../core/state.hpp"

namespace lamella::io {

// In the order of integer_span's alternatives, then those that only other tools' files have. Values never change:
// hashes depend on them.
enum class element_type : std::uint8_t { i8, u8, i16, i32, i64, u64, f16, bf16, f32 };

inline constexpr std::array<std::string_view, 9> element_type_names{"I8",  "U8",  "I16",  "I32", "I64",
                                                                    "U64", "F16", "BF16", "F32"};
// Size of an element of each type.
inline constexpr std::array<std::size_t, 9> element_type_bytes{1, 1, 2, 4, 8, 8, 2, 2, 4};
static_assert(std::variant_size_v<integer_span> == static_cast<std::size_t>(element_type::f16));

constexpr std::string_view name_of(element_type type) noexcept {
    return element_type_names[static_cast<std::size_t>(type)];
}
// Size of an element.
constexpr std::size_t bytes_of(element_type type) noexcept {
    return element_type_bytes[static_cast<std::size_t>(type)];
}
// Type and number of the values that a visitor sees.
inline element_type type_of(const integer_span& values) noexcept { return static_cast<element_type>(values.index()); }
inline std::size_t count_of(const integer_span& values) noexcept {
    return std::visit([](auto span) { return span.size(); }, values);
}

// The bytes of the values, little-endian: seen in place where the machine is so, else made in `scratch`.
inline std::span<const std::uint8_t> little_endian_bytes(const integer_span& values,
                                                         [[maybe_unused]] std::vector<std::uint8_t>& scratch) {
    return std::visit(
        [&](auto span) {
            const std::span<const std::uint8_t> bytes(reinterpret_cast<const std::uint8_t*>(span.data()),
                                                      span.size_bytes());
            if constexpr (std::endian::native == std::endian::little) {
                return bytes;
            } else {
                scratch.assign(bytes.begin(), bytes.end());
                for (std::size_t at = 0; at < scratch.size(); at += sizeof(span[0]))
                    std::reverse(scratch.data() + at, scratch.data() + at + sizeof(span[0]));
                return std::span<const std::uint8_t>(scratch);
            }
        },
        values);
}

// One value from its little-endian bytes.
template <class T>
T little_endian_value(const std::uint8_t* bytes) noexcept {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) bits |= std::uint64_t{bytes[i]} << (8 * i);
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(bits));
}

// Copies little-endian bytes, as many as there are, into the values.
inline void copy_little_endian(std::span<const std::uint8_t> bytes, const integer_span& values) noexcept {
    std::visit(
        [&](auto span) {
            using value = typename decltype(span)::value_type;
            for (std::size_t i = 0; i < span.size(); ++i)
                span[i] = little_endian_value<value>(bytes.data() + i * sizeof(value));
        },
        values);
}

}  // namespace lamella::io
