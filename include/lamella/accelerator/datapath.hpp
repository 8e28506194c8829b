// A GEMM as the datapath sees it, and everything that is counted of it. The emulator (emulator.hpp) walks it cycle by
// cycle; the counters (counters.hpp) give the same numbers from bitmaps.
//
// One operand *streams*: its rows are walked slice by slice. The other one, here the *held* operand, lies in the cores;
// its rows are the *partners* that every streamed slice meets. Depth is what is summed over. Padding is absent: neither
// a streamed digit nor a held one that stands for padding takes part. Reconstruction, see configuration.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "../slice/encoding.hpp"
#include "configuration.hpp"
#include "counting.hpp"

namespace lamella::accelerator {

// Sums over GEMMs that run one after the other.
struct datapath_counts {
    std::uint64_t cycles = 0;      // until the last output has left the tree
    std::uint64_t stalled = 0;     // cycles that a cluster waits for a free bank, over clusters
    std::uint64_t exposed = 0;     // cycles of a cluster's last drains, when nothing is left to accumulate
    std::uint64_t busy = 0;        // lane cycles that issue products
    std::uint64_t scanning = 0;    // lane cycles of windows in which nothing is found
    std::uint64_t waiting = 0;     // lane cycles at the end of tiles, until the slowest lane of the cluster is there
    std::uint64_t capacity = 0;    // cycles x multipliers of the array: utilisation is issued / capacity
    plane_pairs issued{};          // products
    std::array<std::uint64_t, max_cores> core_issued{};  // products of each core
    std::uint64_t streamed_bits = 0;  // digits of the streamed operand read, each once a walk of its row
    std::uint64_t index_bits = 0;     // and their positions
    std::uint64_t held_bits = 0;      // digits of the held operand loaded, once a cluster
    std::uint64_t partial_sums = 0;   // values that enter the tree
    std::uint64_t outputs = 0;        // values that leave it
    std::uint64_t gemms = 0, too_wide = 0;  // all, and those whose bound exceeds the accumulator

    std::uint64_t products() const noexcept { return sum_of(issued); }
    friend bool operator==(const datapath_counts&, const datapath_counts&) = default;
    // Calls action(number) for each, in the order of a checkpoint.
    template <class Action>
    void each_number(Action&& action) noexcept(noexcept(action(cycles))) {
        for (std::uint64_t* n : {&cycles, &stalled, &exposed, &busy, &scanning, &waiting, &capacity, &streamed_bits,
                                 &index_bits, &held_bits, &partial_sums, &outputs, &gemms, &too_wide})
            action(*n);
        for (auto& row : issued)
            for (std::uint64_t& n : row) action(n);
        for (std::uint64_t& n : core_issued) action(n);
    }
    datapath_counts& operator+=(datapath_counts o) noexcept {
        std::array<std::uint64_t, 14 + slice::max_slices * slice::max_slices + max_cores> theirs;
        std::size_t at = 0;
        o.each_number([&](std::uint64_t& n) noexcept { theirs[at++] = n; });
        at = 0;
        each_number([&](std::uint64_t& n) noexcept { n += theirs[at++]; });
        return *this;
    }
};

// Bits of a stored digit: sign_magnitude keeps the sign with each, since the others may not be stored.
constexpr int digit_bits(const configuration& c) noexcept {
    if (c.products == product_kind::native) return max_width;
    return c.encoding == slice::encoding::sign_magnitude ? 5 : 4;
}

// Not owning; valid as long as the event.
class datapath_view {
  public:
    datapath_view(const gemm::gemm_event& event, const configuration& c, bool a_streams)
        : event_(event), how_(c), a_streams_(a_streams) {}

    bool a_streams() const noexcept { return a_streams_; }
    const gemm::event_operand& streamed() const noexcept { return a_streams_ ? event_.a : event_.b; }
    const gemm::event_operand& held() const noexcept { return a_streams_ ? event_.b : event_.a; }
    std::int64_t rows() const noexcept { return streamed().view.rows.size(); }
    std::int64_t partners() const noexcept { return held().view.rows.size(); }
    std::int64_t depth() const noexcept { return event_.a.view.depth.size(); }

    // Slices of a mantissa as this machine cuts it. Native: the mantissa is its only digit.
    int streamed_planes() const noexcept { return planes(streamed()); }
    int held_planes() const noexcept { return planes(held()); }
    int radix_bits() const noexcept {
        return how_.products == product_kind::native ? 0 : slice::radix_bits(how_.encoding);
    }
    std::array<std::int16_t, slice::max_slices> digits(int mantissa, int width) const noexcept {
        std::array<std::int16_t, slice::max_slices> d{};
        if (how_.products == product_kind::native) {
            d[0] = static_cast<std::int16_t>(mantissa);
        } else {
            const int cut = how_.products == product_kind::slices ? width : max_width;
            const slice::slices s = slice::split(how_.encoding, mantissa, cut);
            for (std::size_t i = 0; i < d.size(); ++i) d[i] = s[i];
        }
        return d;
    }

    // False when the element stands for padding.
    static bool present(const gemm::event_operand& o, std::int64_t row, std::int64_t k) noexcept {
        return detail::inside(o.stored, detail::base_of(o) + o.view.rows.offset(row) + o.view.depth.offset(k));
    }
    static bool bordered(const gemm::event_operand& o) noexcept {
        return o.stored.top + o.stored.bottom + o.stored.left + o.stored.right != 0;
    }
    // Is the output of a streamed row and a partner computed?
    bool needed(std::int64_t row, std::int64_t partner) const noexcept {
        if (!masked()) return true;
        const std::int64_t m = a_streams_ ? row : partner, n = a_streams_ ? partner : row;
        return event_.gate[event_.gate_rows.offset(m) + n] > 0;
    }
    bool masked() const noexcept { return how_.output_skip && event_.gate != nullptr; }
    // Its bound needs more bits, sign included, than an accumulator has.
    bool too_wide() const noexcept {
        const std::int64_t bound = gemm::accumulator_bound(event_.a.view.width, event_.b.view.width, depth());
        return bit_length(static_cast<std::uint64_t>(bound)) + 1 > how_.accumulator_bits;
    }

  private:
    int planes(const gemm::event_operand& o) const noexcept {
        switch (how_.products) {
            case product_kind::native: return 1;
            case product_kind::slices: return slice::slice_count(how_.encoding, o.view.width);
            default: return slice::slice_count(how_.encoding, max_width);
        }
    }

    const gemm::gemm_event& event_;
    const configuration& how_;
    bool a_streams_;
};

// The cycles of each row in the step before, for iterative balance: one list a layer, stage and GEMM of that stage
// (EP of a strided convolution has several). Probes neither read nor leave one.
class row_history {
  public:
    // The list for this event: what the step before left, to be replaced by this step's. Null for a probe.
    std::vector<std::uint64_t>* of(const gemm::gemm_event& event) {
        if (event.probe) return nullptr;
        const std::size_t at = static_cast<std::size_t>(event.layer) * 3 + static_cast<std::size_t>(event.where);
        if (at >= stages_.size()) stages_.resize(at + 1);
        entry& e = stages_[at];
        if (!e.seen || e.step != event.step) e.next = 0;
        e.seen = true;
        e.step = event.step;
        if (e.next == e.lists.size()) e.lists.emplace_back();
        return &e.lists[e.next++];
    }

  private:
    struct entry {
        bool seen = false;
        std::uint64_t step = 0;
        std::size_t next = 0;
        std::vector<std::vector<std::uint64_t>> lists;
    };
    std::vector<entry> stages_;
};

}  // namespace lamella::accelerator
