// What a network learns: a tensor of weights or biases, its gradient, and what the optimizer keeps of it.
//
// fixed_parameter holds the 16-bit master weights of the integer network, real_parameter<Real> the same tensor of a
// twin. In both, `gradient` is the sum over the batch; the optimizer (optim/optimizer.hpp) makes it a mean, moves the
// value and sizes the moments. Weights are OHWI.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "../accelerator/optc_state.hpp"
#include "../core/elementary.hpp"
#include "../core/memory.hpp"
#include "../core/state.hpp"

namespace lamella::nn {

// Master weights of the integer network.
struct fixed_parameter {
    std::string name;                // in its layer
    std::vector<std::size_t> shape;  // its product is the size of mantissa and gradient
    std::uint16_t layer = 0;         // of its random bits
    bool bias = false;
    buffer<std::int16_t> mantissa;  // symmetric: -32767 .. 32767
    int exponent = 0;
    buffer<std::int64_t> gradient;  // exact sum over the batch
    int gradient_exponent = 0;
    accelerator::optc_state state;

    // Names `name`, and `name.first_moment` .. as far as the optimizer has prepared them.
    void visit(state_visitor& visitor) {
        visitor.tensor(name, state_kind::parameter, shape, mantissa, 16, exponent);
        const state_visitor::scope scope(visitor, name);
        state.visit(visitor, shape);
    }
};

// A twin's.
template <class Real>
struct real_parameter {
    std::string name;
    std::vector<std::size_t> shape;
    std::uint16_t layer = 0;
    bool bias = false;
    buffer<Real> value;
    buffer<Real> gradient;  // sum over the batch
    buffer<Real> first_moment, second_moment;

    // The same names; the integers are the values' bit patterns.
    void visit(state_visitor& visitor) {
        bits(visitor, name, state_kind::parameter, value);
        const state_visitor::scope scope(visitor, name);
        if (!first_moment.empty()) bits(visitor, "first_moment", state_kind::state, first_moment);
        if (!second_moment.empty()) bits(visitor, "second_moment", state_kind::state, second_moment);
    }

    // The sum of squares of the gradient, for clipping; 0 when it is not finite: what has diverged is not clipped.
    scaled squared_gradient() const noexcept {
        double sum = 0;
        for (const Real g : gradient.span()) sum += static_cast<double>(g) * static_cast<double>(g);
        if (!std::isfinite(sum)) return {};
        int exponent = 0;
        const double fraction = std::frexp(sum, &exponent);
        return to_scaled(static_cast<std::uint64_t>(std::ldexp(fraction, 62)), exponent - 62);
    }

  private:
    void bits(state_visitor& visitor, std::string_view part, state_kind kind, buffer<Real>& reals) {
        using integer = std::conditional_t<sizeof(Real) == 4, std::int32_t, std::int64_t>;
        std::vector<integer> copy(reals.size());
        for (std::size_t i = 0; i < copy.size(); ++i) copy[i] = std::bit_cast<integer>(reals[i]);
        visitor.tensor(part, kind, shape, integer_span(std::span<integer>(copy)), 0, nullptr);
        for (std::size_t i = 0; i < copy.size(); ++i) reals[i] = std::bit_cast<Real>(copy[i]);
    }
};

}  // namespace lamella::nn
