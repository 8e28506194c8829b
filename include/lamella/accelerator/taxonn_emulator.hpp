// TaxoNN's array at work: executes the GEMMs of one sample in the order of its schedule, cycle by cycle, every unit one
// multiply-accumulate at a time. It is the specification of taxonn.hpp's counts, written to be read;
// tests/taxonn_test.cpp holds the two equal, and the results equal to the kernels'. Reconstruction, as taxonn.hpp says.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "counting.hpp"
#include "taxonn.hpp"

namespace lamella::accelerator {

// What happened in one cycle.
struct taxonn_activity {
    std::uint64_t cycle = 0;
    int layer = 0;
    std::array<int, 3> multiplying{};  // units, for FF, EP and WG
};

// A phase on some units: fill, waves, drain.
class taxonn_walk {
  public:
    // Receives a GEMM's results, M x N, row by row, when its last wave is done.
    using receiver = std::function<void(const gemm::gemm_event&, std::span<const std::int64_t>)>;

    taxonn_walk(const taxonn_configuration& c, stage where, int units, std::vector<const gemm::gemm_event*> gemms,
                const receiver& receive)
        : where_(where),
          units_(units),
          gemms_(std::move(gemms)),
          receive_(receive),
          fill_(c.fill),
          drain_(c.drain),
          write_back_(where == stage::weight_gradient ? c.write_back : 0) {
        begin_gemm();
    }

    stage where() const noexcept { return where_; }
    bool done() const noexcept { return fill_ == 0 && gemm_ == gemms_.size() && drain_ == 0; }
    // One cycle. Returns the units that multiplied.
    int tick() {
        if (fill_ > 0) return --fill_, 0;
        if (gemm_ == gemms_.size()) return --drain_, 0;
        const int multiplied = step_ < depth() ? multiply() : 0;
        if (++step_ == depth() + write_back_) end_wave();
        return multiplied;
    }

  private:
    const gemm::gemm_event& event() const noexcept { return *gemms_[gemm_]; }
    std::int64_t depth() const noexcept { return event().a.view.depth.size(); }
    std::int64_t columns() const noexcept { return event().b.view.rows.size(); }
    std::int64_t outputs() const noexcept { return event().a.view.rows.size() * columns(); }
    std::int64_t wave() const noexcept { return std::min<std::int64_t>(units_, outputs() - first_); }

    void begin_gemm() {
        first_ = step_ = 0;
        if (gemm_ == gemms_.size()) return;
        sums_.assign(static_cast<std::size_t>(outputs()), 0);
    }
    // Every unit of the wave takes its output's product at this step, unless it stands for padding.
    int multiply() {
        int multiplied = 0;
        for (std::int64_t output = first_; output < first_ + wave(); ++output) {
            const auto offset = [&](const gemm::event_operand& o, std::int64_t row) {
                return detail::base_of(o) + o.view.rows.offset(row) + o.view.depth.offset(step_);
            };
            const gemm::event_operand &a = event().a, &b = event().b;
            const std::int64_t at_a = offset(a, output / columns()), at_b = offset(b, output % columns());
            if (!detail::inside(a.stored, at_a) || !detail::inside(b.stored, at_b)) continue;
            sums_[static_cast<std::size_t>(output)] +=
                std::int64_t{detail::mantissa_at(a, at_a)} * detail::mantissa_at(b, at_b);
            ++multiplied;
        }
        return multiplied;
    }
    void end_wave() {
        gate();
        first_ += wave();
        step_ = 0;
        if (first_ < outputs()) return;
        receive_(event(), sums_);
        ++gemm_;
        begin_gemm();
    }
    // E2: the error of a neuron whose ReLU passes nothing is zero.
    void gate() noexcept {
        if (event().gate == nullptr) return;
        for (std::int64_t output = first_; output < first_ + wave(); ++output)
            if (event().gate[event().gate_rows.offset(output / columns()) + output % columns()] <= 0)
                sums_[static_cast<std::size_t>(output)] = 0;
    }

    stage where_;
    int units_;
    std::vector<const gemm::gemm_event*> gemms_;
    const receiver& receive_;
    int fill_, drain_, write_back_;
    std::size_t gemm_ = 0;
    std::int64_t first_ = 0, step_ = 0;  // of the wave: its first output, where along depth it is
    std::vector<std::int64_t> sums_;
};

class taxonn_emulator {
  public:
    using watcher = std::function<void(const taxonn_activity&)>;

    // Throws argument_error for a configuration that validated() refuses.
    explicit taxonn_emulator(taxonn_configuration c) : how_(std::move(c)) { validated(how_); }

    // Executes the GEMMs of one sample, given in any order. Throws argument_error for events of more than one sample.
    taxonn_counts run(std::span<const gemm::gemm_event> events, taxonn_use use, const taxonn_walk::receiver& receive,
                      const watcher& watch = {}) const {
        taxonn_sample sample;
        for (const gemm::gemm_event& e : events) add_to(sample, e);
        taxonn_counts counts;
        for (const taxonn_slot& slot : taxonn_schedule(how_, sample, use)) {
            std::vector<taxonn_walk> walks;
            for (const taxonn_part& part : slot.parts)
                walks.emplace_back(how_, part.where, part.units, of(events, slot.layer, part.where), receive);
            while (std::any_of(walks.begin(), walks.end(), [](const taxonn_walk& w) { return !w.done(); })) {
                taxonn_activity activity{counts.cycles++, slot.layer, {}};
                for (taxonn_walk& w : walks) {
                    if (w.done()) continue;
                    const int multiplied = w.tick();
                    activity.multiplying[static_cast<std::size_t>(w.where())] += multiplied;
                    counts.macs += static_cast<std::uint64_t>(multiplied);
                }
                if (watch) watch(activity);
            }
            if (slot.parts.size() > 1) counts.shadow = std::max(counts.shadow, weights(events, slot.layer));
        }
        counts.capacity = counts.cycles * static_cast<std::uint64_t>(how_.multipliers * taxonn_arrays(use));
        return counts;
    }

  private:
    static std::vector<const gemm::gemm_event*> of(std::span<const gemm::gemm_event> events, int layer, stage where) {
        std::vector<const gemm::gemm_event*> found;
        for (const gemm::gemm_event& e : events)
            if (e.layer == layer && e.where == where) found.push_back(&e);
        return found;
    }
    // What the second bank holds while EP still reads the first.
    static std::uint64_t weights(std::span<const gemm::gemm_event> events, int layer) {
        std::uint64_t count = 0;
        for (const gemm::gemm_event* e : of(events, layer, stage::weight_gradient))
            count += static_cast<std::uint64_t>(e->a.view.rows.size() * e->b.view.rows.size());
        return count;
    }

    taxonn_configuration how_;
};

}  // namespace lamella::accelerator
