// What one step of one tensor takes and tells (optc.hpp).
#pragma once

#include <cstdint>
#include <span>

#include "../core/decimal.hpp"
#include "../core/memory.hpp"
#include "optc_state.hpp"

namespace lamella::accelerator {

// What a weight moves by, u: the first moment itself, the first moment over the root of the second, or the first
// moment's sign.
enum class optc_direction : std::uint8_t { moment, normalised, sign };

// Formats of OPTC's numbers, in bits.
inline constexpr int optc_exponent_limit = 1024;  // of g, m and w, either sign
inline constexpr int optc_mean_width = 24;        // bits of g
inline constexpr int optc_weight_width = 16;
inline constexpr int optc_moment_width = 32;

// One step's coefficients: all are at least 0, b1 and b2 below 1. A zero gates its lane off.
struct optc_step {
    optc_direction direction = optc_direction::moment;
    scaled inverse_batch;    // 1 / B
    scaled decay;            // of the gradient
    scaled b1, c1;           // first moment
    scaled b2, c2;           // second moment; normalised only
    scaled epsilon_squared;  // normalised only
    scaled rate;
    scaled shrink;  // decoupled decay
};

// One tensor. `mantissa` and `gradient` are equally long; `state` has the sizes that optc_prepare gave it. A step moves
// the mantissas and the moments to other memory.
struct optc_tensor {
    buffer<std::int16_t>& mantissa;
    int& exponent;
    std::span<const std::int64_t> gradient;  // sum over the batch
    int gradient_exponent = 0;
    optc_state& state;
};

// Where the random bits of one tensor's write-back come from.
struct optc_site {
    std::uint64_t seed = 0;
    std::uint32_t step = 0;
    std::uint16_t layer = 0;
    bool bias = false;
};

// How many values had to be cut to their range.
struct optc_saturations {
    std::uint64_t gradients = 0, updates = 0, first_moments = 0, second_moments = 0, weights = 0;
    constexpr std::uint64_t total() const noexcept {
        return gradients + updates + first_moments + second_moments + weights;
    }
    constexpr void add(const optc_saturations& o) noexcept {
        gradients += o.gradients;
        updates += o.updates;
        first_moments += o.first_moments;
        second_moments += o.second_moments;
        weights += o.weights;
    }
};

}  // namespace lamella::accelerator
