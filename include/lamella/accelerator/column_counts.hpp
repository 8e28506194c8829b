// Non-zero digits and non-empty windows of every row of an operand at once, a vector of rows at a time: for views with
// many rows that lie a fixed step apart (activations in FF, errors in EP). bit_image.hpp serves the others.
//
// Digits are kept as bytes 0 or 1 in planes of every unit-th mantissa, `unit` being the step between rows. Row q and
// depth k then meet at plane[offset(k) + q]: summing over k is adding long vectors. Rows of the border between images
// are summed along, and never looked at.
// Reconstruction, as what it computes is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "../core/memory.hpp"
#include "../core/path.hpp"
#include "../gemm/event.hpp"
#include "configuration.hpp"
#include "counting.hpp"
#include "used_digits.hpp"

namespace lamella::accelerator::detail {

// digits[i], windows[i] = sum over k of from[offset[k] + i], and the number of aligned windows of k with any of them
// set; count a multiple of 64. Up to 64 bytes past the last are read.
LAMELLA_ALWAYS_INLINE void sum_columns_body(const std::uint8_t* LAMELLA_RESTRICT from,
                                            const std::int64_t* LAMELLA_RESTRICT offset, std::int64_t depth,
                                            std::int64_t window, std::int64_t count,
                                            std::uint16_t* LAMELLA_RESTRICT digits,
                                            std::uint16_t* LAMELLA_RESTRICT windows) {
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

// to[i] = sum over taps of from[tap[t] + i], first <= i < end. Up to 64 bytes past the end are read and written.
LAMELLA_ALWAYS_INLINE void add_taps_body(const std::uint16_t* LAMELLA_RESTRICT from,
                                         const std::int64_t* LAMELLA_RESTRICT tap, std::int64_t taps,
                                         std::int64_t first, std::int64_t end, std::uint16_t* LAMELLA_RESTRICT to) {
    typedef std::uint16_t lanes __attribute__((vector_size(64)));
    for (std::int64_t base = first; base < end; base += 32) {
        lanes sum = {};
        for (std::int64_t t = 0; t < taps; ++t) {
            lanes x;
            std::memcpy(&x, from + tap[t] + base, sizeof x);
            sum += x;
        }
        std::memcpy(to + base, &sum, sizeof sum);
    }
}
LAMELLA_MULTIVERSION(add_taps,
                     (const std::uint16_t* from, const std::int64_t* tap, std::int64_t taps, std::int64_t first,
                      std::int64_t end, std::uint16_t* to),
                     (from, tap, taps, first, end, to))

// Row i, byte j (from the lowest) becomes row j, byte i.
inline void transpose_bytes(std::array<std::uint64_t, 8>& rows) noexcept {
    const auto exchange = [&](std::size_t apart, std::uint64_t mask) {
        for (std::size_t i = 0; i < 8; ++i) {
            if ((i & apart) != 0) continue;
            const std::uint64_t moved = ((rows[i] >> (8 * apart)) ^ rows[i + apart]) & mask;
            rows[i + apart] ^= moved;
            rows[i] ^= moved << (8 * apart);
        }
    };
    exchange(4, 0x00000000ffffffffu);
    exchange(2, 0x0000ffff0000ffffu);
    exchange(1, 0x00ff00ff00ff00ffu);
}

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

    // Of each plane. Call fits() before. `active`: samples that are not all zero, or null.
    void count(const gemm::event_operand& o, const configuration& c, int planes,
               const std::vector<std::int64_t>* active, path isa) {
        resize(planes);
        if (whole_windows(o, c)) return count_pixels(o, c, planes, active, isa);
        natural_.resize(static_cast<std::size_t>(elements_ + 8));
        for (int p = 0; p < planes; ++p) {
            std::uint8_t* const plane = used_.data() + p * pitch_ * unit_;
            std::fill_n(plane, pitch_ * unit_, std::uint8_t{0});
            for_each_active(o, active, [&](std::int64_t first, std::int64_t end) {
                list_used(o, c, p, first, end - first, isa, (unit_ == 1 ? plane : natural_.data()) + first);
                if (unit_ != 1) arrange(first, end, plane);
            });
            if (unit_ == 1)
                std::fill_n(plane + elements_, pitch_ - elements_, std::uint8_t{0});  // written past the end
        }
        sum(planes, c.window, isa);
    }
    // Of the digits that are there at all, in plane 0: padding is not.
    void count_present(const gemm::event_operand& o, const configuration& c, path isa) {
        const gemm::stored_images& s = o.stored;
        resize(1);
        used_.fill_zero();
        natural_.resize(static_cast<std::size_t>(elements_ + 8));
        natural_.fill_zero();
        for (std::int64_t i = 0; i < s.samples; ++i)
            for (std::int64_t y = 0; y < s.height; ++y)
                std::fill_n(natural_.data() + i * s.image() + (s.top + y) * s.row() + s.left * s.channels,
                            s.width * s.channels, std::uint8_t{1});
        arrange(0, elements_, used_.data());
        sum(1, c.window, isa);
    }

    // Where row m stands in the results; rows follow each other as in the view's axis.
    std::int64_t place(const gemm::axis& rows, std::int64_t m) const noexcept {
        return rows.offset(m) / unit_ - lowest_;
    }
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
            sum_columns(isa, used_.data() + p * pitch_ * unit_, offset_.data(),
                        static_cast<std::int64_t>(offset_.size()), window, count_, digits_.data() + p * count_,
                        windows_.data() + p * count_);
    }
    // Bytes first .. end - 1, every unit-th together.
    void arrange(std::int64_t first, std::int64_t end, std::uint8_t* to) const {
        constexpr std::int64_t side = 8;
        const auto one_by_one = [&](std::int64_t from, std::int64_t past) {
            for (std::int64_t e = from; e < past; ++e)
                to[e % unit_ * pitch_ + e / unit_] = natural_[static_cast<std::size_t>(e)];
        };
        const std::int64_t begin = (first + unit_ - 1) / unit_, blocks = (end / unit_ - begin) / side;
        if (blocks <= 0) return one_by_one(first, end);
        one_by_one(first, begin * unit_);
        one_by_one((begin + blocks * side) * unit_, end);
        for (std::int64_t q = begin; q < begin + blocks * side; q += side)
            for (std::int64_t c = 0; c < unit_; c += side) {
                std::array<std::uint64_t, side> block;
                for (std::size_t i = 0; i < side; ++i)
                    std::memcpy(&block[i], natural_.data() + (q + static_cast<std::int64_t>(i)) * unit_ + c, side);
                transpose_bytes(block);
                for (std::int64_t i = 0; i < std::min(side, unit_ - c); ++i)
                    std::memcpy(to + (c + i) * pitch_ + q, &block[static_cast<std::size_t>(i)], side);
            }
    }

    // True when depth walks whole pixels of `unit` elements and no window belongs to two of them, or the beginning of
    // one.
    bool whole_windows(const gemm::event_operand& o, const configuration& c) const noexcept {
        const gemm::axis& depth = o.view.depth;
        if (o.stored.image() % unit_ != 0 || base_ % unit_ != 0 || depth.stride[2] != 1) return false;
        if (depth.size() == depth.extent[2] && depth.size() <= unit_) return true;
        return unit_ % c.window == 0 && depth.extent[2] % unit_ == 0 &&
               (depth.extent[1] == 1 || depth.stride[1] % unit_ == 0) &&
               (depth.extent[0] == 1 || depth.stride[0] % unit_ == 0);
    }
    // Then digits and windows of a pixel are known first, and a row is a sum over taps: every unit-th offset.
    void count_pixels(const gemm::event_operand& o, const configuration& c, int planes,
                      const std::vector<std::int64_t>* active, path isa) {
        natural_.resize(static_cast<std::size_t>(elements_ + 8));
        const std::int64_t used_of_pixel = std::min(unit_, o.view.depth.size());
        const gemm::stored_images& s = o.stored;
        const bool whole_rows =  // of pixels between borders of whole pixels, which are zero
            s.row() % unit_ == 0 && s.left * s.channels % unit_ == 0 && s.width * s.channels % unit_ == 0 &&
            s.left + s.right + s.top + s.bottom != 0;
        std::vector<std::int64_t>& taps = tap_;
        taps.clear();
        for (std::size_t k = 0; k < offset_.size(); k += static_cast<std::size_t>(unit_))
            taps.push_back(offset_[k] - first_);
        const auto reach = std::minmax_element(taps.begin(), taps.end());
        for (int p = 0; p < planes; ++p) {
            for (buffer<std::uint16_t>* b : {&pixel_digits_, &pixel_windows_}) {
                b->resize(static_cast<std::size_t>(pitch_ + 64));
                b->fill_zero();
            }
            std::uint16_t *const digits = digits_.data() + p * count_, *const windows = windows_.data() + p * count_;
            std::fill_n(digits, count_, std::uint16_t{0});
            std::fill_n(windows, count_, std::uint16_t{0});
            const auto count_run = [&](std::int64_t first, std::int64_t end) {
                list_used(o, c, p, first, end - first, isa, natural_.data() + first);
                sum_pixels(first / unit_, end / unit_, used_of_pixel, c.window);
            };
            for_each_active(o, active, [&](std::int64_t first, std::int64_t end) {
                if (!whole_rows) return count_run(first, end);
                for (; first < end; first += s.image())
                    for (std::int64_t y = s.top; y < s.top + s.height; ++y) {
                        const std::int64_t row = first + y * s.row() + s.left * s.channels;
                        count_run(row, row + s.width * s.channels);
                    }
            });
            for_each_active(
                o, active, [&](std::int64_t first, std::int64_t end) {  // rows that read one of these pixels
                    const std::int64_t low = std::max<std::int64_t>(0, first / unit_ - first_ - *reach.second);
                    const std::int64_t high = std::min(count_, end / unit_ - first_ - *reach.first);
                    add_taps(isa, pixel_digits_.data() + first_, taps.data(), static_cast<std::int64_t>(taps.size()),
                             low, high, digits);
                    add_taps(isa, pixel_windows_.data() + first_, taps.data(), static_cast<std::int64_t>(taps.size()),
                             low, high, windows);
                });
        }
    }
    // Digits and windows among the first `depth` digits of pixels first .. end - 1.
    void sum_pixels(std::int64_t first, std::int64_t end, std::int64_t depth, std::int64_t window) {
        const std::int64_t whole = depth / window * window;
        slice::detail::with_row_sum(window, [&](auto window_sum) {
            for (std::int64_t q = first; q < end; ++q) {
                const std::uint8_t* const pixel = natural_.data() + q * unit_;
                std::uint64_t digits = 0, windows = 0;
                for (std::int64_t e = 0; e < whole; e += window) {
                    const std::uint64_t used = window_sum(pixel + e);
                    digits += used;
                    windows += used != 0;
                }
                const std::uint64_t rest = std::accumulate(pixel + whole, pixel + depth, std::uint64_t{0});
                pixel_digits_[static_cast<std::size_t>(q)] = static_cast<std::uint16_t>(digits + rest);
                pixel_windows_[static_cast<std::size_t>(q)] = static_cast<std::uint16_t>(windows + (rest != 0));
            }
        });
    }

    std::int64_t unit_ = 1, lowest_ = 0, highest_ = 0, base_ = 0, first_ = 0, count_ = 0, elements_ = 0, pitch_ = 0;
    buffer<std::int64_t> offset_;
    std::vector<std::int64_t> tap_;
    buffer<std::uint8_t> natural_, used_;
    buffer<std::uint16_t> pixel_digits_, pixel_windows_, digits_, windows_;
};

}  // namespace lamella::accelerator::detail
