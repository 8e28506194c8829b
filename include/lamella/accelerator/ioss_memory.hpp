// What the IOSS cores (ioss.hpp) read of a GEMM: digits of the streamed operand with an index that says which of them
// to issue, and the slices of the held operand. The emulator loads it once a GEMM.
//
//   digits   every stored mantissa is cut once; addresses of rows and depths say where a row's digits lie
//   index    one bit a digit in the order in which lanes walk: it is there and, when zeros are skipped, not zero. A
//            window of bits is what a zero detector sees
//   slices   of the held operand, those of all partners at one depth side by side: what one digit meets
//
// Reconstruction, see configuration.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "configuration.hpp"
#include "datapath.hpp"
#include "packed_bits.hpp"

namespace lamella::accelerator {

class ioss_memory {
  public:
    // Cuts both operands into digits.
    void load(const configuration& c, const datapath_view& v) {
        depth = v.depth();
        rows = v.rows();
        partners = v.partners();
        streamed_planes = v.streamed_planes();
        held_planes = v.held_planes();
        cut(c, v, v.held(), false);
        lay_out_slices(v);
        cut(c, v, v.streamed(), true);
        row_at_ = addresses(v.streamed().view.rows, detail::base_of(v.streamed()));
        depth_at_ = addresses(v.streamed().view.depth, 0);
        list_index(v);
    }

    std::int64_t rows = 0, partners = 0, depth = 0;
    int streamed_planes = 0, held_planes = 0;

    // Digits first .. last - 1 of a row, up to 64, one bit each: those to be issued, and those that are no padding.
    std::uint64_t issued(std::int64_t row, int plane, std::int64_t first, std::int64_t last) const noexcept {
        return detail::read_bits(index_.data(), (row * streamed_planes + plane) * depth + first, last - first);
    }
    std::uint64_t present(std::int64_t row, std::int64_t first, std::int64_t last) const noexcept {
        if (present_.empty()) return ~std::uint64_t{0} >> (64 - (last - first));
        return detail::read_bits(present_.data(), row * depth + first, last - first);
    }
    std::int16_t digit(std::int64_t row, int plane, std::int64_t k) const noexcept {
        return stored_[at(plane)].digits[at(row_at_[at(row)] + depth_at_[at(k)])];
    }
    // Of every partner.
    const std::int16_t* slices(std::int64_t k, int plane) const noexcept {
        return slices_.data() + (k * held_planes + plane) * partners;
    }
    // Of every partner: 1 where its slices at that depth are no padding. Null when none is anywhere.
    const std::uint8_t* partners_present(std::int64_t k) const noexcept {
        return partners_present_.empty() ? nullptr : partners_present_.data() + k * partners;
    }

  private:
    // One plane of the operand that was cut last, as stored.
    struct plane_cells {
        std::vector<std::int16_t> digits;
        std::vector<std::uint64_t> issued;
    };
    static std::size_t at(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }
    static std::vector<std::int64_t> addresses(const gemm::axis& x, std::int64_t first) {
        std::vector<std::int64_t> list;
        for (std::int64_t i = 0; i < x.size(); ++i) list.push_back(first + x.offset(i));
        return list;
    }
    static std::size_t words_of(std::int64_t bits) noexcept { return at(bits / 64 + 2); }

    void cut(const configuration& c, const datapath_view& v, const gemm::event_operand& o, bool streamed) {
        const std::int64_t elements = o.stored.samples * o.stored.image();
        const int planes = streamed ? streamed_planes : held_planes;
        there_.assign(words_of(elements), 0);
        for (int p = 0; p < planes; ++p) {
            stored_[at(p)].digits.resize(at(elements));
            stored_[at(p)].issued.assign(words_of(elements), 0);
        }
        for (std::int64_t e = 0; e < elements; ++e) {
            const auto digits = v.digits(detail::mantissa_at(o, e), o.view.width);
            const bool there = detail::inside(o.stored, e);
            if (there) detail::set_bits(there_.data(), e, 1);
            for (int p = 0; p < planes; ++p) {
                plane_cells& plane = stored_[at(p)];
                plane.digits[at(e)] = digits[at(p)];
                if (there && (!c.input_skip || digits[at(p)] != 0)) detail::set_bits(plane.issued.data(), e, 1);
            }
        }
    }
    void lay_out_slices(const datapath_view& v) {
        const std::vector<std::int64_t> partner_at = addresses(v.held().view.rows, detail::base_of(v.held()));
        const std::vector<std::int64_t> held_depth_at = addresses(v.held().view.depth, 0);
        slices_.clear();
        partners_present_.clear();
        for (const std::int64_t k : held_depth_at) {
            for (int p = 0; p < held_planes; ++p)
                for (const std::int64_t t : partner_at) slices_.push_back(stored_[at(p)].digits[at(t + k)]);
            if (datapath_view::bordered(v.held()))
                for (const std::int64_t t : partner_at)
                    partners_present_.push_back(static_cast<std::uint8_t>(detail::read_bits(there_.data(), t + k, 1)));
        }
    }
    void list_index(const datapath_view& v) {
        index_.assign(words_of(rows * streamed_planes * depth), 0);
        for (std::int64_t row = 0; row < rows; ++row)
            for (int p = 0; p < streamed_planes; ++p)
                copy_row(v, stored_[at(p)].issued, row, index_, (row * streamed_planes + p) * depth);
        present_.clear();
        if (!datapath_view::bordered(v.streamed())) return;
        present_.assign(words_of(rows * depth), 0);
        for (std::int64_t row = 0; row < rows; ++row) copy_row(v, there_, row, present_, row * depth);
    }
    // The bits of a row, from where its elements are stored to `first` .. first + depth - 1.
    void copy_row(const datapath_view& v, const std::vector<std::uint64_t>& from, std::int64_t row,
                  std::vector<std::uint64_t>& to, std::int64_t first) const {
        const gemm::axis& axis = v.streamed().view.depth;
        const std::int64_t side_by_side = axis.stride[2] == 1 ? std::min<std::int64_t>(64, axis.extent[2]) : 1;
        for (std::int64_t k = 0; k < depth;) {
            const std::int64_t count = std::min(side_by_side, axis.extent[2] - k % axis.extent[2]);
            const std::int64_t element = row_at_[at(row)] + depth_at_[at(k)];
            detail::set_bits(to.data(), first + k, detail::read_bits(from.data(), element, count));
            k += count;
        }
    }

    std::array<plane_cells, slice::max_slices> stored_;  // of the streamed operand, once loaded
    std::vector<std::uint64_t> there_;                   // its elements that are no padding
    std::vector<std::int64_t> row_at_, depth_at_;        // where a row begins, where a depth lies from there
    std::vector<std::uint64_t> index_, present_;         // [row][plane][k], [row][k]; present: empty when all are
    std::vector<std::int16_t> slices_;                   // [k][plane][partner]
    std::vector<std::uint8_t> partners_present_;         // [k][partner]; empty when all are
};

}  // namespace lamella::accelerator
