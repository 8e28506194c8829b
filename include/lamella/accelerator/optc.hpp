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
// Next: optc_lanes.hpp for the lanes, optim/optimizer.hpp for the settings that users see.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "../core/config.hpp"
#include "../core/decimal.hpp"
#include "../core/format.hpp"
#include "../core/largest.hpp"
#include "../core/path.hpp"
#include "../core/quantise.hpp"
#include "../core/random.hpp"
#include "../core/rounding.hpp"
#include "optc_avx512.hpp"
#include "optc_lanes.hpp"
#include "optc_state.hpp"

namespace lamella::accelerator {

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

namespace detail {

// Exponents of the working values, from the tensor's maxima; see optc_lanes.hpp for the bounds that they keep.
inline optc_plan plan_step(const optc_step& s, const optc_tensor& t, const optc_maxima& m,
                           optc_saturations& cut) noexcept {
    constexpr int absent = no_exponent;
    optc_plan p;
    p.direction = s.direction;

    // g
    bool has_gradient = m.sum != 0 && s.inverse_batch.mantissa != 0;
    int exponent = 0, length = 0;  // of g
    if (has_gradient) {
        const int zeros = __builtin_ctz(static_cast<std::uint32_t>(s.inverse_batch.mantissa));
        const std::uint64_t factor = static_cast<std::uint64_t>(s.inverse_batch.mantissa) >> zeros;
        exponent = t.gradient_exponent + s.inverse_batch.exponent + zeros;
        p.inverse_batch = static_cast<std::int64_t>(factor);
        p.long_product = bit_length(m.sum) + bit_length(factor) > 62;
        std::uint64_t product = m.sum * factor;
        if (p.long_product) {
            p.sum_shift = std::max(0, 63 - bit_length(m.sum));
            const std::uint64_t moved = m.sum << p.sum_shift, low = (moved & 0xFFFFFFFFu) * factor;
            product = ((moved >> 32) * factor + (low >> 32)) | ((low & 0xFFFFFFFFu) != 0 ? 1u : 0u);
            exponent += 32 - p.sum_shift;
        }
        int dropped = bit_length(product) - (optc_mean_width - 1);
        if (dropped < 0) {
            p.sum_shift -= dropped;  // an exact left shift
            product <<= -dropped;
        }
        p.mean_dropped = std::max(dropped, 0);
        const auto largest = [&] { return round_nearest(static_cast<std::int64_t>(product), p.mean_dropped); };
        if (largest() > largest_mantissa(optc_mean_width)) ++p.mean_dropped, ++dropped;
        length = bit_length(static_cast<std::uint64_t>(largest()));
        exponent += dropped;
        if (exponent > optc_exponent_limit) {
            exponent = optc_exponent_limit;
            cut.gradients += t.gradient.size();
        }
        has_gradient = exponent >= -optc_exponent_limit;
        if (!has_gradient) p.inverse_batch = 0;
    }

    // g'
    const int weight_length = bit_length(m.weight);
    p.decays = s.decay.mantissa != 0 && m.weight != 0;
    if (p.decays) {
        const int top_gradient = has_gradient ? length + exponent : absent;
        const int top_decay = weight_length + 31 + t.exponent + s.decay.exponent;
        p.gradient_exponent = std::max(top_gradient, top_decay) - 29;
        if (has_gradient) p.gradient = make_term(1, exponent - p.gradient_exponent);
        p.decay = make_term(s.decay.mantissa, t.exponent + s.decay.exponent - p.gradient_exponent);
        has_gradient = true;
        length = 31;
    } else {
        p.gradient_exponent = has_gradient ? exponent : 0;
    }

    // M
    has_gradient = has_gradient && s.c1.mantissa != 0;
    const bool remembers = s.b1.mantissa != 0 && m.first != 0;
    const int top_first = remembers ? bit_length(m.first) + 31 + t.state.first_exponent + s.b1.exponent : absent;
    const int top_fresh = has_gradient ? length + 31 + p.gradient_exponent + s.c1.exponent : absent;
    const bool moves = remembers || has_gradient;
    if (moves) {
        p.moment_exponent = std::max(top_first, top_fresh) - 61;
        if (remembers) p.first = make_term(s.b1.mantissa, t.state.first_exponent + s.b1.exponent - p.moment_exponent);
        if (has_gradient) p.fresh = make_term(s.c1.mantissa, p.gradient_exponent + s.c1.exponent - p.moment_exponent);
    }

    // V + eps^2
    p.b2 = s.b2.mantissa;
    p.b2_exponent = s.b2.exponent;
    p.c2 = s.c2.mantissa;
    p.c2_exponent = s.c2.exponent;
    p.epsilon_squared = s.epsilon_squared.mantissa;
    p.epsilon_exponent = p.epsilon_squared != 0 ? s.epsilon_squared.exponent : absent;

    // W
    int update_length = 31, update_at = p.moment_exponent + 32;
    if (s.direction == optc_direction::sign) update_length = 1, update_at = 0;
    if (s.direction == optc_direction::normalised) update_at = update_exponent;
    const bool updates = moves && s.rate.mantissa != 0;
    const bool shrinks = s.shrink.mantissa != 0 && m.weight != 0;
    const int top_weight = m.weight != 0 ? weight_length + t.exponent : absent;
    const int top_update = updates ? update_length + 31 + update_at + s.rate.exponent : absent;
    const int top_shrink = shrinks ? weight_length + 31 + t.exponent + s.shrink.exponent : absent;
    const int top = std::max({top_weight, top_update, top_shrink});
    if (top == absent) return p;
    const int at = top - 60;
    p.fresh_exponent = at;
    if (m.weight != 0) p.weight = make_term(1, t.exponent - at);
    if (updates) p.update = make_term(-s.rate.mantissa, update_at + s.rate.exponent - at);
    if (shrinks) p.shrink = make_term(-s.shrink.mantissa, t.exponent + s.shrink.exponent - at);
    return p;
}

// The smallest exponent at which no value clips, whichever way it is rounded.
constexpr optc_write plan_write(std::uint64_t maximum, int exponent, int width) noexcept {
    if (maximum == 0) return {};
    const std::uint64_t largest = static_cast<std::uint64_t>(lamella::largest_mantissa(width));
    int dropped = bit_length(maximum) - (width - 1);
    if (dropped > 0 && ((maximum - 1) >> dropped) + 1 > largest) ++dropped;
    const int wanted = exponent + dropped;
    const int given = std::clamp(wanted, -optc_exponent_limit, optc_exponent_limit);
    dropped = std::max(dropped + given - wanted, bit_length(maximum) - 62);
    if (dropped > 62) return {};
    return {dropped, given, false, given < wanted};
}

// The write-back if a tensor's exponent stays what it was.
constexpr optc_write expect_write(int kept, int exponent) noexcept {
    const int dropped = kept - exponent;
    return dropped < 16 || dropped > 62 ? optc_write{} : optc_write{dropped, kept, false, false};
}

inline constexpr std::size_t optc_scan_part = 4096;          // elements that are scanned in one go
inline constexpr std::size_t optc_worth_threads = 64 * 256;  // elements

// Elements [begin, begin + count) of the tensor; a block, unless it is scanned.
struct optc_part {
    std::size_t begin, count;

    // With zeros behind where the block isn't full.
    template <class T>
    void load(const T* from, T* to) const noexcept {
        std::memcpy(to, from + begin, count * sizeof(T));
        if (count < optc_block) std::memset(to + count, 0, (optc_block - count) * sizeof(T));
    }
    template <class T>
    void store(const T* from, T* to) const noexcept {
        std::memcpy(to + begin, from, count * sizeof(T));
    }
};

// Calls body(part, lanes, result) for every part of n elements, `size` elements each but for the last; adds up the
// results.
template <class Result, class Body>
inline Result for_parts(std::size_t n, std::size_t size, int threads, const Body& body) {
    const std::int64_t parts = static_cast<std::int64_t>((n + size - 1) / size);
    Result sum;
    static_cast<void>(threads);
#if LAMELLA_OPENMP
#pragma omp parallel num_threads(threads) if (threads > 1 && n >= optc_worth_threads)
#endif
    {
        optc_lanes lanes;
        Result mine;
#if LAMELLA_OPENMP
#pragma omp for nowait
#endif
        for (std::int64_t p = 0; p < parts; ++p) {
            const std::size_t begin = static_cast<std::size_t>(p) * size;
            body(optc_part{begin, std::min(size, n - begin)}, lanes, mine);
        }
#if LAMELLA_OPENMP
#pragma omp critical(lamella_optc)
#endif
        sum.add(mine);
    }
    return sum;
}

}  // namespace detail

// One step of one tensor. Returns what saturated.
//
// The exponents of the results follow from all of the results. So a pass takes it that the exponents stay, as they do
// in most steps, writes to spare memory, and is repeated with the right exponents if they moved.
inline optc_saturations optc_update(const optc_step& step, const optc_tensor& tensor, const optc_site& site, path isa,
                                    int threads) {
    using namespace detail;
    optc_state& state = tensor.state;
    const std::size_t n = tensor.mantissa.size();
    const bool second = step.direction == optc_direction::normalised;
    const bool first = !state.first_moment.empty();
    optc_spare& spare = state.spare;

    const std::int16_t* const weights = tensor.mantissa.data();
    const std::int32_t* const moments = state.first_moment.data();
    const std::int16_t* const squares = state.second_moment.data();
    const std::int8_t* const square_exponents = state.second_moment_exponent.data();
    const auto load = [&](const optc_part& part, optc_lanes& l) {
        part.load(tensor.gradient.data(), l.sum);
        part.load(weights, l.weight);
        if (first) part.load(moments, l.first);
        if (second) {
            part.load(squares, l.second);
            part.load(square_exponents, l.second_exponent);
        }
    };
    const auto at = [&](stream use) { return random_site{site.seed, site.step, site.layer, use}; };
    const auto draw = [&](const optc_part& part, optc_lanes& l, stream use) {
        fill_random_16(isa, at(use), 0, part.begin, std::span<std::uint16_t>(l.draw));
    };

    const auto scan = [&](const optc_part& part, optc_lanes&, optc_maxima& m) {
        const auto largest = [&](const auto* x) {
            return largest_magnitude(isa, x + part.begin, static_cast<std::int64_t>(part.count));
        };
        m.add({largest(tensor.gradient.data()), largest(weights), first ? largest(moments) : 0});
    };
    const auto write = [&](const optc_plan& plan, const optc_part& part, optc_lanes& l, optc_found& f) {
#if LAMELLA_X86
        if (isa == path::avx512 && part.count == optc_block && is_plain_momentum(plan)) {
            const random_site weight_site = at(site.bias ? stream::master_bias : stream::master_weight);
            const random_site first_site = at(site.bias ? stream::bias_first_moment : stream::first_moment);
            fill_random_16(isa, weight_site, 0, part.begin, std::span<std::uint16_t>(l.draw));
            fill_random_16(isa, first_site, 0, part.begin, std::span<std::uint16_t>(l.first_draw));
            const auto step_block = has_exact_mean(plan) ? optc_momentum_avx512<true> : optc_momentum_avx512<false>;
            step_block(plan, tensor.gradient.data() + part.begin, weights + part.begin, moments + part.begin, l.draw,
                       l.first_draw, spare.mantissa.data() + part.begin, spare.first_moment.data() + part.begin, f);
            return;
        }
#endif
        load(part, l);
        optc_compute(isa, plan, l, f);
        draw(part, l, site.bias ? stream::master_bias : stream::master_weight);
        optc_write_weight(isa, plan.weight_write, l, f);
        part.store(l.weight, spare.mantissa.data());
        if (first) {
            draw(part, l, site.bias ? stream::bias_first_moment : stream::first_moment);
            optc_write_first(isa, plan.first_write, l, f);
            part.store(l.first, spare.first_moment.data());
        }
        if (second) {
            draw(part, l, site.bias ? stream::bias_second_moment : stream::second_moment);
            optc_write_second(isa, l, f);
            part.store(l.second, spare.second_moment.data());
            part.store(l.second_exponent, spare.second_moment_exponent.data());
        }
    };

    optc_saturations cut;
    optc_plan plan = plan_step(step, tensor, for_parts<optc_maxima>(n, optc_scan_part, threads, scan), cut);
    plan.weight_write = expect_write(tensor.exponent, plan.fresh_exponent);
    if (first) plan.first_write = expect_write(state.first_exponent, plan.moment_exponent);
    for (bool right = false; !right;) {
        const optc_found found = for_parts<optc_found>(
            n, optc_block, threads,
            [&](const optc_part& part, optc_lanes& l, optc_found& f) { write(plan, part, l, f); });
        const optc_plan tried = plan;
        plan.weight_write = plan_write(found.fresh, plan.fresh_exponent, optc_weight_width);
        if (first) plan.first_write = plan_write(found.moment, plan.moment_exponent, optc_moment_width);
        right = plan.weight_write == tried.weight_write && plan.first_write == tried.first_write;
        if (right) cut.add({0, found.updates, found.first_moments, found.second_moments, found.weights});
    }

    std::swap(tensor.mantissa, spare.mantissa);
    tensor.exponent = plan.weight_write.exponent;
    if (first) {
        std::swap(state.first_moment, spare.first_moment);
        state.first_exponent = plan.first_write.exponent;
    }
    if (second) {
        std::swap(state.second_moment, spare.second_moment);
        std::swap(state.second_moment_exponent, spare.second_moment_exponent);
    }
    return cut;
}

}  // namespace lamella::accelerator
