// One step of one tensor: what optc_update of optc.hpp consists of.
//
// The exponents of the results follow from all of the results. So a pass takes it that the exponents stay, as they do
// in most steps, writes to spare memory, and is repeated with the right exponents if they moved.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "../core/config.hpp"
#include "../core/largest.hpp"
#include "../core/path.hpp"
#include "../core/quantise.hpp"
#include "../core/random.hpp"
#include "optc.hpp"
#include "optc_avx512.hpp"
#include "optc_lanes.hpp"
#include "optc_plan.hpp"

namespace lamella::accelerator {

namespace detail {

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

// See optc.hpp.
LAMELLA_ONCE optc_saturations optc_update(const optc_step& step, const optc_tensor& tensor, const optc_site& site,
                                          path isa, int threads) {
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
