// The contract between the fused execution and its kernels, one file an instruction set (kernel_*.hpp).
//
// The *left* operand is broadcast: a kernel reads 4-byte groups of its rows straight from memory. The *right* operand
// is the vector side: packed so that one 64-byte vector holds a group of each of 16 columns (lanes):
//
//     right: [group][vector][lane][4 bytes]        left row r, group g: base + row offset + span + g x group step
//
// Groups come in two kinds. Bytes: four signed 8-bit mantissas; the right one is stored as mantissa + 128, unsigned,
// because that is what vpdpbusd multiplies, and 128 x the sum of the left row is taken off afterwards (correction), so
// a zero group on the left contributes exactly nothing. An operand without negative mantissas (behind a ReLU, an image)
// is taken as the unsigned one as it is, and nothing is corrected. Words: two signed 16-bit integers; no correction. A
// right operand too wide for 32-bit sums is split into two limbs, value = low + high x 2^shift, which are further
// vectors of the tile.
//
// Folded groups are twice as long, 8 bytes of a row, and a column has two neighbouring lanes; the tile's columns are
// then half as many, and the two sums of each have to be added.
//
// Filled-up depth is zero on the right (the byte 0, not 128), so whatever the left operand holds there is multiplied
// by nothing. Columns past the last one hold the mantissa 0: as bytes, their sum is the correction itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace lamella::gemm::detail {

inline constexpr int tile_lanes = 16;
inline constexpr int vector_bytes = 64;
inline constexpr int most_rows = 24;    // of a tile
inline constexpr int most_vectors = 4;  // of a tile
inline constexpr int most_sums = 24 * tile_lanes;

// Consecutive groups of every left row.
struct group_span {
    std::int64_t left;  // bytes from the row's start
    std::int64_t groups;
    std::int64_t bytes;  // that exist: the last group may reach past them
};

enum class group_kind { words, bytes, bytes_unsigned_left };

struct drain_job;  // drain_portable.hpp

// One tile: sums[row][vector][lane] = sum over spans of left x right.
struct tile_job {
    group_kind kind;           // for kernels of more than one
    const std::byte* left;     // base of the rows' offsets
    const std::int64_t* rows;  // bytes; of every row, or of every fourth one (quads)
    std::int64_t rows_step;    // entries of `rows` between the rows or quads that the kernel reads
    std::int64_t row_step;     // bytes between the four rows of a quad
    std::int64_t group_step;   // bytes between groups of a row
    const group_span* spans;
    std::int64_t span_count;
    const std::byte* right;
    std::int32_t* sums;
    // Groups to multiply instead of the spans, all others being zero. Kernels of AVX-512 alone read it (skip.hpp).
    const std::uint32_t* list = nullptr;
    std::int64_t list_count = 0;
    const std::int64_t* group_left = nullptr;  // bytes from a row's start to each group
    const drain_job* drain = nullptr;          // stores the result instead of `sums`: kernels that drain
};

using tile_function = void (*)(const tile_job&);
// sums[vector][lane] = sum over the listed groups of one row, `values`, x right; `add`: added to what is there.
using row_function = void (*)(const std::uint32_t* groups, const std::int32_t* values, std::int64_t count,
                              const std::byte* right, std::int32_t* sums, bool add);

struct tile_kernel {
    tile_function run = nullptr;
    int rows = 0;         // of the tile
    int vectors = 0;      // of the tile, limbs included
    bool quads = false;   // reads every fourth row's offset and row_step
    bool drains = false;  // takes tile_job::drain, of narrow results
    row_function run_row = nullptr;
};

// A group, or two of them, as the integer that is broadcast.
template <class Group = std::int32_t>
inline Group group_at(const std::byte* at) noexcept {
    Group group;
    std::memcpy(&group, at, sizeof group);
    return group;
}

}  // namespace lamella::gemm::detail
