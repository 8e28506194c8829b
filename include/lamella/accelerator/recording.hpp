// A recorded training run: copies of the GEMMs of chosen steps, operands and masks included, so that any number of
// accelerator configurations can be tried on the same real data afterwards.
//
//   accelerator::recording run(products, 200);  // every 200th step, and the one before it (iterative balance)
//   net.observe(products);
//   net.observe(run);
//   ... train ...
//   for (const accelerator::recorded_gemm& g : run.gemms()) g.replay([&](const gemm::gemm_event& event) { ... });
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "../core/memory.hpp"
#include "slice_counts.hpp"

namespace lamella::accelerator {

// One GEMM of a recorded step, with its own copy of operands and mask.
class recorded_gemm {
  public:
    recorded_gemm(const gemm::gemm_event& event, bool streams, bool chosen)
        : a_streams(streams), sample(chosen), event_(event), a_(copy(event.a)), b_(copy(event.b)) {
        event_.a.seen = event_.b.seen = nullptr;
        event_.active = nullptr;
        if (event.gate == nullptr) return;
        std::int64_t last = event.b.view.rows.size();
        for (std::size_t level = 0; level < 3; ++level)
            last += (event.gate_rows.extent[level] - 1) * event.gate_rows.stride[level];
        gate_.resize(static_cast<std::size_t>(last));
        std::memcpy(gate_.data(), event.gate, static_cast<std::size_t>(last) * sizeof(std::int32_t));
    }

    // Calls action(event) with the event as it was, its pointers into the copies.
    template <class Action>
    void replay(Action&& action) const {
        gemm::gemm_event event = event_;
        point(event.a, a_);
        point(event.b, b_);
        if (event.gate != nullptr) event.gate = gate_.data();
        action(static_cast<const gemm::gemm_event&>(event));
    }

    bool a_streams;  // which operand streamed
    bool sample;     // false: the step before a chosen one

  private:
    static std::int64_t unit(const gemm::event_operand& o) noexcept { return o.view.in_bytes() ? 1 : 2; }
    static buffer<std::int8_t> copy(const gemm::event_operand& o) {
        const auto bytes = static_cast<std::size_t>(o.stored.samples * o.stored.image() * unit(o));
        buffer<std::int8_t> to(bytes);
        std::memcpy(to.data(), o.stored.data, bytes);
        return to;
    }
    static void point(gemm::event_operand& o, const buffer<std::int8_t>& bytes) noexcept {
        const std::int64_t base = detail::base_of(o) * unit(o);
        o.stored.data = bytes.data();
        o.view.data = bytes.data() + base;
    }

    gemm::gemm_event event_;
    buffer<std::int8_t> a_, b_;
    buffer<std::int32_t> gate_;
};

class recording final : public gemm::observer {
  public:
    // Throws argument_error when `every` is 0.
    recording(const slice_counts& products, std::uint64_t every) : products_(products), every_(every) {
        if (every == 0) throw argument_error("recording every", "at least 1 step", "0");
    }
    // Throws argument_error when the slice counts have not been told of the event before.
    void on_gemm(const gemm::gemm_event& event) override {
        const bool sample = event.step % every_ == 0, before = (event.step + 1) % every_ == 0;
        if (!sample && (!before || event.probe)) return;
        gemms_.emplace_back(event, products_.of(event).a_streams, sample);
        if (sample && (steps_ == 0 || step_ != event.step)) ++steps_;
        if (sample) step_ = event.step;
    }
    const std::vector<recorded_gemm>& gemms() const noexcept { return gemms_; }
    std::uint64_t steps() const noexcept { return steps_; }  // chosen ones seen

  private:
    const slice_counts& products_;
    std::uint64_t every_, steps_ = 0, step_ = 0;
    std::vector<recorded_gemm> gemms_;
};

}  // namespace lamella::accelerator
