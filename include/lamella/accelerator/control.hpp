// Control: the order in which a training step's work goes over the blocks, and the time line that comes of it.
//
// Sourced: precision is set a layer, apart for feed-forward and error propagation (US20220222523A1, abstract); one
// optimizer core updates the weights. Reconstruction: the order, which is the one in which this library trains. GEMMs
// use the whole array and run one after the other; the optimizer core is a block of its own, so the update of a layer
// runs beside the GEMMs that follow its WG and only what outlasts them costs time. It would be wrong to let a layer's
// EP read weights that its update has already moved, so a layer's update begins when its EP has ended.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "../core/format.hpp"

namespace lamella::accelerator {

// One GEMM, or the update, of one layer in a training step.
struct phase {
    int layer = 0;
    stage where = stage::feed_forward;
    friend bool operator==(const phase&, const phase&) = default;
};

// A step of `layers` layers with weights: FF up, then for each layer down WG, EP (not of the first) and WU.
inline std::vector<phase> training_step(int layers) {
    std::vector<phase> order;
    for (int l = 0; l < layers; ++l) order.push_back({l, stage::feed_forward});
    for (int l = layers - 1; l >= 0; --l) {
        order.push_back({l, stage::weight_gradient});
        if (l > 0) order.push_back({l, stage::error_propagation});
        order.push_back({l, stage::weight_update});
    }
    return order;
}

// Cycles of each phase: begins at the array's or the optimizer core's first free cycle.
struct phase_time {
    phase what;
    std::uint64_t begin = 0, end = 0;
};

// The time line of one step. `cycles(phase)` gives what a phase takes on its block.
template <class Cycles>
std::vector<phase_time> schedule(const std::vector<phase>& order, Cycles&& cycles) {
    std::vector<phase_time> line;
    std::uint64_t array_free = 0, optimizer_free = 0;
    for (const phase& p : order) {
        std::uint64_t& free = p.where == stage::weight_update ? optimizer_free : array_free;
        const std::uint64_t begin = p.where == stage::weight_update ? std::max(optimizer_free, array_free) : array_free;
        free = begin + static_cast<std::uint64_t>(cycles(p));
        line.push_back({p, begin, free});
    }
    return line;
}
// Cycles of a step if every layer had an array and an optimizer core of its own: the longest chain of phases that wait
// for each other. An error reaches a layer through the EP of all layers above it, or, with direct feedback, through one
// EP that begins when FF has ended. An update waits for its layer's WG, and for an EP that reads the same weights,
// which direct feedback's does not.
template <class Cycles>
std::uint64_t critical_path(int layers, bool direct_feedback, Cycles&& cycles) {
    const auto of = [&](int layer, stage where) { return static_cast<std::uint64_t>(cycles(phase{layer, where})); };
    std::uint64_t forward = 0, end = 0;
    for (int l = 0; l < layers; ++l) forward += of(l, stage::feed_forward);
    std::uint64_t error = forward;  // when the error of this layer's output is there
    for (int l = layers - 1; l >= 0; --l) {
        const std::uint64_t gradient = error + of(l, stage::weight_gradient);
        const std::uint64_t below =
            l == 0 ? 0 : (direct_feedback ? forward : error) + of(l, stage::error_propagation);
        end = std::max(end, (direct_feedback ? gradient : std::max(gradient, below)) + of(l, stage::weight_update));
        error = below;
    }
    return end;
}
inline std::uint64_t end_of(const std::vector<phase_time>& line) noexcept {
    std::uint64_t end = 0;
    for (const phase_time& t : line) end = std::max(end, t.end);
    return end;
}

}  // namespace lamella::accelerator
