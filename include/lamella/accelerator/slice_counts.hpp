// Slice products of a whole training run: what a dense machine and what the zero-skipping one would have issued, from
// the real data of every step, per plane pair too. Equal, number for number, to count_by_definition (counting.hpp), at
// two to three percent of a training step (tests/slice_counts_test.cpp, bench/emulator; how: slice_plan.hpp).
// The counting rule is a reconstruction: counting.hpp says what is sourced.
//
//   accelerator::slice_counts counts(slice::encoding::sign_magnitude, best_path(), net.products());
//   net.observe(counts);
//   ... train ...
//   counts.total().issued, counts.total(stage::error_propagation).dense16, counts.at(layer, stage::feed_forward) ...
//
// Memory is taken when an event's shape (layer, stage, samples) is seen for the first time, never afterwards.
// Relies on what a training step does: an operand that a layer keeps from its FF to its WG, or from its WG to its EP,
// does not change in between and is counted once.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "../core/memory.hpp"
#include "../core/state.hpp"
#include "../slice/counts.hpp"
#include "counting.hpp"
#include "slice_kernels.hpp"
#include "slice_plan.hpp"

namespace lamella::accelerator {

class slice_counts final : public gemm::observer {
  public:
    static constexpr int stages = 3;  // FF, EP, WG
    static constexpr int roles = 3;   // activation, weight, error

    // `layers`: those with a GEMM, network.products(). Others are added as they are seen, but a checkpoint can only be
    // read by an object that has as many layers as the one that was written.
    explicit slice_counts(slice::encoding digits, path isa = best_path(), int layers = 0) : digits_(digits), isa_(isa) {
        grow(layers);
    }

    void on_gemm(const gemm::gemm_event& event) override {
        grow(event.layer + 1);
        layer_state& layer = layers_[static_cast<std::size_t>(event.layer)];
        if (!event.probe && event.where == stage::feed_forward)
            for (held& h : layer.operands) h.valid = false;
        if (!event.probe && event.where == stage::weight_gradient) layer.operands[index(role::error)].valid = false;

        const auto [plan_at, fresh] = plan_of(layer, event);
        const detail::event_plan& plan = *plan_at;
        held& a = operand_of(layer, event, event.a, probe_a_);
        held& b = operand_of(layer, event, event.b, probe_b_);
        count(a, event, event.a, plan.a, plan.a.times.empty() ? 0 : plan.a.period, plan.a.repeats);
        count(b, event, event.b, plan.b, plan.b.times.empty() ? 0 : plan.b.period, plan.b.repeats);

        last_.a = slices_of(event.a, plan.a, a);
        last_.b = slices_of(event.b, plan.b, b);
        last_.a_streams = left_streams(last_.a, last_.b);
        const gemm::operand_view& other = last_.a_streams ? event.b.view : event.a.view;
        by_plane streamed{};  // non-zero slices x outputs
        if (event.gate == nullptr) {
            streamed = last_.a_streams ? weighted(a, plan.a) : weighted(b, plan.b);
        } else {  // the first time both ways, so that both have their memory
            if (fresh || !last_.a_streams) streamed = weights_stream(event, plan, b);
            if (fresh || last_.a_streams) {
                const by_plane errors = plan.gate.single   ? single_errors_stream(event, plan)
                                        : plan.gate.narrow ? errors_stream(event, plan, narrow_)
                                                           : errors_stream(event, plan, wide_);
                if (last_.a_streams) streamed = errors;
            }
        }
        last_.pairs = {};
        plane_pairs& all_pairs = pairs_[row(event.layer, event.where)];
        const auto other_slices = static_cast<std::size_t>(slice::slice_count(digits_, other.width));
        std::uint64_t issued = 0;
        for (std::size_t p = 0; p < streamed.size(); ++p)
            for (std::size_t q = 0; q < other_slices && streamed[p] != 0; ++q) {
                const std::size_t i = last_.a_streams ? p : q, j = last_.a_streams ? q : p;
                last_.pairs[i][j] = streamed[p];
                all_pairs[i][j] += streamed[p];
                issued += streamed[p];
            }
        last_.counts = tally(event, digits_, issued);
        last_event_ = &event;
        totals_[row(event.layer, event.where)] += last_.counts;
        if (event.probe) return;
        layer.left_streams[index(event.where)] = last_.a_streams;
        if (event.where == stage::feed_forward) {
            shares_[row(event.layer, role::activation)] += last_.a;
            shares_[row(event.layer, role::weight)] += last_.b;
        } else if (event.where == stage::weight_gradient) {
            shares_[row(event.layer, role::error)] += last_.a;
        }
    }

    int layers() const noexcept { return static_cast<int>(layers_.size()); }
    const stage_counts& at(int layer, stage where) const { return totals_.at(row(layer, where)); }
    stage_counts total(stage where) const {
        stage_counts sum;
        for (int layer = 0; layer < layers(); ++layer) sum += at(layer, where);
        return sum;
    }
    stage_counts total() const {
        stage_counts sum;
        for (const stage_counts& counts : totals_) sum += counts;
        return sum;
    }
    // `issued` of each plane pair.
    const plane_pairs& pairs(int layer, stage where) const { return pairs_.at(row(layer, where)); }
    plane_pairs pairs(stage where) const {
        plane_pairs all{};
        for (int layer = 0; layer < layers(); ++layer) add_to(all, pairs(layer, where));
        return all;
    }
    // Slices of a layer's operand over all steps, each mantissa once a step: A and W as FF read them, E as WG did.
    const operand_slices& share(int layer, role what) const { return shares_.at(row(layer, what)); }
    // Which operand streamed when this layer's stage last ran in training: the left one (A in FF, E in EP and WG)?
    bool left_operand_streams(int layer, stage where) const {
        return layers_.at(static_cast<std::size_t>(layer)).left_streams[index(where)];
    }
    // The event seen last.
    const event_counts& last() const noexcept { return last_; }
    // The same for an observer that is being told of `event` itself. Throws unless this one has been told before.
    const event_counts& of(const gemm::gemm_event& event) const {
        if (&event != last_event_)
            throw argument_error("observers", "slice_counts in front of those that read it", "another order");
        return last_;
    }
    slice::encoding digits() const noexcept { return digits_; }

    void reset() {
        totals_.assign(totals_.size(), {});
        pairs_.assign(pairs_.size(), {});
        shares_.assign(shares_.size(), {});
        last_ = {};
    }
    // The totals, so that a resumed run goes on with them.
    void visit(state_visitor& visitor) {
        constexpr std::size_t columns = (6 + slice::max_slices * slice::max_slices) * stages + 2 * roles;
        const auto rows = static_cast<std::size_t>(layers());
        std::vector<std::uint64_t> values(rows * columns);
        const auto each = [&](auto&& exchange) {
            std::uint64_t* at = values.data();
            for (std::size_t layer = 0; layer < rows; ++layer) {
                for (std::size_t s = 0; s < stages; ++s) {
                    stage_counts& c = totals_[layer * stages + s];
                    for (std::uint64_t* field : {&c.macs, &c.dense16, &c.dense, &c.issued, &c.probe, &c.width_macs})
                        exchange(*field, *at++);
                    for (auto& planes : pairs_[layer * stages + s])
                        for (std::uint64_t& n : planes) exchange(n, *at++);
                }
                for (std::size_t r = 0; r < roles; ++r) {
                    operand_slices& s = shares_[layer * roles + r];
                    for (std::uint64_t* field : {&s.zero, &s.all}) exchange(*field, *at++);
                }
            }
        };
        each([](std::uint64_t& own, std::uint64_t& seen) { seen = own; });
        const std::size_t shape[2] = {rows, columns};
        visitor.tensor("totals", state_kind::state, shape, integer_span(std::span<std::uint64_t>(values)), 0, nullptr);
        each([](std::uint64_t& own, std::uint64_t& seen) { own = seen; });
    }

  private:
    using by_plane = std::array<std::uint64_t, slice::max_slices>;
    // Non-zero slices of one operand, and of each place in its blocks when asked for.
    struct held {
        bool valid = false;
        const void* data = nullptr;
        std::uint64_t step = 0;
        int width = 0;
        by_plane nonzero{};
        std::int64_t period = 0, pitch = 0;
        buffer<std::uint32_t> places;  // [plane][place]
        const std::uint32_t* at(std::size_t plane) const noexcept { return places.data() + static_cast<std::int64_t>(plane) * pitch; }
        std::uint32_t* at(std::size_t plane) noexcept { return places.data() + static_cast<std::int64_t>(plane) * pitch; }
    };
    struct layer_state {
        std::array<held, roles> operands;
        std::array<bool, stages> left_streams{true, true, true};
        std::array<std::vector<detail::event_plan>, stages> plans;
    };

    static std::size_t index(stage s) noexcept { return static_cast<std::size_t>(s); }
    static std::size_t index(role r) noexcept { return static_cast<std::size_t>(r); }
    static std::size_t row(int layer, stage s) noexcept { return static_cast<std::size_t>(layer) * stages + index(s); }
    static std::size_t row(int layer, role r) noexcept { return static_cast<std::size_t>(layer) * roles + index(r); }

    void grow(int layers) {
        const auto count = static_cast<std::size_t>(layers);
        if (count <= layers_.size()) return;
        layers_.resize(count);
        totals_.resize(count * stages);
        pairs_.resize(count * stages);
        shares_.resize(count * roles);
    }

    // And whether it is new.
    static std::pair<const detail::event_plan*, bool> plan_of(layer_state& layer, const gemm::gemm_event& event) {
        const detail::event_plan::shape key = detail::event_plan::shape_of(event);
        std::vector<detail::event_plan>& plans = layer.plans[index(event.where)];
        for (const detail::event_plan& plan : plans)
            if (plan.fits(key)) return {&plan, false};
        return {&plans.emplace_back(event, key), true};
    }

    // A probe's own operands are not what the layer keeps.
    static held& operand_of(layer_state& layer, const gemm::gemm_event& event, const gemm::event_operand& o, held& own) {
        held& kept = layer.operands[index(o.what)];
        if (!event.probe || same(kept, event, o)) return kept;
        own.valid = false;
        return own;
    }
    static bool same(const held& h, const gemm::gemm_event& event, const gemm::event_operand& o) noexcept {
        return h.valid && h.data == o.stored.data && h.width == o.view.width && h.step == event.step;
    }

    // Calls action(used, plane, first mantissa) for every plane, mantissas int8 or int16.
    template <class Action>
    void for_each_plane(const gemm::event_operand& o, Action&& action) const {
        const auto with = [&]<class Mantissa>(const Mantissa* from) {
            slice::detail::for_each_plane<Mantissa>(digits_, o.view.width,
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
    static void for_each_run(const gemm::gemm_event& event, const gemm::event_operand& o, Action&& action) {
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

    // A period of 0 asks for the sums alone.
    void count(held& h, const gemm::gemm_event& event, const gemm::event_operand& o, const detail::operand_plan& plan,
               std::int64_t period, std::int64_t repeats) {
        if (same(h, event, o) && (period == 0 || h.period == period)) return;
        h.valid = true;
        h.data = o.stored.data;
        h.step = event.step;
        h.width = o.view.width;
        h.period = period;
        h.nonzero.fill(0);
        if (period != 0) {
            h.pitch = (period + 63) / 64 * 64;
            h.places.resize(static_cast<std::size_t>(h.pitch * slice::slice_count(digits_, max_width)));
            std::fill_n(h.places.data(), h.pitch * slice::slice_count(digits_, o.view.width), 0u);
        }
        const gemm::stored_images& s = o.stored;
        for_each_plane(o, [&]<class Mantissa>(auto used, std::size_t plane, const Mantissa* from) {
            std::uint64_t& sum = h.nonzero[plane];
            const bool zeros_behind = (s.left + s.right) * s.channels * static_cast<std::int64_t>(sizeof(Mantissa)) >= 63 && s.bottom > 0;
            for_each_run(event, o, [&](std::int64_t first, std::int64_t samples) {
                const Mantissa* const image = from + first * s.image();
                if (period != 0) {
                    detail::sum_blocks(isa_, used, image, period, repeats / s.samples * samples, h.at(plane), sum);
                } else if (plan.length == s.image()) {
                    sum += slice::used_digits(used, image, samples * s.image(), isa_);
                } else {
                    for (std::int64_t i = 0; i < samples; ++i) {
                        const Mantissa* const begin = image + i * s.image() + plan.first;
                        if (zeros_behind)
                            detail::sum_image(isa_, used, begin, s.height, s.width * s.channels, s.row(), sum);
                        else
                            sum += slice::used_digits(used, begin, plan.length, isa_);
                    }
                }
            });
        });
    }

    operand_slices slices_of(const gemm::event_operand& o, const detail::operand_plan& plan, const held& h) const {
        const auto all = static_cast<std::uint64_t>(plan.elements * slice::slice_count(digits_, o.view.width));
        return {std::accumulate(h.nonzero.begin(), h.nonzero.end(), all, std::minus<>()), all};
    }

    by_plane weighted(const held& h, const detail::operand_plan& plan) const {
        by_plane sums{};
        const auto planes = static_cast<std::size_t>(slice::slice_count(digits_, h.width));
        for (std::size_t p = 0; p < planes; ++p)
            if (plan.times.empty())
                sums[p] = h.nonzero[p] * plan.factor;
            else
                sums[p] = plan.factor * detail::weighted_sum(isa_, h.at(p), plan.times);
        return sums;
    }

    // Which outputs of `count` samples are alive: bytes 0 or 1, samples x positions x columns.
    void list_alive(const gemm::gemm_event& event, const detail::gate_plan& gate, std::int64_t first,
                    std::int64_t count, std::uint8_t* to) {
        const std::int64_t outputs = gate.positions * gate.columns;
        const std::int32_t* from = event.gate + first * gate.gate_image;
        if (gate.gate_rows.size() == 1 && gate.gate_image == outputs)
            return detail::list_positive_values(isa_, from, count * outputs, to);
        for (std::int64_t i = 0; i < count; ++i, from += gate.gate_image, to += outputs)
            for (const detail::run& r : gate.gate_rows)
                detail::list_positive_values(isa_, from + r.to, r.count * gate.columns, to + r.from * gate.columns);
    }

    // Where a sample has one row (a linear layer): non-zero slices of each sample x its live outputs.
    by_plane single_errors_stream(const gemm::gemm_event& event, const detail::event_plan& plan) const {
        const detail::gate_plan& gate = plan.gate;
        const std::int64_t image = event.a.stored.image();
        by_plane sums{};
        const auto add_sample = [&](std::int64_t sample) {
            std::uint64_t alive = 0;
            detail::count_positive(isa_, event.gate + sample * gate.gate_image, gate.columns, alive);
            if (alive == 0) return;
            for_each_plane(event.a, [&](auto used, std::size_t plane, const auto* mantissas) {
                sums[plane] += alive * slice::used_digits(used, mantissas + sample * image, image, isa_);
            });
        };
        if (event.active != nullptr)
            for (const std::int64_t sample : *event.active) add_sample(sample);
        else
            for (std::int64_t sample = 0; sample < event.samples; ++sample) add_sample(sample);
        return sums;
    }

    // sum over pixels of non-zero slices of the pixel x live outputs of the rows that read it, a group of samples at a time:
    // live outputs of each row where the row's first pixel is, their sums over taps, dot product with the slices of each
    // pixel. Samples whose error is zero are left out.
    template <class Sum>
    by_plane errors_stream(const gemm::gemm_event& event, const detail::event_plan& plan,
                           std::array<buffer<Sum>, 5>& scratch) {
        const detail::gate_plan& gate = plan.gate;
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
            list_rows_alive(event, gate, first, here, alive);

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
                detail::add_shifted(isa_, met, std::max(from, low), std::min(to, high), gate.taps[level],
                                    -gate.shift[level], level_sums(level));
                met = level_sums(level);
            }
            for_each_plane(event.a, [&](auto used, std::size_t plane, const auto* mantissas) {
                list_pixels(used, mantissas, s, plan.a, gate, first, here, pixels);
                detail::add_products(isa_, pixels, met, first_pixel, last_pixel, sums[plane]);
            });
        };
        for_each_run(event, event.a, [&](std::int64_t first, std::int64_t samples) {
            for (std::int64_t i = 0; i < samples; i += gate.group) count_group(first + i, std::min(gate.group, samples - i));
        });
        return sums;
    }
    // Used digits of each pixel of `count` samples; pixels of the border stay as they are.
    template <class Used, class Mantissa, class Sum>
    void list_pixels(Used used, const Mantissa* from, const gemm::stored_images& s, const detail::operand_plan& plan,
                     const detail::gate_plan& gate, std::int64_t first, std::int64_t count, Sum* to) {
        const bool bordered = plan.length != s.image();
        const std::int64_t height = bordered ? s.height : 1, length = bordered ? s.width * s.channels : count * s.image();
        for (std::int64_t i = 0; i < count; ++i) {
            std::uint8_t* const bytes = bytes_.data() + (bordered ? 0 : i * s.image());
            if (i == 0 || bordered)
                detail::list_rows(isa_, used, from + (first + i) * s.image() + plan.first, height, length, s.row(), bytes);
            detail::sum_rows(bytes, gate.stored, gate.unit, to + i * gate.pixels);
        }
    }
    // Outputs that are alive, at the first pixel of each row of `count` samples.
    template <class Sum>
    void list_rows_alive(const gemm::gemm_event& event, const detail::gate_plan& gate, std::int64_t first,
                         std::int64_t count, Sum* to) {
        const std::int64_t outputs = gate.positions * gate.columns;
        list_alive(event, gate, first, count, bytes_.data());
        for (std::int64_t i = 0; i < count; ++i)
            detail::sum_rows(bytes_.data() + i * outputs, gate.rows, gate.columns, to + i * gate.pixels);
    }

    // sum over weights (n, k) of non-zero slices x outputs of column n that are alive and meet no padding at k.
    by_plane weights_stream(const gemm::gemm_event& event, const detail::event_plan& plan, held& b) {
        const detail::gate_plan& gate = plan.gate;
        count(b, event, event.b, plan.b, gate.period, gate.repeats);
        const std::int64_t outputs = gate.positions * gate.columns;
        const std::int64_t padded = outputs + gate.columns + 16;
        bytes_.resize(static_cast<std::size_t>(padded));
        above_.resize(static_cast<std::size_t>(padded));
        bytes_.fill_zero();
        above_.fill_zero();
        std::uint32_t* const above = above_.data() + gate.columns;  // of position p: alive outputs above p, by column
        for (std::int64_t i = 0; i < event.samples; ++i) {
            list_alive(event, gate, i, 1, bytes_.data());
            detail::add_bytes(isa_, bytes_.data(), outputs, above);
        }
        for (std::int64_t i = 0; i < outputs; ++i) above[i] += above[i - gate.columns];

        const std::size_t taps = gate.valid.size() - 1;
        const auto planes = static_cast<std::size_t>(slice::slice_count(digits_, b.width));
        by_plane sums{};
        const std::int64_t* place = gate.column.data();
        for (std::size_t t = 0; t < taps; ++t)
            for (std::int64_t d = 0; d < gate.depths_a_tap; ++d)
                for (std::int64_t n = 0; n < gate.columns; ++n, ++place) {
                    std::uint64_t alive = 0;
                    for (std::int64_t r = gate.valid[t]; r < gate.valid[t + 1]; ++r) {
                        const detail::run& rows = gate.valid_rows[static_cast<std::size_t>(r)];
                        alive += above_[static_cast<std::size_t>((rows.from + rows.count) * gate.columns + n)] -
                                 above_[static_cast<std::size_t>(rows.from * gate.columns + n)];
                    }
                    for (std::size_t p = 0; p < planes; ++p) sums[p] += alive * b.at(p)[*place];
                }
        return sums;
    }

    slice::encoding digits_;
    path isa_;
    std::vector<layer_state> layers_;
    std::vector<stage_counts> totals_;    // [layer][stage]
    std::vector<plane_pairs> pairs_;      // [layer][stage]
    std::vector<operand_slices> shares_;  // [layer][role]
    event_counts last_;
    const gemm::gemm_event* last_event_ = nullptr;  // compared, never read
    held probe_a_, probe_b_;
    buffer<std::uint8_t> bytes_;
    buffer<std::uint32_t> above_;
    std::array<buffer<std::uint16_t>, 5> narrow_;
    std::array<buffer<std::uint32_t>, 5> wide_;
};

}  // namespace lamella::accelerator
