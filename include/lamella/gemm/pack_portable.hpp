// What is packed, and how on any machine: pack.hpp chooses between this and pack_avx512.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../core/path.hpp"
#include "depth.hpp"
#include "tile.hpp"

namespace lamella::gemm::detail {

struct pack_job {
    const void* data = nullptr;
    bool source_bytes = true;  // int8, otherwise int16
    bool words = false;        // groups of two words, otherwise of four bytes
    bool offset = false;       // bytes are stored as mantissa + 128, unsigned
    int limb_shift = 0;        // words: value = low + high x 2^limb_shift; 0: one limb
    int side = 0;              // of the walk: 0 left, 1 right
    int fold = 1;              // groups side by side in a vector, each row in as many lanes
    const depth_walk* walk = nullptr;
    std::int64_t first_segment = 0, last_segment = 0;
    std::int64_t group_step = 0;  // bytes from a group's vector to the next group's
    std::int64_t limb_step = 0;   // bytes from the low limb's vector to the high one's
};

// Up to 16 rows: their element offsets, and the runs of rows that are neighbours in memory.
struct lane_rows {
    std::int64_t offset[tile_lanes];
    int count;
    int pieces = 0;
    int piece_start[tile_lanes], piece_count[tile_lanes];

    // The next rows of the walk, `left` at most. Rows more than one element apart are pieces of their own.
    lane_rows(offset_walker& rows, std::int64_t left) noexcept
        : count(static_cast<int>(std::min<std::int64_t>(tile_lanes, left))) {
        for (int i = 0; i < count;) {
            const std::int64_t run = rows.stride() == 1 ? rows.left_in_run() : 1;
            const int here = static_cast<int>(std::min<std::int64_t>(run, count - i));
            for (int j = 0; j < here; ++j) offset[i + j] = rows.offset() + j;
            piece_start[pieces] = i;
            piece_count[pieces++] = here;
            rows.advance(here);
            i += here;
        }
    }
};

// low: the low `shift` bits as a signed number; high: the rest. Both fit 16 bits for every 16-bit mantissa.
constexpr std::int16_t low_limb(int value, int shift) noexcept {
    const int half = 1 << (shift - 1);
    return static_cast<std::int16_t>(((value + half) & (2 * half - 1)) - half);
}
constexpr std::int16_t high_limb(int value, int shift) noexcept {
    return static_cast<std::int16_t>((value + (1 << (shift - 1))) >> shift);
}

// Any kind of group, element by element.
template <class Source>
void pack_plain(const pack_job& job, const lane_rows& rows, std::byte* into) {
    const auto* data = static_cast<const Source*>(job.data);
    const depth_walk& walk = *job.walk;
    const std::int64_t stride = walk.stride[job.side];
    const std::int64_t* table = walk.tabled ? walk.table[job.side].data() : nullptr;
    const int elements = job.words ? 2 : 4;
    for (int lane = 0; lane < tile_lanes; ++lane) {
        std::byte* to = into + lane * 4;
        const int row = lane / job.fold, skipped = lane % job.fold * elements;
        const bool filled = row >= rows.count;
        for (std::int64_t s = job.first_segment; s < job.last_segment; ++s) {
            const depth_segment& part = walk.segments[static_cast<std::size_t>(s)];
            for (std::int64_t k = skipped; k < part.length + skipped; k += elements * job.fold, to += job.group_step) {
                int value[4] = {};
                const int valid = static_cast<int>(std::clamp<std::int64_t>(part.length - k, 0, elements));
                for (int e = 0; e < valid && !filled; ++e)
                    value[e] = data[rows.offset[row] + (table != nullptr ? table[part.first + k + e]
                                                                         : part.offset[job.side] + (k + e) * stride)];
                if (!job.words) {
                    for (int e = 0; e < valid && job.offset; ++e) value[e] += 128;
                    const std::uint8_t group[4] = {
                        static_cast<std::uint8_t>(value[0]), static_cast<std::uint8_t>(value[1]),
                        static_cast<std::uint8_t>(value[2]), static_cast<std::uint8_t>(value[3])};
                    std::memcpy(to, group, sizeof group);
                } else if (job.limb_shift == 0) {
                    const std::int16_t group[2] = {static_cast<std::int16_t>(value[0]),
                                                   static_cast<std::int16_t>(value[1])};
                    std::memcpy(to, group, sizeof group);
                } else {
                    const std::int16_t low[2] = {low_limb(value[0], job.limb_shift),
                                                 low_limb(value[1], job.limb_shift)};
                    const std::int16_t high[2] = {high_limb(value[0], job.limb_shift),
                                                  high_limb(value[1], job.limb_shift)};
                    std::memcpy(to, low, sizeof low);
                    std::memcpy(to + job.limb_step, high, sizeof high);
                }
            }
        }
    }
}

// Words, not folded: vector by vector, so that compilers interleave and split 16 rows at a time.
template <class Source>
LAMELLA_ALWAYS_INLINE void pack_words_body(const Source* data, const pack_job& job, const lane_rows& rows,
                                           std::byte* to) {
    const depth_walk& walk = *job.walk;
    const std::int64_t stride = walk.stride[job.side];
    const bool neighbours = rows.pieces == 1 && rows.count == tile_lanes;
    std::int16_t element[2][tile_lanes] = {};
    for (std::int64_t s = job.first_segment; s < job.last_segment; ++s) {
        const depth_segment& part = walk.segments[static_cast<std::size_t>(s)];
        const std::int64_t* table = walk.tabled ? walk.table[job.side].data() + part.first : nullptr;
        for (std::int64_t k = 0; k < part.length; k += 2, to += job.group_step) {
            if (k + 1 == part.length) std::fill_n(element[1], tile_lanes, std::int16_t{0});
            for (int e = 0; e < 2 && k + e < part.length; ++e) {
                const Source* from =
                    data + (table != nullptr ? table[k + e] : part.offset[job.side] + (k + e) * stride);
                if (neighbours)
                    for (int i = 0; i < tile_lanes; ++i) element[e][i] = from[rows.offset[0] + i];
                else
                    for (int i = 0; i < rows.count; ++i) element[e][i] = from[rows.offset[i]];
            }
            std::int16_t group[2 * tile_lanes];
            if (job.limb_shift == 0) {
                for (int i = 0; i < tile_lanes; ++i) {
                    group[2 * i] = element[0][i];
                    group[2 * i + 1] = element[1][i];
                }
                std::memcpy(to, group, sizeof group);
                continue;
            }
            for (int i = 0; i < tile_lanes; ++i) {
                group[2 * i] = low_limb(element[0][i], job.limb_shift);
                group[2 * i + 1] = low_limb(element[1][i], job.limb_shift);
            }
            std::memcpy(to, group, sizeof group);
            for (int i = 0; i < tile_lanes; ++i) {
                group[2 * i] = high_limb(element[0][i], job.limb_shift);
                group[2 * i + 1] = high_limb(element[1][i], job.limb_shift);
            }
            std::memcpy(to + job.limb_step, group, sizeof group);
        }
    }
}
LAMELLA_MULTIVERSION_TEMPLATE(pack_words, (class Source),
                              (const Source* data, const pack_job& job, const lane_rows& rows, std::byte* to),
                              (data, job, rows, to))

// Bytes, not folded: four elements of each of 16 rows.
LAMELLA_ALWAYS_INLINE void pack_bytes_body(const pack_job& job, const lane_rows& rows, std::byte* to) {
    const auto* data = static_cast<const std::uint8_t*>(job.data);
    const depth_walk& walk = *job.walk;
    const std::int64_t stride = walk.stride[job.side];
    const std::int64_t* table = walk.tabled ? walk.table[job.side].data() : nullptr;
    const bool neighbours = rows.pieces == 1 && rows.count == tile_lanes;
    const std::uint8_t flip = job.offset ? 128 : 0;
    for (std::int64_t s = job.first_segment; s < job.last_segment; ++s) {
        const depth_segment& part = walk.segments[static_cast<std::size_t>(s)];
        for (std::int64_t k = 0; k < part.length; k += 4, to += job.group_step) {
            const int valid = static_cast<int>(std::min<std::int64_t>(4, part.length - k));
            std::uint8_t group[vector_bytes] = {};
            if (table == nullptr && stride == 1 && valid == 4) {
                const std::uint8_t* from = data + part.offset[job.side] + k;
                for (int i = 0; i < rows.count; ++i) std::memcpy(group + 4 * i, from + rows.offset[i], 4);
                for (std::uint8_t& x : group) x = static_cast<std::uint8_t>(x ^ flip);
            } else {
                for (int e = 0; e < valid; ++e) {
                    const std::uint8_t* from = data + (table != nullptr ? table[part.first + k + e]
                                                                        : part.offset[job.side] + (k + e) * stride);
                    if (neighbours)
                        for (int i = 0; i < tile_lanes; ++i)
                            group[4 * i + e] = static_cast<std::uint8_t>(from[rows.offset[0] + i] ^ flip);
                    else
                        for (int i = 0; i < rows.count; ++i)
                            group[4 * i + e] = static_cast<std::uint8_t>(from[rows.offset[i]] ^ flip);
                    for (int i = rows.count; i < tile_lanes; ++i) group[4 * i + e] = flip;
                }
            }
            std::memcpy(to, group, sizeof group);
        }
    }
}
LAMELLA_MULTIVERSION(pack_bytes, (const pack_job& job, const lane_rows& rows, std::byte* to), (job, rows, to))

}  // namespace lamella::gemm::detail
