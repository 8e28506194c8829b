// The emulator: executes a GEMM on the datapath, slice product by slice product and cycle by cycle. It is the
// specification of the cycle model, written to be read; counters.hpp gives the same numbers in closed form, and
// tests/datapath_test.cpp holds the two equal, together with the kernels' results.
//
// In every cycle each lane of a working cluster issues products, scans an empty window, or waits for the slowest lane of
// its tile; the tree drains finished tiles beside it. A cluster whose next bank still drains is stalled.
// Reconstruction, as its blocks are: configuration.hpp, ioss.hpp and ran.hpp say what is sourced.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "configuration.hpp"
#include "datapath.hpp"
#include "ioss.hpp"
#include "ran.hpp"

namespace lamella::accelerator {

// What happened in one cycle.
struct cycle_activity {
    std::uint64_t cycle = 0;
    std::array<std::int32_t, max_cores> issued{};  // products of each core
    int stalled = 0, draining = 0;                 // clusters
};

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
        load(view);
        counts_ = {};
        counts_.gemms = 1;
        counts_.too_wide = view.too_wide() ? 1 : 0;
        list_rows(view, map);
        std::vector<std::uint64_t>* const history = history_.of(event);
        deal(history);
        if (history != nullptr) *history = cycles_;
        count_traffic(view, map);

        std::vector<cluster> clusters;
        for (int c = 0; c < map.clusters; ++c) clusters.emplace_back(*this, view, map, c, result);
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

    // Cuts both operands into digits.
    void load(const datapath_view& v) {
        ioss_memory& m = memory_;
        m.depth = v.depth();
        m.rows = v.rows();
        m.partners = v.partners();
        m.streamed_planes = v.streamed_planes();
        m.held_planes = v.held_planes();
        m.streamed.assign(at(m.rows * m.streamed_planes * m.depth), 0);
        m.present.assign(at(m.rows * m.depth), 1);
        m.issued.assign(m.streamed.size(), 0);
        m.held.assign(at(m.depth * m.held_planes * m.partners), 0);
        m.held_present.clear();
        if (v.bordered(v.held())) m.held_present.assign(at(m.depth * m.partners), 1);

        cut(v, v.streamed());
        const std::size_t planes = at(m.streamed_planes);
        for_each_run(v, v.streamed(), [&](std::int64_t row, std::int64_t k, std::size_t element, std::size_t count) {
            for (std::size_t p = 0; p < planes; ++p) {
                const std::size_t to = (at(row) * planes + p) * at(m.depth) + at(k);
                std::copy_n(&cells_[p].digits[element], count, &m.streamed[to]);
                std::copy_n(&cells_[p].issued[element], count, &m.issued[to]);
            }
            std::copy_n(&there_[element], count, &m.present[at(row * m.depth + k)]);
        });
        cut(v, v.held());
        for_each_run(v, v.held(), [&](std::int64_t partner, std::int64_t k, std::size_t element, std::size_t count) {
            for (std::size_t i = 0; i < count; ++i, ++k, ++element) {
                for (int p = 0; p < m.held_planes; ++p)
                    m.held[at((k * m.held_planes + p) * m.partners + partner)] = cells_[at(p)].digits[element];
                if (there_[element] == 0) m.held_present[at(k * m.partners + partner)] = 0;
            }
        });
    }
    // One plane of an operand as stored.
    struct plane_cells {
        std::vector<std::int16_t> digits;
        std::vector<std::uint8_t> issued;  // there, and not zero when zeros are skipped
    };
    // Cuts every stored mantissa once.
    void cut(const datapath_view& v, const gemm::event_operand& o) {
        const std::size_t elements = at(o.stored.samples * o.stored.image());
        there_.resize(elements);
        for (plane_cells& p : cells_) {
            p.digits.resize(elements);
            p.issued.resize(elements);
        }
        for (std::size_t e = 0; e < elements; ++e) {
            const auto offset = static_cast<std::int64_t>(e);
            const auto digits = v.digits(detail::mantissa_at(o, offset), o.view.width);
            const bool there = detail::inside(o.stored, offset);
            there_[e] = there;
            for (std::size_t p = 0; p < digits.size(); ++p) {
                cells_[p].digits[e] = digits[p];
                cells_[p].issued[e] = there && (!how_.input_skip || digits[p] != 0);
            }
        }
    }
    // Calls action(row, first k, first stored element, count) for depths of a view that lie side by side.
    static void for_each_run(const datapath_view& v, const gemm::event_operand& o, auto&& action) {
        const gemm::axis& depth = o.view.depth;
        const std::int64_t side_by_side = depth.stride[2] == 1 ? depth.extent[2] : 1;
        std::vector<std::int64_t> runs;
        for (std::int64_t k = 0; k < v.depth(); k += side_by_side) runs.push_back(depth.offset(k));
        for (std::int64_t row = 0; row < o.view.rows.size(); ++row) {
            const std::int64_t first = detail::base_of(o) + o.view.rows.offset(row);
            for (std::size_t i = 0; i < runs.size(); ++i)
                action(row, static_cast<std::int64_t>(i) * side_by_side, at(first + runs[i]), at(side_by_side));
        }
    }

    // Needed partners of each row in each block of outputs, and the row's cycles for balance.
    void list_rows(const datapath_view& v, const ran_mapping& map) {
        partners_.clear();
        partner_at_.assign(1, 0);
        cycles_.assign(at(memory_.rows), 0);
        for (std::int64_t row = 0; row < memory_.rows; ++row) {
            const std::size_t first = partners_.size();
            for (int g = 0; g < map.outputs; ++g) {
                const block b = block_of(memory_.partners, map.outputs, g);
                for (std::int64_t t = b.first; t < b.last; ++t)
                    if (v.needed(row, t)) partners_.push_back(static_cast<std::int32_t>(t));
                partner_at_.push_back(partners_.size());
            }
            if (how_.balance != lane_balance::none && partners_.size() != first)
                cycles_[at(row)] = lone_core_cycles(row, std::span(partners_).subspan(first));
        }
        outputs_ = map.outputs;
    }
    // What balance goes by: the cycles that the row would take on a core that had every plane, partner and window.
    std::uint64_t lone_core_cycles(std::int64_t row, std::span<const std::int32_t> all) const noexcept {
        const auto cost = [&](std::uint64_t met) noexcept {
            return digit_cycles(met * static_cast<std::uint64_t>(memory_.held_planes), how_.multipliers);
        };
        const std::uint64_t cost_of_all = cost(all.size());
        std::uint64_t cycles = 0;
        for (int p = 0; p < memory_.streamed_planes; ++p)
            for (std::int64_t k = 0; k < memory_.depth;) {
                const std::int64_t end = std::min(memory_.depth, k + how_.window);
                const std::uint8_t* const present = memory_.present.data() + row * memory_.depth;
                const std::uint8_t* const issues = memory_.issues(row, p);
                std::uint64_t window = 0;
                const bool any = std::memchr(present + k, 1, at(end - k)) != nullptr;
                if (memory_.held_present.empty()) {
                    window = std::accumulate(issues + k, issues + end, std::uint64_t{0}) * cost_of_all;
                    k = end;
                }
                for (; k < end; ++k) {
                    if (issues[k] == 0) continue;
                    std::uint64_t met = 0;
                    for (const std::int32_t t : all) met += memory_.held_present[at(k * memory_.partners + t)];
                    window += cost(met);
                }
                cycles += window == 0 && any && how_.input_skip ? 1 : window;
            }
        return cycles;
    }
    std::span<const std::int32_t> partners(std::int64_t row, int output) const noexcept {
        const std::size_t list = at(row * outputs_ + output);
        return std::span(partners_).subspan(partner_at_[list], partner_at_[list + 1] - partner_at_[list]);
    }
    bool walked(std::int64_t row) const noexcept {
        return partner_at_[at((row + 1) * outputs_)] != partner_at_[at(row * outputs_)];
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
            if (!walked(row)) continue;
            const std::uint8_t* const present = memory_.present.data() + row * memory_.depth;
            const auto ones = [&](const std::uint8_t* flags) {
                return std::accumulate(flags, flags + memory_.depth, std::uint64_t{0});
            };
            const std::uint64_t there = ones(present);
            for (int p = 0; p < memory_.streamed_planes; ++p) {
                std::uint64_t stored = ones(memory_.issues(row, p)), index = 0;
                if (how_.input_skip && how_.index == index_format::bitmap) index = there;
                if (how_.input_skip && how_.index == index_format::run_length) {
                    stored += longest_runs(present, memory_.digits(row, p));
                    index = stored * static_cast<std::uint64_t>(how_.run_bits);
                }
                counts_.streamed_bits += stored * bits;
                counts_.index_bits += index;
            }
        }
        std::uint64_t held = static_cast<std::uint64_t>(memory_.depth * memory_.partners);
        for (const std::uint8_t p : memory_.held_present) held -= p == 0;
        counts_.held_bits = held * static_cast<std::uint64_t>(v.held_planes() * map.clusters) * bits;
    }

    // Zero digits that a run length stores: each stands for the longest run that it can say, and a zero.
    std::uint64_t longest_runs(const std::uint8_t* present, const std::int16_t* digits) const noexcept {
        std::uint64_t stored = 0;
        std::int64_t run = 0;  // zeros since the last stored digit
        for (std::int64_t k = 0; k < memory_.depth; ++k) {
            if (present[k] == 0) continue;
            if (digits[k] == 0) {
                ++run;
                continue;
            }
            for (; run >= std::int64_t{1} << how_.run_bits; run -= std::int64_t{1} << how_.run_bits) ++stored;
            run = 0;
        }
        return stored;
    }

    // The cores that share streamed rows, and their tiles.
    class cluster {
      public:
        cluster(emulator& own, const datapath_view& view, const ran_mapping& map, int index, std::int64_t* result)
            : own_(own), view_(view), map_(map), result_(result), next_tile_(index),
              block_size_(block_of(view.partners(), map.outputs, 0).last) {
            for (int core = 0; core < map.used(); ++core) {
                const core_place& p = map[core];
                if (p.cluster != index) continue;
                const block d = block_of(map.windows, map.inputs, p.input);
                const block o = block_of(view.partners(), map.outputs, p.output);
                const ioss_share share{p.streamed_plane, map.streamed_planes, p.held_plane, map.held_planes,
                                       d.first * own.how_.window, std::min(view.depth(), d.last * own.how_.window),
                                       o.first, o.last};
                cores_.push_back({core, {}, {}});
                cores_.back().sums.resize(at(own.how_.banks * own.how_.tile_rows() * block_size_));
                for (int lane = 0; lane < own.how_.lanes; ++lane)
                    cores_.back().lanes.emplace_back(own.how_, own.memory_, share, view.radix_bits());
            }
        }

        // What takes no time: a tile ends, a bank is free, the next tile begins. True when nothing is left to do.
        bool settle() {
            for (;;) {
                if (accumulating_ && all_lanes_done()) {
                    accumulating_ = false;
                    drains_.push_back({next_tile_, drain_cycles(largest_block(next_tile_), own_.how_.drain_width)});
                    next_tile_ += map_.clusters;
                }
                while (!drains_.empty() && drains_.front().cycles_left == 0) {
                    leave(drains_.front().tile);
                    drains_.pop_front();
                    ++drained_;
                }
                if (accumulating_ || next_tile_ >= map_.tiles || !bank_free()) break;
                begin_tile();
            }
            return !accumulating_ && next_tile_ >= map_.tiles && drains_.empty();
        }

        void tick(cycle_activity& activity) {
            datapath_counts& counts = own_.counts_;
            if (accumulating_) {
                for (worker& c : cores_)
                    for (ioss_lane& lane : c.lanes) switch (lane.pending()) {
                            case lane_action::issue:
                                ++counts.busy;
                                activity.issued[at(c.index)] +=
                                    static_cast<std::int32_t>(lane.step(counts.issued, view_.a_streams()));
                                break;
                            case lane_action::scan:
                                ++counts.scanning;
                                lane.step(counts.issued, view_.a_streams());
                                break;
                            default: ++counts.waiting;
                        }
            } else if (next_tile_ < map_.tiles) {
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
        std::int64_t ordinal(std::int64_t tile) const noexcept { return tile / map_.clusters; }
        bool bank_free() const noexcept { return ordinal(next_tile_) < drained_ + own_.how_.banks; }
        std::int64_t first_row(std::int64_t tile) const noexcept { return tile * own_.how_.tile_rows(); }
        std::int64_t last_row(std::int64_t tile) const noexcept {
            return std::min(view_.rows(), first_row(tile + 1));
        }
        std::uint64_t* sums(worker& c, std::int64_t tile, std::int64_t row) const noexcept {
            const std::int64_t bank = ordinal(tile) % own_.how_.banks;
            return c.sums.data() + (bank * own_.how_.tile_rows() + row - first_row(tile)) * block_size_;
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
                    jobs[own_.lane_of_[at(row)]].push_back({row, own_.partners(row, map_[c.index].output), sum});
                }
                for (std::size_t lane = 0; lane < jobs.size(); ++lane) c.lanes[lane].start(std::move(jobs[lane]));
            }
        }
        std::uint64_t largest_block(std::int64_t tile) const {
            std::uint64_t largest = 0;
            for (int output = 0; output < map_.outputs; ++output) {
                std::uint64_t count = 0;
                for (std::int64_t row = first_row(tile); row < last_row(tile); ++row)
                    count += own_.partners(row, output).size();
                largest = std::max(largest, count);
            }
            return largest;
        }
        // The tile's sums go up the tree and out.
        void leave(std::int64_t tile) {
            for (std::int64_t row = first_row(tile); row < last_row(tile); ++row)
                for (int output = 0; output < map_.outputs; ++output) {
                    const std::int64_t first = block_of(view_.partners(), map_.outputs, output).first;
                    for (const std::int32_t partner : own_.partners(row, output)) {
                        std::array<std::uint64_t, max_cores> value{};
                        std::size_t root = 0;
                        for (std::size_t i = cores_.size(); i-- > 0;) {  // the lowest number is where sums arrive
                            if (map_[cores_[i].index].output != output) continue;
                            root = at(cores_[i].index);
                            value[root] = sums(cores_[i], tile, row)[partner - first];
                            ++own_.counts_.partial_sums;
                        }
                        merge(map_, value.data());
                        ++own_.counts_.outputs;
                        if (result_ != nullptr) store(row, partner, static_cast<std::int64_t>(value[root]));
                    }
                }
        }
        void store(std::int64_t row, std::int64_t partner, std::int64_t sum) const noexcept {
            const std::int64_t m = view_.a_streams() ? row : partner, n = view_.a_streams() ? partner : row;
            const std::int64_t columns = view_.a_streams() ? view_.partners() : view_.rows();
            result_[m * columns + n] =
                own_.how_.overflow == overflow::wrap ? wrapped(sum, own_.how_.accumulator_bits) : sum;
        }

        emulator& own_;
        const datapath_view& view_;
        const ran_mapping& map_;
        std::int64_t* result_;
        std::vector<worker> cores_;
        std::deque<drain> drains_;
        std::int64_t next_tile_, drained_ = 0, block_size_;
        bool accumulating_ = false;
    };

    configuration how_;
    ioss_memory memory_;
    std::array<plane_cells, slice::max_slices> cells_;  // of the operand that was cut last
    std::vector<std::uint8_t> there_;                   // its elements that are no padding
    datapath_counts counts_;
    std::vector<std::int32_t> partners_;
    std::vector<std::size_t> partner_at_;  // [row][output block], and the end
    std::vector<std::uint64_t> cycles_;  // of each row, for balance
    std::vector<std::uint16_t> lane_of_;
    std::vector<std::uint64_t> order_;
    row_history history_;
    int outputs_ = 1;
};

}  // namespace lamella::accelerator
