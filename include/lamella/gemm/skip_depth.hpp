// Skipping along the depth: indices at which all rows of one side of a deep product are zero are left out before either
// side is packed, and lists need to know where groups lie. See skip.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "depth.hpp"
#include "plan.hpp"
#include "skip.hpp"
#include "skip_avx512.hpp"
#include "workspace.hpp"

namespace lamella::gemm::detail {

// The walk of a call. Depth at which one side of a deep product of bytes is zero is left out when a sample promises
// that this pays; the memory that it takes does not depend on that.
inline void walk_depth(fused_plan& plan, fused_memory& memory, bool skips) {
    depth_walk& walk = memory.walk;
    const axis &left = plan.left.view.depth, &right = plan.right.view.depth;
    const auto build = [&] { walk.build(left, right, plan.elements_a_group(), plan.longest); };
#if LAMELLA_X86
    const int side = skips ? plan.scanned_side() : -1;
    const skip_choice choice = memory.skipping;
    if (side < 0) return build();
    for (auto& table : walk.table) table.resize(static_cast<std::size_t>(plan.depth + tile_lanes));
    if (plan.words || (choice != skip_choice::by_cost && choice != skip_choice::kept_depth)) return build();
    const fused_side& scanned = side == 0 ? plan.left : plan.right;
    const depth_scan scan(scanned.view.data, scanned.view.rows.size(), scanned.view.depth.stride[2]);
    const std::int64_t run = std::gcd(left.extent[2], right.extent[2]), piece = std::min<std::int64_t>(run, 96);
    if (choice == skip_choice::by_cost) {
        const std::int64_t every = 37 * whole(96, piece);  // about 1% of the cost
        std::int64_t kept = 0, seen = 0;
        for (std::int64_t i = 0; i + piece <= plan.depth; i += every * piece) {
            const std::int64_t length = std::min(piece, run - i % run);
            kept += scan.count(scanned.view.depth.offset(i), length);
            seen += length;
        }
        if (seen == 0 || 20 * plan.gathered_cost(kept, seen) > 19 * plan.cost()) return build();
    }
    build();  // takes the memory of either walk
    offset_walker at[2] = {{left, 0}, {right, 0}};
    std::int64_t kept = 0;
    for (std::int64_t first = 0; first < plan.depth; first += run) {
        kept += scan.list(side, {at[0].offset(), at[1].offset()}, {left.stride[2], right.stride[2]}, run,
                          walk.table[0].data() + kept, walk.table[1].data() + kept);
        at[0].advance(run);
        at[1].advance(run);
    }
    plan.gather_depth();
    walk.build_kept(kept, plan.elements_a_group(), plan.longest);
#else
    static_cast<void>(skips);
    build();
#endif
}

// Bytes from the start of a left row to each group of a chunk: in place, or packed.
inline void fill_group_offsets(const depth_walk& walk, bool direct, std::int64_t first_block, std::int64_t end_block,
                               std::int64_t elements_a_group, std::int64_t* into) {
    const depth_block& begin = walk.blocks[static_cast<std::size_t>(first_block)];
    const depth_block& end = walk.blocks[static_cast<std::size_t>(end_block)];
    for (std::int64_t g = begin.groups; g < end.groups && !direct; ++g) *into++ = (g - begin.groups) * vector_bytes;
    for (std::int64_t s = begin.segments; s < end.segments && direct; ++s) {
        const depth_segment& from = walk.segments[static_cast<std::size_t>(s)];
        for (std::int64_t k = 0; k < from.length; k += elements_a_group) *into++ = from.offset[0] + k;
    }
}

}  // namespace lamella::gemm::detail
