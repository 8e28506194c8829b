// The numbers of a GEMM whose rows are walked by one core each, tile by tile (datapath_counter.hpp): rows of a tile are
// taken a vector at a time, and tiles, too, when their rows are dealt to lanes.
// Reconstruction, as what it computes is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "../core/memory.hpp"
#include "balanced_tiles.hpp"
#include "column_counts.hpp"
#include "configuration.hpp"
#include "datapath.hpp"
#include "ioss.hpp"
#include "ran.hpp"
#include "row_kernels.hpp"
#include "slice_kernels.hpp"

namespace lamella::accelerator::detail {

// Rows `to` .. lie at places `from` .. of `columns`. Digits and windows of a row that are no padding; null: all are
// there.
struct seen_rows {
    const column_counts& columns;
    const std::vector<run>& places;
    const std::uint32_t *digits, *windows;
};

class whole_tiles {
  public:
    // True when each row is walked by one core that has every plane, partner and window, dealt without looking at the
    // step before, and every sum over a tile fits 31 bits.
    static bool serve(const configuration& how, const datapath_view& v, const ran_mapping& map) {
        if (map.outputs * map.streamed_planes * map.held_planes != 1 || how.balance == lane_balance::iterative)
            return false;
        if (how.tile_rows() > balanced_tiles::most_rows || (v.masked() && !v.a_streams())) return false;
        const std::uint64_t products = static_cast<std::uint64_t>(v.partners() * v.held_planes());
        const std::uint64_t most = std::max(digit_cycles(products, how.multipliers) + 1, products);
        return most <
               (std::uint64_t{1} << 31) / static_cast<std::uint64_t>(v.depth() * v.streamed_planes() * how.tile_rows());
    }

    // Adds cycles of lanes, traffic and what clusters do to `counts` and `banks`. Returns products of each streamed
    // plane with one plane of the held operand.
    std::array<std::uint64_t, slice::max_slices> count(const gemm::gemm_event& event, const datapath_view& v,
                                                       const ran_mapping& map, const configuration& how, path isa,
                                                       const seen_rows& seen, datapath_counts& counts,
                                                       std::vector<bank_schedule>& banks) {
        const std::int64_t most = how.tile_rows(), padded = (most + rows_at_once - 1) / rows_at_once * rows_at_once;
        const auto held = static_cast<std::uint64_t>(v.held_planes());
        if (v.masked()) list_alive(event, v, isa);
        cycles_of_partners_.clear();
        for (std::int64_t n = 0; n <= v.partners(); ++n)
            cycles_of_partners_.push_back(
                static_cast<std::uint32_t>(digit_cycles(static_cast<std::uint64_t>(n) * held, how.multipliers)));
        pitch_ = padded + rows_at_once;  // copies of runs end past a tile's rows
        tile_digits_.resize(at(pitch_ * v.streamed_planes()));
        tile_windows_.resize(at(pitch_ * v.streamed_planes()));
        tile_partners_.resize(at(padded));
        tile_digit_cycles_.resize(at(padded));
        whole_digits_.assign(at(padded), static_cast<std::uint32_t>(v.depth()));
        whole_windows_.assign(at(padded), static_cast<std::uint32_t>(map.windows));
        std::fill_n(tile_partners_.data(), padded, static_cast<std::uint32_t>(v.partners()));
        std::fill_n(tile_digit_cycles_.data(), padded, cycles_of_partners_.back());
        row_cycles_.resize(at(balanced_.at_once * most + rows_at_once));
        banks.assign(at(map.clusters), bank_schedule(how.banks));

        walked_rows all;
        std::array<walked_rows, balanced_tiles::at_once> sums;
        std::size_t place = 0;
        for (std::int64_t tiles = 0; tiles < map.tiles; tiles += balanced_.at_once) {
            const std::int64_t here = std::min(balanced_.at_once, map.tiles - tiles), first = tiles * most;
            std::uint64_t longest_tile = 0;  // on a single lane
            for (std::int64_t t = 0; t < here; ++t) {
                sums[at(t)] = {};
                walk_tile(isa, tile_of(v, how, seen, first + t * most, padded, place), row_cycles_.data() + t * most,
                          sums[at(t)]);
                longest_tile = std::max(longest_tile, sums[at(t)].busy + sums[at(t)].scanned);
            }
            const auto longest = balanced_.run(isa, row_cycles_.data(), std::min(v.rows() - first, here * most), most,
                                               how.lanes, how.balance == lane_balance::greedy, longest_tile);
            for (std::int64_t t = 0; t < here; ++t) {
                const int cluster = static_cast<int>((tiles + t) % map.clusters);
                const walked_rows& tile = sums[at(t)];
                counts.core_issued[at(map.core_of(0, cluster))] += tile.all_products() * held;
                counts.waiting +=
                    std::uint64_t{longest[at(t)]} * static_cast<std::uint64_t>(how.lanes) - tile.busy - tile.scanned;
                banks[at(cluster)].add(longest[at(t)], drain_cycles(tile.outputs, how.drain_width));
                all += tile;
            }
        }
        counts.busy = all.busy;
        counts.scanning = all.scanned;
        counts.outputs = counts.partial_sums = all.outputs;
        counts.streamed_bits = all.digits * static_cast<std::uint64_t>(digit_bits(how));
        counts.index_bits = all.positions * static_cast<std::uint64_t>(v.streamed_planes());
        return all.products;
    }

  private:
    static std::size_t at(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }

    // Runs are mostly short. Up to 32 bytes past the last row are read and written.
    static void copy_rows(const std::uint16_t* from, std::int64_t count, std::uint16_t* to) noexcept {
        for (std::int64_t i = 0; i < count; i += 16) std::memcpy(to + i, from + i, 32);
    }
    // The rows of the tile that begins at row `first`, `place` being where the one before ended in seen.places.
    tile_rows tile_of(const datapath_view& v, const configuration& how, const seen_rows& seen, std::int64_t first,
                      std::int64_t padded, std::size_t& place) {
        const std::int64_t rows = std::min<std::int64_t>(how.tile_rows(), v.rows() - first);
        while (seen.places[place].to + seen.places[place].count <= first) ++place;
        std::size_t next = place;
        for (std::int64_t done = 0; done < rows; ++next) {
            const run& r = seen.places[next];
            const std::int64_t from = r.from + first + done - r.to,
                               count = std::min(rows - done, r.to + r.count - first - done);
            for (int p = 0; p < v.streamed_planes(); ++p) {
                copy_rows(seen.columns.digits(p) + from, count, tile_digits_.data() + p * pitch_ + done);
                copy_rows(seen.columns.windows(p) + from, count, tile_windows_.data() + p * pitch_ + done);
            }
            done += count;
        }
        if (v.masked())
            for (std::int64_t m = 0; m < rows; ++m) {
                tile_partners_[at(m)] = met_rows_[at(first + m)];
                tile_digit_cycles_[at(m)] = cycles_of_partners_[met_rows_[at(first + m)]];
            }
        for (std::int64_t m = rows; m < padded; ++m) tile_partners_[at(m)] = tile_digit_cycles_[at(m)] = 0;
        return {tile_digits_.data(),
                tile_windows_.data(),
                pitch_,
                v.streamed_planes(),
                rows,
                seen.digits == nullptr ? whole_digits_.data() : seen.digits + first,
                seen.windows == nullptr ? whole_windows_.data() : seen.windows + first,
                tile_partners_.data(),
                tile_digit_cycles_.data()};
    }
    // Live outputs of each row.
    void list_alive(const gemm::gemm_event& event, const datapath_view& v, path isa) {
        const std::int64_t columns = event.b.view.rows.size();
        met_rows_.resize(at(v.rows()));
        const gemm::axis& rows = event.gate_rows;
        const bool together = rows.stride[2] == columns;  // the gates of neighbouring rows
        const std::int64_t step = together ? rows.extent[2] : 1;
        alive_.resize(at(step * columns + 16));
        slice::detail::with_row_sum(columns, [&](auto row_sum) {
            for (std::int64_t m = 0; m < v.rows(); m += step) {
                list_positive_values(isa, event.gate + rows.offset(m), step * columns, alive_.data());
                for (std::int64_t i = 0; i < step; ++i)
                    met_rows_[at(m + i)] = static_cast<std::uint32_t>(row_sum(alive_.data() + i * columns));
            }
        });
    }

    balanced_tiles balanced_;
    std::int64_t pitch_ = 0;  // from a plane of a tile to the next
    buffer<std::uint32_t> met_rows_;  // of each row: live outputs
    buffer<std::uint8_t> alive_;
    buffer<std::uint16_t> tile_digits_, tile_windows_;  // [plane][row of a tile]
    buffer<std::uint32_t> tile_partners_, tile_digit_cycles_, row_cycles_;
    std::vector<std::uint32_t> whole_digits_, whole_windows_, cycles_of_partners_;
};

}  // namespace lamella::accelerator::detail
