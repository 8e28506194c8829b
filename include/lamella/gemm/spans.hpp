// Where a kernel finds the groups of its left rows (group_span, tile.hpp): runs in place, or whole blocks of what was
// packed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../core/memory.hpp"
#include "depth.hpp"
#include "tile.hpp"

namespace lamella::gemm::detail {

// Spans of all blocks, and their numbers in the blocks. In place, segments that continue one another on the left become
// one span: the right operand is packed without gaps, and a span costs a kernel as much as two or three groups.
inline void fill_spans(depth_walk& walk, bool direct, std::int64_t chunk_blocks, std::int64_t elements_a_group,
                       std::int64_t element_size, buffer<group_span>& spans) {
    const auto block = [&](std::int64_t b) -> depth_block& { return walk.blocks[static_cast<std::size_t>(b)]; };
    const std::int64_t group_bytes = elements_a_group * element_size;
    spans.resize(walk.segments.size());
    std::int64_t count = 0;
    for (std::int64_t b = 0; b < walk.block_count; ++b) {
        const std::int64_t first = block(b).spans = count, groups = block(b).groups;
        if (!direct) {
            const std::int64_t start = block(b / chunk_blocks * chunk_blocks).groups,
                               here = block(b + 1).groups - groups;
            spans[static_cast<std::size_t>(count++)] = {(groups - start) * vector_bytes, here, here * vector_bytes};
            continue;
        }
        for (std::int64_t s = block(b).segments; s < block(b + 1).segments; ++s) {
            const depth_segment& x = walk.segments[static_cast<std::size_t>(s)];
            const group_span span{x.offset[0] * element_size, (x.length + elements_a_group - 1) / elements_a_group,
                                  x.length * element_size};
            group_span* const last = count > first ? &spans[static_cast<std::size_t>(count - 1)] : nullptr;
            if (last != nullptr && last->bytes == last->groups * group_bytes && last->left + last->bytes == span.left) {
                last->groups += span.groups;
                last->bytes += span.bytes;
            } else {
                spans[static_cast<std::size_t>(count++)] = span;
            }
        }
    }
    block(walk.block_count).spans = count;
}

}  // namespace lamella::gemm::detail
