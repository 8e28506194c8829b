// Slice products of a whole training run: what a dense machine and what the zero-skipping one would have issued, from
// the real data of every step, per plane pair too. Equal, number for number, to count_by_definition (counting.hpp), at
// about one percent of a training step (tests/slice_counts_test.cpp, bench/emulator; how: slice_plan.hpp).
// The counting rule is a reconstruction: counting.hpp says what is sourced.
//
//   accelerator::slice_counts counts(slice::encoding::sign_magnitude, best_path(), net.products());
//   net.observe(counts);
//   ... train ...
//   counts.total().issued, counts.total(stage::error_propagation).dense16, counts.at(layer, stage::feed_forward) ...
//
// Memory is taken when an event's shape (layer, stage, samples) is seen for the first time, never afterwards.
// Relies on what a training step does: an operand that a layer keeps from its FF to its WG, or from its WG to its EP,
// does not change in between and is counted once.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "../core/state.hpp"
#include "counted_operand.hpp"
#include "counting.hpp"
#include "live_outputs.hpp"
#include "slice_plan.hpp"

namespace lamella::accelerator {

class slice_counts final : public gemm::observer {
  public:
    static constexpr int stages = 3;  // FF, EP, WG
    static constexpr int roles = 3;   // activation, weight, error

    // `layers`: those with a GEMM, network.products(). Others are added as they are seen, but a checkpoint can only be
    // read by an object that has as many layers as the one that was written.
    explicit slice_counts(slice::encoding digits, path isa = best_path(), int layers = 0) : digits_(digits), isa_(isa) {
        grow(layers);
    }

    void on_gemm(const gemm::gemm_event& event) override {
        grow(event.layer + 1);
        layer_state& layer = layers_[static_cast<std::size_t>(event.layer)];
        if (!event.probe && event.where == stage::feed_forward)
            for (detail::counted_operand& o : layer.operands) o.forget();
        if (!event.probe && event.where == stage::weight_gradient) layer.operands[index(role::error)].forget();

        const auto [plan_at, fresh] = plan_of(layer, event);
        const detail::event_plan& plan = *plan_at;
        detail::counted_operand& a = operand_of(layer, event, event.a, probe_a_);
        detail::counted_operand& b = operand_of(layer, event, event.b, probe_b_);
        a.count(event, event.a, plan.a, plan.a.times.empty() ? 0 : plan.a.period, plan.a.repeats, digits_, isa_);
        b.count(event, event.b, plan.b, plan.b.times.empty() ? 0 : plan.b.period, plan.b.repeats, digits_, isa_);

        last_.a = slices_of(plan.a, a);
        last_.b = slices_of(plan.b, b);
        last_.a_streams = left_streams(last_.a, last_.b);
        const gemm::operand_view& other = last_.a_streams ? event.b.view : event.a.view;
        detail::by_plane streamed{};  // non-zero slices x outputs
        if (event.gate == nullptr) {
            streamed = last_.a_streams ? a.weighted(plan.a, isa_) : b.weighted(plan.b, isa_);
        } else {  // the first time both ways, so that both have their memory
            if (fresh || !last_.a_streams) {
                b.count(event, event.b, plan.b, plan.gate.period, plan.gate.repeats, digits_, isa_);
                streamed = live_.weights_stream(event, plan.gate, b, isa_);
            }
            if (fresh || last_.a_streams) {
                const detail::by_plane errors = live_.errors_stream(event, plan, digits_, isa_);
                if (last_.a_streams) streamed = errors;
            }
        }
        last_.pairs = {};
        plane_pairs& all_pairs = pairs_[row(event.layer, event.where)];
        const auto other_slices = static_cast<std::size_t>(slice::slice_count(digits_, other.width));
        std::uint64_t issued = 0;
        for (std::size_t p = 0; p < streamed.size(); ++p)
            for (std::size_t q = 0; q < other_slices && streamed[p] != 0; ++q) {
                const std::size_t i = last_.a_streams ? p : q, j = last_.a_streams ? q : p;
                last_.pairs[i][j] = streamed[p];
                all_pairs[i][j] += streamed[p];
                issued += streamed[p];
            }
        last_.counts = tally(event, digits_, issued);
        last_event_ = &event;
        totals_[row(event.layer, event.where)] += last_.counts;
        if (event.probe) return;
        layer.left_streams[index(event.where)] = last_.a_streams;
        if (event.where == stage::feed_forward) {
            shares_[row(event.layer, role::activation)] += last_.a;
            shares_[row(event.layer, role::weight)] += last_.b;
        } else if (event.where == stage::weight_gradient) {
            shares_[row(event.layer, role::error)] += last_.a;
        }
    }

    int layers() const noexcept { return static_cast<int>(layers_.size()); }
    const stage_counts& at(int layer, stage where) const { return totals_.at(row(layer, where)); }
    stage_counts total(stage where) const {
        stage_counts sum;
        for (int layer = 0; layer < layers(); ++layer) sum += at(layer, where);
        return sum;
    }
    stage_counts total() const {
        stage_counts sum;
        for (const stage_counts& counts : totals_) sum += counts;
        return sum;
    }
    // `issued` of each plane pair.
    const plane_pairs& pairs(int layer, stage where) const { return pairs_.at(row(layer, where)); }
    plane_pairs pairs(stage where) const {
        plane_pairs all{};
        for (int layer = 0; layer < layers(); ++layer) add_to(all, pairs(layer, where));
        return all;
    }
    // Slices of a layer's operand over all steps, each mantissa once a step: A and W as FF read them, E as WG did.
    const operand_slices& share(int layer, role what) const { return shares_.at(row(layer, what)); }
    // Which operand streamed when this layer's stage last ran in training: the left one (A in FF, E in EP and WG)?
    bool left_operand_streams(int layer, stage where) const {
        return layers_.at(static_cast<std::size_t>(layer)).left_streams[index(where)];
    }
    // The event seen last.
    const event_counts& last() const noexcept { return last_; }
    // The same for an observer that is being told of `event` itself. Throws unless this one has been told before.
    const event_counts& of(const gemm::gemm_event& event) const {
        if (&event != last_event_)
            throw argument_error("observers", "slice_counts in front of those that read it", "another order");
        return last_;
    }
    slice::encoding digits() const noexcept { return digits_; }

    void reset() {
        totals_.assign(totals_.size(), {});
        pairs_.assign(pairs_.size(), {});
        shares_.assign(shares_.size(), {});
        last_ = {};
    }
    // The totals, so that a resumed run goes on with them.
    void visit(state_visitor& visitor) {
        constexpr std::size_t columns = (6 + slice::max_slices * slice::max_slices) * stages + 2 * roles;
        const auto rows = static_cast<std::size_t>(layers());
        std::vector<std::uint64_t> values(rows * columns);
        const auto each = [&](auto&& exchange) {
            std::uint64_t* at = values.data();
            for (std::size_t layer = 0; layer < rows; ++layer) {
                for (std::size_t s = 0; s < stages; ++s) {
                    stage_counts& c = totals_[layer * stages + s];
                    for (std::uint64_t* field : {&c.macs, &c.dense16, &c.dense, &c.issued, &c.probe, &c.width_macs})
                        exchange(*field, *at++);
                    for (auto& planes : pairs_[layer * stages + s])
                        for (std::uint64_t& n : planes) exchange(n, *at++);
                }
                for (std::size_t r = 0; r < roles; ++r) {
                    operand_slices& s = shares_[layer * roles + r];
                    for (std::uint64_t* field : {&s.zero, &s.all}) exchange(*field, *at++);
                }
            }
        };
        each([](std::uint64_t& own, std::uint64_t& seen) { seen = own; });
        const std::size_t shape[2] = {rows, columns};
        visitor.tensor("totals", state_kind::state, shape, integer_span(std::span<std::uint64_t>(values)), 0, nullptr);
        each([](std::uint64_t& own, std::uint64_t& seen) { own = seen; });
    }

  private:
    struct layer_state {
        std::array<detail::counted_operand, roles> operands;
        std::array<bool, stages> left_streams{true, true, true};
        std::array<std::vector<detail::event_plan>, stages> plans;
    };

    static std::size_t index(stage s) noexcept { return static_cast<std::size_t>(s); }
    static std::size_t index(role r) noexcept { return static_cast<std::size_t>(r); }
    static std::size_t row(int layer, stage s) noexcept { return static_cast<std::size_t>(layer) * stages + index(s); }
    static std::size_t row(int layer, role r) noexcept { return static_cast<std::size_t>(layer) * roles + index(r); }

    void grow(int layers) {
        const auto count = static_cast<std::size_t>(layers);
        if (count <= layers_.size()) return;
        layers_.resize(count);
        totals_.resize(count * stages);
        pairs_.resize(count * stages);
        shares_.resize(count * roles);
    }

    // And whether it is new.
    static std::pair<const detail::event_plan*, bool> plan_of(layer_state& layer, const gemm::gemm_event& event) {
        const detail::event_plan::shape key = detail::event_plan::shape_of(event);
        std::vector<detail::event_plan>& plans = layer.plans[index(event.where)];
        for (const detail::event_plan& plan : plans)
            if (plan.fits(key)) return {&plan, false};
        return {&plans.emplace_back(event, key), true};
    }

    // A probe's own operands are not what the layer keeps.
    static detail::counted_operand& operand_of(layer_state& layer, const gemm::gemm_event& event,
                                               const gemm::event_operand& o, detail::counted_operand& own) {
        detail::counted_operand& kept = layer.operands[index(o.what)];
        if (!event.probe || kept.holds(event, o)) return kept;
        own.forget();
        return own;
    }
    static operand_slices slices_of(const detail::operand_plan& plan, const detail::counted_operand& o) noexcept {
        const std::uint64_t all = static_cast<std::uint64_t>(plan.elements) * o.planes();
        return {std::accumulate(o.nonzero().begin(), o.nonzero().end(), all, std::minus<>()), all};
    }

    slice::encoding digits_;
    path isa_;
    std::vector<layer_state> layers_;
    std::vector<stage_counts> totals_;    // [layer][stage]
    std::vector<plane_pairs> pairs_;      // [layer][stage]
    std::vector<operand_slices> shares_;  // [layer][role]
    event_counts last_;
    const gemm::gemm_event* last_event_ = nullptr;  // compared, never read
    detail::counted_operand probe_a_, probe_b_;
    detail::live_outputs live_;
};

}  // namespace lamella::accelerator
