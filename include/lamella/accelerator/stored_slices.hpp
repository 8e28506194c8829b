// What an operand's mantissas come to in memory, from the data: raw, or as their non-zero slices with an index.
//
//   bitmap      one bit a slice, and the slices that are not zero
//   run length  the slices that are not zero, each with the number of zeros before it; where that is more than
//   `run_bits`
//               can say, a zero slice is stored as well
//
// Slices are stored plane by plane, a plane in the tensor's order, padding left out. An operand that an index would
// make larger is stored raw (Sze et al. 2017, section 7.2; a bitmap pays below 3/4 of slices non-zero).
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "configuration.hpp"
#include "datapath.hpp"
#include "slice_plan.hpp"

namespace lamella::accelerator {

// Of one operand of one GEMM. A pair is a row and a depth of the GEMM that meet an element which is no padding.
struct slice_census {
    int width = 0, planes = 0;
    std::uint64_t elements = 0, pairs = 0;
    std::uint64_t touched = 0;        // elements that are in a pair: a group of channels, or what a stride leaves
    std::uint64_t live_pairs = 0;     // pairs whose mantissa is not zero
    std::uint64_t digits = 0;         // slices that are not zero, each mantissa once
    std::uint64_t paired_digits = 0;  // the same, of each pair
    std::uint64_t run_digits = 0;     // stored under run length: `digits` and the zeros between

    friend bool operator==(const slice_census&, const slice_census&) = default;
};

// Bits as a machine stores them.
struct stored_bits {
    bool compressed = false;
    std::uint64_t all = 0, elements = 0;    // each mantissa once
    std::uint64_t of_pairs = 0, pairs = 0;  // once a pair
    std::uint64_t touched = 0;              // elements in a pair
    // Bits of so many accesses of a mean element, and of a mean pair; rounded down.
    std::uint64_t of_elements(std::uint64_t accesses) const noexcept { return mean(accesses, all, elements); }
    std::uint64_t of_reads(std::uint64_t accesses) const noexcept { return mean(accesses, of_pairs, pairs); }

  private:
    static std::uint64_t mean(std::uint64_t accesses, std::uint64_t bits, std::uint64_t count) noexcept {
        __extension__ typedef unsigned __int128 wide;
        return count == 0 ? 0 : static_cast<std::uint64_t>(wide{accesses} * bits / count);
    }
};

// Machines that skip store what they skip by; the others, and those of 16 bits, keep mantissas as they are.
inline stored_bits store(const slice_census& n, const configuration& c) noexcept {
    const bool own = c.products == product_kind::slices;
    const auto width = static_cast<std::uint64_t>(own ? n.width : max_width);
    stored_bits bits{false, n.elements * width, n.elements, n.pairs * width, n.pairs, n.touched};
    if (!c.input_skip || !own) return bits;
    const auto digit = static_cast<std::uint64_t>(digit_bits(c)), planes = static_cast<std::uint64_t>(n.planes);
    const bool bitmap = c.index == index_format::bitmap;
    const std::uint64_t with_run = digit + static_cast<std::uint64_t>(c.run_bits);
    const std::uint64_t compressed = bitmap ? n.elements * planes + n.digits * digit : n.run_digits * with_run;
    if (compressed >= bits.all) return bits;
    bits.compressed = true;
    bits.all = compressed;
    __extension__ typedef unsigned __int128 wide;
    bits.of_pairs = bitmap ? n.pairs * planes + n.paired_digits * digit
                    : n.digits == 0
                        ? 0
                        : static_cast<std::uint64_t>(wide{n.paired_digits} * n.run_digits / n.digits) * with_run;
    return bits;
}

// Takes the census of an event's operands. Keeps, of each shape, how often elements are paired.
class slice_survey {
  public:
    slice_survey(slice::encoding digits, int run_bits) : digits_(digits), run_bits_(run_bits) {}

    // Of a and of b; valid until the next call.
    const std::array<slice_census, 2>& operator()(const gemm::gemm_event& event) {
        const shape& s = shape_of(event);
        census_ = {take(event.a, s.pairs[0]), take(event.b, s.pairs[1])};
        return census_;
    }

  private:
    using key = detail::event_plan::shape;
    struct shape {
        key of;
        std::array<std::vector<std::uint32_t>, 2> pairs;  // of each element of the first stored image
    };

    const shape& shape_of(const gemm::gemm_event& event) {
        const key of = detail::event_plan::shape_of(event);
        for (const shape& s : shapes_)
            if (s.of == of) return s;
        return shapes_.emplace_back(shape{of, {pairs_of(event.a), pairs_of(event.b)}});
    }
    // Samples lie one image after the other, and are all alike.
    static std::vector<std::uint32_t> pairs_of(const gemm::event_operand& o) {
        const std::int64_t image = o.stored.image(), base = detail::base_of(o);
        std::vector<std::uint32_t> pairs(static_cast<std::size_t>(image));
        for (std::int64_t row = 0; row < o.view.rows.size(); ++row) {
            const std::int64_t from = base + o.view.rows.offset(row);
            for (std::int64_t k = 0; k < o.view.depth.size(); ++k) {
                const std::int64_t at = from + o.view.depth.offset(k);
                if (at >= 0 && at < image && detail::inside(o.stored, at)) ++pairs[static_cast<std::size_t>(at)];
            }
        }
        return pairs;
    }
    slice_census take(const gemm::event_operand& o, const std::vector<std::uint32_t>& pairs) {
        slice_census n;
        n.width = o.view.width;
        n.planes = slice::slice_count(digits_, n.width);
        const std::vector<std::uint8_t>& used = used_at(n.width);
        std::array<std::uint64_t, slice::max_slices> run{};
        const std::int64_t image = o.stored.image();
        for (std::int64_t first = 0; first < o.stored.samples * image; first += image)
            for (std::int64_t i = 0; i < image; ++i) {
                if (!detail::inside(o.stored, i)) continue;
                const int mantissa = detail::mantissa_at(o, first + i);
                const unsigned planes = used[static_cast<std::size_t>(mantissa + largest_mantissa(n.width))];
                const auto digits = static_cast<std::uint64_t>(std::popcount(planes));
                ++n.elements;
                n.digits += digits;
                n.pairs += pairs[static_cast<std::size_t>(i)];
                n.touched += pairs[static_cast<std::size_t>(i)] != 0;
                if (digits != 0) n.live_pairs += pairs[static_cast<std::size_t>(i)];
                n.paired_digits += digits * pairs[static_cast<std::size_t>(i)];
                for (int p = 0; p < n.planes; ++p) {
                    std::uint64_t& zeros = run[static_cast<std::size_t>(p)];
                    if ((planes >> p & 1) == 0) {
                        ++zeros;
                    } else {
                        n.run_digits += 1 + (zeros >> run_bits_);
                        zeros = 0;
                    }
                }
            }
        return n;
    }
    // Which planes of each mantissa of a width are not zero, a bit each.
    const std::vector<std::uint8_t>& used_at(int width) {
        std::vector<std::uint8_t>& table = used_[static_cast<std::size_t>(width)];
        if (!table.empty()) return table;
        const int largest = largest_mantissa(width);
        for (int mantissa = -largest; mantissa <= largest; ++mantissa) {
            const slice::slices digit = slice::split(digits_, mantissa, width);
            unsigned planes = 0;
            for (std::size_t p = 0; p < digit.size(); ++p) planes |= static_cast<unsigned>(digit[p] != 0) << p;
            table.push_back(static_cast<std::uint8_t>(planes));
        }
        return table;
    }

    slice::encoding digits_;
    int run_bits_;
    std::array<slice_census, 2> census_;
    std::vector<shape> shapes_;
    std::array<std::vector<std::uint8_t>, max_width + 1> used_;
};

}  // namespace lamella::accelerator
