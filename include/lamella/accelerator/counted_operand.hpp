// Non-zero slices of one operand of a GEMM, of each plane and of each place in its blocks (slice_counts.hpp).
// Reconstruction, as what it computes is: counting.hpp says what is sourced.
#pragma once

#include <array>
#include <cstdint>

#include "../core/memory.hpp"
#include "../gemm/event.hpp"
#include "../slice/encoding.hpp"
#include "slice_plan.hpp"

namespace lamella::accelerator::detail {

using by_plane = std::array<std::uint64_t, slice::max_slices>;

class counted_operand {
  public:
    // True when these counts are those of the event's operand.
    bool holds(const gemm::gemm_event& event, const gemm::event_operand& o) const noexcept {
        return valid_ && data_ == o.stored.data && width_ == o.view.width && step_ == event.step;
    }
    void forget() noexcept { valid_ = false; }

    // A period of 0 asks for the sums alone.
    void count(const gemm::gemm_event& event, const gemm::event_operand& o, const operand_plan& plan,
               std::int64_t period, std::int64_t repeats, slice::encoding digits, path isa);

    std::size_t planes() const noexcept { return planes_; }
    const by_plane& nonzero() const noexcept { return nonzero_; }
    // Of each place in a block of the period that was asked for.
    const std::uint32_t* places(std::size_t plane) const noexcept { return places_.data() + at(plane); }

    // Each plane's non-zero slices times how often the plan uses their mantissas.
    by_plane weighted(const operand_plan& plan, path isa) const;

  private:
    std::int64_t at(std::size_t plane) const noexcept { return static_cast<std::int64_t>(plane) * pitch_; }

    bool valid_ = false;
    const void* data_ = nullptr;
    std::uint64_t step_ = 0;
    int width_ = 0;
    std::size_t planes_ = 0;
    by_plane nonzero_{};
    std::int64_t period_ = 0, pitch_ = 0;
    buffer<std::uint32_t> places_;  // [plane][place]
};

}  // namespace lamella::accelerator::detail

#if !LAMELLA_SEPARATE
#include "counted_operand_definition.hpp"
#endif
