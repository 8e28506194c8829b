// Cycles, stalls, utilisation and traffic of a whole training run on an accelerator, while the fast kernels train: an
// observer of every GEMM. Slice products are exact on every step (slice_counts.hpp); what this adds is worked out on
// every N-th step, 16 unless told otherwise, by datapath_counter.hpp.
//
//   accelerator::slice_counts products(c.encoding, best_path(), net.products());
//   accelerator::counters cycles(c, products);
//   net.observe(products);  // first: it decides which operand streams
//   net.observe(cycles);
//   ... train ...
//   cycles.total(stage::feed_forward).cycles over cycles.steps() steps, cycles.at(layer, stage), cycles.probes() ...
//
// What it costs (bench/emulator, LeNet-5, batch 64, one AVX-512 core): a counted step takes about five training steps more,
// so every 16th adds 27 % to a run and every 128th 4 %; iterative balance, which looks at the step before, too, 39 %.
//
// Probes of a controller are GEMMs of their own, counted apart: they come at regular steps, so a sample of every N-th
// step may see too many or too few of them.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "datapath_counter.hpp"
#include "slice_counts.hpp"

namespace lamella::accelerator {

class counters final : public gemm::observer {
  public:
    static constexpr int stages = 3;  // FF, EP, WG

    // Throws argument_error when `every` is 0, the encodings differ, or validated() refuses the configuration.
    counters(configuration c, const slice_counts& products, std::uint64_t every = 16, path isa = best_path())
        : counter_(std::move(c), isa), products_(products), every_(every) {
        if (every == 0) throw argument_error("counters every", "at least 1 step", "0");
        if (products.digits() != how().encoding)
            throw argument_error("counters", "slice counts of the configuration's encoding",
                                 slice::name_of(products.digits()));
        grow(products.layers());
    }

    const configuration& how() const noexcept { return counter_.how(); }
    std::uint64_t every() const noexcept { return every_; }

    // Throws argument_error when the slice counts have not been told of the event before.
    void on_gemm(const gemm::gemm_event& event) override {
        const bool a_streams = products_.of(event).a_streams;
        if (event.step % every_ != 0) {
            if ((event.step + 1) % every_ == 0) counter_.remember(event, a_streams);
            return;
        }
        grow(event.layer + 1);
        if (steps_ == 0 || event.step != step_) ++steps_;
        step_ = event.step;
        const datapath_counts& counts = counter_.count(event, a_streams);
        (event.probe ? probes_ : totals_)[row(event.layer, event.where)] += counts;
    }

    int layers() const noexcept { return static_cast<int>(totals_.size()) / stages; }
    std::uint64_t steps() const noexcept { return steps_; }  // that were counted
    const datapath_counts& at(int layer, stage where) const { return totals_.at(row(layer, where)); }
    datapath_counts total(stage where) const {
        datapath_counts sum;
        for (int layer = 0; layer < layers(); ++layer) sum += at(layer, where);
        return sum;
    }
    datapath_counts total() const {
        datapath_counts sum;
        for (const datapath_counts& c : totals_) sum += c;
        return sum;
    }
    datapath_counts probes() const {
        datapath_counts sum;
        for (const datapath_counts& c : probes_) sum += c;
        return sum;
    }

  private:
    static std::size_t row(int layer, stage where) noexcept {
        return static_cast<std::size_t>(layer) * stages + static_cast<std::size_t>(where);
    }
    void grow(int layers) {
        const std::size_t rows = static_cast<std::size_t>(layers) * stages;
        if (rows <= totals_.size()) return;
        totals_.resize(rows);
        probes_.resize(rows);
    }

    datapath_counter counter_;
    const slice_counts& products_;
    std::uint64_t every_, steps_ = 0, step_ = 0;
    std::vector<datapath_counts> totals_, probes_;  // [layer][stage]
};

}  // namespace lamella::accelerator
