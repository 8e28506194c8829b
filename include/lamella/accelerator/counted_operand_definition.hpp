// The passes over an operand's mantissas (counted_operand.hpp).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../gemm/event.hpp"
#include "../slice/counts.hpp"
#include "counted_operand.hpp"
#include "slice_kernels.hpp"
#include "slice_plan.hpp"

namespace lamella::accelerator::detail {

// Calls action(used, plane, first mantissa) for every plane, mantissas int8 or int16.
template <class Action>
void for_each_plane(slice::encoding digits, const gemm::event_operand& o, Action&& action) {
    const auto with = [&]<class Mantissa>(const Mantissa* from) {
        slice::detail::for_each_plane<Mantissa>(digits, o.view.width,
                                                [&](auto used, std::size_t plane) { action(used, plane, from); });
    };
    if (o.view.in_bytes())
        with(static_cast<const std::int8_t*>(o.stored.data));
    else
        with(static_cast<const std::int16_t*>(o.stored.data));
}

// Calls action(first, count) for runs of neighbouring samples; the others are nothing but zeros. Small images are not
// worth the calls.
template <class Action>
void for_each_run(const gemm::gemm_event& event, const gemm::event_operand& o, Action&& action) {
    constexpr std::int64_t small = 256;
    if (event.active == nullptr || &o != &event.a || o.stored.image() < small)
        return action(std::int64_t{0}, o.stored.samples);
    const std::vector<std::int64_t>& active = *event.active;
    for (std::size_t i = 0; i < active.size();) {
        std::size_t end = i + 1;
        while (end < active.size() && active[end] == active[end - 1] + 1) ++end;
        action(active[i], static_cast<std::int64_t>(end - i));
        i = end;
    }
}

LAMELLA_ONCE void counted_operand::count(const gemm::gemm_event& event, const gemm::event_operand& o,
                                         const operand_plan& plan, std::int64_t period, std::int64_t repeats,
                                         slice::encoding digits, path isa) {
    if (holds(event, o) && (period == 0 || period_ == period)) return;
    valid_ = true;
    data_ = o.stored.data;
    step_ = event.step;
    width_ = o.view.width;
    period_ = period;
    planes_ = static_cast<std::size_t>(slice::slice_count(digits, width_));
    nonzero_.fill(0);
    if (period == 0 && planes_ == 1 && o.nonzeros) {  // a mantissa is its only slice
        nonzero_[0] = *o.nonzeros;
        return;
    }
    if (period != 0) {
        pitch_ = (period + 63) / 64 * 64;
        places_.resize(static_cast<std::size_t>(pitch_ * slice::slice_count(digits, max_width)));
        std::fill_n(places_.data(), pitch_ * static_cast<std::int64_t>(planes_), 0u);
    }
    const gemm::stored_images& s = o.stored;
    for_each_plane(digits, o, [&]<class Mantissa>(auto used, std::size_t plane, const Mantissa* from) {
        std::uint64_t& sum = nonzero_[plane];
        const bool zeros_behind =
            (s.left + s.right) * s.channels * static_cast<std::int64_t>(sizeof(Mantissa)) >= 63 && s.bottom > 0;
        for_each_run(event, o, [&](std::int64_t first, std::int64_t samples) {
            const Mantissa* const image = from + first * s.image();
            if (period != 0) {
                sum_blocks(isa, used, image, period, repeats / s.samples * samples, places_.data() + at(plane), sum);
            } else if (plan.length == s.image()) {
                sum += slice::used_digits(used, image, samples * s.image(), isa);
            } else {
                for (std::int64_t i = 0; i < samples; ++i) {
                    const Mantissa* const begin = image + i * s.image() + plan.first;
                    if (zeros_behind)
                        sum_image(isa, used, begin, s.height, s.width * s.channels, s.row(), sum);
                    else
                        sum += slice::used_digits(used, begin, plan.length, isa);
                }
            }
        });
    });
}

LAMELLA_ONCE by_plane counted_operand::weighted(const operand_plan& plan, path isa) const {
    by_plane sums{};
    for (std::size_t p = 0; p < planes_; ++p)
        sums[p] = plan.factor * (plan.times.empty() ? nonzero_[p] : weighted_sum(isa, places(p), plan.times));
    return sums;
}

}  // namespace lamella::accelerator::detail
