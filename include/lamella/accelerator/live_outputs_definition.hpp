// The sums of live_outputs.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "../core/memory.hpp"
#include "../slice/counts.hpp"
#include "counted_operand_definition.hpp"
#include "live_outputs.hpp"
#include "slice_kernels.hpp"
#include "slice_plan.hpp"

namespace lamella::accelerator::detail {

LAMELLA_ONCE by_plane live_outputs::errors_stream(const gemm::gemm_event& event, const event_plan& plan,
                                                  slice::encoding digits, path isa) {
    if (plan.gate.single) return single_errors_stream(event, plan.gate, digits, isa);
    return plan.gate.narrow ? pixels_stream(event, plan, digits, isa, narrow_)
                            : pixels_stream(event, plan, digits, isa, wide_);
}

LAMELLA_ONCE by_plane live_outputs::weights_stream(const gemm::gemm_event& event, const gate_plan& gate,
                                                   const counted_operand& b, path isa) {
    const std::int64_t outputs = gate.positions * gate.columns;
    const std::int64_t padded = outputs + gate.columns + 16;
    bytes_.resize(static_cast<std::size_t>(padded));
    above_.resize(static_cast<std::size_t>(padded));
    bytes_.fill_zero();
    above_.fill_zero();
    std::uint32_t* const above = above_.data() + gate.columns;  // of position p: alive outputs above p, by column
    for (std::int64_t i = 0; i < event.samples; ++i) {
        list_alive(event, gate, i, 1, isa, bytes_.data());
        add_bytes(isa, bytes_.data(), outputs, above);
    }
    for (std::int64_t i = 0; i < outputs; ++i) above[i] += above[i - gate.columns];

    const std::size_t taps = gate.valid.size() - 1;
    by_plane sums{};
    const std::int64_t* place = gate.column.data();
    for (std::size_t t = 0; t < taps; ++t)
        for (std::int64_t d = 0; d < gate.depths_a_tap; ++d)
            for (std::int64_t n = 0; n < gate.columns; ++n, ++place) {
                std::uint64_t alive = 0;
                for (std::int64_t r = gate.valid[t]; r < gate.valid[t + 1]; ++r) {
                    const run& rows = gate.valid_rows[static_cast<std::size_t>(r)];
                    alive += above_[static_cast<std::size_t>((rows.from + rows.count) * gate.columns + n)] -
                             above_[static_cast<std::size_t>(rows.from * gate.columns + n)];
                }
                for (std::size_t p = 0; p < b.planes(); ++p) sums[p] += alive * b.places(p)[*place];
            }
    return sums;
}

LAMELLA_ONCE by_plane live_outputs::single_errors_stream(const gemm::gemm_event& event, const gate_plan& gate,
                                                         slice::encoding digits, path isa) {
    const std::int64_t image = event.a.stored.image();
    by_plane sums{};
    const auto add_sample = [&](std::int64_t sample) {
        std::uint64_t alive = 0;
        count_positive(isa, event.gate + sample * gate.gate_image, gate.columns, alive);
        if (alive == 0) return;
        for_each_plane(digits, event.a, [&](auto used, std::size_t plane, const auto* mantissas) {
            sums[plane] += alive * slice::used_digits(used, mantissas + sample * image, image, isa);
        });
    };
    if (event.active != nullptr)
        for (const std::int64_t sample : *event.active) add_sample(sample);
    else
        for (std::int64_t sample = 0; sample < event.samples; ++sample) add_sample(sample);
    return sums;
}

template <class Sum>
by_plane live_outputs::pixels_stream(const gemm::gemm_event& event, const event_plan& plan, slice::encoding digits,
                                     path isa, std::array<buffer<Sum>, 5>& scratch) {
    const gate_plan& gate = plan.gate;
    const std::int64_t unit = gate.unit;
    for (buffer<Sum>& b : scratch) {
        b.resize(static_cast<std::size_t>(2 * gate.margin + gate.group * gate.pixels));
        b.fill_zero();
    }
    const gemm::stored_images& s = event.a.stored;
    bytes_.resize(static_cast<std::size_t>(gate.group * std::max(s.image(), gate.positions * gate.columns) + 128));
    const auto level_sums = [&](std::size_t level) { return scratch[level].data() + gate.margin; };
    Sum *const pixels = level_sums(3), *const alive = level_sums(4);
    by_plane sums{};
    const auto count_group = [&](std::int64_t first, std::int64_t here) {
        if (here < gate.group)
            for (buffer<Sum>& b : scratch) b.fill_zero();  // of the group before
        list_rows_alive(event, gate, first, here, isa, alive);

        // `from`, `to`: where sums may differ from zero. Of these, those that a pixel still needs are computed.
        const std::int64_t first_pixel = plan.a.first / unit;
        const std::int64_t last_pixel = (here - 1) * gate.pixels + (plan.a.first + plan.a.length) / unit;
        std::int64_t from = gate.lowest, to = (here - 1) * gate.pixels + gate.highest + 1;
        std::int64_t low = first_pixel, high = last_pixel;
        std::array<std::int64_t, 3> reach;
        for (std::size_t level = 0; level < 3; ++level) {
            reach[level] = (gate.taps[level] - 1) * -gate.shift[level];
            (reach[level] < 0 ? low : high) += reach[level];
        }
        const Sum* met = alive;
        for (std::size_t level = 3; level-- > 0;) {
            if (gate.taps[level] == 1) continue;
            (reach[level] < 0 ? to : from) -= reach[level];
            (reach[level] < 0 ? low : high) -= reach[level];
            add_shifted(isa, met, std::max(from, low), std::min(to, high), gate.taps[level], -gate.shift[level],
                        level_sums(level));
            met = level_sums(level);
        }
        for_each_plane(digits, event.a, [&](auto used, std::size_t plane, const auto* mantissas) {
            list_pixels(used, mantissas, s, plan.a, gate, first, here, isa, pixels);
            add_products(isa, pixels, met, first_pixel, last_pixel, sums[plane]);
        });
    };
    for_each_run(event, event.a, [&](std::int64_t first, std::int64_t samples) {
        for (std::int64_t i = 0; i < samples; i += gate.group)
            count_group(first + i, std::min(gate.group, samples - i));
    });
    return sums;
}

template <class Used, class Mantissa, class Sum>
void live_outputs::list_pixels(Used used, const Mantissa* from, const gemm::stored_images& s, const operand_plan& plan,
                               const gate_plan& gate, std::int64_t first, std::int64_t count, path isa, Sum* to) {
    const bool bordered = plan.length != s.image();
    const std::int64_t height = bordered ? s.height : 1, length = bordered ? s.width * s.channels : count * s.image();
    for (std::int64_t i = 0; i < count; ++i) {
        std::uint8_t* const bytes = bytes_.data() + (bordered ? 0 : i * s.image());
        if (i == 0 || bordered)
            list_rows(isa, used, from + (first + i) * s.image() + plan.first, height, length, s.row(), bytes);
        sum_rows(bytes, gate.stored, gate.unit, to + i * gate.pixels);
    }
}

template <class Sum>
void live_outputs::list_rows_alive(const gemm::gemm_event& event, const gate_plan& gate, std::int64_t first,
                                   std::int64_t count, path isa, Sum* to) {
    const std::int64_t outputs = gate.positions * gate.columns;
    list_alive(event, gate, first, count, isa, bytes_.data());
    for (std::int64_t i = 0; i < count; ++i)
        sum_rows(bytes_.data() + i * outputs, gate.rows, gate.columns, to + i * gate.pixels);
}

LAMELLA_ONCE void live_outputs::list_alive(const gemm::gemm_event& event, const gate_plan& gate, std::int64_t first,
                                           std::int64_t count, path isa, std::uint8_t* to) {
    const std::int64_t outputs = gate.positions * gate.columns;
    const std::int32_t* from = event.gate + first * gate.gate_image;
    if (gate.gate_rows.size() == 1 && gate.gate_image == outputs)
        return list_positive_values(isa, from, count * outputs, to);
    for (std::int64_t i = 0; i < count; ++i, from += gate.gate_image, to += outputs)
        for (const run& r : gate.gate_rows)
            list_positive_values(isa, from + r.to, r.count * gate.columns, to + r.from * gate.columns);
}

}  // namespace lamella::accelerator::detail
