// How long many tiles take on one core each, with rows dealt to lanes as deal_rows (ioss.hpp) does: eight tiles at a
// time, one a vector lane. Only sums matter here, so equal rows and equal lanes need no order: the rows of a tile are
// sorted as numbers by a network of compare-and-exchange steps, and its lanes are kept sorted while rows are dealt.
// Reconstruction, as what it computes is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "../core/memory.hpp"
#include "../core/path.hpp"

namespace lamella::accelerator::detail {

inline constexpr int tiles_at_once = 8;

// Compare-and-exchange steps that leave 2^n values in descending order, the larger one first (Batcher's odd-even
// merge).
inline std::vector<std::pair<std::int32_t, std::int32_t>> sorting_network(std::int32_t size) {
    std::vector<std::pair<std::int32_t, std::int32_t>> steps;
    for (std::int32_t part = 1; part < size; part *= 2)
        for (std::int32_t apart = part; apart >= 1; apart /= 2)
            for (std::int32_t j = apart % part; j + apart < size; j += 2 * apart)
                for (std::int32_t i = j; i < std::min(j + apart, size - apart); ++i)
                    if (i / (2 * part) == (i + apart) / (2 * part)) steps.emplace_back(i, i + apart);
    return steps;
}

// rows: [row][tile], sorted in place: rows of each tile in descending order.
LAMELLA_ALWAYS_INLINE void sort_tiles_body(const std::pair<std::int32_t, std::int32_t>* LAMELLA_RESTRICT steps,
                                           std::int64_t count, std::uint32_t* rows) {
    typedef std::int32_t tiles __attribute__((vector_size(4 * tiles_at_once)));
    for (std::int64_t s = 0; s < count; ++s) {
        std::uint32_t* const upper = rows + steps[s].first * tiles_at_once;
        std::uint32_t* const lower = rows + steps[s].second * tiles_at_once;
        tiles x, y;
        std::memcpy(&x, upper, sizeof x);
        std::memcpy(&y, lower, sizeof y);
        const tiles large = x < y ? y : x, small = x < y ? x : y;
        std::memcpy(upper, &large, sizeof large);
        std::memcpy(lower, &small, sizeof small);
    }
}
LAMELLA_MULTIVERSION(sort_tiles,
                     (const std::pair<std::int32_t, std::int32_t>* steps, std::int64_t count, std::uint32_t* rows),
                     (steps, count, rows))

// Deals `count` rows, each to the lane with the least. lanes: [lane][tile], the least first, zero in the beginning.
LAMELLA_ALWAYS_INLINE void deal_longest_first_body(const std::uint32_t* LAMELLA_RESTRICT rows, std::int64_t count,
                                                   std::int64_t lane_count, std::uint32_t* LAMELLA_RESTRICT lanes) {
    typedef std::int32_t tiles __attribute__((vector_size(4 * tiles_at_once)));
    for (std::int64_t r = 0; r < count; ++r) {
        tiles moving, least;  // lane 0 and its new row, until they stand where they belong
        std::memcpy(&moving, lanes, sizeof moving);
        std::memcpy(&least, rows + r * tiles_at_once, sizeof least);
        moving += least;
        std::uint32_t* to = lanes;
        for (std::int64_t lane = 1; lane < lane_count; ++lane, to += tiles_at_once) {
            tiles own;
            std::memcpy(&own, to + tiles_at_once, sizeof own);
            least = moving < own ? moving : own;
            moving = moving < own ? own : moving;
            std::memcpy(to, &least, sizeof least);
        }
        std::memcpy(to, &moving, sizeof moving);
    }
}
LAMELLA_MULTIVERSION(deal_longest_first,
                     (const std::uint32_t* rows, std::int64_t count, std::int64_t lane_count, std::uint32_t* lanes),
                     (rows, count, lane_count, lanes))

class balanced_tiles {
  public:
    static constexpr std::int64_t at_once = tiles_at_once;
    static constexpr std::int64_t most_rows = 1024;  // of a tile: the network grows faster than sorting does

    // Cycles of the busiest lane of each tile: of tile t, rows t x tile_rows .. of `cycles`; greedily dealt, or in
    // turn. At most `at_once` tiles; the cycles of one add up to less than 2^31.
    std::array<std::uint32_t, tiles_at_once> run(path isa, const std::uint32_t* cycles, std::int64_t rows,
                                                 std::int64_t tile_rows, std::int64_t lanes, bool greedy) {
        const auto size = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(tile_rows)));
        if (greedy && size != size_) steps_ = sorting_network(static_cast<std::int32_t>(size_ = size));
        rows_.resize(static_cast<std::size_t>(size * tiles_at_once));
        lanes_.resize(static_cast<std::size_t>(lanes * tiles_at_once));
        rows_.fill_zero();  // what is not there takes no time
        lanes_.fill_zero();
        for (std::int64_t first = 0, t = 0; first < rows; first += tile_rows, ++t) {
            const std::int64_t count = std::min(tile_rows, rows - first);
            for (std::int64_t r = 0; r < count; ++r) rows_.data()[r * tiles_at_once + t] = cycles[first + r];
        }
        if (greedy) {
            sort_tiles(isa, steps_.data(), static_cast<std::int64_t>(steps_.size()), rows_.data());
            deal_longest_first(isa, rows_.data(), tile_rows, lanes, lanes_.data());
        } else {
            for (std::int64_t r = 0; r < tile_rows; ++r)
                for (std::int64_t t = 0; t < tiles_at_once; ++t)
                    lanes_.data()[r % lanes * tiles_at_once + t] += rows_.data()[r * tiles_at_once + t];
        }
        std::array<std::uint32_t, tiles_at_once> longest{};
        for (std::int64_t lane = 0; lane < lanes; ++lane)
            for (std::size_t t = 0; t < longest.size(); ++t)
                longest[t] = std::max(longest[t], lanes_[static_cast<std::size_t>(lane) * tiles_at_once + t]);
        return longest;
    }

  private:
    std::int64_t size_ = 0;
    std::vector<std::pair<std::int32_t, std::int32_t>> steps_;
    buffer<std::uint32_t> rows_, lanes_;
};

}  // namespace lamella::accelerator::detail
