// The loops of slice_counts.hpp that are worth vectorising. Integers only, so every path gives the same sums.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "../core/path.hpp"
#include "../slice/counts.hpp"

namespace lamella::accelerator::detail {

// sum[i] += used digits of mantissa i of each of `repeats` blocks of `period` mantissas; total: of them all. Up to 64
// bytes past the last mantissa are read; `sum` holds `period` values rounded up to 64, those past it without meaning.
template <class Used, class Mantissa>
LAMELLA_ALWAYS_INLINE void sum_blocks_body(Used used, const Mantissa* LAMELLA_RESTRICT mantissa, std::int64_t period,
                                           std::int64_t repeats, std::uint32_t* LAMELLA_RESTRICT sum,
                                           std::uint64_t& total) {
    using lane_type = std::make_unsigned_t<Mantissa>;
    constexpr int lanes = 64 / static_cast<int>(sizeof(Mantissa));
    constexpr std::int64_t at_once = 255;      // blocks: a byte holds the sum
    constexpr std::int64_t part = 32 * lanes;  // of a block: memory is read in order, the sums stay in the first cache
    for (std::int64_t begin = 0; begin < period; begin += part)
        for (std::int64_t first = 0; first < repeats; first += at_once) {
            alignas(64) lane_type lane[part] = {};
            const std::int64_t length = std::min(part, period - begin), end = std::min(first + at_once, repeats);
            for (std::int64_t r = first; r < end; ++r)
                for (std::int64_t base = 0; base < length; base += lanes)
                    for (int i = 0; i < lanes; ++i)
                        lane[base + i] =
                            static_cast<lane_type>(lane[base + i] + used(mantissa[r * period + begin + base + i]));
            for (std::int64_t i = length; i < (length + lanes - 1) / lanes * lanes; ++i) lane[i] = 0;
            std::uint32_t all = 0;
            for (std::int64_t base = 0; base < length; base += lanes)
                for (int i = 0; i < lanes; ++i) {
                    sum[begin + base + i] += lane[base + i];
                    all += lane[base + i];
                }
            total += all;
        }
}
LAMELLA_MULTIVERSION_TEMPLATE(sum_blocks, (class Used, class Mantissa),
                              (Used used, const Mantissa* mantissa, std::int64_t period, std::int64_t repeats,
                               std::uint32_t* sum, std::uint64_t& total),
                              (used, mantissa, period, repeats, sum, total))

// sum += x[i] x y[i], i < count.
LAMELLA_ALWAYS_INLINE void add_weighted_body(const std::uint32_t* LAMELLA_RESTRICT x,
                                             const std::uint32_t* LAMELLA_RESTRICT y, std::int64_t count,
                                             std::uint64_t& sum) {
    alignas(64) std::uint64_t lane[8] = {};
    const std::int64_t whole = count / 8 * 8;
    for (std::int64_t base = 0; base < whole; base += 8)
        for (int i = 0; i < 8; ++i) lane[i] += std::uint64_t{x[base + i]} * y[base + i];
    for (std::int64_t i = whole; i < count; ++i) lane[0] += std::uint64_t{x[i]} * y[i];
    for (int i = 0; i < 8; ++i) sum += lane[i];
}
LAMELLA_MULTIVERSION(add_weighted,
                     (const std::uint32_t* x, const std::uint32_t* y, std::int64_t count, std::uint64_t& sum),
                     (x, y, count, sum))
inline std::uint64_t weighted_sum(path isa, const std::uint32_t* at, const std::vector<std::uint32_t>& times) {
    std::uint64_t sum = 0;
    add_weighted(isa, at, times.data(), static_cast<std::int64_t>(times.size()), sum);
    return sum;
}

// sum += used digits of `rows` rows of `length` mantissas, `pitch` apart. What follows a row up to its next multiple of
// 64 bytes must be zero.
template <class Used, class Mantissa>
LAMELLA_ALWAYS_INLINE void sum_image_body(Used used, const Mantissa* LAMELLA_RESTRICT mantissa, std::int64_t rows,
                                          std::int64_t length, std::int64_t pitch, std::uint64_t& sum) {
    using lane_type = std::make_unsigned_t<Mantissa>;
    constexpr int lanes = 64 / static_cast<int>(sizeof(Mantissa));
    constexpr std::int64_t at_once = 255;  // as above
    alignas(64) lane_type lane[lanes] = {};
    std::int64_t added = 0;
    const auto empty = [&] {
        std::uint32_t total = 0;
        for (int i = 0; i < lanes; ++i) total += lane[i];
        for (int i = 0; i < lanes; ++i) lane[i] = 0;
        sum += total;
        added = 0;
    };
    for (std::int64_t row = 0; row < rows; ++row, mantissa += pitch)
        for (std::int64_t base = 0; base < length; base += lanes) {
            if (added == at_once) empty();
            ++added;
            for (int i = 0; i < lanes; ++i) lane[i] = static_cast<lane_type>(lane[i] + used(mantissa[base + i]));
        }
    empty();
}
LAMELLA_MULTIVERSION_TEMPLATE(sum_image, (class Used, class Mantissa),
                              (Used used, const Mantissa* mantissa, std::int64_t rows, std::int64_t length,
                               std::int64_t pitch, std::uint64_t& sum),
                              (used, mantissa, rows, length, pitch, sum))

// Used digits, 0 or 1, of each mantissa of `rows` rows of `length`, `pitch` apart, packed into `each`. Up to 64 bytes
// past the last mantissa are read, and past the last count written.
template <class Used, class Mantissa>
LAMELLA_ALWAYS_INLINE void list_rows_body(Used used, const Mantissa* LAMELLA_RESTRICT mantissa, std::int64_t rows,
                                          std::int64_t length, std::int64_t pitch,
                                          std::uint8_t* LAMELLA_RESTRICT each) {
    constexpr int lanes = 64 / static_cast<int>(sizeof(Mantissa));
    for (std::int64_t row = 0; row < rows; ++row, mantissa += pitch, each += length)
        for (std::int64_t base = 0; base < length; base += lanes)
            for (int i = 0; i < lanes; ++i) each[base + i] = static_cast<std::uint8_t>(used(mantissa[base + i]));
}
LAMELLA_MULTIVERSION_TEMPLATE(list_rows, (class Used, class Mantissa),
                              (Used used, const Mantissa* mantissa, std::int64_t rows, std::int64_t length,
                               std::int64_t pitch, std::uint8_t* each),
                              (used, mantissa, rows, length, pitch, each))

struct run {
    std::int64_t to, from, count;
};

// to[r.to + i] = sum of row r.from + i of `bytes` (`columns` bytes, each 0 or 1), i < r.count, for each run
// r. Up to 8 bytes past the last row are read.
template <class Sum>
void sum_rows(const std::uint8_t* bytes, const std::vector<run>& runs, std::int64_t columns, Sum* to) {
    slice::detail::with_row_sum(columns, [&](auto row_sum) {
        for (const run& r : runs)
            for (std::int64_t i = 0; i < r.count; ++i)
                to[r.to + i] = static_cast<Sum>(row_sum(bytes + (r.from + i) * columns));
    });
}

// each[i] = 1 when value[i] > 0, otherwise 0; count is a multiple of 16.
LAMELLA_ALWAYS_INLINE void list_positive_body(const std::int32_t* LAMELLA_RESTRICT value, std::int64_t count,
                                              std::uint8_t* LAMELLA_RESTRICT each) {
    std::int64_t base = 0;
    for (; base + 64 <= count; base += 64)
        for (int i = 0; i < 64; ++i) each[base + i] = value[base + i] > 0 ? 1 : 0;
    for (; base < count; base += 16)
        for (int i = 0; i < 16; ++i) each[base + i] = value[base + i] > 0 ? 1 : 0;
}
LAMELLA_MULTIVERSION(list_positive, (const std::int32_t* value, std::int64_t count, std::uint8_t* each),
                     (value, count, each))
// The same for any count.
inline void list_positive_values(path isa, const std::int32_t* value, std::int64_t count, std::uint8_t* each) {
    const std::int64_t whole = count / 16 * 16;
    list_positive(isa, value, whole, each);
    for (std::int64_t i = whole; i < count; ++i) each[i] = value[i] > 0 ? 1 : 0;
}

// sum += how many of `count` values are positive.
LAMELLA_ALWAYS_INLINE void count_positive_body(const std::int32_t* LAMELLA_RESTRICT value, std::int64_t count,
                                               std::uint64_t& sum) {
    alignas(64) std::uint32_t lane[16] = {};
    const std::int64_t whole = count / 16 * 16;
    for (std::int64_t base = 0; base < whole; base += 16)
        for (int i = 0; i < 16; ++i) lane[i] += value[base + i] > 0 ? 1 : 0;
    for (std::int64_t i = whole; i < count; ++i) sum += value[i] > 0 ? 1 : 0;
    for (int i = 0; i < 16; ++i) sum += lane[i];
}
LAMELLA_MULTIVERSION(count_positive, (const std::int32_t* value, std::int64_t count, std::uint64_t& sum),
                     (value, count, sum))

// sum[i] += each[i], i < count; both are padded to a multiple of 16.
LAMELLA_ALWAYS_INLINE void add_bytes_body(const std::uint8_t* LAMELLA_RESTRICT each, std::int64_t count,
                                          std::uint32_t* LAMELLA_RESTRICT sum) {
    for (std::int64_t base = 0; base < count; base += 16)
        for (int i = 0; i < 16; ++i) sum[base + i] += each[base + i];
}
LAMELLA_MULTIVERSION(add_bytes, (const std::uint8_t* each, std::int64_t count, std::uint32_t* sum), (each, count, sum))

// to[i] = sum over t < taps of from[i + t x shift], first <= i < end. Works on 64 bytes at a time: up to so much past
// the end is read and written, of which what only sums zeros stays zero.
template <class Sum>
LAMELLA_ALWAYS_INLINE void add_shifted_body(const Sum* LAMELLA_RESTRICT from, std::int64_t first, std::int64_t end,
                                            std::int64_t taps, std::int64_t shift, Sum* LAMELLA_RESTRICT to) {
    constexpr int lanes = 64 / static_cast<int>(sizeof(Sum));
    for (std::int64_t base = first; base < end; base += lanes) {
        alignas(64) Sum lane[lanes] = {};
        for (std::int64_t t = 0; t < taps; ++t)
            for (int i = 0; i < lanes; ++i) lane[i] = static_cast<Sum>(lane[i] + from[base + i + t * shift]);
        for (int i = 0; i < lanes; ++i) to[base + i] = lane[i];
    }
}
LAMELLA_MULTIVERSION_TEMPLATE(add_shifted, (class Sum),
                              (const Sum* from, std::int64_t first, std::int64_t end, std::int64_t taps,
                               std::int64_t shift, Sum* to),
                              (from, first, end, taps, shift, to))

// sum += x . y over first <= i < end, where x is zero for 64 bytes past the end. 16-bit values: in 32 bits, which the
// caller has bounded.
template <class Sum>
LAMELLA_ALWAYS_INLINE void add_products_body(const Sum* LAMELLA_RESTRICT x, const Sum* LAMELLA_RESTRICT y,
                                             std::int64_t first, std::int64_t end, std::uint64_t& sum) {
    using product = std::conditional_t<sizeof(Sum) == 2, std::uint32_t, std::uint64_t>;
    constexpr int lanes = 64 / static_cast<int>(sizeof(Sum));
    alignas(64) product lane[lanes] = {};
    for (std::int64_t base = first; base < end; base += lanes)
        for (int i = 0; i < lanes; ++i) lane[i] += product{x[base + i]} * y[base + i];
    for (int i = 0; i < lanes; ++i) sum += lane[i];
}
LAMELLA_MULTIVERSION_TEMPLATE(add_products, (class Sum),
                              (const Sum* x, const Sum* y, std::int64_t first, std::int64_t end, std::uint64_t& sum),
                              (x, y, first, end, sum))

}  // namespace lamella::accelerator::detail
