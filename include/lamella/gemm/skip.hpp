// What the fused execution knows about the zeros of its broadcast operand, and when it skips them. Products of bytes on
// AVX-512 alone; a group of four zero mantissas contributes nothing to any sum, corrections included, so no bit
// changes.
//
//   tile list   the groups in which any row of a tile is not zero: the dense kernel over a list, free a group
//   row list    each row's own non-zero groups with their values, times the columns of a panel, one row after another;
//               along the depth in pieces of a panel that the first-level cache keeps for all rows of a tile
//   kept depth  deep products whose sides have contiguous rows: depth at which all rows of one side are zero (pixels
//               without an error) is left out before either side is packed, single indices rather than groups
//
// Nothing is counted in full before a sample of the rows promises a gain. Then zero masks are made for a row block at a
// time, and every tile takes what its own counts make cheapest. skip_avx512.hpp makes masks and lists.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../core/memory.hpp"
#include "tile.hpp"

namespace lamella::gemm::detail {

// For tests: what to use wherever it is possible, whatever the counts say.
enum class skip_choice : std::uint8_t { by_cost, tile_lists, row_lists, kept_depth };

enum class skip_kind : std::uint8_t { none, tile_list, row_list };

// One tile of a row block: its entries in the lists of skip_memory. Row lists: piece by piece, and row by row in it.
struct skip_tile {
    skip_kind kind;
    int rows;    // that exist
    int pieces;  // of the depth
    std::int64_t first;
    std::int64_t first_count;  // of the entries of each piece and row; a tile list has one count
};

// Groups that are not zero in any row of a tile, and of all its rows.
struct tile_counts {
    std::int64_t tile = 0, rows = 0;
};

struct skip_memory {
    buffer<std::uint64_t> nonzero;  // a bit a group of each row of the row block, rows filled up to whole words
    buffer<std::uint32_t> groups;   // the lists
    buffer<std::int32_t> values;    // of the groups of row lists
    buffer<skip_tile> tiles;
    buffer<std::int32_t> counts;  // of entries
    buffer<std::int64_t> left;    // bytes from a row's start to each group

    void resize(std::int64_t rows, std::int64_t most_groups) {
        const auto lists = static_cast<std::size_t>(rows * most_groups);
        nonzero.resize(static_cast<std::size_t>((rows + tile_lanes) * ((most_groups + 63) / 64)));
        groups.resize(lists);
        values.resize(lists);
        tiles.resize(static_cast<std::size_t>(rows));
        counts.resize(static_cast<std::size_t>(rows * ((most_groups + 63) / 64)));
        left.resize(static_cast<std::size_t>(most_groups));
    }
};

// Entries that the lists of a row block may have: its rows are limited so that they stay in the second-level cache.
inline constexpr std::int64_t most_entries = 1 << 17;

// Tenths of cycles on one AVX-512 core with 32-byte units (Zen 4; cores with 64-byte units need half of `dense` and
// `listed`, in the same proportion). Measured at 1024 cubed and at 16 to 48 columns. With four vectors in a panel a
// listed group costs 6.1 cycles against 4 in a dense tile, so row lists break even at 0.4 zero groups, lists included.
// Reading a panel for two rows at a time gained nothing anywhere.
struct skip_cost {
    static constexpr std::int64_t dense = 10;  // a group of one row, a vector
    static constexpr std::int64_t row = 100;   // of a row list: the end of its loop is mispredicted
    static constexpr std::int64_t list = 800;  // to make a row list: loops of unpredictable length
    static constexpr std::int64_t entry = 25;  // and an entry of it
    static constexpr std::int64_t mask = 80;   // of up to 64 bytes of one segment of a row
    static constexpr std::int64_t word = 60;   // of 64 groups of a row, to count and turn into a list
    // A group of one row.
    static constexpr std::int64_t listed(std::int64_t vectors) noexcept { return 5 + 14 * vectors; }
};

// Words of 64 groups in a piece of row lists over panels of so many vectors: as much depth as fits the first-level
// cache; all of it where lists are so short that ending them costs more.
constexpr std::int64_t list_piece_words(const tile_counts& found, std::int64_t all, std::int64_t words,
                                        std::int64_t vectors) noexcept {
    constexpr std::int64_t cached = 1 << 15;
    if (3 * found.rows < all) return words;
    return std::clamp<std::int64_t>(cached / (64 * vectors * vector_bytes), 1, words);
}

// What some tiles cost.
struct skip_estimate {
    std::int64_t rows = 0;         // that exist
    std::int64_t groups = 0;       // x rows of their tile: multiplied by the dense kernel,
    std::int64_t tile_groups = 0;  // by that over a list,
    std::int64_t row_groups = 0;   // row by row
    void add(std::int64_t height, std::int64_t present, std::int64_t all, const tile_counts& n) noexcept {
        rows += present;
        groups += height * all;
        tile_groups += height * n.tile;
        row_groups += n.rows;
    }
    // The cheapest way of those that the kernel has, and its cost. Panels are `panel` vectors wide.
    std::int64_t best(std::int64_t vectors, std::int64_t panel, const tile_kernel& kernel,
                      skip_kind& kind) const noexcept {
        const std::int64_t panels = (vectors + panel - 1) / panel;
        std::int64_t cost = groups * skip_cost::dense * vectors;
        kind = skip_kind::none;
        const auto offer = [&](skip_kind other, std::int64_t price) {
            if (price >= cost) return;
            cost = price;
            kind = other;
        };
        offer(skip_kind::tile_list, tile_groups * skip_cost::dense * vectors);
        if (kernel.run_row != nullptr)
            offer(skip_kind::row_list, row_groups * (skip_cost::listed(panel) * panels + skip_cost::entry) +
                                           rows * (skip_cost::list + panels * skip_cost::row));
        return cost;
    }
    skip_kind choose(skip_choice how, std::int64_t vectors, std::int64_t panel,
                     const tile_kernel& kernel) const noexcept {
        skip_kind kind = skip_kind::tile_list;
        if (how == skip_choice::by_cost) best(vectors, panel, kernel, kind);
        if (how == skip_choice::row_lists && kernel.run_row != nullptr) kind = skip_kind::row_list;
        return kind;
    }
};

}  // namespace lamella::gemm::detail
