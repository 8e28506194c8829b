// The rows of a streamed operand as bits, one row at a time: what shared_rows.hpp counts where column_counts.hpp does
// not serve. Memory is grow-only.
// Reconstruction, as what it serves is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "../core/memory.hpp"
#include "bit_image.hpp"
#include "configuration.hpp"
#include "datapath.hpp"

namespace lamella::accelerator::detail {

class row_bits {
  public:
    // `edges`: the view reaches padding. `active`: samples that are not all zero, or null.
    void mark(const datapath_view& v, const configuration& how, bool edges, const std::vector<std::int64_t>* active,
              path isa) {
        depth_.set(v.streamed().view.depth);
        base_ = base_of(v.streamed());
        words_ = (v.depth() + 63) / 64;
        planes_ = v.streamed_planes();
        input_skip_ = how.input_skip;
        edges_ = edges;
        if (input_skip_) image_.mark(v.streamed(), how, planes_, depth_.unit, active, isa);
        if (edges_) presence_.mark_present(v.streamed(), depth_.unit, isa);
        whole_.resize(at(words_ + 2));
        for (std::int64_t w = 0; w < words_; ++w)
            whole_[at(w)] = ~std::uint64_t{0} >> (w + 1 < words_ ? 0 : (64 - v.depth() % 64) % 64);
        bits_.resize(at((words_ + 2) * (planes_ + 1)));
    }

    void read(const datapath_view& v, std::int64_t m) {
        const std::int64_t offset = base_ + v.streamed().view.rows.offset(m);
        const std::int64_t q = depth_.unit == 1 ? offset : offset / depth_.unit, c = offset - q * depth_.unit;
        if (edges_) presence_.read(0, q, c, depth_, bits(planes_));
        for (int p = 0; p < planes_; ++p) {
            if (input_skip_)
                image_.read(p, q, c, depth_, bits(p));
            else
                std::copy_n(present(), words_, bits(p));
        }
    }

    // Of the row that was read last: digits that are issued when partners are there; those that are no padding.
    const std::uint64_t* issued(int plane) const noexcept { return bits_.data() + plane * (words_ + 2); }
    const std::uint64_t* present() const noexcept { return edges_ ? issued(planes_) : whole_.data(); }
    std::int64_t words() const noexcept { return words_; }

    // Zero digits of a plane that are stored because a run of zeros before a digit is longer than an index of so many
    // bits can say.
    std::uint64_t longest_runs(int plane, int run_bits) const noexcept {
        std::uint64_t stored = 0, run = 0;
        for (std::int64_t w = 0; w < words_; ++w) {
            std::uint64_t here = present()[w];
            for (std::uint64_t x = issued(plane)[w]; x != 0; x &= x - 1) {
                const std::uint64_t below = (x & -x) - 1;
                run += static_cast<std::uint64_t>(std::popcount(here & below));
                stored += run >> run_bits;
                run = 0;
                here &= ~(below | (x & -x));
            }
            run += static_cast<std::uint64_t>(std::popcount(here));
        }
        return stored;
    }

  private:
    static std::size_t at(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }
    std::uint64_t* bits(int plane) noexcept { return bits_.data() + plane * (words_ + 2); }

    axis_runs depth_;
    std::int64_t base_ = 0, words_ = 0;
    int planes_ = 0;
    bool input_skip_ = true, edges_ = false;
    bit_image image_, presence_;
    buffer<std::uint64_t> whole_, bits_;  // a row without padding; [plane, then what is present]
};

}  // namespace lamella::accelerator::detail
