// TaxoNN: stochastic gradient descent, sample by sample, cut into its elements, which share the multipliers of an
// inference array in turn. This header: the array as data, its schedule, and cycles and utilisation in closed form;
// taxonn_emulator.hpp executes it.
//
//   E1  forward              FF(i)   Z = W Y + b, Y = f(Z)
//   E2  derivative gate              a bit a neuron for ReLU: an AND on what E3 writes; takes no cycle
//   E3  gradient recursion   EP(i)   the error of layer i's input, from W_i's columns
//   E4  update               WG(i)   G Y^T, shifted by the learning rate 2^-s, subtracted and written
//
// The array is a row of equal units, each a multiplier, an accumulator and what E2 and E4 add behind them. A *phase* (a
// layer's FF, EP or WG) deals its outputs to units in order, so many at a time: a *wave*, in which all units walk the
// depth of their outputs in step. A step at which a unit's operand is padding leaves it idle. `write_back` cycles
// follow each wave of WG; `fill` and `drain` begin and end each phase.
//
// Order: FF up; then for each layer down EP(i), which reads W_i as it was, before WG(i), which writes it. Both read the
// same error, so a split array may run them side by side, WG's writes going to a second bank of W_i until EP has ended.
// The next sample's FF waits for the last WG: it would read stale weights otherwise.
//
// Sourced (Hojabr et al., TaxoNN, ISCAS 2020, arXiv 2010.05197, abstract): an inference accelerator's array
// time-multiplexed over the elements of SGD. Everything else is a reconstruction: a reimplementation of the idea, none
// of it the authors' design.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "../core/errors.hpp"
#include "../gemm/event.hpp"

namespace lamella::accelerator {

// Sizes of the array and cycles of its pipeline.
struct taxonn_configuration {
    std::string name = "taxonn";
    int multipliers = 256;  // units of the array, 2..65536
    int split = 0;          // of them for EP beside WG; 0: layer by layer what takes the fewest cycles
    int fill = 4;           // cycles of a phase before its first product, 0..1000
    int drain = 4;          // cycles of a phase after its last product, 0..1000
    int write_back = 1;     // cycles of a wave of WG after its last product: shift, subtract, write; 0..1000
    int clock_mhz = 200;    // only to turn cycles into time, 1..10000

    friend bool operator==(const taxonn_configuration&, const taxonn_configuration&) = default;
};

// Calls visit(name, value, lowest, highest) for every number of a configuration; in the order of a configuration file.
template <class Configuration, class Visit>
requires std::same_as<std::remove_const_t<Configuration>, taxonn_configuration>
void each_number(Configuration& c, Visit&& visit) {
    visit("multipliers", c.multipliers, 2, 65536);
    visit("split", c.split, 0, 65535);
    visit("fill", c.fill, 0, 1000);
    visit("drain", c.drain, 0, 1000);
    visit("write_back", c.write_back, 0, 1000);
    visit("clock_mhz", c.clock_mhz, 1, 10000);
}

// Returns c. Throws argument_error, naming the field, for a number out of its range and a split that leaves WG nothing.
inline const taxonn_configuration& validated(const taxonn_configuration& c) {
    each_number(c, require_between);
    if (c.split >= c.multipliers)
        throw argument_error("split", "fewer than the multipliers, " + std::to_string(c.multipliers),
                             std::to_string(c.split));
    return c;
}

// Reconstruction: of the array, the public abstract gives no size.
inline taxonn_configuration taxonn() { return {}; }

// One GEMM as the array walks it: `outputs` x `depth` products, of which `macs` stand for no padding.
struct taxonn_gemm {
    std::uint64_t outputs = 0, depth = 0, macs = 0;
};
// [layer][stage]: the GEMMs of one sample. EP of a strided convolution has several, EP of the first layer none.
using taxonn_sample = std::vector<std::array<std::vector<taxonn_gemm>, 3>>;

// Adds a GEMM to a sample's. Throws argument_error for an event of several samples, and for a probe: TaxoNN has none.
inline void add_to(taxonn_sample& sample, const gemm::gemm_event& event) {
    if (event.samples != 1) throw argument_error("samples of a step", "1", std::to_string(event.samples));
    if (event.probe) throw argument_error("controller", "one without probes", "a probe");
    const auto layer = static_cast<std::size_t>(event.layer);
    if (layer >= sample.size()) sample.resize(layer + 1);
    const auto size = [](const gemm::axis& a) { return static_cast<std::uint64_t>(a.size()); };
    sample[layer][static_cast<std::size_t>(event.where)].push_back({size(event.a.view.rows) * size(event.b.view.rows),
                                                                    size(event.a.view.depth),
                                                                    static_cast<std::uint64_t>(event.macs)});
}

// Looks at the first step that it sees: what a sample of this network costs, since every sample costs the same.
class taxonn_shapes final : public gemm::observer {
  public:
    void on_gemm(const gemm::gemm_event& event) override {
        if (sample_.empty()) step_ = event.step;
        if (event.step == step_) add_to(sample_, event);
    }
    const taxonn_sample& sample() const noexcept { return sample_; }

  private:
    std::uint64_t step_ = 0;
    taxonn_sample sample_;
};

// What hardware does what. The last two are what time-multiplexing saves: a second array of the same size for EP and WG
// beside the one for inference, and one array for each of FF, EP and WG.
enum class taxonn_use : std::uint8_t { inference, time_multiplexed, overlapped, training_array, three_arrays };
inline constexpr std::array<std::string_view, 5> taxonn_use_names{
    "inference alone", "training, time-multiplexed", "training, EP beside WG", "training on a second array",
    "training on three arrays"};
constexpr std::string_view name_of(taxonn_use u) noexcept { return taxonn_use_names[static_cast<std::size_t>(u)]; }

// How many arrays of `multipliers` units a use takes.
constexpr int taxonn_arrays(taxonn_use u) noexcept {
    return u == taxonn_use::three_arrays ? 3 : u == taxonn_use::training_array ? 2 : 1;
}

// What one phase takes on some units.
struct taxonn_part {
    stage where = stage::feed_forward;
    int units = 0;
    std::uint64_t cycles = 0;
};
// A stretch of the time line: one phase of a layer, or its EP and its WG side by side.
struct taxonn_slot {
    int layer = 0;
    std::vector<taxonn_part> parts;
    std::uint64_t begin = 0, end = 0;  // cycles; the slot is over when its longest part is
};

// A phase on `units` units, from the shapes of its GEMMs.
inline taxonn_part taxonn_phase(const taxonn_configuration& c, const std::vector<taxonn_gemm>& work, stage where,
                                int units) {
    taxonn_part part{where, units, static_cast<std::uint64_t>(c.fill + c.drain)};
    const auto wide = static_cast<std::uint64_t>(units);
    const auto written = static_cast<std::uint64_t>(where == stage::weight_gradient ? c.write_back : 0);
    for (const taxonn_gemm& g : work) part.cycles += (g.outputs + wide - 1) / wide * (g.depth + written);
    return part;
}

// EP and WG of a layer side by side on one array, by the configuration's split or the quickest.
inline std::array<taxonn_part, 2> taxonn_split(const taxonn_configuration& c,
                                               const std::array<std::vector<taxonn_gemm>, 3>& layer) {
    const auto at = [&](int units) {
        return std::array{taxonn_phase(c, layer[1], stage::error_propagation, units),
                          taxonn_phase(c, layer[2], stage::weight_gradient, c.multipliers - units)};
    };
    if (c.split != 0) return at(c.split);
    const auto longest = [](const std::array<taxonn_part, 2>& p) { return std::max(p[0].cycles, p[1].cycles); };
    std::array<taxonn_part, 2> best = at(1);
    for (int units = 2; units < c.multipliers; ++units)
        if (const auto other = at(units); longest(other) < longest(best)) best = other;
    return best;
}

// The time line of one sample. Side by side only where that takes fewer cycles than one after the other. Throws
// argument_error when validated() refuses the configuration.
inline std::vector<taxonn_slot> taxonn_schedule(const taxonn_configuration& c, const taxonn_sample& sample,
                                                taxonn_use use) {
    validated(c);
    std::vector<taxonn_slot> line;
    const auto add = [&](std::size_t layer, std::vector<taxonn_part> parts) {
        const std::uint64_t begin = line.empty() ? 0 : line.back().end;
        std::uint64_t longest = 0;
        for (const taxonn_part& p : parts) longest = std::max(longest, p.cycles);
        line.push_back({static_cast<int>(layer), std::move(parts), begin, begin + longest});
    };
    const auto whole = [&](std::size_t layer, stage where) {
        return taxonn_phase(c, sample[layer][static_cast<std::size_t>(where)], where, c.multipliers);
    };
    for (std::size_t layer = 0; layer < sample.size(); ++layer) add(layer, {whole(layer, stage::feed_forward)});
    if (use == taxonn_use::inference) return line;
    for (std::size_t layer = sample.size(); layer-- > 0;) {
        const taxonn_part gradient = whole(layer, stage::weight_gradient);
        if (sample[layer][1].empty()) {
            add(layer, {gradient});
            continue;
        }
        const taxonn_part propagation = whole(layer, stage::error_propagation);
        if (use == taxonn_use::three_arrays) {
            add(layer, {propagation, gradient});
            continue;
        }
        const auto split = taxonn_split(c, sample[layer]);
        if (use != taxonn_use::time_multiplexed &&
            std::max(split[0].cycles, split[1].cycles) < propagation.cycles + gradient.cycles) {
            add(layer, {split[0], split[1]});
        } else {
            add(layer, {propagation});
            add(layer, {gradient});
        }
    }
    return line;
}

// What a sample comes to.
struct taxonn_counts {
    std::uint64_t cycles = 0;
    std::uint64_t macs = 0;      // multiply-accumulates done: no padding
    std::uint64_t capacity = 0;  // cycles x multipliers of all arrays: utilisation is macs / capacity
    std::uint64_t shadow = 0;    // weights of the second bank that EP beside WG needs

    friend bool operator==(const taxonn_counts&, const taxonn_counts&) = default;
};

// What a sample comes to, in closed form. Throws argument_error as taxonn_schedule does.
inline taxonn_counts count(const taxonn_configuration& c, const taxonn_sample& sample, taxonn_use use) {
    taxonn_counts counts;
    for (const taxonn_slot& slot : taxonn_schedule(c, sample, use)) {
        counts.cycles = slot.end;
        std::uint64_t written = 0;
        for (const taxonn_part& part : slot.parts)
            for (const taxonn_gemm& g :
                 sample[static_cast<std::size_t>(slot.layer)][static_cast<std::size_t>(part.where)]) {
                counts.macs += g.macs;
                if (part.where == stage::weight_gradient) written += g.outputs;
            }
        if (slot.parts.size() > 1) counts.shadow = std::max(counts.shadow, written);
    }
    counts.capacity = counts.cycles * static_cast<std::uint64_t>(c.multipliers * taxonn_arrays(use));
    return counts;
}

}  // namespace lamella::accelerator
