// Bits, one a partner: which outputs of a row are needed, and which held digits of a depth are no padding
// (shared_rows.hpp). Memory is grow-only.
// Reconstruction, as what it serves is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "../core/memory.hpp"
#include "../slice/bitmap.hpp"
#include "bit_image.hpp"
#include "datapath.hpp"
#include "slice_kernels.hpp"

namespace lamella::accelerator::detail {

class partner_bits {
  public:
    // Of every row.
    void list_needed(const gemm::gemm_event& event, const datapath_view& v, path isa) {
        words_ = (v.partners() + 63) / 64;
        needed_.resize(at(words_ * v.rows() + 2));
        needed_.fill_zero();
        if (!v.masked()) {
            for (std::int64_t m = 0; m < v.rows(); ++m)
                for (std::int64_t t = 0; t < v.partners(); ++t)
                    needed_[at(m * words_ + t / 64)] |= std::uint64_t{1} << (t % 64);
            return;
        }
        const gemm::axis& rows = event.gate_rows;
        const std::int64_t columns = event.b.view.rows.size();
        alive_.resize(at(64 * words_));
        alive_.fill_zero();
        std::int64_t m = 0;
        for (std::int64_t i = 0; i < rows.extent[0]; ++i)
            for (std::int64_t j = 0; j < rows.extent[1]; ++j)
                for (std::int64_t k = 0; k < rows.extent[2]; ++k, ++m) {
                    const std::int32_t* const gate =
                        event.gate + i * rows.stride[0] + j * rows.stride[1] + k * rows.stride[2];
                    if (v.a_streams()) {
                        list_positive_values(isa, gate, columns, alive_.data());
                        slice::mark_nonzero(isa, reinterpret_cast<const std::int8_t*>(alive_.data()), words_,
                                            needed_.data() + m * words_);
                    } else {
                        for (std::int64_t n = 0; n < columns; ++n)
                            needed_[at(n * words_ + m / 64)] |= std::uint64_t{gate[n] > 0} << (m % 64);
                    }
                }
    }

    // Of every depth.
    void list_held(const datapath_view& v, path isa) {
        held_rows_.set(v.held().view.rows);
        held_image_.mark_present(v.held(), held_rows_.unit, isa);
        held_.resize(at(words_ * v.depth() + 2));
        const std::int64_t base = base_of(v.held());
        std::uint64_t digits = 0;
        for (std::int64_t k = 0; k < v.depth(); ++k) {
            const std::int64_t offset = base + v.held().view.depth.offset(k);
            held_image_.read(0, offset / held_rows_.unit, offset % held_rows_.unit, held_rows_,
                             held_.data() + k * words_);
            for (std::int64_t w = 0; w < words_; ++w)
                digits += static_cast<std::uint64_t>(std::popcount(held_[at(k * words_ + w)]));
        }
        held_digits_ = digits;
    }

    const std::uint64_t* needed(std::int64_t row) const noexcept { return needed_.data() + row * words_; }
    const std::uint64_t* held(std::int64_t depth) const noexcept { return held_.data() + depth * words_; }
    std::uint64_t held_digits() const noexcept { return held_digits_; }

  private:
    static std::size_t at(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }

    std::int64_t words_ = 0;  // of a row of either
    buffer<std::uint64_t> needed_, held_;
    buffer<std::uint8_t> alive_;  // outputs of a row
    bit_image held_image_;
    axis_runs held_rows_;
    std::uint64_t held_digits_ = 0;
};

}  // namespace lamella::accelerator::detail
