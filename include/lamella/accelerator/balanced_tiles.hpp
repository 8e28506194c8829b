// How long many tiles take on one core each, with rows dealt to lanes as deal_rows (ioss.hpp) does: many tiles at a
// time, one a vector lane, in 16 bits where a tile's cycles allow it. Only sums matter here, so equal rows and equal
// lanes need no order: the rows of a tile are sorted as numbers by a network of compare-and-exchange steps, and its
// lanes are kept sorted while rows are dealt. Reconstruction, as what it computes is: configuration.hpp says what is
// sourced.
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

template <class Number>
inline constexpr std::int64_t tiles_a_vector = 64 / sizeof(Number);

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
template <class Number>
LAMELLA_ALWAYS_INLINE void sort_tiles_body(const std::pair<std::int32_t, std::int32_t>* LAMELLA_RESTRICT steps,
                                           std::int64_t count, Number* rows) {
    typedef Number tiles __attribute__((vector_size(64)));
    for (std::int64_t s = 0; s < count; ++s) {
        Number* const upper = rows + steps[s].first * tiles_a_vector<Number>;
        Number* const lower = rows + steps[s].second * tiles_a_vector<Number>;
        tiles x, y;
        std::memcpy(&x, upper, sizeof x);
        std::memcpy(&y, lower, sizeof y);
        const tiles large = x < y ? y : x, small = x < y ? x : y;
        std::memcpy(upper, &large, sizeof large);
        std::memcpy(lower, &small, sizeof small);
    }
}
LAMELLA_MULTIVERSION_TEMPLATE(sort_tiles, (class Number),
                              (const std::pair<std::int32_t, std::int32_t>* steps, std::int64_t count, Number* rows),
                              (steps, count, rows))

// Deals `count` rows, each to the lane with the least. lanes: [lane][tile], the least first, zero in the beginning.
template <class Number>
LAMELLA_ALWAYS_INLINE void deal_longest_first_body(const Number* LAMELLA_RESTRICT rows, std::int64_t count,
                                                   std::int64_t lane_count, Number* LAMELLA_RESTRICT lanes) {
    typedef Number tiles __attribute__((vector_size(64)));
    for (std::int64_t r = 0; r < count; ++r) {
        tiles moving, least;  // lane 0 and its new row, until they stand where they belong
        std::memcpy(&moving, lanes, sizeof moving);
        std::memcpy(&least, rows + r * tiles_a_vector<Number>, sizeof least);
        moving += least;
        Number* to = lanes;
        for (std::int64_t lane = 1; lane < lane_count; ++lane, to += tiles_a_vector<Number>) {
            tiles own;
            std::memcpy(&own, to + tiles_a_vector<Number>, sizeof own);
            least = moving < own ? moving : own;
            moving = moving < own ? own : moving;
            std::memcpy(to, &least, sizeof least);
        }
        std::memcpy(to, &moving, sizeof moving);
    }
}
LAMELLA_MULTIVERSION_TEMPLATE(deal_longest_first, (class Number),
                              (const Number* rows, std::int64_t count, std::int64_t lane_count, Number* lanes),
                              (rows, count, lane_count, lanes))

class balanced_tiles {
  public:
    static constexpr std::int64_t at_once = tiles_a_vector<std::uint16_t>;
    static constexpr std::int64_t most_rows = 1024;  // of a tile: the network grows faster than sorting does

    // Cycles of the busiest lane of each tile: of tile t, rows t x tile_rows .. of `cycles`; greedily dealt, or in
    // turn. At most `at_once` tiles; `most`: no tile's cycles add up to more, and less than 2^31.
    std::array<std::uint32_t, at_once> run(path isa, const std::uint32_t* cycles, std::int64_t rows,
                                           std::int64_t tile_rows, std::int64_t lanes, bool greedy,
                                           std::uint64_t most) {
        const auto size = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(tile_rows)));
        if (greedy && size != size_) steps_ = sorting_network(static_cast<std::int32_t>(size_ = size));
        std::array<std::uint32_t, at_once> longest{};
        const auto deal = [&]<class Number>(scratch<Number>& memory) {
            const std::int64_t part = tiles_a_vector<Number> * tile_rows;
            for (std::int64_t first = 0; first < rows; first += part)
                memory.deal(isa, cycles + first, std::min(part, rows - first), tile_rows, lanes, size,
                            greedy ? &steps_ : nullptr, longest.data() + first / tile_rows);
        };
        if (most < 1 << 16)
            deal(narrow_);
        else
            deal(wide_);
        return longest;
    }

  private:
    using network = std::vector<std::pair<std::int32_t, std::int32_t>>;
    template <class Number>
    struct scratch {
        buffer<Number> rows, lanes;

        // One vector of tiles; without a network, rows are dealt in turn.
        void deal(path isa, const std::uint32_t* cycles, std::int64_t count, std::int64_t tile_rows,
                  std::int64_t lane_count, std::int64_t size, const network* sorting, std::uint32_t* longest) {
            constexpr std::int64_t tiles = tiles_a_vector<Number>;
            rows.resize(static_cast<std::size_t>(size * tiles));
            lanes.resize(static_cast<std::size_t>(lane_count * tiles));
            rows.fill_zero();  // what is not there takes no time
            lanes.fill_zero();
            for (std::int64_t first = 0, t = 0; first < count; first += tile_rows, ++t)
                for (std::int64_t r = 0; r < std::min(tile_rows, count - first); ++r)
                    rows.data()[r * tiles + t] = static_cast<Number>(cycles[first + r]);
            if (sorting != nullptr) {
                sort_tiles(isa, sorting->data(), static_cast<std::int64_t>(sorting->size()), rows.data());
                deal_longest_first(isa, rows.data(), tile_rows, lane_count, lanes.data());
            } else {
                for (std::int64_t r = 0; r < tile_rows; ++r)
                    for (std::int64_t t = 0; t < tiles; ++t) {
                        Number& lane = lanes.data()[r % lane_count * tiles + t];
                        lane = static_cast<Number>(lane + rows.data()[r * tiles + t]);
                    }
            }
            for (std::int64_t lane = 0; lane < lane_count; ++lane)
                for (std::int64_t t = 0; t < (count + tile_rows - 1) / tile_rows; ++t)
                    longest[t] = std::max(longest[t], std::uint32_t{lanes.data()[lane * tiles + t]});
        }
    };

    std::int64_t size_ = 0;
    network steps_;
    scratch<std::uint16_t> narrow_;
    scratch<std::uint32_t> wide_;
};

}  // namespace lamella::accelerator::detail
