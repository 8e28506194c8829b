// One bit a stored mantissa and plane, set where the digit is not zero, laid out so that a GEMM's rows can be read as
// runs of neighbouring bits: what the counters see of an operand.
//
// A row of a view walks its depth in runs of one stride (`unit`). The image keeps every unit-th mantissa together: bit
// (e mod unit) x pitch + e / unit belongs to element e. So patches of a convolution, shifted errors and transposed
// reads all become a few runs of bits a row.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "../core/memory.hpp"
#include "../core/path.hpp"
#include "../gemm/event.hpp"
#include "../slice/bitmap.hpp"
#include "../slice/digits.hpp"
#include "configuration.hpp"
#include "counting.hpp"

namespace lamella::accelerator::detail {

// Bits at..at + count - 1 (count up to 64); the word behind may be read.
inline std::uint64_t read_bits(const std::uint64_t* words, std::int64_t at, std::int64_t count) noexcept {
    const std::uint64_t* const w = words + (at >> 6);
    const auto off = static_cast<unsigned>(at & 63);
    return (w[0] >> off | (w[1] << 1) << (63 - off)) & (~std::uint64_t{0} >> (64 - count));
}

// An axis as runs of consecutive multiples of `unit`, each at an offset that is (quotient, remainder) of it.
class axis_runs {
  public:
    struct run {
        std::int64_t quotient, remainder, count;
    };

    void set(const gemm::axis& x) {
        size = x.size();
        const bool forward = x.stride[2] > 0 && x.extent[2] > 1;
        unit = forward ? x.stride[2] : 1;
        const std::int64_t inner = forward ? x.extent[2] : 1, length = forward ? 1 : x.extent[2];
        runs.clear();
        for (std::int64_t i = 0; i < x.extent[0]; ++i)
            for (std::int64_t j = 0; j < x.extent[1]; ++j)
                for (std::int64_t k = 0; k < length; ++k) {
                    const std::int64_t offset = i * x.stride[0] + j * x.stride[1] + k * x.stride[2];
                    const std::int64_t q = offset >= 0 ? offset / unit : -((unit - 1 - offset) / unit);
                    if (!runs.empty() && unit == 1 && runs.back().quotient + runs.back().count == q)
                        runs.back().count += inner;
                    else
                        runs.push_back({q, offset - q * unit, inner});
                }
    }

    std::int64_t size = 0, unit = 1;
    std::vector<run> runs;
};

class bit_image {
  public:
    // Marks the digits that are not zero. `planes` as datapath_view has them.
    void mark(const gemm::event_operand& o, const configuration& c, int planes, std::int64_t unit, path isa) {
        shape(o, unit, planes);
        const bool widen = c.products == product_kind::sixteen_bit_slices && o.view.in_bytes();
        const int width = c.products == product_kind::sixteen_bit_slices ? max_width : o.view.width;
        if (o.view.in_bytes()) {
            const auto* from = static_cast<const std::int8_t*>(o.stored.data);
            if (widen)
                mark_plane_bits(arrange<std::int16_t>(from, wide_), c, width, planes, isa);
            else
                mark_plane_bits(arrange<std::int8_t>(from, narrow_), c, width, planes, isa);
        } else {
            mark_plane_bits(arrange<std::int16_t>(static_cast<const std::int16_t*>(o.stored.data), wide_), c, width, planes,
                            isa);
        }
    }
    // Marks the elements that are no padding, in one plane.
    void mark_present(const gemm::event_operand& o, std::int64_t unit, path isa) {
        const gemm::stored_images& s = o.stored;
        shape(o, unit, 1);
        inside_.resize(static_cast<std::size_t>(elements_));
        inside_.fill_zero();
        for (std::int64_t i = 0; i < s.samples; ++i)
            for (std::int64_t y = 0; y < s.height; ++y)
                std::fill_n(inside_.data() + i * s.image() + (s.top + y) * s.row() + s.left * s.channels,
                            s.width * s.channels, std::int8_t{1});
        const std::int8_t* const arranged = arrange<std::int8_t>(inside_.data(), narrow_);
        slice::mark_nonzero(isa, arranged, plane_words_ - 1, words_.data());
    }

    const std::uint64_t* plane(int p) const noexcept { return words_.data() + p * plane_words_; }

    // Appends the bits of a row that begins at element (quotient, remainder) to `to`, whose words must be zero; its
    // last word but one may be written.
    void read(int p, std::int64_t quotient, std::int64_t remainder, const axis_runs& depth, std::uint64_t* to) const noexcept {
        const std::uint64_t* const bits = plane(p);
        std::int64_t out = 0;
        for (const axis_runs::run& r : depth.runs) {
            std::int64_t c = remainder + r.remainder, q = quotient + r.quotient;
            if (c >= unit_) {
                c -= unit_;
                ++q;
            }
            std::int64_t at = c * pitch_ + q;
            for (std::int64_t left = r.count; left > 0;) {
                const std::int64_t count = std::min<std::int64_t>(left, 64);
                const std::uint64_t word = read_bits(bits, at, count);
                const auto off = static_cast<unsigned>(out & 63);
                to[out >> 6] |= word << off;
                to[(out >> 6) + 1] |= (word >> 1) >> (63 - off);
                at += count;
                out += count;
                left -= count;
            }
        }
    }

  private:
    void shape(const gemm::event_operand& o, std::int64_t unit, int planes) {
        unit_ = unit;
        elements_ = o.stored.samples * o.stored.image();
        const std::int64_t quotients = (elements_ + unit - 1) / unit;
        pitch_ = unit == 1 ? quotients : (quotients + 63) / 64 * 64;
        plane_words_ = (pitch_ * unit + 63) / 64 + 1;
        words_.resize(static_cast<std::size_t>(plane_words_ * planes));
        for (int p = 0; p < planes; ++p) words_[static_cast<std::size_t>((p + 1) * plane_words_ - 1)] = 0;
    }

    // The mantissas in the image's order, followed by zeros up to a multiple of 64.
    template <class To, class From>
    const To* arrange(const From* from, buffer<To>& to) {
        to.resize(static_cast<std::size_t>((plane_words_ - 1) * 64));
        if (unit_ == 1) {
            std::copy(from, from + elements_, to.data());
            std::fill(to.data() + elements_, to.data() + to.size(), To{0});
            return to.data();
        }
        const std::int64_t quotients = (elements_ + unit_ - 1) / unit_, whole = elements_ / unit_;
        constexpr std::int64_t side = 64;  // a block of both stays in the first cache
        for (std::int64_t first = 0; first < whole; first += side)
            for (std::int64_t c = 0; c < unit_; ++c) {
                const std::int64_t end = std::min(whole, first + side);
                for (std::int64_t q = first; q < end; ++q)
                    to[static_cast<std::size_t>(c * pitch_ + q)] = static_cast<To>(from[q * unit_ + c]);
            }
        for (std::int64_t c = 0; c < unit_; ++c) {
            for (std::int64_t q = whole; q < quotients; ++q)
                to[static_cast<std::size_t>(c * pitch_ + q)] =
                    q * unit_ + c < elements_ ? static_cast<To>(from[q * unit_ + c]) : To{0};
            std::fill(to.data() + c * pitch_ + quotients, to.data() + (c + 1) * pitch_, To{0});
        }
        return to.data();
    }

    template <class Mantissa>
    void mark_plane_bits(const Mantissa* mantissas, const configuration& c, int width, int planes, path isa) {
        constexpr std::int64_t at_once = 1024;
        const std::int64_t words = plane_words_ - 1;
        const int digits = slice::slice_count(c.encoding, width);
        alignas(64) std::array<std::int8_t, at_once * slice::max_slices> bytes;
        std::array<std::uint64_t, at_once / 64> bits;
        for (std::int64_t first = 0; first < words; first += at_once / 64) {
            const std::int64_t count = std::min(at_once / 64, words - first);
            slice::split_planes(isa, c.encoding, width, mantissas + first * 64, count * 64, bytes.data(), at_once);
            for (int p = 0; p < digits; ++p) {
                std::uint64_t* const to = words_.data() + (planes == 1 ? 0 : p) * plane_words_ + first;
                slice::mark_nonzero(isa, bytes.data() + p * at_once, count, bits.data());
                for (std::int64_t w = 0; w < count; ++w) {
                    const std::uint64_t word = bits[static_cast<std::size_t>(w)];
                    to[w] = planes == 1 && p > 0 ? to[w] | word : word;  // native: any digit
                }
            }
        }
    }

    std::int64_t unit_ = 1, elements_ = 0, pitch_ = 0, plane_words_ = 0;
    buffer<std::uint64_t> words_;
    buffer<std::int8_t> narrow_, inside_;
    buffer<std::int16_t> wide_;
};

}  // namespace lamella::accelerator::detail
