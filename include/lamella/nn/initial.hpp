// Initial weights: uniform in +-sqrt(6 / fan_in) (He et al. 2015, for ReLU), made of integers, so that the integer
// network and its twins start from the same values on every machine. Biases start at zero.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "../core/elementary.hpp"
#include "../core/random.hpp"
#include "parameter.hpp"

namespace lamella::nn::detail {

template <class Parameter>
void declare(Parameter& p, std::string name, std::vector<std::size_t> shape, std::uint16_t layer, bool bias) {
    std::size_t count = 1;
    for (const std::size_t extent : shape) count *= extent;
    p.name = std::move(name);
    p.shape = std::move(shape);
    p.layer = layer;
    p.bias = bias;
    p.gradient.resize(count);
    if constexpr (requires { p.mantissa; })
        p.mantissa.resize(count);
    else
        p.value.resize(count);
}

// 16-bit mantissas whose largest possible magnitude, sqrt(6 / fan_in), takes all 16 bits.
struct initial_scale {
    std::int32_t limit;
    int exponent;
};
constexpr initial_scale scale_of(std::int64_t fan_in) noexcept {
    int places = 0;
    const auto root = [&](int p) {
        return square_root((std::uint64_t{6} << (2 * p)) / static_cast<std::uint64_t>(fan_in));
    };
    while (places < 29 && root(places + 1) <= 32767) ++places;
    return {static_cast<std::int32_t>(root(places)), -places};
}

template <class Parameter>
void initialise(Parameter& p, std::int64_t fan_in, std::uint64_t seed) {
    const initial_scale scale = scale_of(fan_in);
    const random_site site{seed, 0, p.layer, stream::initial_weight};
    const auto mantissa = [&](std::size_t i) {
        const std::int64_t x = (2 * std::int64_t{random_16(site, 0, i)} - 65535) * scale.limit;
        return static_cast<std::int16_t>((x + (x < 0 ? -32767 : 32767)) / 65535);
    };
    if constexpr (requires { p.mantissa; }) {
        for (std::size_t i = 0; i < p.mantissa.size(); ++i) p.mantissa[i] = mantissa(i);
        p.exponent = scale.exponent;
    } else {
        using T = std::remove_cvref_t<decltype(p.value[0])>;
        for (std::size_t i = 0; i < p.value.size(); ++i)
            p.value[i] = std::ldexp(static_cast<T>(mantissa(i)), scale.exponent);
    }
}

}  // namespace lamella::nn::detail
