// What the kernels of the `sliced` execution share: a tile of accumulators, the runs that are added to it, and the
// portable kernels. One file an instruction set stands beside it: sliced_avx2.hpp, sliced_avx512.hpp.
//
//   tile    24 / V rows x 16 V columns of int32, V = 1, 2, 4: the register tile of AVX-512, whatever the path
//   a       signed digits, read in place, four along depth at a time, broadcast over the columns
//   b       unsigned digits: digit + 16, packed [group of four k][column][4], so a zero group of `a` adds nothing and a
//           dot product of unsigned with signed bytes serves all encodings; the caller takes 16 x (sum of a's digits)
//           off
//
// All sums are modulo 2^32: a tile is exact when its final value fits 32 bits, whatever the values on the way.
// |digit of a| <= 15 and b <= 31, so 64 products fit 16 bits: 64 x 15 x 31 < 2^15.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "../core/path.hpp"

namespace lamella::gemm::detail {

inline constexpr int digit_offset = 16;
inline constexpr int tile_size = 384;  // accumulators
constexpr int tile_rows(int vectors) noexcept { return 24 / vectors; }
constexpr int tile_columns(int vectors) noexcept { return 16 * vectors; }

// The product of `groups` x 4 digits of each tile row with each column; the tile is shifted left by `shift` bits
// before.
struct sliced_run {
    const std::int8_t* a;   // row 0, first digit
    const std::uint8_t* b;  // the same depth
    std::int64_t groups;
    int shift;  // 0..31
};

// Adds runs to a tile. `stride`: bytes between rows of a.
using dense_kernel = void (*)(const sliced_run* runs, int count, std::int64_t stride, std::int32_t* tile);
// Adds one run, visiting the groups of each row that its bitmap marks: words[row x word_stride + i] covers the groups
// 64 i .. 64 i + 63 of the run. The run's shift is ignored.
using sparse_kernel = void (*)(const sliced_run& run, const std::uint64_t* words, std::int64_t word_stride,
                               std::int64_t stride, std::int32_t* tile);

// tile[row][column] -= surplus[row].
LAMELLA_ALWAYS_INLINE void take_off_body(std::int32_t* LAMELLA_RESTRICT tile,
                                         const std::uint32_t* LAMELLA_RESTRICT surplus, int columns) {
    for (int i = 0; i < tile_size; i += 16) {
        const std::uint32_t less = surplus[i / columns];
        for (int c = 0; c < 16; ++c)
            tile[i + c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(tile[i + c]) - less);
    }
}
LAMELLA_MULTIVERSION(take_off, (std::int32_t* tile, const std::uint32_t* surplus, int columns),
                     (tile, surplus, columns))

// into += tile x 2^shift, modulo 2^64.
LAMELLA_ALWAYS_INLINE void fold_body(const std::int32_t* LAMELLA_RESTRICT tile, int shift,
                                     std::uint64_t* LAMELLA_RESTRICT into) {
    for (int i = 0; i < tile_size; ++i) into[i] += static_cast<std::uint64_t>(std::int64_t{tile[i]}) << shift;
}
LAMELLA_MULTIVERSION(fold, (const std::int32_t* tile, int shift, std::uint64_t* into), (tile, shift, into))

// Sum of `chunks` x 64 digits.
LAMELLA_ALWAYS_INLINE void sum_digits_body(const std::int8_t* digit, std::int64_t chunks, std::int32_t& sum) {
    std::int16_t lane[64] = {};  // four chunks at most
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk)
        for (int i = 0; i < 64; ++i) lane[i] = static_cast<std::int16_t>(lane[i] + digit[64 * chunk + i]);
    std::int32_t total = 0;
    for (int i = 0; i < 64; ++i) total += lane[i];
    sum = total;
}
LAMELLA_MULTIVERSION(sum_digits, (const std::int8_t* digit, std::int64_t chunks, std::int32_t& sum),
                     (digit, chunks, sum))

inline void shift_tile(std::int32_t* tile, int shift) noexcept {
    if (shift == 0) return;
    for (int i = 0; i < tile_size; ++i)
        tile[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(tile[i]) << shift);
}

// Packs four groups of four rows of b, a 4 x 4 square of groups: to[group][row] = digits + offset.
inline void pack_square(const std::int8_t* from, std::int64_t row_stride, std::uint8_t* to, std::int64_t group_stride) {
    using groups = std::uint32_t __attribute__((vector_size(16)));
    using bytes = std::uint8_t __attribute__((vector_size(16)));
    groups row[4];
    for (int r = 0; r < 4; ++r) {
        bytes digits;
        std::memcpy(&digits, from + r * row_stride, 16);
        row[r] = reinterpret_cast<groups>(digits + std::uint8_t{digit_offset});
    }
    const groups ab = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5),
                 cd = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
    const groups ef = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7),
                 gh = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
    const groups turned[4] = {
        __builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
        __builtin_shufflevector(ef, gh, 0, 1, 4, 5), __builtin_shufflevector(ef, gh, 2, 3, 6, 7)};
    for (int g = 0; g < 4; ++g) std::memcpy(to + g * group_stride, &turned[g], 16);
}

// Eight 16-bit lanes; every 64-bit machine has such registers.
using lanes16 = std::int16_t __attribute__((vector_size(16)));
using bytes8 = std::uint8_t __attribute__((vector_size(8)));

template <int Vectors>
void add_runs_portable(const sliced_run* runs, int count, std::int64_t stride, std::int32_t* tile) {
    constexpr int columns = tile_columns(Vectors);
    constexpr int height = 6;           // rows at a time
    constexpr std::int64_t most = 64;  // groups between two visits to the tile
    for (int i = 0; i < count; ++i) {
        const sliced_run& run = runs[i];
        shift_tile(tile, run.shift);
        for (std::int64_t first = 0; first < run.groups; first += most) {
            const std::int64_t groups = std::min(most, run.groups - first);
            for (int top = 0; top < tile_rows(Vectors); top += height) {
                lanes16 a[most][height];
                for (std::int64_t g = 0; g < groups; ++g)
                    for (int r = 0; r < height; ++r) {
                        const std::int8_t* const d = run.a + (top + r) * stride + 4 * (first + g);
                        a[g][r] = lanes16{d[0], d[1], d[2], d[3], d[0], d[1], d[2], d[3]};
                    }
                for (int c = 0; c < columns; c += 4) {
                    lanes16 low[height] = {}, high[height] = {};
                    const std::uint8_t* b = run.b + first * 4 * columns + 4 * c;
                    for (std::int64_t g = 0; g < groups; ++g, b += 4 * columns) {
                        bytes8 b0, b1;
                        std::memcpy(&b0, b, 8);
                        std::memcpy(&b1, b + 8, 8);
                        const lanes16 x0 = __builtin_convertvector(b0, lanes16);
                        const lanes16 x1 = __builtin_convertvector(b1, lanes16);
#pragma GCC unroll 6
                        for (int r = 0; r < height; ++r) {
                            low[r] += a[g][r] * x0;
                            high[r] += a[g][r] * x1;
                        }
                    }
                    for (int r = 0; r < height; ++r) {
                        std::int32_t* const t = tile + (top + r) * columns + c;
                        const auto add = [](std::int32_t& to, const lanes16& v, int lane) {
                            const int sum = v[lane] + v[lane + 1] + v[lane + 2] + v[lane + 3];
                            to = static_cast<std::int32_t>(static_cast<std::uint32_t>(to) +
                                                           static_cast<std::uint32_t>(sum));
                        };
                        add(t[0], low[r], 0);
                        add(t[1], low[r], 4);
                        add(t[2], high[r], 0);
                        add(t[3], high[r], 4);
                    }
                }
            }
        }
    }
}

template <int Vectors>
void add_groups_portable(const sliced_run& run, const std::uint64_t* words, std::int64_t word_stride,
                         std::int64_t stride, std::int32_t* tile) {
    constexpr int columns = tile_columns(Vectors);
    for (int r = 0; r < tile_rows(Vectors); ++r) {
        std::int32_t* const t = tile + r * columns;
        for (std::int64_t i = 0; 64 * i < run.groups; ++i)
            for (std::uint64_t word = words[r * word_stride + i]; word != 0; word &= word - 1) {
                const std::int64_t g = 64 * i + std::countr_zero(word);
                const std::int8_t* const a = run.a + r * stride + 4 * g;
                const std::uint8_t* const b = run.b + g * 4 * columns;
                for (int c = 0; c < columns; ++c) {
                    const int sum = a[0] * b[4 * c] + a[1] * b[4 * c + 1] + a[2] * b[4 * c + 2] + a[3] * b[4 * c + 3];
                    t[c] =
                        static_cast<std::int32_t>(static_cast<std::uint32_t>(t[c]) + static_cast<std::uint32_t>(sum));
                }
            }
    }
}

}  // namespace lamella::gemm::detail
