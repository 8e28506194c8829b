// The largest magnitude among integers, as exponents without overflow are chosen from it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "config.hpp"
#include "path.hpp"

namespace lamella {

namespace detail {

template <class T>
LAMELLA_ALWAYS_INLINE std::uint64_t largest_magnitude_body(const T* x, std::int64_t n) noexcept {
    T low = 0, high = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const std::uint64_t below = 0u - static_cast<std::uint64_t>(static_cast<std::int64_t>(low));
    return std::max(below, static_cast<std::uint64_t>(static_cast<std::int64_t>(high)));
}
template <class T>
LAMELLA_ALWAYS_INLINE void raise_to_largest_body(const T* x, std::int64_t n, std::uint64_t& largest) noexcept {
    largest = std::max(largest, largest_magnitude_body(x, n));
}
LAMELLA_MULTIVERSION_TEMPLATE(raise_to_largest, (class T), (const T* x, std::int64_t n, std::uint64_t& largest),
                              (x, n, largest))

}  // namespace detail

// The largest of |x[0]| .. |x[n - 1]|, 0 when n is 0.
template <class T>
inline std::uint64_t largest_magnitude(path isa, const T* x, std::int64_t n) noexcept {
    std::uint64_t largest = 0;
    detail::raise_to_largest(isa, x, n, largest);
    return largest;
}

}  // namespace lamella
