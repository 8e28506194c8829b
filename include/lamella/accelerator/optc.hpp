// OPTC, the optimizer core: one datapath that serves momentum, Adam and sign descent, lanes gated.
//
//   g  = nearest(sum / B), 24 bits       the exact int64 sum over the batch, times the fixed-point 1/B of this step
//   g' = g + decay w
//   m  = b1 m + c1 g'                    gated off when b1 is 0: then m is c1 g'
//   v  = b2 v + c2 g'^2                  gated off unless the direction is normalised
//   u  = m  |  m / sqrt(v + epsilon^2)  |  sign(m)
//   w  = w - rate u - shrink w
//
// That one core serves momentum and Adam is sourced (Han et al., COOL CHIPS 2021, abstract); the datapath is this
// project's reconstruction. epsilon stands inside the root, unlike in the textbook.
//
// Formats: w 16 bits, m 32 bits, each with one exponent a tensor, the smallest at which no value can clip, rounding
// upwards included; v 16 bits with an exponent an element (see optc_state.hpp for why). All three are rounded at random
// when written back, by the bits of element e at position 0. Inside,
// u is made of m before its write-back, to 31 bits; a normalised u is in units of 2^-20 and saturates at 2^11.
//
// Nothing is undefined, however large rate, gradient or weights become: exponents stay within +-1024, values that would
// pass that saturate and are counted; below it they round to zero. A tensor whose values are all zero has exponent 0
// and takes no part in alignment. Bits are equal on all paths and for any number of threads.
// Next: optc_step.hpp for what a step takes, optc_plan.hpp for its exponents, optc_lanes.hpp for the lanes,
// optim/optimizer.hpp for the settings that users see.
#pragma once

#include <cstddef>

#include "../core/config.hpp"
#include "../core/path.hpp"
#include "optc_state.hpp"
#include "optc_step.hpp"

namespace lamella::accelerator {

// Gives the moments that are kept `count` zeros each, unless they have that size already, and the state its memory.
inline void optc_prepare(optc_state& state, std::size_t count, bool first, bool second) {
    const auto size = [](auto& moment, std::size_t wanted) {
        if (moment.size() == wanted) return false;
        moment.resize(wanted);
        moment.fill_zero();
        return true;
    };
    if (size(state.first_moment, first ? count : 0)) state.first_exponent = 0;
    size(state.second_moment, second ? count : 0);
    size(state.second_moment_exponent, second ? count : 0);
    state.spare.mantissa.resize(count);
    state.spare.first_moment.resize(first ? count : 0);
    state.spare.second_moment.resize(second ? count : 0);
    state.spare.second_moment_exponent.resize(second ? count : 0);
}

// One step of one tensor. Returns what saturated.
optc_saturations optc_update(const optc_step& step, const optc_tensor& tensor, const optc_site& site, path isa,
                             int threads);

}  // namespace lamella::accelerator

#if !LAMELLA_SEPARATE
#include "optc_definition.hpp"
#endif
