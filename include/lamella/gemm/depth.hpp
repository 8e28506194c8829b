// How rows and depth of two operands are walked: axes with their contiguous levels merged, offsets without divisions,
// and the depth cut into segments along which both operands advance by a constant stride.
//
//   group     what one multiply instruction takes from a row at a time: four bytes or two 16-bit words
//   segment   a run of depth indices; its last group is filled up with zeros
//   block     consecutive segments whose products fit a 32-bit accumulator
//
// Next: tile.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "../core/memory.hpp"
#include "operation.hpp"

namespace lamella::gemm::detail {

// The same map with neighbouring levels merged where they are one, innermost level at index 2. A level of one element
// has stride 1, so that it counts as contiguous.
constexpr axis merged(const axis& x) noexcept {
    axis out{{1, 1, 1}, {0, 0, 1}};
    int at = 3;
    for (int d = 2; d >= 0; --d) {
        const auto i = static_cast<std::size_t>(d);
        if (x.extent[i] == 1) continue;
        const auto top = static_cast<std::size_t>(at);
        if (at < 3 && x.stride[i] == out.extent[top] * out.stride[top]) {
            out.extent[top] *= x.extent[i];
        } else {
            --at;
            out.extent[static_cast<std::size_t>(at)] = x.extent[i];
            out.stride[static_cast<std::size_t>(at)] = x.stride[i];
        }
    }
    return out;
}

// Steps through the offsets of an axis without divisions. A step may not pass the end of a run of the innermost level.
class offset_walker {
  public:
    offset_walker(const axis& x, std::int64_t index) noexcept
        : axis_(x), i2_(index % x.extent[2]), i1_(index / x.extent[2] % x.extent[1]), offset_(x.offset(index)) {}
    std::int64_t offset() const noexcept { return offset_; }
    std::int64_t left_in_run() const noexcept {
        return axis_.extent[2] - i2_;
    }  // indices that a constant stride reaches
    std::int64_t stride() const noexcept { return axis_.stride[2]; }
    void advance(std::int64_t step) noexcept {
        i2_ += step;
        offset_ += step * axis_.stride[2];
        if (i2_ < axis_.extent[2]) return;
        i2_ -= axis_.extent[2];
        offset_ += axis_.stride[1] - axis_.extent[2] * axis_.stride[2];
        if (++i1_ < axis_.extent[1]) return;
        i1_ = 0;
        offset_ += axis_.stride[0] - axis_.extent[1] * axis_.stride[1];
    }

  private:
    axis axis_;
    std::int64_t i2_, i1_, offset_;
};

// into[i] = scale x offset of index first + i, for i < count.
inline void fill_offsets(const axis& x, std::int64_t first, std::int64_t count, std::int64_t scale,
                         std::int64_t* into) noexcept {
    const std::int64_t stride = x.stride[2] * scale;
    if (x.extent[0] * x.extent[1] == 1) {
        for (std::int64_t i = 0; i < count; ++i) into[i] = (first + i) * stride;
        return;
    }
    offset_walker at(x, first);
    for (std::int64_t i = 0; i < count;) {
        const std::int64_t here = std::min(at.left_in_run(), count - i), start = at.offset() * scale;
        for (std::int64_t j = 0; j < here; ++j) into[i + j] = start + j * stride;
        i += here;
        at.advance(here);
    }
}

// Lowest and highest offset that an axis reaches.
struct offset_range {
    std::int64_t low = 0, high = 0;
    constexpr std::int64_t size() const noexcept { return high - low + 1; }
};
constexpr offset_range range_of(const axis& x) noexcept {
    offset_range r;
    for (std::size_t d = 0; d < 3; ++d) {
        const std::int64_t reach = (x.extent[d] - 1) * x.stride[d];
        (reach < 0 ? r.low : r.high) += reach;
    }
    return r;
}

struct depth_segment {
    std::int64_t offset[2];  // elements, of the left and the right operand
    std::int64_t length;     // depth indices
    std::int64_t first;      // depth index of the first element
};

struct depth_block {
    std::int64_t segments = 0, groups = 0, depth = 0;  // running numbers at its start
    std::int64_t spans = 0;                            // spans.hpp
};

// The walk over the depth of one call. Lives in the workspace.
struct depth_walk {
    buffer<depth_segment> segments;
    buffer<depth_block> blocks;     // one more than there are, the last one holding the totals
    buffer<std::int64_t> table[2];  // offset of every depth index; used only when `tabled`
    std::int64_t segment_count = 0, block_count = 0;
    std::int64_t stride[2] = {1, 1};  // of both operands within a segment
    bool tabled = false;              // runs too short for groups: groups cross runs, offsets come from the table

    // True when groups of four cut at the ends of runs would be filled to less than 60%.
    static constexpr bool needs_table(const axis& left, const axis& right) noexcept {
        const std::int64_t run = std::gcd(left.extent[2], right.extent[2]);
        return run < left.size() && 5 * run < 12 * ((run + 3) / 4);
    }

    // `left` and `right` are merged. `longest` bounds the depth of a block; 4 or more, a multiple of 4 unless it covers
    // the whole depth.
    void build(const axis& left, const axis& right, std::int64_t elements_a_group, std::int64_t longest) {
        const std::int64_t depth = left.size();
        std::int64_t run = std::gcd(left.extent[2], right.extent[2]);
        tabled = needs_table(left, right);
        if (tabled) {
            run = depth;
            table[0].resize(static_cast<std::size_t>(depth));
            table[1].resize(static_cast<std::size_t>(depth));
            fill_offsets(left, 0, depth, 1, table[0].data());
            fill_offsets(right, 0, depth, 1, table[1].data());
        }
        stride[0] = left.stride[2];
        stride[1] = right.stride[2];
        const std::int64_t most = depth / run * ((run + smallest_block - 1) / smallest_block);
        segments.resize(static_cast<std::size_t>(most));
        blocks.resize(static_cast<std::size_t>(most) + 1);

        offset_walker at[2] = {{left, 0}, {right, 0}};
        depth_block total;
        std::int64_t in_block = 0;
        block_count = 0;
        for (std::int64_t first = 0; first < depth; first += run) {
            for (std::int64_t done = 0; done < run; done += longest) {
                depth_segment& s = segments[static_cast<std::size_t>(total.segments)];
                s.length = std::min(longest, run - done);
                s.first = first + done;
                s.offset[0] = at[0].offset() + done * stride[0];
                s.offset[1] = at[1].offset() + done * stride[1];
                if (block_count == 0 || in_block + s.length > longest) {
                    blocks[static_cast<std::size_t>(block_count++)] = total;
                    in_block = 0;
                }
                in_block += s.length;
                ++total.segments;
                total.groups += (s.length + elements_a_group - 1) / elements_a_group;
                total.depth += s.length;
            }
            if (!tabled) {
                at[0].advance(run);
                at[1].advance(run);
            }
        }
        segment_count = total.segments;
        blocks[static_cast<std::size_t>(block_count)] = total;
    }
    // The walk over depth that was picked by hand: `kept` indices, whose offsets are in `table`. One segment a block.
    void build_kept(std::int64_t kept, std::int64_t elements_a_group, std::int64_t longest) {
        tabled = true;
        depth_block total;
        for (block_count = 0; total.depth < kept; ++block_count) {
            depth_segment& s = segments[static_cast<std::size_t>(block_count)];
            s = {{0, 0}, std::min(longest, kept - total.depth), total.depth};
            blocks[static_cast<std::size_t>(block_count)] = total;
            ++total.segments;
            total.groups += (s.length + elements_a_group - 1) / elements_a_group;
            total.depth += s.length;
        }
        segment_count = total.segments;
        blocks[static_cast<std::size_t>(block_count)] = total;
    }
    std::int64_t groups() const noexcept { return blocks[static_cast<std::size_t>(block_count)].groups; }

    static constexpr std::int64_t smallest_block = 64;  // depth; see scheme_of in fused.hpp
};

}  // namespace lamella::gemm::detail
