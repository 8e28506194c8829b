// What a training run costs on an accelerator and on the machines that it is measured against, while the fast kernels
// train: cycles, and accesses of every level of the memory, of every N-th step, from the data of that step.
//
//   accelerator::slice_counts products(c.encoding, best_path(), net.products());
//   accelerator::run_costs costs(c, products, weights, 1, 200);
//   net.observe(products);  // first: it decides which operand streams
//   net.observe(costs);
//   ... train ...
//   costs.at(costs.machines().size() - 1, layer, stage), over costs.steps() steps; energy_of(table, ...) of it
//
// Probes of a controller are left out: they come at steps of their own; slice_counts has them exactly.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "datapath_counter.hpp"
#include "energy.hpp"
#include "memory.hpp"
#include "optc_cycles.hpp"
#include "slice_counts.hpp"

namespace lamella::accelerator {

// Of one layer and stage, sums over sampled steps. WU has cycles of the optimizer core and no other datapath counts.
struct stage_cost {
    datapath_counts datapath;
    action_counts actions;

    friend bool operator==(const stage_cost&, const stage_cost&) = default;
    stage_cost& operator+=(const stage_cost& o) noexcept {
        datapath += o.datapath;
        actions += o.actions;
        return *this;
    }
};

// What a sampled step's layer was: widths (bits) and slices of A, W and E.
struct layer_sample {
    std::uint64_t step = 0;
    int layer = 0;
    std::array<int, 3> width{};
    std::array<operand_slices, 3> slices;
};

// Logical multiply-accumulates, and those whose streamed operand is not zero (to a mean multiply-accumulate of its
// GEMM, rounded down), sums over sampled steps.
struct mac_counts {
    std::uint64_t all = 0, effective = 0;
};

class run_costs final : public gemm::observer {
  public:
    static constexpr std::size_t stages = 4;

    // `weights`: those of each layer, biases included; `moments` as in optc_update. Throws argument_error when `every`
    // is 0, the encodings differ, or validated() refuses a machine.
    run_costs(const configuration& c, const slice_counts& products, std::vector<std::uint64_t> weights, int moments,
              std::uint64_t every, path isa = best_path())
        : products_(products),
          weights_(std::move(weights)),
          moments_(moments),
          every_(every),
          survey_(c.encoding, c.run_bits) {
        if (every == 0) throw argument_error("run costs every", "at least 1 step", "0");
        if (products.digits() != c.encoding)
            throw argument_error("run costs", "slice counts of the configuration's encoding",
                                 slice::name_of(products.digits()));
        for (machine& m : ladder(validated(c))) {
            datapaths_.emplace_back(m.how, isa);
            memories_.emplace_back(m.how);
            machines_.push_back(std::move(m));
        }
        costs_.resize(machines_.size());
        macs_.resize(weights_.size());
        for (auto& layers : costs_) layers.resize(weights_.size());
    }

    // Throws argument_error when the slice counts have not been told of the event before, or for more layers than
    // weights.
    void on_gemm(const gemm::gemm_event& event) override {
        if (event.probe) return;
        const event_counts& seen = products_.of(event);
        const bool sample = event.step % every_ == 0;
        if (!sample && (event.step + 1) % every_ != 0) return;
        if (static_cast<std::size_t>(event.layer) >= weights_.size())
            throw argument_error("run costs layers", "at most " + std::to_string(weights_.size()),
                                 std::to_string(event.layer + 1));
        if (!sample) {
            for (datapath_counter& d : datapaths_) d.remember(event, seen.a_streams);
            return;
        }
        // A layer's stage may be several GEMMs: the input classes of a stride, groups of channels.
        const bool first = steps_ == 0 || event.step != step_ || event.layer != layer_ || event.where != where_;
        if (steps_ == 0 || event.step != step_) ++steps_;
        step_ = event.step;
        layer_ = event.layer;
        where_ = event.where;
        if (first) note(event, seen);
        const std::array<slice_census, 2>& census = survey_(event);
        const slice_census& streamed = census[seen.a_streams ? 0 : 1];
        mac_counts& macs = macs_[static_cast<std::size_t>(event.layer)][static_cast<std::size_t>(event.where)];
        __extension__ typedef unsigned __int128 wide;
        macs.all += static_cast<std::uint64_t>(event.macs);
        if (streamed.pairs != 0)
            macs.effective += static_cast<std::uint64_t>(wide{static_cast<std::uint64_t>(event.macs)} *
                                                         streamed.live_pairs / streamed.pairs);
        for (std::size_t m = 0; m < machines_.size(); ++m) {
            const configuration& how = machines_[m].how;
            const datapath_counts& counts = datapaths_[m].count(event, seen.a_streams);
            const std::uint64_t issued = counts.products();
            stage_cost& cost = cost_of(m, event.layer, event.where);
            cost.datapath += counts;
            cost.actions += {issued, issued * static_cast<std::uint64_t>(sum_bits(event, how)), 0,
                             memories_[m].count(event, seen.a_streams, census, issued, counts.outputs)};
            if (event.where != stage::weight_gradient || !first) continue;
            const std::uint64_t elements = weights_[static_cast<std::size_t>(event.layer)];
            stage_cost& update = cost_of(m, event.layer, stage::weight_update);
            update.datapath.cycles += optc_update(elements, moments_, how).cycles;
            update.actions +=
                {0, 0, elements * update_products(moments_), memories_[m].update(event.layer, elements, moments_)};
        }
    }

    // The baselines first, the configuration itself last.
    const std::vector<machine>& machines() const noexcept { return machines_; }
    int layers() const noexcept { return static_cast<int>(weights_.size()); }
    std::uint64_t steps() const noexcept { return steps_; }  // that were counted
    std::uint64_t every() const noexcept { return every_; }
    const std::vector<std::uint64_t>& weights() const noexcept { return weights_; }
    const std::vector<layer_sample>& samples() const noexcept { return samples_; }  // by step, then layer
    const stage_cost& at(std::size_t machine, int layer, stage where) const {
        return costs_.at(machine).at(static_cast<std::size_t>(layer))[static_cast<std::size_t>(where)];
    }
    const mac_counts& macs(int layer, stage where) const {
        return macs_.at(static_cast<std::size_t>(layer)).at(static_cast<std::size_t>(where));
    }
    stage_cost total(std::size_t machine) const {
        stage_cost sum;
        for (int layer = 0; layer < layers(); ++layer)
            for (std::size_t s = 0; s < stages; ++s) sum += at(machine, layer, static_cast<stage>(s));
        return sum;
    }

  private:
    stage_cost& cost_of(std::size_t machine, int layer, stage where) {
        return costs_[machine][static_cast<std::size_t>(layer)][static_cast<std::size_t>(where)];
    }
    void note(const gemm::gemm_event& event, const event_counts& seen) {
        if (event.where == stage::feed_forward)
            samples_.push_back(
                {event.step, event.layer, {event.a.view.width, event.b.view.width, 0}, {seen.a, seen.b, {}}});
        if (event.where != stage::weight_gradient) return;
        for (std::size_t i = samples_.size(); i-- > 0 && samples_[i].step == event.step;)
            if (samples_[i].layer == event.layer) {
                samples_[i].width[2] = event.a.view.width;
                samples_[i].slices[2] = seen.a;
            }
    }

    const slice_counts& products_;
    std::vector<std::uint64_t> weights_;
    int moments_;
    std::uint64_t every_, steps_ = 0;
    slice_survey survey_;
    std::vector<machine> machines_;
    std::vector<datapath_counter> datapaths_;
    std::vector<memory_model> memories_;
    std::vector<std::vector<std::array<stage_cost, stages>>> costs_;  // [machine][layer][stage]
    std::vector<std::array<mac_counts, 3>> macs_;                     // [layer][stage]
    std::vector<layer_sample> samples_;
    std::uint64_t step_ = 0;  // of the GEMM before
    int layer_ = 0;
    stage where_ = stage::feed_forward;
};

}  // namespace lamella::accelerator
