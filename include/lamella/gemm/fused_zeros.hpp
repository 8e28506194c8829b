// Which zeros of the left operand the default execution leaves out (fused.hpp), and the parts of the left operand that
// both walk over. skip.hpp has the costs and lists, skip_avx512.hpp the loops.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "operation.hpp"
#include "pack.hpp"
#include "plan.hpp"
#include "skip.hpp"
#include "skip_avx512.hpp"
#include "skip_depth.hpp"
#include "spans.hpp"
#include "workspace.hpp"

namespace lamella::gemm::detail {

// What is known of a product once it has been planned.
class fused_parts {
  protected:
    fused_parts(const problem& p, const settings& how, fused_memory& memory)
        : plan_(p, how.isa), isa_(how.isa), memory_(memory) {}

    // A range of left rows, and the chunk of depth for which `left` was packed.
    struct part {
        std::int64_t row_begin, row_end;
        std::int64_t chunk;
        const std::byte* left;
        std::int64_t rows() const noexcept { return row_end - row_begin; }
    };

    static constexpr std::int64_t row_unit = 48;  // tiles and packed vectors both begin where a row block does

    static std::size_t size(std::int64_t x) noexcept { return static_cast<std::size_t>(x); }

    std::int64_t chunk_begin(std::int64_t chunk) const noexcept { return chunk * plan_.chunk_blocks; }
    std::int64_t chunk_end(std::int64_t chunk) const noexcept {
        return std::min(memory_.walk.block_count, (chunk + 1) * plan_.chunk_blocks);
    }
    std::int64_t chunk_groups(std::int64_t chunk) const noexcept {
        return memory_.walk.blocks[size(chunk_end(chunk))].groups -
               memory_.walk.blocks[size(chunk_begin(chunk))].groups;
    }

    // Byte offsets of the part's rows. Tiles may reach past the last row: they read rows that exist, in vain.
    void fill_rows(const part& x, thread_memory& mine) const {
        std::int64_t* rows = mine.left_rows.data();
        if (plan_.direct) {
            fill_offsets(plan_.left.view.rows, x.row_begin, x.rows(), plan_.words ? 2 : 1, rows);
        } else {
            const std::int64_t vector = chunk_groups(x.chunk) * vector_bytes;
            for (std::int64_t i = 0; i < x.rows(); ++i) {
                const std::int64_t row = x.row_begin + i;
                rows[i] = row / tile_lanes * vector + row % tile_lanes * 4;
            }
        }
        std::fill_n(rows + x.rows(), most_rows, rows[plan_.quads() ? (x.rows() - 1) / 4 * 4 : 0]);
    }

    fused_plan plan_;
    const path isa_;
    fused_memory& memory_;
    group_kind kind_ = group_kind::words;
};

class fused_zeros : protected fused_parts {
  protected:
    fused_zeros(const problem& p, const settings& how, fused_memory& memory)
        : fused_parts(p, how, memory),
          skips_asked_(how.skip_zeros && how.isa == path::avx512),
          skips_(skips_asked_ && !plan_.words) {}

    // Tenths of cycles to find the zeros of a row.
    std::int64_t mask_cost(const part& x, std::int64_t groups) const noexcept {
        if (!plan_.direct) return whole(5 * groups, 4);
        const std::int64_t segments = memory_.walk.blocks[size(chunk_end(x.chunk))].segments -
                                      memory_.walk.blocks[size(chunk_begin(x.chunk))].segments;
        return skip_cost::mask * (segments + groups * plan_.fold / tile_lanes);
    }

    // Whether lists are likely to pay: from some tiles of the part, whose zeros cost less than 1% of the product to
    // find.
    bool worth_lists(const part& x, thread_memory& mine) const {
#if LAMELLA_X86
        if (!skips_ || memory_.skipping == skip_choice::kept_depth) return false;
        if (memory_.skipping != skip_choice::by_cost) return true;
        constexpr std::int64_t most_tiles = 12, packed_sample = 256;
        const std::int64_t all_groups = chunk_groups(x.chunk);
        const std::int64_t groups = plan_.direct ? all_groups : std::min(all_groups, packed_sample);
        const tile_kernel kernel = kernel_of(isa_, kind_, plan_.fold, plan_.panel, plan_.quads(), plan_.rows);
        const std::int64_t rows = std::min<std::int64_t>(kernel.rows, plan_.rows);
        const std::int64_t tile_cost =
            (plan_.direct ? rows : whole(rows, tile_lanes) * tile_lanes) * mask_cost(x, groups);
        const std::int64_t affordable =
            plan_.rows * all_groups * skip_cost::dense * plan_.vectors / 128 / (tile_cost + 1);
        const std::int64_t units = whole(plan_.rows, row_unit), tiles = std::min({most_tiles, units, affordable});
        if (tiles == 0) return false;
        skip_estimate sampled;
        for (std::int64_t i = 0; i < tiles; ++i) {
            part sample = x;
            sample.row_begin = (2 * i + 1) * units / (2 * tiles) * row_unit;
            sample.row_end = std::min(plan_.rows, sample.row_begin + rows);
            fill_rows(sample, mine);
            mask_rows(sample, mine, groups);
            sampled.add(
                kernel.rows, sample.rows(), groups,
                count_tile_avx512(mine.skip.nonzero.data(), whole(groups, 64), static_cast<int>(sample.rows())));
        }
        skip_kind kind;
        const std::int64_t cost = sampled.best(plan_.vectors, plan_.panel, kernel, kind) +
                                  sampled.rows * (mask_cost(x, groups) + skip_cost::word * whole(groups, 64));
        return 10 * cost < 9 * sampled.groups * skip_cost::dense * plan_.vectors;
#else
        static_cast<void>(x);
        static_cast<void>(mine);
        return false;
#endif
    }

    // The zero masks of the part's rows, over the first groups of its chunk or over all of them.
    void mask_rows(const part& x, thread_memory& mine) const { mask_rows(x, mine, chunk_groups(x.chunk)); }
    void mask_rows(const part& x, thread_memory& mine, std::int64_t groups) const {
#if LAMELLA_X86
        const std::int64_t words = whole(groups, 64);
        std::uint64_t* const nonzero = mine.skip.nonzero.data();
        if (plan_.direct) {
            const depth_block& from = memory_.walk.blocks[size(chunk_begin(x.chunk))];
            const depth_block& to = memory_.walk.blocks[size(chunk_end(x.chunk))];
            const auto mask = plan_.fold == 1 ? mask_row_avx512<4> : mask_row_avx512<8>;
            for (std::int64_t i = 0; i < x.rows(); ++i)
                mask(x.left + mine.left_rows[size(i)], memory_.walk.segments.data() + from.segments,
                     to.segments - from.segments, nonzero + i * words);
            return;
        }
        for (std::int64_t i = 0; i < x.rows(); i += tile_lanes)
            mask_packed_avx512(x.left + mine.left_rows[size(i)], groups, words, nonzero + i * words);
#else
        static_cast<void>(x);
        static_cast<void>(mine);
        static_cast<void>(groups);
#endif
    }

    // Every tile of the part, for panels of so many vectors: its list, if one pays.
    void list_tiles(const part& x, int vectors, thread_memory& mine) const {
#if LAMELLA_X86
        skip_memory& skip = mine.skip;
        const std::int64_t groups = chunk_groups(x.chunk), words = whole(groups, 64);
        const std::int64_t alike = std::max<std::int64_t>(1, plan_.vectors / vectors);  // panels that share the lists
        fill_group_offsets(memory_.walk, plan_.direct, chunk_begin(x.chunk), chunk_end(x.chunk),
                           plan_.elements_a_group(), skip.left.data());
        std::int64_t entries = 0, counts = 0;
        skip_tile* tile = skip.tiles.data();
        tile_kernel kernel;
        for (std::int64_t row = x.row_begin; row < x.row_end; row += kernel.rows, ++tile) {
            kernel = kernel_of(isa_, kind_, plan_.fold, vectors, plan_.quads(), x.row_end - row);
            tile->rows = static_cast<int>(std::min<std::int64_t>(kernel.rows, x.row_end - row));
            tile->first = entries;
            const std::int64_t local = row - x.row_begin;
            const std::uint64_t* nonzero = skip.nonzero.data() + local * words;
            const tile_counts found = count_tile_avx512(nonzero, words, tile->rows);
            skip_estimate cost;
            cost.add(kernel.rows, tile->rows, groups, found);
            tile->kind = cost.choose(memory_.skipping, alike * vectors, vectors, kernel);
            tile->first_count = counts;
            if (tile->kind == skip_kind::tile_list) {
                const std::int64_t made = list_tile_avx512(nonzero, words, tile->rows, skip.groups.data() + entries);
                skip.counts[size(counts++)] = static_cast<std::int32_t>(made);
                entries += made;
            }
            if (tile->kind != skip_kind::row_list) continue;
            const std::int64_t piece = list_piece_words(found, tile->rows * groups, words, vectors);
            tile->pieces = static_cast<int>(whole(words, piece));
            for (std::int64_t first = 0; first < words; first += piece)
                for (int r = 0; r < tile->rows; ++r) {
                    const std::int64_t made =
                        list_row_avx512(nonzero + r * words, first, std::min(words, first + piece),
                                        x.left + mine.left_rows[size(local + r)], skip.left.data(),
                                        skip.groups.data() + entries, skip.values.data() + entries);
                    skip.counts[size(counts++)] = static_cast<std::int32_t>(made);
                    entries += made;
                }
        }
#else
        static_cast<void>(x);
        static_cast<void>(vectors);
        static_cast<void>(mine);
#endif
    }

    const bool skips_asked_,
        skips_;  // a width change takes no memory, so that of skipping is taken whatever the widths
};

}  // namespace lamella::gemm::detail
