// The IOSS core (in-out slice skipping): lanes that walk rows of the streamed operand and issue slice products only
// where there is something to do.
//
// Sourced (COOL CHIPS 2021, JSSC 2021, abstracts): a slice-level reconfigurable core that skips zero slices "in-out",
// in inference and in training; input skipping and iterative channel reordering against imbalance in the sequel (IEEE
// Micro 2022). Not public: geometry, index, what "out" means. What follows is our reconstruction:
//
//   lane      walks one row at a time, plane by plane, window by window along depth. The zero detector looks at an
//             aligned window of W digits; it hands the lane the digits that are not zero, one after the other. A digit
//             meets every needed partner and every slice that the core holds of it: that many products, `multipliers`
//             of them a cycle. A window costs what its digits cost, and one cycle when there is nothing in it to issue.
//   in        zero digits are not issued (input_skip). Without it the detector rests: every digit takes its cycles.
//   out       partners whose output nobody needs are not met (output_skip: dead outputs behind a ReLU or a pooling,
//             exact). A core that has no partner for a row does not walk it.
//   tile      lanes x rows_a_lane rows. Lanes meet at its end; balance decides which lane walks which of its rows.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "configuration.hpp"
#include "datapath.hpp"
#include "ioss_memory.hpp"

namespace lamella::accelerator {

// lane_of[i]: the lane that walks row i of a tile. `cycles` are the rows' own (on a core that had every plane, partner
// and window), or those of the step before for iterative balance; empty when there are none yet: then rows are dealt in
// turn. `order` is scratch.
inline void deal_rows(lane_balance balance, std::span<const std::uint64_t> cycles, int lanes,
                      std::span<std::uint16_t> lane_of, std::vector<std::uint64_t>& order) {
    if (balance == lane_balance::none || cycles.empty()) {
        for (std::size_t i = 0, lane = 0; i < lane_of.size(); ++i) {
            lane_of[i] = static_cast<std::uint16_t>(lane);
            if (++lane == static_cast<std::size_t>(lanes)) lane = 0;
        }
        return;
    }
    // Longest first, each to the lane with the least so far; ties to the earlier row and the lower lane. Both as keys
    // that compare as numbers: a tile has at most 2^16 rows, a core 256 lanes.
    order.resize(lane_of.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = cycles[i] << 16 | (0xffff - i);
    std::sort(order.begin(), order.end(), std::greater<>());
    std::array<std::uint64_t, 256> heap;  // cycles so far and lane, the least on top
    std::iota(heap.begin(), heap.begin() + lanes, std::uint64_t{0});
    const auto size = static_cast<std::size_t>(lanes);
    for (const std::uint64_t key : order) {
        lane_of[0xffff - (key & 0xffff)] = static_cast<std::uint16_t>(heap[0] & 0xff);
        const std::uint64_t top = heap[0] + (key >> 16 << 8);
        std::size_t hole = 0;
        for (std::size_t child = 1; child < size; child = 2 * hole + 1) {
            if (child + 1 < size && heap[child + 1] < heap[child]) ++child;
            if (heap[child] >= top) break;
            heap[hole] = heap[child];
            hole = child;
        }
        heap[hole] = top;
    }
}

// Cycles of one digit.
constexpr std::uint64_t digit_cycles(std::uint64_t products, int multipliers) noexcept {
    const auto width = static_cast<std::uint64_t>(multipliers);
    return (products + width - 1) / width;
}

// The part of a GEMM that a core has: planes g, g + step, ...; windows and partners first .. last - 1.
struct ioss_share {
    int streamed_first = 0, streamed_step = 1, held_first = 0, held_step = 1;
    std::int64_t first_depth = 0, last_depth = 0, first_partner = 0, last_partner = 0;
};

// What a lane does in a cycle: nothing, issue products, or look for the next digit that is not zero.
enum class lane_action : std::uint8_t { none, issue, scan };

// One lane, cycle by cycle. `pending` is what the next cycle will be: looking ahead takes no time; `step` is the cycle.
class ioss_lane {
  public:
    ioss_lane(const configuration& c, const ioss_memory& memory, const ioss_share& share, int radix_bits)
        : how_(c),
          memory_(memory),
          share_(share),
          radix_bits_(radix_bits),
          held_planes_((memory.held_planes - share.held_first + share.held_step - 1) / share.held_step) {}

    // Takes the rows of a tile. sums[row][partner - first_partner] receive the products. `partners` lists the needed
    // partners of each row.
    struct row_job {
        std::int64_t row = 0;
        std::span<const std::int32_t> partners;
        std::uint64_t* sums = nullptr;
    };
    void start(std::vector<row_job>&& rows) {
        rows_ = std::move(rows);
        row_ = 0;
        begin_row();
        look_ahead();
    }
    std::vector<row_job> take_rows() { return std::move(rows_); }

    lane_action pending() const noexcept { return pending_; }

    // One cycle; pending() must not be `none`. Returns the products issued.
    std::int64_t step(plane_pairs& issued, bool a_streams) {
        const std::int64_t products = pending_ == lane_action::issue ? issue(issued, a_streams) : 0;
        scan_ = false;  // the window has had its cycle
        look_ahead();
        return products;
    }

  private:
    static std::size_t index(int i) noexcept { return static_cast<std::size_t>(i); }

    void look_ahead() {
        for (;;) {
            if (issued_ < to_issue_ || next_digit()) {
                pending_ = lane_action::issue;
                return;
            }
            if (scan_) {
                pending_ = lane_action::scan;
                return;
            }
            if (next_window() || next_plane() || next_row()) continue;
            pending_ = lane_action::none;
            return;
        }
    }
    // The next products of the present digit, as many as there are multipliers.
    std::int64_t issue(plane_pairs& issued, bool a_streams) noexcept {
        const std::int64_t now = std::min<std::int64_t>(how_.multipliers, to_issue_ - issued_);
        const auto met = static_cast<std::int64_t>(met_.size());
        for (std::int64_t left = now; left > 0;) {
            const auto turn = static_cast<int>(issued_ / met);
            const int held_plane = share_.held_first + turn * share_.held_step;
            const std::int64_t from = issued_ % met, count = std::min(left, met - from);
            multiply(held_plane, from, count);
            auto& seen =
                a_streams ? issued[index(plane_)][index(held_plane)] : issued[index(held_plane)][index(plane_)];
            seen += static_cast<std::uint64_t>(count);
            issued_ += count;
            left -= count;
        }
        return now;
    }

    // A digit times one slice of `count` partners. The tree adds the weights of the core's first planes.
    void multiply(int held_plane, std::int64_t from, std::int64_t count) noexcept {
        const int shift = radix_bits_ * (plane_ - share_.streamed_first + held_plane - share_.held_first);
        const std::int64_t digit = std::int64_t{digit_} * (std::int64_t{1} << shift);
        const std::int16_t* const slices = memory_.slices(depth_, held_plane);
        std::uint64_t* const sums = job().sums;
        for (const std::int32_t partner : met_.subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(count)))
            sums[partner - share_.first_partner] += static_cast<std::uint64_t>(digit * slices[partner]);
    }

    const row_job& job() const noexcept { return rows_[row_]; }
    bool begin_row() noexcept {
        issued_ = to_issue_ = 0;
        scan_ = false;
        while (row_ < rows_.size() && job().partners.empty()) ++row_;  // nothing to do for this core
        if (row_ == rows_.size()) return false;
        plane_ = share_.streamed_first;
        window_end_ = share_.first_depth;
        return true;
    }
    bool next_row() noexcept {
        if (row_ < rows_.size()) ++row_;
        return begin_row();
    }
    bool next_plane() noexcept {
        if (row_ == rows_.size() || plane_ + share_.streamed_step >= memory_.streamed_planes) return false;
        plane_ += share_.streamed_step;
        window_end_ = share_.first_depth;
        return true;
    }
    // Opens the next window. It is scanned only where it holds digits at all: padding is absent.
    bool next_window() noexcept {
        if (row_ == rows_.size() || window_end_ >= share_.last_depth) return false;
        window_ = window_end_;
        window_end_ = std::min(share_.last_depth, window_ + how_.window);
        found_ = memory_.issued(job().row, plane_, window_, window_end_);
        scan_ = how_.input_skip && memory_.present(job().row, window_, window_end_) != 0;
        return true;
    }
    // The next digit of the window that has products.
    bool next_digit() {
        while (found_ != 0) {
            depth_ = window_ + std::countr_zero(found_);
            found_ &= found_ - 1;
            met_ = job().partners;
            if (const std::uint8_t* const there = memory_.partners_present(depth_)) {
                some_.clear();
                for (const std::int32_t partner : job().partners)
                    if (there[partner] != 0) some_.push_back(partner);
                met_ = some_;
            }
            if (met_.empty()) continue;
            issued_ = 0;
            to_issue_ = static_cast<std::int64_t>(met_.size()) * held_planes_;
            digit_ = memory_.digit(job().row, plane_, depth_);
            return true;
        }
        return false;
    }

    const configuration& how_;
    const ioss_memory& memory_;
    ioss_share share_;
    int radix_bits_, held_planes_;
    std::vector<row_job> rows_;
    std::size_t row_ = 0;
    int plane_ = 0;
    std::int64_t window_ = 0, window_end_ = 0, depth_ = 0;
    std::uint64_t found_ = 0;  // digits of the open window that have not been issued, from its first one on
    bool scan_ = false;        // it has not cost a cycle yet
    lane_action pending_ = lane_action::none;
    std::span<const std::int32_t> met_;
    std::vector<std::int32_t> some_;
    std::int16_t digit_ = 0;
    std::int64_t issued_ = 0, to_issue_ = 0;  // products of the present digit
};

}  // namespace lamella::accelerator
