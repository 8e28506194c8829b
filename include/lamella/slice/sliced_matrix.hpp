// An operand taken apart: one plane of digits an order, digits held in bytes, with zero bitmaps and counts. It is what
// the `sliced` GEMM multiplies, what the emulator of the accelerator walks, and what slice products are counted from.
//
//   plane(s)[row][k]   digit of weight radix^s of the mantissa (row, k)
//   depth is padded with zeros to a multiple of 64; rows may be padded too; padding never counts
//   digit bitmap       one bit a digit; group bitmap: one bit an aligned group of four digits (bitmap.hpp)
//
// Rows are handed in as contiguous mantissas, so this room knows nothing of operand layouts: set_row() of different
// rows may run on different threads. Memory is grow-only and sized for 16 bits: a new width never allocates.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "../core/errors.hpp"
#include "../core/format.hpp"
#include "../core/memory.hpp"
#include "../core/path.hpp"
#include "bitmap.hpp"
#include "digits.hpp"
#include "encoding.hpp"

namespace lamella::slice {

class sliced_matrix {
  public:
    // Digits that one word of the group bitmap covers.
    static constexpr std::int64_t panel_depth = 64 * group_digits;

    // Sets the shape: `rows` rows of `depth` mantissas of `width` bits. `row_multiple`: rows are followed by zero rows
    // up to a multiple of it. The content is undefined until set_row() of every row. Throws argument_error for a width
    // out of 2..16 or a negative extent, lamella::error when there is no memory.
    void reset(encoding digits, int width, std::int64_t rows, std::int64_t depth, std::int64_t row_multiple = 1) {
        checked_width(width);
        if (rows < 0 || depth < 0 || row_multiple < 1)
            throw argument_error("sliced_matrix", "extents of 0 or more",
                                 std::to_string(rows) + " x " + std::to_string(depth));
        digits_ = digits;
        width_ = width;
        rows_ = rows;
        depth_ = depth;
        padded_rows_ = (rows + row_multiple - 1) / row_multiple * row_multiple;
        padded_depth_ = (depth + 63) / 64 * 64;
        // Rows whose distance is a large power of two would fight for the same cache sets.
        row_stride_ = padded_depth_ % 512 == 0 ? padded_depth_ + 64 : padded_depth_;
        bit_words_ = padded_depth_ / 64;
        group_words_ = (padded_depth_ + panel_depth - 1) / panel_depth;
        const auto most = static_cast<std::size_t>(slice_count(digits, max_width));
        const auto count = most * static_cast<std::size_t>(padded_rows_);
        digit_.resize(count * static_cast<std::size_t>(row_stride_));
        bits_.resize(count * static_cast<std::size_t>(bit_words_));
        groups_.resize(count * static_cast<std::size_t>(group_words_));
        nonzeros_.resize(count);
        for (int s = 0; s < planes(); ++s)
            for (std::int64_t row = rows_; row < padded_rows_; ++row) {
                std::fill_n(writable(s, row), row_stride_, std::int8_t{0});
                mark(s, row, path::scalar);
            }
    }

    // Splits row `row`: `depth` contiguous mantissas, int8 (width up to 8) or int16.
    template <class Mantissa>
    void set_row(std::int64_t row, const Mantissa* mantissa, path isa) {
        const std::int64_t whole = depth_ / 64 * 64;
        split_planes(isa, digits_, width_, mantissa, whole, writable(0, row), plane_stride());
        if (whole < depth_) {
            std::array<Mantissa, 64> rest{};
            std::copy(mantissa + whole, mantissa + depth_, rest.begin());
            split_planes(isa, digits_, width_, rest.data(), 64, writable(0, row) + whole, plane_stride());
        }
        for (int s = 0; s < planes(); ++s) mark(s, row, isa);
    }

    encoding digits() const noexcept { return digits_; }
    int width() const noexcept { return width_; }
    int planes() const noexcept { return slice_count(digits_, width_); }
    std::int64_t rows() const noexcept { return rows_; }
    std::int64_t padded_rows() const noexcept { return padded_rows_; }
    std::int64_t depth() const noexcept { return depth_; }
    std::int64_t padded_depth() const noexcept { return padded_depth_; }
    std::int64_t row_stride() const noexcept { return row_stride_; }  // bytes

    const std::int8_t* row(int plane, std::int64_t r) const noexcept {
        return digit_.data() + line(plane, r) * row_stride_;
    }
    int digit_at(int plane, std::int64_t r, std::int64_t k) const noexcept { return row(plane, r)[k]; }

    // padded_depth / 64 words.
    const std::uint64_t* bits(int plane, std::int64_t r) const noexcept {
        return bits_.data() + line(plane, r) * bit_words_;
    }
    // One word for each 256 digits; rows lie group_words() words apart.
    const std::uint64_t* groups(int plane, std::int64_t r) const noexcept {
        return groups_.data() + line(plane, r) * group_words_;
    }
    std::int64_t bit_words() const noexcept { return bit_words_; }
    std::int64_t group_words() const noexcept { return group_words_; }

    // Digits that are not zero: of one row of a plane, of a plane, of all planes.
    std::int64_t nonzeros(int plane, std::int64_t r) const noexcept {
        return nonzeros_[static_cast<std::size_t>(line(plane, r))];
    }
    std::int64_t nonzeros(int plane) const noexcept {
        std::int64_t sum = 0;
        for (std::int64_t r = 0; r < rows_; ++r) sum += nonzeros(plane, r);
        return sum;
    }
    std::int64_t nonzeros() const noexcept {
        std::int64_t sum = 0;
        for (int s = 0; s < planes(); ++s) sum += nonzeros(s);
        return sum;
    }

  private:
    std::int64_t line(int plane, std::int64_t r) const noexcept { return plane * padded_rows_ + r; }
    std::int64_t plane_stride() const noexcept { return padded_rows_ * row_stride_; }
    std::int8_t* writable(int plane, std::int64_t r) noexcept { return digit_.data() + line(plane, r) * row_stride_; }

    void mark(int plane, std::int64_t r, path isa) {
        std::uint64_t* const bit = bits_.data() + line(plane, r) * bit_words_;
        mark_nonzero(isa, row(plane, r), bit_words_, bit);
        count_groups(isa, bit, bit_words_, groups_.data() + line(plane, r) * group_words_,
                     nonzeros_[static_cast<std::size_t>(line(plane, r))]);
    }

    encoding digits_ = encoding::sign_magnitude;
    int width_ = min_width;
    std::int64_t rows_ = 0, depth_ = 0, padded_rows_ = 0, padded_depth_ = 0, row_stride_ = 0;
    std::int64_t bit_words_ = 0, group_words_ = 0;
    buffer<std::int8_t> digit_;
    buffer<std::uint64_t> bits_, groups_;
    buffer<std::int64_t> nonzeros_;
};

}  // namespace lamella::slice
