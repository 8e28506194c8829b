// What rows come to, a vector of them at a time where one core walks them, a word of bits at a time elsewhere
// (whole_tiles.hpp, shared_rows.hpp).
// Reconstruction, as what it computes is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "../core/path.hpp"
#include "../slice/encoding.hpp"
#include "ran.hpp"

namespace lamella::accelerator::detail {

inline constexpr std::int64_t rows_at_once = 16;

// The rows of a tile, arrays padded with rows without partners to a multiple of 16.
struct tile_rows {
    const std::uint16_t* digits = nullptr;   // [plane][row], `pitch` apart: that are issued
    const std::uint16_t* windows = nullptr;  // [plane][row]: in which any is
    std::int64_t pitch = 0, planes = 0, rows = 0;
    const std::uint32_t* present_digits = nullptr;  // [row]: of each plane, what is no padding
    const std::uint32_t* present_windows = nullptr;
    const std::uint32_t* partners = nullptr;      // [row]; a row without any is not walked
    const std::uint32_t* digit_cycles = nullptr;  // [row]
};

// Sums over the rows that are walked. `positions` are of one plane.
struct walked_rows {
    std::uint64_t digits = 0, positions = 0, busy = 0, scanned = 0, outputs = 0;
    std::array<std::uint64_t, slice::max_slices> products{};  // digits x partners of each plane
    std::uint64_t all_products() const noexcept {
        std::uint64_t sum = 0;
        for (const std::uint64_t p : products) sum += p;
        return sum;
    }
    walked_rows& operator+=(const walked_rows& o) noexcept {
        digits += o.digits;
        positions += o.positions;
        busy += o.busy;
        scanned += o.scanned;
        outputs += o.outputs;
        for (std::size_t p = 0; p < products.size(); ++p) products[p] += o.products[p];
        return *this;
    }
};

// cycles[row], and their sums, all of which are below 2^31.
LAMELLA_ALWAYS_INLINE void walk_tile_body(const tile_rows& t, std::uint32_t* LAMELLA_RESTRICT cycles,
                                          walked_rows& sums) {
    typedef std::uint16_t narrow __attribute__((vector_size(2 * rows_at_once)));
    typedef std::uint32_t lanes __attribute__((vector_size(4 * rows_at_once)));
    lanes digits = {}, positions = {}, busy = {}, scanned = {}, outputs = {};
    lanes products[slice::max_slices] = {};
    for (std::int64_t m = 0; m < t.rows; m += rows_at_once) {
        lanes partners, digit_cycles, present_digits, present_windows, issued = {}, used = {};
        std::memcpy(&partners, t.partners + m, sizeof partners);
        std::memcpy(&digit_cycles, t.digit_cycles + m, sizeof digit_cycles);
        std::memcpy(&present_digits, t.present_digits + m, sizeof present_digits);
        std::memcpy(&present_windows, t.present_windows + m, sizeof present_windows);
        for (std::int64_t p = 0; p < t.planes; ++p) {
            narrow d16, w16;
            std::memcpy(&d16, t.digits + p * t.pitch + m, sizeof d16);
            std::memcpy(&w16, t.windows + p * t.pitch + m, sizeof w16);
            const lanes d = __builtin_convertvector(d16, lanes);
            issued += d;
            used += __builtin_convertvector(w16, lanes);
            products[p] += d * partners;
        }
        const lanes walked = reinterpret_cast<lanes>(partners != 0);
        const lanes all = issued & walked, own = all * digit_cycles;
        const lanes idle = (static_cast<std::uint32_t>(t.planes) * present_windows - used) & walked;
        const lanes row = own + idle;
        std::memcpy(cycles + m, &row, sizeof row);
        digits += all;
        positions += present_digits & walked;
        busy += own;
        scanned += idle;
        outputs += partners;
    }
    for (std::size_t i = 0; i < rows_at_once; ++i) {
        sums.digits += digits[i];
        sums.positions += positions[i];
        sums.busy += busy[i];
        sums.scanned += scanned[i];
        sums.outputs += outputs[i];
        for (std::size_t p = 0; p < slice::max_slices; ++p) sums.products[p] += products[p][i];
    }
}
LAMELLA_MULTIVERSION(walk_tile, (const tile_rows& t, std::uint32_t* cycles, walked_rows& sums), (t, cycles, sums))

// One bit each window that has any of its bits set, at its lowest; `fold` has the lowest bit of every window.
LAMELLA_ALWAYS_INLINE std::uint64_t windows_of(std::uint64_t word, int window, std::uint64_t fold) noexcept {
    for (int by = window / 2; by > 0; by /= 2) word |= word >> by;
    return word & fold;
}

// Adds the bits `first` .. `last` - 1 of a row that are set, and the windows that have any.
LAMELLA_ALWAYS_INLINE void count_row_body(const std::uint64_t* bits, std::int64_t first, std::int64_t last, int window,
                                          std::uint64_t fold, std::uint64_t& set, std::uint64_t& windows) {
    for (std::int64_t from = first; from < last;) {
        const std::int64_t w = from / 64, end = std::min(last, (w + 1) * 64);
        const std::uint64_t x = bits[w] & (~std::uint64_t{0} >> (64 - (end - from))) << (from & 63);
        from = end;
        if (x == 0) continue;
        set += static_cast<std::uint64_t>(std::popcount(x));
        windows += static_cast<std::uint64_t>(std::popcount(windows_of(x, window, fold)));
    }
}
LAMELLA_MULTIVERSION(count_row,
                     (const std::uint64_t* bits, std::int64_t first, std::int64_t last, int window, std::uint64_t fold,
                      std::uint64_t& set, std::uint64_t& windows),
                     (bits, first, last, window, fold, set, windows))

// count[g]: bits that x and y have in common in block g of `blocks` equal ones of `size` bits (the last may be short or
// empty).
LAMELLA_ALWAYS_INLINE void count_common_bits_body(const std::uint64_t* x, const std::uint64_t* y, std::int64_t size,
                                                  int blocks, std::uint64_t* count) {
    for (int g = 0; g < blocks; ++g) {
        const block b = block_of(size, blocks, g);
        count[g] = 0;
        for (std::int64_t from = b.first; from < b.last;) {
            const std::int64_t w = from / 64, end = std::min(b.last, (w + 1) * 64);
            const std::uint64_t mask = (~std::uint64_t{0} >> (64 - (end - from))) << (from & 63);
            count[g] += static_cast<std::uint64_t>(std::popcount(x[w] & y[w] & mask));
            from = end;
        }
    }
}
LAMELLA_MULTIVERSION(count_common_bits,
                     (const std::uint64_t* x, const std::uint64_t* y, std::int64_t size, int blocks,
                      std::uint64_t* count),
                     (x, y, size, blocks, count))

}  // namespace lamella::accelerator::detail
