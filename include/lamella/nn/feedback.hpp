// How hidden layers learn of the output's error.
//
//   propagated  back-propagation: EP multiplies a layer's error by its weights, and each layer waits for the one above
//   direct      direct feedback alignment (Nokland, NIPS 2016): what a layer hands down is the error of the network's
//               output times a fixed random matrix. No layer waits for another, and no weight is read on the way back
//
// Everything else stays as it is: derivatives of activations, pooling, WG, optimizer.
//
// The matrix of a layer is its inputs x the network's outputs, +-2^exponent. It is never stored: a step makes it anew
// from the counter-based generator, in scratch memory that all layers share. The exponent, -floor(log2(inputs) / 2),
// puts its elements near the initial weights' size, sqrt(2 / inputs). That choice is ours, and so are signs in place of
// random reals.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "../core/format.hpp"
#include "../core/quantise.hpp"
#include "../core/random.hpp"

namespace lamella::nn {

// How errors reach hidden layers: through the layers above, or straight from the output.
enum class feedback : std::uint8_t { propagated, direct };
inline constexpr std::array<std::string_view, 2> feedback_names{"propagated", "direct"};

namespace detail {

inline constexpr int feedback_width = 2;  // bits of +-1

constexpr int feedback_exponent(std::int64_t inputs) noexcept {
    return -((bit_length(static_cast<std::uint64_t>(inputs)) - 1) / 2);
}

// Signs of a layer's matrix times `one`: element e (row by row) takes bit e % 16 of the 16 random bits e / 16.
template <class T>
void fill_feedback(path isa, std::uint64_t seed, std::uint16_t layer, T one, std::span<T> matrix) {
    constexpr std::size_t draws = 256, run = 16 * draws;
    const random_site site{seed, 0, layer, stream::feedback};
    std::array<std::uint16_t, draws> draw;
    for (std::size_t first = 0; first < matrix.size(); first += run) {
        const std::size_t n = std::min(run, matrix.size() - first);
        fill_random_16(isa, site, 0, first / 16, std::span(draw).first((n + 15) / 16));
        for (std::size_t i = 0; i < n; ++i)
            matrix[first + i] = (draw[i / 16] >> (i % 16) & 1) != 0 ? static_cast<T>(-one) : one;
    }
}

}  // namespace detail

}  // namespace lamella::nn
