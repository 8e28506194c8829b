// The emulator: executes a GEMM on the datapath, slice product by slice product and cycle by cycle. It is the
// specification of the cycle model, written to be read; counters.hpp gives the same numbers in closed form, and
// tests/datapath_test.cpp holds the two equal, together with the kernels' results.
//
// In every cycle each lane of a working cluster issues products, scans an empty window, or waits for the slowest lane
// of its tile; the tree drains finished tiles beside it. A cluster whose next bank still drains is stalled.
// Reconstruction, as its blocks are: configuration.hpp, ioss.hpp and ran.hpp say what is sourced.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "cluster.hpp"
#include "configuration.hpp"
#include "datapath.hpp"
#include "ioss.hpp"
#include "ioss_memory.hpp"
#include "ran.hpp"

namespace lamella::accelerator {

class emulator {
  public:
    using watcher = std::function<void(const cycle_activity&)>;

    // Throws argument_error for a configuration that validated() refuses.
    explicit emulator(configuration c) : how_(std::move(c)) { validated(how_); }

    const configuration& how() const noexcept { return how_; }

    // Executes one GEMM. `a_streams`: counting.hpp says how that is chosen. `result` (M x N, row by row, or null)
    // receives every output that is computed: exact, or modulo 2^accumulator_bits when configured so.
    datapath_counts run(const gemm::gemm_event& event, bool a_streams, std::int64_t* result = nullptr,
                        const watcher& watch = {}) {
        const datapath_view view(event, how_, a_streams);
        const ran_mapping map(how_, view);
        memory_.load(how_, view);
        needed_.list(view, map);
        counts_ = {};
        counts_.gemms = 1;
        counts_.too_wide = view.too_wide() ? 1 : 0;
        if (how_.balance != lane_balance::none) list_cycles();
        std::vector<std::uint64_t>* const history = history_.of(event);
        deal(history);
        if (history != nullptr) *history = cycles_;
        count_traffic(view, map);

        const emulated_gemm work{how_, view, map, memory_, needed_, lane_of_, counts_, result};
        std::vector<cluster> clusters;
        for (int c = 0; c < map.clusters; ++c) clusters.emplace_back(work, c);
        for (std::uint64_t now = 0;; ++now) {
            bool finished = true;
            for (cluster& c : clusters) finished = c.settle() && finished;
            if (finished) {
                counts_.cycles = now;
                break;
            }
            cycle_activity activity;
            activity.cycle = now;
            for (cluster& c : clusters) c.tick(activity);
            for (std::size_t core = 0; core < max_cores; ++core)
                counts_.core_issued[core] += static_cast<std::uint64_t>(activity.issued[core]);
            if (watch) watch(activity);
        }
        counts_.capacity = counts_.cycles * static_cast<std::uint64_t>(how_.all_multipliers());
        return counts_;
    }

  private:
    static std::size_t at(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }

    // What balance goes by: the cycles that each row would take on a core that had every plane, partner and window.
    void list_cycles() {
        cycles_.clear();
        for (std::int64_t row = 0; row < memory_.rows; ++row)
            cycles_.push_back(needed_.of(row).empty() ? 0 : lone_core_cycles(row, needed_.of(row)));
    }
    std::uint64_t lone_core_cycles(std::int64_t row, std::span<const std::int32_t> partners) const noexcept {
        const auto cost = [&](std::uint64_t met) noexcept {
            return digit_cycles(met * static_cast<std::uint64_t>(memory_.held_planes), how_.multipliers);
        };
        const std::uint64_t cost_of_all = cost(partners.size());
        std::uint64_t cycles = 0;
        for_each_window(how_.window, [&](int p, std::int64_t first, std::int64_t last) {
            std::uint64_t window = 0;
            for (std::uint64_t found = memory_.issued(row, p, first, last); found != 0; found &= found - 1) {
                const std::uint8_t* const there = memory_.partners_present(first + std::countr_zero(found));
                if (there == nullptr) {
                    window += cost_of_all;
                    continue;
                }
                std::uint64_t met = 0;
                for (const std::int32_t partner : partners) met += there[partner];
                window += cost(met);
            }
            const bool scanned = how_.input_skip && window == 0 && memory_.present(row, first, last) != 0;
            cycles += window + (scanned ? 1 : 0);
        });
        return cycles;
    }
    // Calls action(plane, first, last) for windows along depth, plane by plane.
    void for_each_window(std::int64_t window, auto&& action) const {
        for (int p = 0; p < memory_.streamed_planes; ++p)
            for (std::int64_t k = 0; k < memory_.depth; k += window) action(p, k, std::min(memory_.depth, k + window));
    }

    void deal(const std::vector<std::uint64_t>* history) {
        const std::size_t rows = at(memory_.rows), tile = at(how_.tile_rows());
        std::span<const std::uint64_t> by;
        if (how_.balance == lane_balance::greedy) by = cycles_;
        if (how_.balance == lane_balance::iterative && history != nullptr && history->size() == rows) by = *history;
        lane_of_.resize(rows);
        for (std::size_t first = 0; first < rows; first += tile) {
            const std::size_t count = std::min(tile, rows - first);
            deal_rows(how_.balance, by.empty() ? by : by.subspan(first, count), how_.lanes,
                      std::span(lane_of_).subspan(first, count), order_);
        }
    }

    void count_traffic(const datapath_view& v, const ran_mapping& map) {
        const auto bits = static_cast<std::uint64_t>(digit_bits(how_));
        for (std::int64_t row = 0; row < memory_.rows; ++row) {
            if (needed_.of(row).empty()) continue;  // not walked
            std::uint64_t stored = 0, present = 0;
            for_each_window(64, [&](int p, std::int64_t first, std::int64_t last) {
                stored += static_cast<std::uint64_t>(std::popcount(memory_.issued(row, p, first, last)));
                present += static_cast<std::uint64_t>(std::popcount(memory_.present(row, first, last)));
            });
            if (how_.input_skip && how_.index == index_format::bitmap) counts_.index_bits += present;
            if (how_.input_skip && how_.index == index_format::run_length) {
                for (int p = 0; p < memory_.streamed_planes; ++p) stored += longest_runs(row, p);
                counts_.index_bits += stored * static_cast<std::uint64_t>(how_.run_bits);
            }
            counts_.streamed_bits += stored * bits;
        }
        std::uint64_t held = 0;
        for (std::int64_t k = 0; k < memory_.depth; ++k) {
            const std::uint8_t* const there = memory_.partners_present(k);
            held += there == nullptr ? static_cast<std::uint64_t>(memory_.partners)
                                     : std::accumulate(there, there + memory_.partners, std::uint64_t{0});
        }
        counts_.held_bits = held * static_cast<std::uint64_t>(v.held_planes() * map.clusters) * bits;
    }

    // Zero digits that a run length stores: each stands for the longest run that it can say, and a zero.
    std::uint64_t longest_runs(std::int64_t row, int plane) const noexcept {
        std::uint64_t stored = 0;
        std::int64_t run = 0;  // zeros since the last stored digit
        for (std::int64_t k = 0; k < memory_.depth; ++k) {
            if (memory_.present(row, k, k + 1) == 0) continue;
            if (memory_.issued(row, plane, k, k + 1) == 0) {
                ++run;
                continue;
            }
            for (; run >= std::int64_t{1} << how_.run_bits; run -= std::int64_t{1} << how_.run_bits) ++stored;
            run = 0;
        }
        return stored;
    }

    configuration how_;
    ioss_memory memory_;
    needed_partners needed_;
    datapath_counts counts_;
    std::vector<std::uint64_t> cycles_;  // of each row, for balance
    std::vector<std::uint16_t> lane_of_;
    std::vector<std::uint64_t> order_;
    row_history history_;
};

}  // namespace lamella::accelerator
