// Non-zero digits and non-empty windows of every row of an operand at once, a vector of rows at a time: for views with
// many rows that lie a fixed step apart (activations in FF, errors in EP). bit_image.hpp serves the others.
//
// Digits are kept as bytes 0 or 1 in planes of every unit-th mantissa, `unit` being the step between rows. Row q and depth
// k then meet at plane[offset(k) + q]: summing over k is adding long vectors. Rows of the border between images are summed
// along, and never looked at.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "../core/memory.hpp"
#include "../core/path.hpp"
#include "../gemm/event.hpp"
#include "../slice/digits.hpp"
#include "configuration.hpp"
#include "counting.hpp"

namespace lamella::accelerator::detail {

// digits[i], windows[i] = sum over k of from[offset[k] + i], and the number of aligned windows of k with any of them set;
// count a multiple of 64. Up to 64 bytes past the last are read.
LAMELLA_ALWAYS_INLINE void sum_columns_body(const std::uint8_t* LAMELLA_RESTRICT from, const std::int64_t* LAMELLA_RESTRICT offset,
                                            std::int64_t depth, std::int64_t window, std::int64_t count,
                                            std::uint16_t* LAMELLA_RESTRICT digits, std::uint16_t* LAMELLA_RESTRICT windows) {
    typedef std::uint8_t lanes __attribute__((vector_size(64)));
    constexpr int at_once = 3;  // windows, of at most 64 digits: a byte holds the sum
    for (std::int64_t base = 0; base < count; base += 64) {
        std::uint16_t d16[64] = {}, w16[64] = {};
        for (std::int64_t k = 0; k < depth;) {
            lanes sum = {}, used = {};
            for (int n = 0; n < at_once && k < depth; ++n) {
                lanes any = {};
                for (const std::int64_t end = std::min(depth, k + window); k < end; ++k) {
                    lanes x;
                    std::memcpy(&x, from + offset[k] + base, sizeof x);
                    sum += x;
                    any |= x;
                }
                used += any;
            }
            std::uint8_t s[64], u[64];
            std::memcpy(s, &sum, sizeof s);
            std::memcpy(u, &used, sizeof u);
            for (int i = 0; i < 64; ++i) {
                d16[i] = static_cast<std::uint16_t>(d16[i] + s[i]);
                w16[i] = static_cast<std::uint16_t>(w16[i] + u[i]);
            }
        }
        std::memcpy(digits + base, d16, sizeof d16);
        std::memcpy(windows + base, w16, sizeof w16);
    }
}
LAMELLA_MULTIVERSION(sum_columns,
                     (const std::uint8_t* from, const std::int64_t* offset, std::int64_t depth, std::int64_t window,
                      std::int64_t count, std::uint16_t* digits, std::uint16_t* windows),
                     (from, offset, depth, window, count, digits, windows))

class column_counts {
  public:
    // False when the view is none that this serves, or has too few rows for its depth.
    bool fits(const gemm::event_operand& o) {
        const gemm::axis &rows = o.view.rows, &depth = o.view.depth;
        if (rows.extent[2] < 2 || rows.stride[2] <= 0 || depth.size() >= 1 << 16) return false;
        unit_ = rows.stride[2];
        lowest_ = highest_ = 0;
        for (std::size_t level = 0; level < 3; ++level) {
            const std::int64_t reach = rows.stride[level] * (rows.extent[level] - 1);
            if (reach % unit_ != 0) return false;
            if (rows.extent[level] > 1 && rows.stride[level] % unit_ != 0) return false;
            (reach < 0 ? lowest_ : highest_) += reach / unit_;
        }
        if (highest_ - lowest_ + 1 > 4 * rows.size() || rows.size() < 24) return false;
        base_ = base_of(o);
        first_ = base_ / unit_ + lowest_;
        count_ = (highest_ - lowest_ + 64) / 64 * 64;
        elements_ = o.stored.samples * o.stored.image();
        pitch_ = ((elements_ + unit_ - 1) / unit_ + 63) / 64 * 64;
        offset_.resize(static_cast<std::size_t>(depth.size()));
        const std::int64_t remainder = base_ % unit_;
        std::int64_t at = 0;
        for (std::int64_t i = 0; i < depth.extent[0]; ++i)
            for (std::int64_t j = 0; j < depth.extent[1]; ++j)
                for (std::int64_t k = 0; k < depth.extent[2]; ++k) {
                    const std::int64_t e = remainder + i * depth.stride[0] + j * depth.stride[1] + k * depth.stride[2];
                    const std::int64_t q = e >= 0 ? e / unit_ : -((unit_ - 1 - e) / unit_);
                    offset_[static_cast<std::size_t>(at++)] = (e - q * unit_) * pitch_ + q + first_;
                }
        return true;
    }

    // Of each plane. Call fits() before.
    void count(const gemm::event_operand& o, const configuration& c, int planes, path isa) {
        const bool sixteen = c.products == product_kind::sixteen_bit_slices;
        resize(planes);
        const int width = sixteen ? max_width : o.view.width;
        if (o.view.in_bytes() && !sixteen)
            mark(arranged(static_cast<const std::int8_t*>(o.stored.data), narrow_), c, width, planes, isa);
        else if (o.view.in_bytes())
            mark(arranged(static_cast<const std::int8_t*>(o.stored.data), wide_), c, width, planes, isa);
        else
            mark(arranged(static_cast<const std::int16_t*>(o.stored.data), wide_), c, width, planes, isa);
        sum(planes, c.window, isa);
    }
    // Of the digits that are there at all, in plane 0: padding is not.
    void count_present(const gemm::event_operand& o, const configuration& c, path isa) {
        const gemm::stored_images& s = o.stored;
        resize(1);
        inside_.resize(static_cast<std::size_t>(elements_));
        inside_.fill_zero();
        for (std::int64_t i = 0; i < s.samples; ++i)
            for (std::int64_t y = 0; y < s.height; ++y)
                std::fill_n(inside_.data() + i * s.image() + (s.top + y) * s.row() + s.left * s.channels,
                            s.width * s.channels, std::int8_t{1});
        const std::int8_t* const from = arranged(static_cast<const std::int8_t*>(inside_.data()), narrow_);
        std::copy(from, from + pitch_ * unit_, used_.data());
        sum(1, c.window, isa);
    }

    // Where row m stands in the results; rows follow each other as in the view's axis.
    std::int64_t place(const gemm::axis& rows, std::int64_t m) const noexcept { return rows.offset(m) / unit_ - lowest_; }
    std::int64_t places() const noexcept { return count_; }
    const std::uint16_t* digits(int plane) const noexcept { return digits_.data() + plane * count_; }
    const std::uint16_t* windows(int plane) const noexcept { return windows_.data() + plane * count_; }

  private:
    void resize(int planes) {
        used_.resize(static_cast<std::size_t>(pitch_ * unit_ * planes));
        digits_.resize(static_cast<std::size_t>(count_ * planes));
        windows_.resize(static_cast<std::size_t>(count_ * planes));
    }
    void sum(int planes, int window, path isa) {
        for (int p = 0; p < planes; ++p)
            sum_columns(isa, used_.data() + p * pitch_ * unit_, offset_.data(), static_cast<std::int64_t>(offset_.size()), window,
                        count_, digits_.data() + p * count_, windows_.data() + p * count_);
    }
    // Every unit-th mantissa together.
    template <class From, class To>
    const To* arranged(const From* from, buffer<To>& to) const {
        to.resize(static_cast<std::size_t>(pitch_ * unit_));
        const std::int64_t whole = elements_ / unit_, side = 64;
        for (std::int64_t first = 0; first < whole; first += side) {
            const std::int64_t end = std::min(whole, first + side);
            for (std::int64_t c = 0; c < unit_; ++c) {
                To* const row = to.data() + c * pitch_;
                for (std::int64_t q = first; q < end; ++q) row[q] = static_cast<To>(from[q * unit_ + c]);
            }
        }
        for (std::int64_t c = 0; c < unit_; ++c)
            for (std::int64_t q = whole; q < pitch_; ++q)
                to[static_cast<std::size_t>(c * pitch_ + q)] =
                    q * unit_ + c < elements_ ? static_cast<To>(from[q * unit_ + c]) : To{0};
        return to.data();
    }
    template <class Mantissa>
    void mark(const Mantissa* mantissas, const configuration& c, int width, int planes, path isa) {
        constexpr std::int64_t at_once = 1024;
        const int slices = slice::slice_count(c.encoding, width);
        alignas(64) std::array<std::int8_t, at_once * slice::max_slices> bytes;
        for (std::int64_t first = 0; first < pitch_ * unit_; first += at_once) {
            const std::int64_t count = std::min(at_once, pitch_ * unit_ - first);
            slice::split_planes(isa, c.encoding, width, mantissas + first, count, bytes.data(), at_once);
            for (int p = 0; p < slices; ++p) {
                std::uint8_t* const to = used_.data() + (planes == 1 ? 0 : p) * pitch_ * unit_ + first;
                const std::int8_t* const from = bytes.data() + p * at_once;
                if (planes == 1 && p > 0)  // native: any digit
                    for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<std::uint8_t>(to[i] | (from[i] != 0));
                else
                    for (std::int64_t i = 0; i < count; ++i) to[i] = from[i] != 0;
            }
        }
    }

    std::int64_t unit_ = 1, lowest_ = 0, highest_ = 0, base_ = 0, first_ = 0, count_ = 0, elements_ = 0, pitch_ = 0;
    buffer<std::int64_t> offset_;
    buffer<std::int8_t> narrow_, inside_;
    buffer<std::int16_t> wide_;
    buffer<std::uint8_t> used_;
    buffer<std::uint16_t> digits_, windows_;
};

}  // namespace lamella::accelerator::detail
