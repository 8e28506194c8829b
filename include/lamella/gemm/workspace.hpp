// Memory that a GEMM needs besides its operands and its output: packed operands, offset tables, tiles of accumulators.
// Grow-only, sized for the widest operands, so that after the first step neither a new step nor a new width allocates.
// One workspace serves one call at a time, of any shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../core/histogram.hpp"
#include "../core/memory.hpp"
#include "depth.hpp"
#include "skip.hpp"
#include "sliced_memory.hpp"
#include "tile.hpp"

namespace lamella::gemm {
namespace detail {

struct thread_memory {
    buffer<std::int64_t> left_rows, output_rows;  // offsets of the rows of a row block
    buffer<std::int32_t> corrections;
    buffer<std::int32_t> sums;  // of one tile
    buffer<std::int64_t> exact;
    buffer<std::byte> left, right;      // packed parts of a deep product
    buffer<std::int64_t> accumulators;  // of a deep product
    histogram seen;
    skip_memory skip;
};

struct fused_memory {
    depth_walk walk;
    buffer<group_span> spans;
    buffer<std::byte> left, right;  // packed or widened operands
    buffer<std::int32_t> bias;
    skip_choice skipping = skip_choice::by_cost;
    std::vector<thread_memory> threads;
};

}  // namespace detail

struct workspace {
    detail::fused_memory fused;
    detail::sliced_memory sliced;
};

}  // namespace lamella::gemm
