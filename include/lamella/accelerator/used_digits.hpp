// Which digits of a stored operand are not zero, as bytes 0 or 1: what bit_image.hpp and column_counts.hpp are made
// from.
// Reconstruction, as what it computes is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "../core/path.hpp"
#include "../gemm/event.hpp"
#include "configuration.hpp"
#include "slice_kernels.hpp"

namespace lamella::accelerator::detail {

// A native multiplier takes the mantissa as its only digit.
struct mantissa_used {
    template <class Mantissa>
    LAMELLA_ALWAYS_INLINE constexpr std::make_unsigned_t<Mantissa> operator()(Mantissa mantissa) const noexcept {
        return mantissa != 0 ? 1 : 0;
    }
};

// Planes as this machine cuts the operand: bytes[i] of stored element first + i, i < count. Up to 64 bytes past the
// last mantissa are read, and past the last byte written.
inline void list_used(const gemm::event_operand& o, const configuration& c, int plane, std::int64_t first,
                      std::int64_t count, path isa, std::uint8_t* bytes) {
    const auto list = [&]<class Mantissa>(const Mantissa* from, std::int64_t n, int width, std::uint8_t* to) {
        if (c.products == product_kind::native) return list_rows(isa, mantissa_used{}, from, 1, n, n, to);
        slice::detail::for_each_plane<Mantissa>(c.encoding, width, [&](auto used, std::size_t p) {
            if (p == static_cast<std::size_t>(plane)) list_rows(isa, used, from, 1, n, n, to);
        });
    };
    if (!o.view.in_bytes()) {
        const int width = c.products == product_kind::sixteen_bit_slices ? max_width : o.view.width;
        return list(static_cast<const std::int16_t*>(o.stored.data) + first, count, width, bytes);
    }
    const auto* const from = static_cast<const std::int8_t*>(o.stored.data) + first;
    if (c.products != product_kind::sixteen_bit_slices) return list(from, count, o.view.width, bytes);
    std::array<std::int16_t, 1024 + 64> wide;  // the digits of 16 bits
    for (std::int64_t done = 0; done < count; done += 1024) {
        const std::int64_t here = std::min<std::int64_t>(1024, count - done);
        std::copy_n(from + done, here, wide.begin());
        std::fill_n(wide.begin() + here, 64, std::int16_t{0});
        list(wide.data(), here, max_width, bytes + done);
    }
}

// Calls action(first, end) for the stored elements that may not be zero: runs of active samples, or all.
template <class Action>
void for_each_active(const gemm::event_operand& o, const std::vector<std::int64_t>* active, Action&& action) {
    const std::int64_t image = o.stored.image();
    if (active == nullptr) return action(std::int64_t{0}, o.stored.samples * image);
    for (std::size_t i = 0; i < active->size();) {
        std::size_t end = i + 1;
        while (end < active->size() && (*active)[end] == (*active)[end - 1] + 1) ++end;
        action((*active)[i] * image, ((*active)[end - 1] + 1) * image);
        i = end;
    }
}

}  // namespace lamella::accelerator::detail
