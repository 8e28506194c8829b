// A cluster: the cores that share streamed rows, and how they take one tile after the other through the banks of their
// accumulators. Its lanes (ioss.hpp) meet at the end of every tile, whose sums then go up the tree (ran.hpp) and out,
// while the next one accumulates. The emulator moves it cycle by cycle.
// Reconstruction, as its blocks are: configuration.hpp, ioss.hpp and ran.hpp say what is sourced.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <iterator>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "configuration.hpp"
#include "datapath.hpp"
#include "ioss.hpp"
#include "ioss_memory.hpp"
#include "ran.hpp"

namespace lamella::accelerator {

// What happened in one cycle.
struct cycle_activity {
    std::uint64_t cycle = 0;
    std::array<std::int32_t, max_cores> issued{};  // products of each core
    int stalled = 0, draining = 0;                 // clusters
};

// The partners that each row meets, in each block of outputs.
class needed_partners {
  public:
    void list(const datapath_view& v, const ran_mapping& map) {
        outputs_ = static_cast<std::size_t>(map.outputs);
        every_.resize(static_cast<std::size_t>(v.partners()));
        std::iota(every_.begin(), every_.end(), 0);
        partners_.clear();
        end_of_.assign(1, 0);
        for (std::int64_t row = 0; row < v.rows(); ++row)
            for (int g = 0; g < map.outputs; ++g) {
                const block b = block_of(v.partners(), map.outputs, g);
                std::copy_if(every_.begin() + b.first, every_.begin() + b.last, std::back_inserter(partners_),
                             [&](std::int32_t partner) { return v.needed(row, partner); });
                end_of_.push_back(partners_.size());
            }
    }
    std::span<const std::int32_t> of(std::int64_t row, int output) const noexcept {
        return between(static_cast<std::size_t>(row) * outputs_ + static_cast<std::size_t>(output), 1);
    }
    std::span<const std::int32_t> of(std::int64_t row) const noexcept {
        return between(static_cast<std::size_t>(row) * outputs_, outputs_);
    }

  private:
    std::span<const std::int32_t> between(std::size_t list, std::size_t lists) const noexcept {
        return std::span(partners_).subspan(end_of_[list], end_of_[list + lists] - end_of_[list]);
    }

    std::size_t outputs_ = 1;
    std::vector<std::int32_t> every_, partners_;
    std::vector<std::size_t> end_of_;  // 0, then the end of each list: [row][output block]
};

// A GEMM as clusters find it. `result`, M x N row by row or null, receives every output.
struct emulated_gemm {
    const configuration& how;
    const datapath_view& view;
    const ran_mapping& map;
    const ioss_memory& memory;
    const needed_partners& needed;
    std::span<const std::uint16_t> lane_of;  // of each row
    datapath_counts& counts;
    std::int64_t* result;
};

class cluster {
  public:
    // Valid as long as what `g` refers to.
    cluster(const emulated_gemm& g, int index)
        : g_(g), next_tile_(index), block_size_(block_of(g.view.partners(), g.map.outputs, 0).last) {
        for (int core = 0; core < g.map.used(); ++core) {
            const core_place& p = g.map[core];
            if (p.cluster != index) continue;
            const block d = block_of(g.map.windows, g.map.inputs, p.input);
            const block o = block_of(g.view.partners(), g.map.outputs, p.output);
            const ioss_share share{p.streamed_plane,
                                   g.map.streamed_planes,
                                   p.held_plane,
                                   g.map.held_planes,
                                   d.first * g.how.window,
                                   std::min(g.view.depth(), d.last * g.how.window),
                                   o.first,
                                   o.last};
            cores_.push_back({core, {}, {}});
            cores_.back().sums.resize(at(g.how.banks * g.how.tile_rows() * block_size_));
            for (int lane = 0; lane < g.how.lanes; ++lane)
                cores_.back().lanes.emplace_back(g.how, g.memory, share, g.view.radix_bits());
        }
    }

    // What takes no time: a tile ends, a bank is free, the next tile begins. True when nothing is left to do.
    bool settle() {
        for (;;) {
            if (accumulating_ && all_lanes_done()) {
                accumulating_ = false;
                drains_.push_back({next_tile_, drain_cycles(largest_block(next_tile_), g_.how.drain_width)});
                next_tile_ += g_.map.clusters;
            }
            while (!drains_.empty() && drains_.front().cycles_left == 0) {
                leave(drains_.front().tile);
                drains_.pop_front();
                ++drained_;
            }
            if (accumulating_ || next_tile_ >= g_.map.tiles || !bank_free()) break;
            begin_tile();
        }
        return !accumulating_ && next_tile_ >= g_.map.tiles && drains_.empty();
    }

    void tick(cycle_activity& activity) {
        datapath_counts& counts = g_.counts;
        if (accumulating_) {
            for (worker& c : cores_)
                for (ioss_lane& lane : c.lanes) switch (lane.pending()) {
                        case lane_action::issue:
                            ++counts.busy;
                            activity.issued[at(c.index)] +=
                                static_cast<std::int32_t>(lane.step(counts.issued, g_.view.a_streams()));
                            break;
                        case lane_action::scan:
                            ++counts.scanning;
                            lane.step(counts.issued, g_.view.a_streams());
                            break;
                        default: ++counts.waiting;
                    }
        } else if (next_tile_ < g_.map.tiles) {
            ++counts.stalled;
            ++activity.stalled;
        } else if (!drains_.empty()) {
            ++counts.exposed;
        }
        if (!drains_.empty()) {
            --drains_.front().cycles_left;
            ++activity.draining;
        }
    }

  private:
    static std::size_t at(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }

    struct worker {
        int index;
        std::vector<ioss_lane> lanes;
        std::vector<std::uint64_t> sums;  // [bank][row of the tile][partner of the block]
    };
    struct drain {
        std::int64_t tile;
        std::uint64_t cycles_left;
    };

    bool all_lanes_done() {
        for (worker& c : cores_)
            for (ioss_lane& lane : c.lanes)
                if (lane.pending() != lane_action::none) return false;
        return true;
    }
    std::int64_t ordinal(std::int64_t tile) const noexcept { return tile / g_.map.clusters; }
    bool bank_free() const noexcept { return ordinal(next_tile_) < drained_ + g_.how.banks; }
    std::int64_t first_row(std::int64_t tile) const noexcept { return tile * g_.how.tile_rows(); }
    std::int64_t last_row(std::int64_t tile) const noexcept { return std::min(g_.view.rows(), first_row(tile + 1)); }
    std::uint64_t* sums(worker& c, std::int64_t tile, std::int64_t row) const noexcept {
        const std::int64_t bank = ordinal(tile) % g_.how.banks;
        return c.sums.data() + (bank * g_.how.tile_rows() + row - first_row(tile)) * block_size_;
    }

    void begin_tile() {
        accumulating_ = true;
        for (worker& c : cores_) {
            std::vector<std::vector<ioss_lane::row_job>> jobs;
            for (ioss_lane& lane : c.lanes) {
                jobs.push_back(lane.take_rows());
                jobs.back().clear();
            }
            for (std::int64_t row = first_row(next_tile_); row < last_row(next_tile_); ++row) {
                std::uint64_t* const sum = sums(c, next_tile_, row);
                std::fill_n(sum, block_size_, std::uint64_t{0});
                jobs[g_.lane_of[at(row)]].push_back({row, g_.needed.of(row, g_.map[c.index].output), sum});
            }
            for (std::size_t lane = 0; lane < jobs.size(); ++lane) c.lanes[lane].start(std::move(jobs[lane]));
        }
    }
    std::uint64_t largest_block(std::int64_t tile) const {
        std::uint64_t largest = 0;
        for (int output = 0; output < g_.map.outputs; ++output) {
            std::uint64_t count = 0;
            for (std::int64_t row = first_row(tile); row < last_row(tile); ++row)
                count += g_.needed.of(row, output).size();
            largest = std::max(largest, count);
        }
        return largest;
    }
    // The tile's sums go up the tree and out.
    void leave(std::int64_t tile) {
        for (std::int64_t row = first_row(tile); row < last_row(tile); ++row)
            for (int output = 0; output < g_.map.outputs; ++output) {
                const std::int64_t first = block_of(g_.view.partners(), g_.map.outputs, output).first;
                for (const std::int32_t partner : g_.needed.of(row, output)) {
                    std::array<std::uint64_t, max_cores> value{};
                    std::size_t root = 0;
                    for (std::size_t i = cores_.size(); i-- > 0;) {  // the lowest number is where sums arrive
                        if (g_.map[cores_[i].index].output != output) continue;
                        root = at(cores_[i].index);
                        value[root] = sums(cores_[i], tile, row)[partner - first];
                        ++g_.counts.partial_sums;
                    }
                    merge(g_.map, value.data());
                    ++g_.counts.outputs;
                    if (g_.result != nullptr) store(row, partner, static_cast<std::int64_t>(value[root]));
                }
            }
    }
    void store(std::int64_t row, std::int64_t partner, std::int64_t sum) const noexcept {
        const std::int64_t m = g_.view.a_streams() ? row : partner, n = g_.view.a_streams() ? partner : row;
        const std::int64_t columns = g_.view.a_streams() ? g_.view.partners() : g_.view.rows();
        g_.result[m * columns + n] = g_.how.overflow == overflow::wrap ? wrapped(sum, g_.how.accumulator_bits) : sum;
    }

    emulated_gemm g_;
    std::vector<worker> cores_;
    std::deque<drain> drains_;
    std::int64_t next_tile_, drained_ = 0, block_size_;
    bool accumulating_ = false;
};

}  // namespace lamella::accelerator
