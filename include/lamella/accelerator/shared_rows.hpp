// The numbers of a GEMM whose rows several cores share, or whose partners differ along depth, or whose rows are dealt
// by the step before (datapath_counter.hpp): row by row. Cores that take equally long for every row are counted
// together. Reconstruction, as what it computes is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "../core/memory.hpp"
#include "configuration.hpp"
#include "datapath.hpp"
#include "ioss.hpp"
#include "partner_bits.hpp"
#include "ran.hpp"
#include "row_bits.hpp"
#include "row_kernels.hpp"
#include "whole_tiles.hpp"

namespace lamella::accelerator::detail {

// A GEMM as its counters see it. `edges`, `held_edges`: the view of the streamed or held operand reaches padding.
// `seen`: digits and windows of every row, where column_counts.hpp serves; otherwise rows are read as bits.
struct counted_gemm {
    const gemm::gemm_event& event;
    const datapath_view& view;
    const ran_mapping& map;
    const configuration& how;
    path isa;
    bool edges, held_edges;
    std::optional<seen_rows> seen;
};

class shared_rows {
  public:
    // Adds cycles of lanes, traffic and what clusters do to `counts` and `banks`. Returns products of each streamed
    // plane with one plane of the held operand. `history`: loads() of the step before, or empty when there are none.
    std::array<std::uint64_t, slice::max_slices> count(const counted_gemm& g, std::span<const std::uint64_t> history,
                                                       datapath_counts& counts, std::vector<bank_schedule>& banks) {
        prepare(g);
        banks.assign(at(g.map.clusters), bank_schedule(g.how.banks));
        for (std::int64_t tile = 0; tile < g.map.tiles; ++tile) {
            const int cluster = static_cast<int>(tile % g.map.clusters);
            const std::int64_t first = tile * g.how.tile_rows(),
                               rows = std::min<std::int64_t>(g.how.tile_rows(), g.view.rows() - first);
            tile_outputs_.fill(0);
            for (std::int64_t i = 0; i < rows; ++i) {
                read(g, first + i);
                add_row(g, i, counts);
            }
            std::span<const std::uint64_t> by;
            if (g.how.balance == lane_balance::greedy) by = loads_;
            if (g.how.balance == lane_balance::iterative) by = history;
            if (!by.empty()) by = by.subspan(at(first), at(rows));
            lane_of_.resize(at(rows));
            deal_rows(g.how.balance, by, g.how.lanes, lane_of_, order_);
            const std::uint64_t most = *std::max_element(tile_outputs_.begin(), tile_outputs_.end());
            banks[at(cluster)].add(end_tile(g, cluster, rows, counts), drain_cycles(most, g.how.drain_width));
        }
        return products_;
    }
    // Only loads().
    void list_loads(const counted_gemm& g) {
        prepare(g);
        for (std::int64_t m = 0; m < g.view.rows(); ++m) read(g, m);
    }
    // Digits of one plane of the held operand that are no padding, where its view reaches some.
    std::uint64_t held_digits() const noexcept { return partner_bits_.held_digits(); }
    // Of each row: the cycles that it would take on a core that had every plane, partner and window.
    std::span<const std::uint64_t> loads() const noexcept { return loads_; }

  private:
    static std::size_t at(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }

    // What a row has on the cores of one streamed plane and one block of windows.
    struct row_part {
        std::uint64_t digits = 0;   // that are issued
        std::uint64_t scanned = 0;  // windows with digits, none of them issued
    };
    // What cores do.
    struct walked_part {
        std::uint64_t met = 0, busy = 0, scanned = 0;  // met: partners, summed over digits
        walked_part& operator+=(const walked_part& o) noexcept {
            met += o.met;
            busy += o.busy;
            scanned += o.scanned;
            return *this;
        }
    };
    // Cores of a cluster that take equally long for every row.
    struct core_kind {
        core_place place;                      // of the first one
        std::uint64_t held = 0, partners = 0;  // its planes and its block of the held operand
        std::size_t digit_cycles = 0;          // where its table begins in digit_cycles_
        std::uint64_t cores = 0;
        walked_part tile;  // of each core, in the tile that is being walked
    };

    void prepare(const counted_gemm& g) {
        const datapath_view& v = g.view;
        const ran_mapping& map = g.map;
        products_.fill(0);
        loads_.assign(at(v.rows()), 0);
        if (!g.seen) bits_.mark(v, g.how, g.edges, v.a_streams() ? g.event.active : nullptr, g.isa);
        if (v.masked() || g.held_edges) partner_bits_.list_needed(g.event, v, g.isa);
        if (g.held_edges) partner_bits_.list_held(v, g.isa);
        for (int o = 0; o < map.outputs; ++o) {
            const block b = block_of(v.partners(), map.outputs, o);
            needed_[at(o)] = static_cast<std::uint64_t>(b.last - b.first);
        }
        for (int i = 0; i < map.inputs; ++i) {
            const block b = block_of(map.windows, map.inputs, i);
            inputs_[at(i)] = {std::min(v.depth(), b.first * g.how.window), std::min(v.depth(), b.last * g.how.window)};
        }
        digit_cycles_.clear();
        kinds_.clear();
        cores_.clear();
        for (int core = 0; core < map.used(); ++core) {
            const core_place& p = map[core];
            if (p.cluster != 0) continue;
            const int held = (v.held_planes() - p.held_plane + map.held_planes - 1) / map.held_planes;
            core_kind own{p, static_cast<std::uint64_t>(held), needed_[at(p.output)], 0, 0, {}};
            const auto same = [&](const core_kind& k) {
                return k.place.streamed_plane == p.streamed_plane && k.place.input == p.input && k.held == own.held &&
                       (v.masked() || g.held_edges ? k.place.output == p.output : k.partners == own.partners);
            };
            auto kind = std::find_if(kinds_.begin(), kinds_.end(), same);
            if (kind == kinds_.end()) {
                own.digit_cycles = table_of(g, own.held);
                kind = kinds_.insert(kind, own);
            }
            ++kind->cores;
            cores_.push_back({core, static_cast<std::size_t>(kind - kinds_.begin())});
        }
        lone_.held = static_cast<std::uint64_t>(v.held_planes());
        lone_.digit_cycles = table_of(g, lone_.held);
        cycles_.resize(kinds_.size() * at(g.how.tile_rows()));
        fold_ = 0;
        for (int bit = 0; bit < 64; bit += g.how.window) fold_ |= std::uint64_t{1} << bit;
    }
    // Where digit_cycles_ has the cycles of a digit that meets 0, 1, ... partners and `held` slices of each.
    std::size_t table_of(const counted_gemm& g, std::uint64_t held) {
        for (const core_kind& k : kinds_)
            if (k.held == held) return k.digit_cycles;
        const std::size_t begin = digit_cycles_.size();
        for (std::uint64_t n = 0; n <= static_cast<std::uint64_t>(g.view.partners()); ++n)
            digit_cycles_.push_back(digit_cycles(n * held, g.how.multipliers));
        return begin;
    }

    // What row m meets (needed_, all_) and has (parts_), and its load.
    void read(const counted_gemm& g, std::int64_t m) {
        if (g.view.masked())
            count_common_bits(g.isa, partner_bits_.needed(m), partner_bits_.needed(m), g.view.partners(), g.map.outputs,
                              needed_.data());
        all_ = 0;
        for (int o = 0; o < g.map.outputs; ++o) all_ += needed_[at(o)];
        if (all_ == 0) return;  // nobody walks it
        if (g.seen)
            read_columns(g, m);
        else
            read_bits(g, m);
        if (g.held_edges) {
            loads_[at(m)] = meet(g, m);
            return;
        }
        row_part sum;
        for (int p = 0; p < g.view.streamed_planes(); ++p)
            for (int i = 0; i < g.map.inputs; ++i) {
                const row_part& part = parts_[at(p * g.map.inputs + i)];
                products_[at(p)] += part.digits * all_;
                sum.digits += part.digits;
                sum.scanned += part.scanned;
            }
        loads_[at(m)] = sum.digits * digit_cycles_[lone_.digit_cycles + all_] + sum.scanned;
    }
    void read_columns(const counted_gemm& g, std::int64_t m) {
        const seen_rows& seen = *g.seen;
        const std::int64_t place = seen.columns.place(g.view.streamed().view.rows, m);
        const std::uint64_t windows =
            seen.windows == nullptr ? static_cast<std::uint64_t>(g.map.windows) : seen.windows[m];
        present_ = seen.digits == nullptr ? static_cast<std::uint64_t>(g.view.depth()) : seen.digits[m];
        for (int p = 0; p < g.view.streamed_planes(); ++p)
            parts_[at(p)] = {seen.columns.digits(p)[place], windows - seen.columns.windows(p)[place]};
    }
    void read_bits(const counted_gemm& g, std::int64_t m) {
        bits_.read(g.view, m);
        present_ = 0;
        for (int i = 0; i < g.map.inputs; ++i) {
            const block b = inputs_[at(i)];
            std::uint64_t windows = static_cast<std::uint64_t>((b.last - b.first + g.how.window - 1) / g.how.window);
            std::uint64_t present = static_cast<std::uint64_t>(b.last - b.first);
            if (g.edges) {
                present = windows = 0;
                count_row(g.isa, bits_.present(), b.first, b.last, g.how.window, fold_, present, windows);
            }
            present_ += present;
            for (int p = 0; p < g.view.streamed_planes(); ++p) {
                row_part& part = parts_[at(p * g.map.inputs + i)];
                part.digits = 0;
                std::uint64_t used = 0;
                count_row(g.isa, bits_.issued(p), b.first, b.last, g.how.window, fold_, part.digits, used);
                part.scanned = g.how.input_skip ? windows - used : 0;
            }
        }
    }
    // Partners that differ along depth: those of each digit in each block of outputs. Returns the load.
    std::uint64_t meet(const counted_gemm& g, std::int64_t m) {
        const datapath_view& v = g.view;
        met_.resize(at(v.depth() * g.map.outputs));
        for (std::int64_t k = 0; k < v.depth(); ++k)
            count_common_bits(g.isa, partner_bits_.needed(m), partner_bits_.held(k), v.partners(), g.map.outputs,
                              met_.data() + k * g.map.outputs);
        std::uint64_t load = 0;
        for (int p = 0; p < v.streamed_planes(); ++p) {
            const auto partners_at = [&](std::int64_t k) {
                const std::uint64_t* const met = met_.data() + k * g.map.outputs;
                return std::accumulate(met, met + g.map.outputs, std::uint64_t{0});
            };
            const walked_part plane = walk(g, p, {0, v.depth()}, lone_, partners_at);
            products_[at(p)] += plane.met;
            load += plane.busy + plane.scanned;
        }
        return load;
    }
    // A plane of the row that was read, digit by digit, each of which meets partners_at(k) of a core.
    template <class Partners>
    walked_part walk(const counted_gemm& g, int plane, block depths, const core_kind& core,
                     Partners&& partners_at) const {
        const auto set = [](const std::uint64_t* bits, std::int64_t k) { return (bits[k >> 6] >> (k & 63) & 1) != 0; };
        walked_part sum;
        for (std::int64_t k = depths.first; k < depths.last;) {
            bool any = false;
            std::uint64_t busy = 0;
            for (const std::int64_t end = std::min(depths.last, k + g.how.window); k < end; ++k) {
                any = any || set(bits_.present(), k);
                if (!set(bits_.issued(plane), k)) continue;
                const std::uint64_t met = partners_at(k);
                sum.met += met;
                busy += digit_cycles_[core.digit_cycles + met];
            }
            sum.busy += busy;
            sum.scanned += std::uint64_t{g.how.input_skip && busy == 0 && any};
        }
        return sum;
    }

    // Adds the row that was read to its tile; its cycles on each kind of core go to cycles_[kind][index].
    void add_row(const counted_gemm& g, std::int64_t index, datapath_counts& counts) {
        const ran_mapping& map = g.map;
        const int planes = g.view.streamed_planes();
        for (std::size_t i = 0; i < kinds_.size(); ++i) cycles_[i * at(g.how.tile_rows()) + at(index)] = 0;
        if (all_ == 0) return;
        for (int o = 0; o < map.outputs; ++o) tile_outputs_[at(o)] += needed_[at(o)];
        counts.outputs += all_;
        counts.partial_sums += all_ * static_cast<std::uint64_t>(map.streamed_planes * map.held_planes * map.inputs);
        add_traffic(g, counts);
        for (std::size_t i = 0; i < kinds_.size(); ++i) {
            core_kind& kind = kinds_[i];
            const std::uint64_t partners = needed_[at(kind.place.output)];
            if (partners == 0) continue;
            walked_part sum;
            for (int p = kind.place.streamed_plane; p < planes; p += map.streamed_planes) {
                const row_part& part = parts_[at(p * map.inputs + kind.place.input)];
                if (g.held_edges)
                    sum += walk(g, p, inputs_[at(kind.place.input)], kind,
                                [&](std::int64_t k) { return met_[at(k * map.outputs + kind.place.output)]; });
                else
                    sum += {part.digits * partners, part.digits * digit_cycles_[kind.digit_cycles + partners],
                            part.scanned};
            }
            kind.tile += sum;
            cycles_[i * at(g.how.tile_rows()) + at(index)] = sum.busy + sum.scanned;
        }
    }
    void add_traffic(const counted_gemm& g, datapath_counts& counts) const {
        const int planes = g.view.streamed_planes();
        std::uint64_t stored = 0;
        for (int i = 0; i < planes * g.map.inputs; ++i) stored += parts_[at(i)].digits;
        if (g.how.input_skip && g.how.index == index_format::bitmap) {
            counts.index_bits += present_ * static_cast<std::uint64_t>(planes);
        } else if (g.how.input_skip) {
            for (int p = 0; p < planes; ++p) stored += bits_.longest_runs(p, g.how.run_bits);
            counts.index_bits += stored * static_cast<std::uint64_t>(g.how.run_bits);
        }
        counts.streamed_bits += stored * static_cast<std::uint64_t>(digit_bits(g.how));
    }

    // Adds the tile that was walked and forgets it. Returns its cycles.
    std::uint64_t end_tile(const counted_gemm& g, int cluster, std::int64_t rows, datapath_counts& counts) {
        std::uint64_t longest = 0, walked = 0;
        std::array<std::uint64_t, 256> lane;
        for (std::size_t i = 0; i < kinds_.size(); ++i) {
            const core_kind& kind = kinds_[i];
            std::fill_n(lane.begin(), g.how.lanes, std::uint64_t{0});
            const std::uint64_t* const cycles = cycles_.data() + i * at(g.how.tile_rows());
            for (std::int64_t r = 0; r < rows; ++r) lane[lane_of_[at(r)]] += cycles[r];
            longest = std::max(longest, *std::max_element(lane.begin(), lane.begin() + g.how.lanes));
            counts.busy += kind.tile.busy * kind.cores;
            counts.scanning += kind.tile.scanned * kind.cores;
            walked += (kind.tile.busy + kind.tile.scanned) * kind.cores;
        }
        for (const auto& [core, kind] : cores_)
            counts.core_issued[at(g.map.core_of(core, cluster))] += kinds_[kind].tile.met * kinds_[kind].held;
        for (core_kind& kind : kinds_) kind.tile = {};
        counts.waiting += longest * cores_.size() * at(g.how.lanes) - walked;
        return longest;
    }

    row_bits bits_;
    partner_bits partner_bits_;
    std::array<std::uint64_t, slice::max_slices> products_{};
    std::array<std::uint64_t, max_cores> needed_{}, tile_outputs_{};
    std::array<block, max_cores> inputs_{};
    core_kind lone_;                                  // a core that has everything
    std::vector<core_kind> kinds_;                    // of a cluster
    std::vector<std::pair<int, std::size_t>> cores_;  // of a cluster: number and kind
    std::uint64_t fold_ = 0;                          // the lowest bit of every window
    // Of the row that was read: partners needed, digits of a plane that are no padding.
    std::uint64_t all_ = 0, present_ = 0;
    std::array<row_part, slice::max_slices * max_cores> parts_;  // [plane][block of windows]
    buffer<std::uint64_t> met_, cycles_;
    std::vector<std::uint64_t> digit_cycles_, loads_, order_;
    std::vector<std::uint16_t> lane_of_;
};

}  // namespace lamella::accelerator::detail
