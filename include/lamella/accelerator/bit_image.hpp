// One bit a stored mantissa and plane, set where the digit is not zero, laid out so that a GEMM's rows can be read as
// runs of neighbouring bits: what the counters see of an operand.
//
// A row of a view walks its depth in runs of one stride (`unit`). The image keeps every unit-th mantissa together: bit
// (e mod unit) x pitch + e / unit belongs to element e. So patches of a convolution, shifted errors and transposed
// reads all become a few runs of bits a row.
// Reconstruction, as what it computes is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "../core/memory.hpp"
#include "../core/path.hpp"
#include "../gemm/event.hpp"
#include "../slice/bitmap.hpp"
#include "configuration.hpp"
#include "counting.hpp"
#include "packed_bits.hpp"
#include "used_digits.hpp"

namespace lamella::accelerator::detail {

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
    // Marks the digits that are not zero. `planes` as datapath_view has them; `active`: samples that are not all zero,
    // or null.
    void mark(const gemm::event_operand& o, const configuration& c, int planes, std::int64_t unit,
              const std::vector<std::int64_t>* active, path isa) {
        shape(o, unit, planes);
        words_.fill_zero();
        for_each_active(o, active, [&](std::int64_t first, std::int64_t end) {
            for (int p = 0; p < planes; ++p)
                place(first, end, words_.data() + p * plane_words_, isa,
                      [&](std::int64_t begin, std::int64_t count, std::uint8_t* bytes) {
                          list_used(o, c, p, begin, count, isa, bytes);
                      });
        });
    }
    // Marks the elements that are no padding, in one plane.
    void mark_present(const gemm::event_operand& o, std::int64_t unit, path isa) {
        const gemm::stored_images& s = o.stored;
        shape(o, unit, 1);
        words_.fill_zero();
        for (std::int64_t i = 0; i < s.samples; ++i)
            for (std::int64_t y = 0; y < s.height; ++y) {
                const std::int64_t first = i * s.image() + (s.top + y) * s.row() + s.left * s.channels;
                place(first, first + s.width * s.channels, words_.data(), isa,
                      [](std::int64_t, std::int64_t count, std::uint8_t* bytes) {
                          std::fill_n(bytes, count, std::uint8_t{1});
                      });
            }
    }

    const std::uint64_t* plane(int p) const noexcept { return words_.data() + p * plane_words_; }

    // Writes the bits of a row that begins at element (quotient, remainder) to `to`, whole words.
    void read(int p, std::int64_t quotient, std::int64_t remainder, const axis_runs& depth,
              std::uint64_t* to) const noexcept {
        const std::uint64_t* const bits = plane(p);
        std::uint64_t gathered = 0;  // of the word that is being filled
        std::int64_t filled = 0;
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
                gathered |= word << filled;
                if (filled + count >= 64) {
                    *to++ = gathered;
                    gathered = (word >> 1) >> (63 - filled);
                    filled -= 64;
                }
                filled += count;
                at += count;
                left -= count;
            }
        }
        if (filled != 0) *to = gathered;
    }

  private:
    void shape(const gemm::event_operand& o, std::int64_t unit, int planes) {
        unit_ = unit;
        elements_ = o.stored.samples * o.stored.image();
        const std::int64_t quotients = (elements_ + unit - 1) / unit;
        pitch_ = unit == 1 ? quotients : (quotients + 63) / 64 * 64;
        plane_words_ = (pitch_ * unit + 63) / 64 + 1;
        words_.resize(static_cast<std::size_t>(plane_words_ * planes));
        if (unit == 1) return;
        spread_.resize(static_cast<std::size_t>(unit + 64));
        for (std::int64_t e = 0; e < unit + 64; ++e)
            spread_[static_cast<std::size_t>(e)] = e % unit * pitch_ + e / unit;
    }

    // Sets the bits of elements first .. end - 1 in one plane; list(begin, count, bytes) tells which.
    template <class List>
    void place(std::int64_t first, std::int64_t end, std::uint64_t* plane, path isa, List&& list) {
        constexpr std::int64_t at_once = 1024;
        alignas(64) std::array<std::uint8_t, at_once + 64> bytes;
        std::array<std::uint64_t, at_once / 64> bits;
        for (; first < end; first += at_once) {
            const std::int64_t count = std::min(at_once, end - first), words = (count + 63) / 64;
            list(first, count, bytes.data());
            std::fill_n(bytes.data() + count, 64 * words - count, std::uint8_t{0});
            slice::mark_nonzero(isa, reinterpret_cast<const std::int8_t*>(bytes.data()), words, bits.data());
            for (std::int64_t w = 0; w < words; ++w)
                place_word(bits[static_cast<std::size_t>(w)], first + 64 * w, plane);
        }
    }
    // Bit i belongs to element `at` + i.
    void place_word(std::uint64_t word, std::int64_t at, std::uint64_t* plane) const noexcept {
        if (word == 0) return;
        if (unit_ == 1) {
            set_bits(plane, at, word);
            return;
        }
        const std::int64_t q = at / unit_, c = at - q * unit_;
        for (; word != 0; word &= word - 1) {
            const auto to = spread_[static_cast<std::size_t>(c + std::countr_zero(word))] + q;
            plane[to >> 6] |= std::uint64_t{1} << (to & 63);
        }
    }

    std::int64_t unit_ = 1, elements_ = 0, pitch_ = 0, plane_words_ = 0;
    buffer<std::uint64_t> words_;
    std::vector<std::int64_t> spread_;  // bit of element e of the image, e < unit + 64
};

}  // namespace lamella::accelerator::detail
