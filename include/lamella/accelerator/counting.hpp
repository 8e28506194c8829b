// What is counted of a GEMM, and the plain loops that define it. Start here; slice_counts.hpp has the fast way to the
// same numbers.
//
// One product of two mantissas costs slices(a) x slices(b) slice products on a dense machine. The skipping machine is
// one-sided: one operand *streams*, its zero slices are never issued, and each of its non-zero slices meets every slice
// of the other operand (input skipping). An output that nothing needs (EP behind a ReLU that passes nothing) is never
// computed (output skipping). Zeros that stand for padding are no work: neither dense nor skipped.
// Sourced: zero-slice skipping "in-out" at slice level (IOSS core; see the README for the papers). That one operand
// streams a layer and stage, chosen from counts, is our reconstruction.
#pragma once

#include <array>
#include <cstdint>

#include "../gemm/event.hpp"
#include "../slice/encoding.hpp"

namespace lamella::accelerator {

// Sums over GEMMs, in slice products unless said otherwise. 64 bits hold a run of 5 x 10^17 multiply-accumulates.
struct stage_counts {
    std::uint64_t macs = 0;        // logical multiply-accumulates of training: no padding, no probes
    std::uint64_t dense16 = 0;     // 16 x macs: both operands of 16 bits, nothing skipped
    std::uint64_t dense = 0;       // slices(a) x slices(b) x macs: present widths, nothing skipped
    std::uint64_t issued = 0;      // what the skipping machine issues; probes included
    std::uint64_t probe = 0;       // the part of `issued` that is a controller's probes
    std::uint64_t width_macs = 0;  // sum of macs x (width of a + width of b), in bits

    friend bool operator==(const stage_counts&, const stage_counts&) = default;
    stage_counts& operator+=(const stage_counts& other) noexcept {
        macs += other.macs;
        dense16 += other.dense16;
        dense += other.dense;
        issued += other.issued;
        probe += other.probe;
        width_macs += other.width_macs;
        return *this;
    }
    // Mean over multiply-accumulates of the mean width of their two operands, in 2^-8 bits, rounded down; 0 without
    // any.
    std::uint64_t mean_width_256() const noexcept {
        const std::uint64_t whole = macs == 0 ? 0 : width_macs / macs;  // of both operands
        return macs == 0 ? 0 : whole * 128 + (width_macs - whole * macs) * 128 / macs;
    }
};

// Slice products of each plane pair: [plane of a][plane of b].
using plane_pairs = std::array<std::array<std::uint64_t, slice::max_slices>, slice::max_slices>;

// Adds plane pair by plane pair; the sum over all of them.
inline void add_to(plane_pairs& to, const plane_pairs& pairs) noexcept {
    for (std::size_t i = 0; i < pairs.size(); ++i)
        for (std::size_t j = 0; j < pairs.size(); ++j) to[i][j] += pairs[i][j];
}
inline std::uint64_t sum_of(const plane_pairs& pairs) noexcept {
    std::uint64_t all = 0;
    for (const auto& row : pairs)
        for (const std::uint64_t n : row) all += n;
    return all;
}

// Slices of an operand as stored, each mantissa once, its border of padding left out.
struct operand_slices {
    std::uint64_t zero = 0, all = 0;

    friend bool operator==(const operand_slices&, const operand_slices&) = default;
    operand_slices& operator+=(const operand_slices& other) noexcept {
        zero += other.zero;
        all += other.all;
        return *this;
    }
};

// Slice products, and slices of both operands, of one GEMM.
struct event_counts {
    stage_counts counts;
    plane_pairs pairs{};  // of counts.issued
    operand_slices a, b;
    bool a_streams = true;  // otherwise b

    friend bool operator==(const event_counts&, const event_counts&) = default;
};

// The operand with the larger share of zero slices streams; the left one when they are equal.
inline bool left_streams(const operand_slices& a, const operand_slices& b) noexcept {
    __extension__ typedef unsigned __int128 wide;
    return wide{a.zero} * b.all >= wide{b.zero} * a.all;
}

// All counts but `issued` follow from the event's shape. `issued` goes to `probe` as well when the event is one, and a
// probe adds to nothing else.
inline stage_counts tally(const gemm::gemm_event& event, slice::encoding digits, std::uint64_t issued) noexcept {
    stage_counts counts;
    counts.issued = issued;
    if (event.probe) {
        counts.probe = issued;
        return counts;
    }
    const auto slices = [&](const gemm::event_operand& o) {
        return static_cast<std::uint64_t>(slice::slice_count(digits, o.view.width));
    };
    counts.macs = static_cast<std::uint64_t>(event.macs);
    counts.dense16 = 16 * counts.macs;
    counts.dense = slices(event.a) * slices(event.b) * counts.macs;
    counts.width_macs = counts.macs * static_cast<std::uint64_t>(event.a.view.width + event.b.view.width);
    return counts;
}

namespace detail {

// Offset, in elements from the first stored one, that the view's element (0, 0) has.
inline std::int64_t base_of(const gemm::event_operand& o) noexcept {
    const auto bytes = static_cast<const char*>(o.view.data) - static_cast<const char*>(o.stored.data);
    return bytes / (o.view.in_bytes() ? 1 : 2);
}
// True when the element at that offset from the first stored one is no padding.
inline bool inside(const gemm::stored_images& s, std::int64_t offset) noexcept {
    const std::int64_t within = offset % s.image();
    const std::int64_t y = within / s.row() - s.top, x = within % s.row() / s.channels - s.left;
    return y >= 0 && y < s.height && x >= 0 && x < s.width;
}
inline int mantissa_at(const gemm::event_operand& o, std::int64_t offset) noexcept {
    return o.view.in_bytes() ? int{static_cast<const std::int8_t*>(o.stored.data)[offset]}
                             : int{static_cast<const std::int16_t*>(o.stored.data)[offset]};
}

inline operand_slices slices_by_definition(const gemm::event_operand& o, slice::encoding digits) {
    operand_slices seen;
    const auto each = static_cast<std::uint64_t>(slice::slice_count(digits, o.view.width));
    for (std::int64_t i = 0; i < o.stored.samples * o.stored.image(); ++i) {
        if (!inside(o.stored, i)) continue;
        seen.all += each;
        seen.zero += each - static_cast<std::uint64_t>(slice::nonzero_slices(digits, mantissa_at(o, i), o.view.width));
    }
    return seen;
}

}  // namespace detail

// The specification: every product of the GEMM, one after the other. Slow.
inline event_counts count_by_definition(const gemm::gemm_event& event, slice::encoding digits) {
    event_counts result;
    result.a = detail::slices_by_definition(event.a, digits);
    result.b = detail::slices_by_definition(event.b, digits);
    result.a_streams = left_streams(result.a, result.b);
    const gemm::event_operand& streamed = result.a_streams ? event.a : event.b;
    const gemm::event_operand& other = result.a_streams ? event.b : event.a;
    const auto other_slices = static_cast<std::size_t>(slice::slice_count(digits, other.view.width));

    for (std::int64_t m = 0; m < event.a.view.rows.size(); ++m)
        for (std::int64_t n = 0; n < event.b.view.rows.size(); ++n) {
            if (event.gate != nullptr && event.gate[event.gate_rows.offset(m) + n] <= 0) continue;  // nobody needs it
            for (std::int64_t k = 0; k < event.a.view.depth.size(); ++k) {
                const auto offset = [&](const gemm::event_operand& o, std::int64_t row) {
                    return detail::base_of(o) + o.view.rows.offset(row) + o.view.depth.offset(k);
                };
                const std::int64_t at_a = offset(event.a, m), at_b = offset(event.b, n);
                if (!detail::inside(event.a.stored, at_a) || !detail::inside(event.b.stored, at_b)) continue;
                const int mantissa = detail::mantissa_at(streamed, result.a_streams ? at_a : at_b);
                const slice::slices streamed_digits = slice::split(digits, mantissa, streamed.view.width);
                for (std::size_t p = 0; p < streamed_digits.size(); ++p)
                    for (std::size_t q = 0; q < other_slices && streamed_digits[p] != 0; ++q)
                        ++(result.a_streams ? result.pairs[p][q] : result.pairs[q][p]);
            }
        }
    result.counts = tally(event, digits, sum_of(result.pairs));
    return result;
}

}  // namespace lamella::accelerator
