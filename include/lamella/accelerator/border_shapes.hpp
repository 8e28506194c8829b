// What is known of a view of an image with a border of padding, worked out once for each shape (datapath_counter.hpp).
// Reconstruction, as what it serves is: configuration.hpp says what is sourced.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "../gemm/event.hpp"
#include "datapath.hpp"

namespace lamella::accelerator::detail {

struct border_shape {
    std::array<std::int64_t, 21> key{};
    bool touches = false;                        // the view reaches elements that stand for padding
    std::vector<std::uint32_t> digits, windows;  // of each row, in column_counts: those that are there at all
};

class border_shapes {
  public:
    border_shape& of(const gemm::event_operand& o) {
        std::array<std::int64_t, 21> key;
        std::size_t n = 0;
        for (const gemm::axis* x : {&o.view.rows, &o.view.depth})
            for (std::size_t level = 0; level < 3; ++level) {
                key[n++] = x->extent[level];
                key[n++] = x->stride[level];
            }
        const gemm::stored_images& s = o.stored;
        for (const std::int64_t value :
             {s.samples, s.height, s.width, s.channels, s.top, s.bottom, s.left, s.right, base_of(o)})
            key[n++] = value;
        for (border_shape& shape : known_)
            if (shape.key == key) return shape;
        border_shape fresh;
        fresh.key = key;
        for (std::int64_t m = 0; m < o.view.rows.size() && !fresh.touches; ++m)
            for (std::int64_t k = 0; k < o.view.depth.size() && !fresh.touches; ++k)
                fresh.touches = !datapath_view::present(o, m, k);
        return known_.emplace_back(std::move(fresh));
    }
    bool touched_by(const gemm::event_operand& o) { return datapath_view::bordered(o) && of(o).touches; }

  private:
    std::vector<border_shape> known_;
};

}  // namespace lamella::accelerator::detail
