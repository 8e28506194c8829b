// Slice products of EP whose outputs may be dead (slice_counts.hpp): each non-zero slice of the streamed operand meets
// the live outputs that use it. What geometry says of both sides is worked out once: gate_plan, slice_plan.hpp.
// Reconstruction, as what it computes is: counting.hpp says what is sourced.
#pragma once

#include <array>
#include <cstdint>

#include "../core/memory.hpp"
#include "counted_operand.hpp"
#include "slice_plan.hpp"

namespace lamella::accelerator::detail {

class live_outputs {
  public:
    // The errors stream.
    by_plane errors_stream(const gemm::gemm_event& event, const event_plan& plan, slice::encoding digits, path isa);
    // The weights stream: over weights (n, k), non-zero slices x outputs of column n that are alive and meet no padding
    // at k. `b` has been counted with the gate's period.
    by_plane weights_stream(const gemm::gemm_event& event, const gate_plan& gate, const counted_operand& b, path isa);

  private:
    // Where a sample has one row (a linear layer): non-zero slices of each sample x its live outputs.
    static by_plane single_errors_stream(const gemm::gemm_event& event, const gate_plan& gate, slice::encoding digits,
                                         path isa);
    // sum over pixels of non-zero slices of the pixel x live outputs of the rows that read it, a group of samples at a
    // time: live outputs of each row where the row's first pixel is, their sums over taps, dot product with the slices
    // of each pixel. Samples whose error is zero are left out.
    template <class Sum>
    by_plane pixels_stream(const gemm::gemm_event& event, const event_plan& plan, slice::encoding digits, path isa,
                           std::array<buffer<Sum>, 5>& scratch);
    // Used digits of each pixel of `count` samples; pixels of the border stay as they are.
    template <class Used, class Mantissa, class Sum>
    void list_pixels(Used used, const Mantissa* from, const gemm::stored_images& s, const operand_plan& plan,
                     const gate_plan& gate, std::int64_t first, std::int64_t count, path isa, Sum* to);
    // Outputs that are alive, at the first pixel of each row of `count` samples.
    template <class Sum>
    void list_rows_alive(const gemm::gemm_event& event, const gate_plan& gate, std::int64_t first, std::int64_t count,
                         path isa, Sum* to);
    // Which outputs of `count` samples are alive: bytes 0 or 1, samples x positions x columns.
    static void list_alive(const gemm::gemm_event& event, const gate_plan& gate, std::int64_t first, std::int64_t count,
                           path isa, std::uint8_t* to);

    buffer<std::uint8_t> bytes_;
    buffer<std::uint32_t> above_;
    std::array<buffer<std::uint16_t>, 5> narrow_;
    std::array<buffer<std::uint32_t>, 5> wide_;
};

}  // namespace lamella::accelerator::detail

#if !LAMELLA_SEPARATE
#include "live_outputs_definition.hpp"
#endif
