// Cycles, stalls, utilisation and traffic of a whole training run on an accelerator, while the fast kernels train: an
// observer of every GEMM. Slice products are exact on every step (slice_counts.hpp); what this adds is worked out on
// every N-th step, 64 unless told otherwise, by datapath_counter.hpp.
//
//   accelerator::slice_counts products(c.encoding, best_path(), net.products());
//   accelerator::counters cycles(c, products);
//   net.observe(products);  // first: it decides which operand streams
//   net.observe(cycles);
//   ... train ...
//   cycles.total(stage::feed_forward).cycles over cycles.steps() steps, cycles.at(layer, stage), cycles.probes() ...
//
// slice_counts takes 2 to 4 % of a training step; a step whose cycles are counted takes about three quarters of a step
// more, so every 64th costs 1 % of a run and every 16th 4 to 5 % (bench/README.md; LeNet-5, batch 64, AVX-512).
// Iterative balance looks at the step before, too, and takes rows one by one: far more.
//
// Probes of a controller are GEMMs of their own, counted apart. They come at regular steps, which a sample of every
// N-th step could always miss; so of the steps with probes, too, every N-th is counted: probes() over probe_steps() of
// probe_steps_seen().
// Reconstruction, as what it computes is: configuration.hpp says what is sourced.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "../core/state.hpp"
#include "datapath_counter.hpp"
#include "slice_counts.hpp"

namespace lamella::accelerator {

class counters final : public gemm::observer {
  public:
    static constexpr int stages = 3;  // FF, EP, WG

    // Throws argument_error when `every` is 0, the encodings differ, or validated() refuses the configuration.
    counters(configuration c, const slice_counts& products, std::uint64_t every = 64, path isa = best_path())
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
        sample& seen = event.probe ? probe_sample_ : sample_;
        const bool fresh = seen.met == 0 || event.step != seen.step;
        if (fresh) ++seen.met;
        seen.step = event.step;
        const bool counted = event.probe ? (seen.met - 1) % every_ == 0 : event.step % every_ == 0;
        if (!counted) {
            if ((event.step + 1) % every_ == 0) counter_.remember(event, a_streams);
            return;
        }
        if (fresh) ++seen.counted;
        grow(event.layer + 1);
        const datapath_counts& counts = counter_.count(event, a_streams);
        (event.probe ? probes_ : totals_)[row(event.layer, event.where)] += counts;
    }

    int layers() const noexcept { return static_cast<int>(totals_.size()) / stages; }
    std::uint64_t steps() const noexcept { return sample_.counted; }
    std::uint64_t probe_steps() const noexcept { return probe_sample_.counted; }
    std::uint64_t probe_steps_seen() const noexcept { return probe_sample_.met; }
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

    // The sums, so that a resumed run goes on with them; not the rows of the step before, which iterative balance
    // looks at.
    void visit(state_visitor& visitor) {
        for (sample* seen : {&sample_, &probe_sample_}) {
            const state_visitor::scope part(visitor, seen == &sample_ ? "training" : "probes");
            visitor.integer("met", seen->met);
            visitor.integer("counted", seen->counted);
            visitor.integer("step", seen->step);
            std::vector<datapath_counts>& sums = seen == &sample_ ? totals_ : probes_;
            std::vector<std::uint64_t> values;
            for (datapath_counts& c : sums) c.each_number([&](std::uint64_t& n) { values.push_back(n); });
            const std::size_t shape[2] = {sums.size(), sums.empty() ? 0 : values.size() / sums.size()};
            visitor.tensor("totals", state_kind::state, shape, integer_span(std::span(values)), 0, nullptr);
            const std::uint64_t* at = values.data();
            for (datapath_counts& c : sums) c.each_number([&](std::uint64_t& n) { n = *at++; });
        }
    }

  private:
    // Steps with such events: seen, counted, and the one seen last.
    struct sample {
        std::uint64_t met = 0, counted = 0, step = 0;
    };
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
    std::uint64_t every_;
    sample sample_, probe_sample_;
    std::vector<datapath_counts> totals_, probes_;  // [layer][stage]
};

}  // namespace lamella::accelerator
