// Operands of real training steps: an observer that copies them, and where their zeros are.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "lamella/gemm/event.hpp"
#include "lamella/slice/sliced_matrix.hpp"

namespace lamella::bench {

// One operand with memory of its own, borders of padding included; the view reads the copy.
class captured_operand {
  public:
    explicit captured_operand(const gemm::event_operand& o) : view_(o.view), what_(o.what) {
        const std::int64_t unit = view_.in_bytes() ? 1 : 2, bytes = o.stored.samples * o.stored.image() * unit;
        const auto* from = static_cast<const std::int8_t*>(o.stored.data);
        bytes_.resize(static_cast<std::size_t>(bytes));
        std::copy(from, from + bytes, bytes_.begin());
        offset_ = static_cast<const std::int8_t*>(view_.data) - from;
    }
    role what() const noexcept { return what_; }
    gemm::operand_view view() const noexcept {
        gemm::operand_view v = view_;
        v.data = bytes_.data() + offset_;
        return v;
    }
    // The same with ones in place of the zeros: nothing to skip, and no sign that was not there.
    captured_operand filled() const {
        captured_operand copy = *this;
        const auto replace = [](auto* first, std::size_t count) {
            for (std::size_t i = 0; i < count; ++i)
                if (first[i] == 0) first[i] = 1;
        };
        if (view_.in_bytes())
            replace(copy.bytes_.data(), copy.bytes_.size());
        else
            replace(reinterpret_cast<std::int16_t*>(copy.bytes_.data()), copy.bytes_.size() / 2);
        return copy;
    }

  private:
    gemm::operand_view view_;
    role what_;
    buffer<std::int8_t> bytes_;
    std::int64_t offset_ = 0;  // bytes
};

struct captured_product {
    std::uint64_t step;
    int layer;
    stage where;
    captured_operand a, b;
    gemm::problem problem() const noexcept { return {a.view(), b.view()}; }
};

// Copies the operands of every product of the chosen steps, probes left out.
class capture final : public gemm::observer {
  public:
    explicit capture(std::vector<std::uint64_t> steps) : steps_(std::move(steps)) {}
    void on_gemm(const gemm::gemm_event& event) override {
        if (event.probe || std::find(steps_.begin(), steps_.end(), event.step) == steps_.end()) return;
        products_.push_back(
            {event.step, event.layer, event.where, captured_operand(event.a), captured_operand(event.b)});
    }
    const std::vector<captured_product>& products() const noexcept { return products_; }

  private:
    std::vector<std::uint64_t> steps_;
    std::vector<captured_product> products_;
};

// Zeros of a matrix of mantissas or of one plane of slices, as a product reads it: padding is part of it.
struct zero_counts {
    std::uint64_t zero_values = 0, values = 0;
    std::uint64_t zero_groups = 0, groups = 0;  // 1 x 4: of one row, aligned along the depth
    std::uint64_t zero_tiles = 0, tiles = 0;    // 6 x 4
    std::uint64_t zero_panels = 0, panels = 0;  // 6 x 256
    std::uint64_t zero_rows = 0, rows = 0;
    std::uint64_t zero_columns = 0, columns = 0;  // positions along the depth, zero in every row

    zero_counts& operator+=(const zero_counts& o) noexcept {
        zero_values += o.zero_values;
        values += o.values;
        zero_groups += o.zero_groups;
        groups += o.groups;
        zero_tiles += o.zero_tiles;
        tiles += o.tiles;
        zero_panels += o.zero_panels;
        panels += o.panels;
        zero_rows += o.zero_rows;
        rows += o.rows;
        zero_columns += o.zero_columns;
        columns += o.columns;
        return *this;
    }
};

inline constexpr std::int64_t tile_rows = 6;

// Of planes first .. last - 1 together: something counts as zero when it is zero in all of them.
inline zero_counts count_zeros(const slice::sliced_matrix& m, int first, int last) {
    const auto any = [&](auto words_of, std::int64_t row, std::int64_t word) {
        std::uint64_t bits = 0;
        for (int plane = first; plane < last; ++plane) bits |= words_of(plane, row)[word];
        return bits;
    };
    const auto bits = [&](int plane, std::int64_t row) { return m.bits(plane, row); };
    const auto group_bits = [&](int plane, std::int64_t row) { return m.groups(plane, row); };
    const auto used = [](std::uint64_t x) { return static_cast<std::uint64_t>(std::popcount(x)); };
    const auto whole = [](std::int64_t x, std::int64_t unit) {
        return static_cast<std::uint64_t>((x + unit - 1) / unit);
    };

    zero_counts c;
    c.values = c.zero_values = static_cast<std::uint64_t>(m.rows() * m.depth());
    c.groups = c.zero_groups = static_cast<std::uint64_t>(m.rows()) * whole(m.depth(), slice::group_digits);
    c.tiles = c.zero_tiles = whole(m.rows(), tile_rows) * whole(m.depth(), slice::group_digits);
    c.panels = whole(m.rows(), tile_rows) * whole(m.depth(), slice::sliced_matrix::panel_depth);
    c.rows = static_cast<std::uint64_t>(m.rows());
    c.columns = c.zero_columns = static_cast<std::uint64_t>(m.depth());
    std::vector<std::uint64_t> columns(static_cast<std::size_t>(m.bit_words()));
    for (std::int64_t row = 0; row < m.rows(); ++row) {
        std::uint64_t seen = 0;
        for (std::int64_t w = 0; w < m.bit_words(); ++w) {
            const std::uint64_t word = any(bits, row, w);
            c.zero_values -= used(word);
            columns[static_cast<std::size_t>(w)] |= word;
            seen |= word;
        }
        c.zero_rows += seen == 0;
        for (std::int64_t w = 0; w < m.group_words(); ++w) c.zero_groups -= used(any(group_bits, row, w));
    }
    for (const std::uint64_t word : columns) c.zero_columns -= used(word);
    for (std::int64_t top = 0; top < m.rows(); top += tile_rows)
        for (std::int64_t w = 0; w < m.group_words(); ++w) {
            std::uint64_t tile = 0;
            for (std::int64_t row = top; row < std::min(top + tile_rows, m.rows()); ++row)
                tile |= any(group_bits, row, w);
            c.zero_tiles -= used(tile);
            c.zero_panels += tile == 0;
        }
    return c;
}

// The operand as a matrix, rows x depth, taken apart into slices.
inline void take_apart(const gemm::operand_view& view, slice::encoding digits, slice::sliced_matrix& into) {
    const std::int64_t rows = view.rows.size(), depth = view.depth.size();
    into.reset(digits, view.width, rows, depth);
    const auto fill = [&](auto zero) {
        std::vector<decltype(zero)> line(static_cast<std::size_t>(depth));
        for (std::int64_t row = 0; row < rows; ++row) {
            for (std::int64_t k = 0; k < depth; ++k)
                line[static_cast<std::size_t>(k)] = static_cast<decltype(zero)>(view.at(row, k));
            into.set_row(row, line.data(), best_path());
        }
    };
    view.in_bytes() ? fill(std::int8_t{0}) : fill(std::int16_t{0});
}

}  // namespace lamella::bench
