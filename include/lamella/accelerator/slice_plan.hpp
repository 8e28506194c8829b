// What slice_counts.hpp needs to know of a GEMM's shape, worked out once and kept: how often each stored mantissa is
// used, and where an output's operands lie. Every sample of a batch has the same geometry, so one sample is enough.
//
//   used(a, e) = sum over (m, k) that read element e of [rows n of b whose element (n, k) is no padding]
//
// and the same with a and b exchanged; slices issued = sum over e of non-zero slices(e) x used(e) x slices of the other
// operand. Events with a gate need the outputs of each row instead: see gate_plan.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "../gemm/event.hpp"
#include "counting.hpp"
#include "slice_kernels.hpp"

namespace lamella::accelerator::detail {

// One operand's stored mantissas as `repeats` blocks of `period` elements; element i of any block is used factor x
// times[i] times, or every mantissa `factor` times when `times` is empty.
struct operand_plan {
    std::int64_t elements = 0;           // without the border
    std::int64_t first = 0, length = 0;  // of an image, from its first to its last element that is no padding
    std::uint64_t factor = 0;
    std::int64_t period = 0, repeats = 0;
    std::vector<std::uint32_t> times;
};

// EP whose outputs may be dead. Positions are the rows of one sample; a tap is a group of depths that read one pixel of
// the error; pixels of `unit` elements are counted within one stored image.
struct gate_plan {
    std::int64_t positions = 0, columns = 0;
    std::vector<run> gate_rows;         // positions whose gates are contiguous: offset, first position, positions
    std::int64_t gate_image = 0;        // from a sample's gates to the next one's
    bool single = false;                // one row a sample, which reads all of its error
    // The errors stream: a pixel's non-zero slices meet the live outputs of every row that reads it, a sum over taps,
    // each level one shifted sum over the rows' first pixels.
    std::int64_t unit = 1, pixels = 0;  // elements a pixel, pixels an image
    std::array<std::int64_t, 3> taps{}, shift{};
    std::int64_t margin = 0;            // pixels that the sums may look past an image's ends, a multiple of 64
    std::vector<run> stored;            // first pixel, first of the pixels without border, pixels
    std::vector<run> rows;              // neighbouring pixels: first pixel, first position, positions
    std::int64_t lowest = 0, highest = 0;  // pixels of the first and the last position
    std::int64_t group = 1;             // samples at once
    bool narrow = false;                // every sum fits 16 bits, and a group's sum of their products 32
    // The weights stream: depth d of b (one for each tap when a tap's depths share their block position).
    std::vector<std::int64_t> valid;    // first run of each tap, and the end
    std::vector<run> valid_rows;        // positions where the tap meets no padding: -, first position, positions
    std::int64_t depths_a_tap = 1;
    std::int64_t period = 0, repeats = 0;
    std::vector<std::int64_t> column;   // [depth][n]: position in the block
};

inline void append(std::vector<run>& runs, std::int64_t to, std::int64_t from, std::int64_t step) {
    if (!runs.empty()) {
        run& last = runs.back();
        if (last.from + last.count == from && last.to + last.count * step == to) {
            ++last.count;
            return;
        }
    }
    runs.push_back({to, from, 1});
}

class event_plan {
  public:
    // Everything that the plan depends on.
    using shape = std::array<std::int64_t, 51>;
    static shape shape_of(const gemm::gemm_event& event) noexcept {
        shape s;
        std::size_t at = 0;
        const auto put = [&](std::int64_t value) { s[at++] = value; };
        const auto put_axis = [&](const gemm::axis& x) {
            for (const std::int64_t v : x.extent) put(v);
            for (const std::int64_t v : x.stride) put(v);
        };
        for (const gemm::event_operand* o : {&event.a, &event.b}) {
            put_axis(o->view.rows);
            put_axis(o->view.depth);
            put(base_of(*o));
            for (const std::int64_t v : {o->stored.samples, o->stored.height, o->stored.width, o->stored.channels,
                                         o->stored.top, o->stored.bottom, o->stored.left, o->stored.right})
                put(v);
        }
        put_axis(event.gate != nullptr ? event.gate_rows : gemm::axis{});
        put(event.samples);
        put(event.where == stage::weight_gradient);
        put(event.gate != nullptr);
        return s;
    }

    // Throws argument_error when the event's samples do not lie one image after the other.
    event_plan(const gemm::gemm_event& event, const shape& key) : key_(key) {
        const gemm::operand_view &left = event.a.view, &right = event.b.view;
        const bool by_depth = event.where == stage::weight_gradient;  // samples are summed over
        const std::int64_t samples = event.samples;
        const std::int64_t sampled = by_depth ? left.depth.size() : left.rows.size();
        require(samples > 0 && sampled % samples == 0, sampled, samples);
        const std::int64_t rows = by_depth ? left.rows.size() : sampled / samples;
        const std::int64_t depths = by_depth ? sampled / samples : left.depth.size();
        for (const gemm::event_operand* o : {&event.a, &event.b}) {
            if (o == &event.b && !by_depth) continue;
            const gemm::axis& x = by_depth ? o->view.depth : o->view.rows;
            require(samples == 1 || x.offset(sampled / samples) == o->stored.image(), sampled, samples);
        }
        store(event.a, a);
        store(event.b, b);
        if (event.gate != nullptr) {
            plan_gate(event, rows);
            return;
        }
        const std::vector<std::uint64_t> left_rows = valid_rows(event.a, rows, depths);
        const std::vector<std::uint64_t> right_rows = valid_rows(event.b, right.rows.size(), depths);
        weigh(event.a, a, rows, right_rows, 1);
        weigh(event.b, b, right.rows.size(), left_rows, by_depth ? 1 : static_cast<std::uint64_t>(samples));
    }

    bool fits(const shape& key) const noexcept { return key_ == key; }

    operand_plan a, b;
    gate_plan gate;

  private:
    static void require(bool holds, std::int64_t rows, std::int64_t samples) {
        if (!holds)
            throw argument_error("gemm_event samples", "samples that lie one image after the other",
                                 std::to_string(samples) + " in " + std::to_string(rows) + " rows");
    }
    static std::vector<std::int64_t> offsets(const gemm::axis& x, std::int64_t count, std::int64_t base) {
        std::vector<std::int64_t> at(static_cast<std::size_t>(count));
        for (std::int64_t i = 0; i < count; ++i) at[static_cast<std::size_t>(i)] = base + x.offset(i);
        return at;
    }
    static bool bordered(const gemm::stored_images& s) noexcept { return s.top + s.bottom + s.left + s.right != 0; }

    static void store(const gemm::event_operand& o, operand_plan& plan) {
        const gemm::stored_images& s = o.stored;
        plan.elements = s.size();
        plan.first = s.top * s.row() + s.left * s.channels;
        plan.length = (s.height - 1) * s.row() + s.width * s.channels;
        plan.period = s.image();
        plan.repeats = s.samples;
    }

    // For each depth, the rows that meet no padding.
    static std::vector<std::uint64_t> valid_rows(const gemm::event_operand& o, std::int64_t rows, std::int64_t depths) {
        std::vector<std::uint64_t> count(static_cast<std::size_t>(depths), static_cast<std::uint64_t>(rows));
        if (!bordered(o.stored)) return count;
        const auto row_at = offsets(o.view.rows, rows, base_of(o));
        for (std::int64_t k = 0; k < depths; ++k) {
            const std::int64_t depth_at = o.view.depth.offset(k);
            std::uint64_t& valid = count[static_cast<std::size_t>(k)];
            valid = 0;
            for (const std::int64_t at : row_at) valid += inside(o.stored, at + depth_at);
        }
        return count;
    }

    static void weigh(const gemm::event_operand& o, operand_plan& plan, std::int64_t rows,
                      const std::vector<std::uint64_t>& partners, std::uint64_t scale) {
        std::vector<std::uint64_t> times(static_cast<std::size_t>(plan.period));
        const auto row_at = offsets(o.view.rows, rows, base_of(o));
        const auto depth_at = offsets(o.view.depth, static_cast<std::int64_t>(partners.size()), 0);
        for (const std::int64_t row : row_at)
            for (std::size_t k = 0; k < partners.size(); ++k)
                times[static_cast<std::size_t>(row + depth_at[k])] += partners[k] * scale;

        plan.factor = times[static_cast<std::size_t>(plan.first)];
        bool uniform = true;
        for (std::int64_t i = 0; i < plan.period; ++i)
            uniform = uniform && (!inside(o.stored, i) || times[static_cast<std::size_t>(i)] == plan.factor);
        if (uniform) return;
        // What all have in common comes out: what is left counts rows of one image and fits 32 bits.
        for (const std::uint64_t t : times) plan.factor = std::gcd(plan.factor, t);
        for (const std::uint64_t t : times) {
            if (t / plan.factor > ~std::uint32_t{0})
                throw argument_error("gemm_event", "fewer than 2^32 rows that use a mantissa",
                                     std::to_string(t / plan.factor));
            plan.times.push_back(static_cast<std::uint32_t>(t / plan.factor));
        }
        shorten(o, plan);
    }
    // Finds a shorter period of `times` among the view's strides (weights: every output channel has the same).
    static void shorten(const gemm::event_operand& o, operand_plan& plan) {
        std::vector<std::int64_t> candidates;
        for (const gemm::axis* x : {&o.view.rows, &o.view.depth})
            for (const std::int64_t stride : x->stride) candidates.push_back(std::abs(stride));
        std::sort(candidates.begin(), candidates.end());
        for (std::int64_t period : candidates) {
            if (period == 0 || plan.period % period != 0) continue;
            if (!std::equal(plan.times.begin() + period, plan.times.end(), plan.times.begin())) continue;
            while (period < 256 && plan.period % (2 * period) == 0) period *= 2;  // vector kernels like long blocks
            plan.repeats *= plan.period / period;
            plan.period = period;
            plan.times.resize(static_cast<std::size_t>(period));
            return;
        }
    }

    void plan_gate(const gemm::gemm_event& event, std::int64_t rows) {
        const gemm::operand_view &left = event.a.view, &right = event.b.view;
        const gemm::stored_images& s = event.a.stored;
        gate.positions = rows;
        gate.columns = right.rows.size();
        gate.gate_image = event.samples == 1 ? 0 : event.gate_rows.offset(rows);
        for (std::int64_t p = 0; p < rows; ++p) append(gate.gate_rows, event.gate_rows.offset(p), p, gate.columns);

        const std::int64_t base = base_of(event.a);
        gate.single = rows == 1 && left.depth.size() == s.image() && a.length == s.image();
        gate.unit = whole_pixels(event.a) ? s.channels : 1;
        gate.pixels = s.image() / gate.unit;
        for (std::size_t level = 0; level < 3; ++level) {
            gate.taps[level] = left.depth.extent[level];
            gate.shift[level] = left.depth.extent[level] == 1 ? 0 : left.depth.stride[level] / gate.unit;
        }
        if (gate.unit > 1) {  // the innermost level walks a pixel's elements
            gate.taps[2] /= gate.unit;
            gate.shift[2] = 1;
        }
        const std::int64_t width = s.width * s.channels / gate.unit;
        for (std::int64_t y = 0; y < s.height; ++y)
            for (std::int64_t x = 0; x < width; ++x)
                append(gate.stored, (a.first + y * s.row()) / gate.unit + x, y * width + x, 1);
        for (std::int64_t p = 0; p < rows; ++p) append(gate.rows, (base + left.rows.offset(p)) / gate.unit, p, 1);
        gate.lowest = gate.pixels;
        for (const run& r : gate.rows) {
            gate.lowest = std::min(gate.lowest, r.to);
            gate.highest = std::max(gate.highest, r.to + r.count - 1);
        }
        constexpr std::int64_t few_pixels = 256;  // below, calls would cost more than the work
        gate.group = std::min(event.samples, std::max<std::int64_t>(1, few_pixels / gate.pixels));

        const std::int64_t taps = left.depth.size() / gate.unit;
        for (std::size_t level = 0; level < 3; ++level)
            gate.margin += std::abs((gate.taps[level] - 1) * gate.shift[level]);
        gate.margin = (gate.margin + 127) / 64 * 64;
        const std::int64_t most_outputs = taps * gate.columns;  // of a pixel
        gate.narrow = most_outputs < 1 << 16 && gate.unit < 1 << 16 &&
                      most_outputs * gate.unit < (std::int64_t{1} << 32) / (gate.group * gate.pixels + 64);
        for (std::int64_t t = 0; t < taps; ++t) {
            gate.valid.push_back(static_cast<std::int64_t>(gate.valid_rows.size()));
            std::vector<run> valid;
            const std::int64_t tap = base + left.depth.offset(t * gate.unit);
            for (std::int64_t p = 0; p < rows; ++p)
                if (inside(s, tap + left.rows.offset(p))) append(valid, p, p, 1);
            gate.valid_rows.insert(gate.valid_rows.end(), valid.begin(), valid.end());
        }
        gate.valid.push_back(static_cast<std::int64_t>(gate.valid_rows.size()));

        const std::int64_t stride = std::abs(right.depth.stride[2]);  // from one error channel to the next
        const bool shared = gate.unit > 1 && gate.taps[2] == 1 && right.depth.extent[2] == gate.unit && stride > 0 &&
                            b.period % stride == 0;
        gate.period = shared ? stride : b.period;
        gate.repeats = b.repeats * (b.period / gate.period);
        gate.depths_a_tap = shared ? 1 : gate.unit;
        for (std::int64_t d = 0; d < taps * gate.depths_a_tap; ++d)
            for (std::int64_t n = 0; n < gate.columns; ++n)
                gate.column.push_back((base_of(event.b) + right.rows.offset(n) +
                                       right.depth.offset(d * (gate.unit / gate.depths_a_tap))) % gate.period);
    }
    // True when rows start at pixels and depths walk whole pixels.
    static bool whole_pixels(const gemm::event_operand& o) noexcept {
        const std::int64_t channels = o.stored.channels;
        const gemm::axis &rows = o.view.rows, &depth = o.view.depth;
        if (depth.stride[2] != 1 || depth.extent[2] % channels != 0 || base_of(o) % channels != 0) return false;
        for (std::size_t level = 0; level < 3; ++level) {
            if (rows.extent[level] > 1 && rows.stride[level] % channels != 0) return false;
            if (level < 2 && depth.extent[level] > 1 && depth.stride[level] % channels != 0) return false;
        }
        return true;
    }

    shape key_;
};

}  // namespace lamella::accelerator::detail
