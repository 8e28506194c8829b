// What the optimizer core costs in time: the cycle model around the arithmetic of optc.hpp.
//
// Sourced (COOL CHIPS 2021, abstract): one core that serves momentum and Adam. Reconstruction: `optc_lanes` elements
// enter together; a lane has one multiplier for each of decay, b1, c1 and the rate, so plain, momentum and sign steps
// take an element a cycle. A normalised step (Adam) goes through b2, c2, the square and the reciprocal root's Newton
// step on the same multipliers: a second beat. The pipeline fills once a tensor.
#pragma once

#include <cstdint>

#include "configuration.hpp"
#include "optc.hpp"

namespace lamella::accelerator {

inline constexpr std::uint64_t optc_pipeline = 8;  // stages from gradient to written weight

// What the update of one tensor, or of several, comes to.
struct optc_counts {
    std::uint64_t cycles = 0, elements = 0;
    std::uint64_t read_bits = 0, written_bits = 0;  // gradient, weight and moments; moments and weight

    friend bool operator==(const optc_counts&, const optc_counts&) = default;
    optc_counts& operator+=(const optc_counts& o) noexcept {
        cycles += o.cycles;
        elements += o.elements;
        read_bits += o.read_bits;
        written_bits += o.written_bits;
        return *this;
    }
};

// `moments`: 0 for plain descent, 1 with a first moment, 2 with both (a normalised direction).
constexpr optc_counts optc_update(std::uint64_t elements, int moments, const configuration& c) noexcept {
    optc_counts counts;
    if (elements == 0) return counts;
    const auto lanes = static_cast<std::uint64_t>(c.optc_lanes);
    const std::uint64_t beats = moments == 2 ? 2 : 1;
    counts.elements = elements;
    counts.cycles = (elements + lanes - 1) / lanes * beats + optc_pipeline;
    constexpr int exponent_bits = 8;  // of the second moment, an element
    const auto state = static_cast<std::uint64_t>((moments >= 1 ? optc_moment_width : 0) +
                                                  (moments == 2 ? 16 + exponent_bits : 0) + optc_weight_width);
    counts.read_bits = elements * (state + 64);  // the exact gradient sum
    counts.written_bits = elements * state;
    return counts;
}

}  // namespace lamella::accelerator
