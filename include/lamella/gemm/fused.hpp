// The default execution: neighbouring slices multiplied together, as bytes or 16-bit words, where that is exact. Same
// bits as reference.hpp, whatever the path and the number of threads: every sum is exact, so order does not matter.
//
// plan.hpp decides, pack.hpp packs, kernel_*.hpp multiply tiles, drain.hpp stores them, fused_zeros.hpp finds
// zeros that need no multiplication. This file walks over row blocks, panels of columns, tiles and blocks of depth.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../core/quantise.hpp"
#include "check.hpp"
#include "correction.hpp"
#include "drain.hpp"
#include "fused_zeros.hpp"
#include "operation.hpp"
#include "pack.hpp"
#include "plan.hpp"
#include "reference.hpp"
#include "skip_depth.hpp"
#include "spans.hpp"
#include "threads.hpp"
#include "workspace.hpp"

namespace lamella::gemm {
namespace detail {

class fused_call : private fused_zeros {
  public:
    fused_call(const problem& p, const output& out, const settings& how, fused_memory& memory)
        : fused_zeros(p, how, memory),
          out_(out),
          threads_(threads_worth(how.threads, p.m() * p.n() * p.k())),
          narrow_(drains_narrow(out, accumulator_bound(p.a.width, p.b.width, p.k(), out.largest_bias))),
          out_rows_(merged(out.rows)),
          streams_(how.isa == path::avx512 && streams_result(out, out_rows_, p.n())) {
        walk_depth(plan_, memory_, skips_asked_);
        panels_ = whole(plan_.vectors, plan_.panel);
        chunks_ = whole(memory_.walk.block_count, plan_.chunk_blocks);
        choose_parts();
        take_memory();
        fill_spans(memory_.walk, plan_.direct, plan_.chunk_blocks, plan_.elements_a_group(), plan_.words ? 2 : 1,
                   memory_.spans);
        choose_kind();
    }

    void run() { plan_.deep ? multiply_by_depth() : multiply_by_rows(); }

  private:
    static constexpr std::int64_t cached = 1 << 15;  // bytes of output that are counted while they are in the cache

    std::int64_t pitch() const noexcept { return plan_.vectors * tile_lanes; }

    // ---- memory and tables ------------------------------------------------------------------------------------------

    // Row blocks keep their part of the result in the cache until it is counted, and are long enough to reuse the
    // panels.
    void choose_parts() {
        const std::int64_t share = whole(whole(plan_.rows, threads_), row_unit) * row_unit;
        row_block_ =
            std::clamp<std::int64_t>(cached / (4 * plan_.columns) / row_unit * row_unit, 4 * row_unit, 28 * row_unit);
        row_block_ = plan_.deep ? plan_.rows : std::min(row_block_, share);
        const std::int64_t blocks = whole(plan_.rows, row_block_);
        panel_parts_ = blocks >= threads_ ? 1 : std::min(panels_, whole(threads_, blocks));
    }

    void take_memory() {
        const std::int64_t run = std::gcd(plan_.left.view.depth.extent[2], plan_.right.view.depth.extent[2]);
        const std::int64_t word_groups = plan_.tabled ? whole(plan_.depth, 2) : plan_.depth / run * whole(run, 2);
        const std::int64_t groups = plan_.deep ? plan_.chunk_depth() : word_groups;
        const std::int64_t left_bytes = plan_.left.vectors() * groups * vector_bytes;
        const std::int64_t right_bytes = plan_.vectors * groups * 2 * vector_bytes;
        if (memory_.threads.size() < size(threads_)) memory_.threads.resize(size(threads_));
        for (thread_memory& t : memory_.threads) {
            t.left_rows.resize(size(row_block_ + most_rows));
            t.output_rows.resize(size(row_block_));
            t.corrections.resize(size(row_block_ + most_rows));
            t.sums.resize(most_sums);
            t.exact.resize(most_sums);
            if (!plan_.deep) continue;
            t.right.resize(size(right_bytes));
            if (!plan_.widenable() || plan_.scanned_side() >= 0) t.left.resize(size(left_bytes));
            t.accumulators.resize(size(plan_.rows * pitch()));
        }
        if (skips_asked_) take_skip_memory();
        if (!plan_.deep) memory_.right.resize(size(right_bytes));
        if (plan_.widenable())
            memory_.left.resize(size(2 * plan_.left.storage().size()));
        else if (!plan_.deep)
            memory_.left.resize(size(left_bytes));
        if (plan_.deep || !narrow_ || out_.bias == nullptr) return;
        memory_.bias.resize(size(pitch()));
        std::fill(memory_.bias.begin(), memory_.bias.end(), 0);
        std::transform(out_.bias, out_.bias + plan_.columns, memory_.bias.begin(),
                       [](std::int64_t x) { return static_cast<std::int32_t>(x); });
    }

    // Sized by shapes alone. At least 2.4 indices of depth a group (depth_walk::needs_table).
    void take_skip_memory() {
        const std::int64_t groups = (plan_.deep ? plan_.chunk_depth() : plan_.depth) / 2 + 1;
        skip_rows_ = std::min(row_block_, std::max(row_unit, most_entries / groups / row_unit * row_unit));
        for (thread_memory& t : memory_.threads) t.skip.resize(skip_rows_, groups);
    }

    // Bytes need a correction only when both operands have negative mantissas; that is seen at the first of them. NEON
    // multiplies signed bytes.
    void choose_kind() {
        kind_ = plan_.words ? group_kind::words : group_kind::bytes;
        if (plan_.words || isa_ == path::neon_dot) return;
        const auto is_nonnegative = [&](const fused_side& side) {
            const offset_range range = side.storage();
            return side.dense() &&
                   nonnegative(isa_, static_cast<const std::int8_t*>(side.view.data) + range.low, range.size());
        };
        if (is_nonnegative(plan_.left))
            kind_ = group_kind::bytes_unsigned_left;
        else
            corrected_ = !is_nonnegative(plan_.right);
    }

    // ---- packing ----------------------------------------------------------------------------------------------------

    pack_job job_for(const fused_side& side, int index, std::int64_t chunk) const {
        pack_job job;
        job.data = side.view.data;
        job.source_bytes = side.view.in_bytes();
        job.words = plan_.words;
        job.side = index;
        job.walk = &memory_.walk;
        job.first_segment = memory_.walk.blocks[size(chunk_begin(chunk))].segments;
        job.last_segment = memory_.walk.blocks[size(chunk_end(chunk))].segments;
        return job;
    }

    // Packs vectors of 16 left rows: part `id` of `count`.
    void pack_left(std::int64_t chunk, std::byte* into, std::int64_t id, std::int64_t count) const {
        pack_job job = job_for(plan_.left, 0, chunk);
        job.group_step = vector_bytes;
        const std::int64_t share = whole(plan_.left.vectors(), count), first = id * share;
        if (first >= plan_.left.vectors()) return;
        offset_walker rows(plan_.left.view.rows, first * tile_lanes);
        for (std::int64_t v = first; v < std::min(plan_.left.vectors(), first + share); ++v)
            pack_lanes(isa_, job, lane_rows(rows, plan_.rows - v * tile_lanes),
                       into + v * chunk_groups(chunk) * vector_bytes);
    }
    // Packs a panel of columns.
    void pack_panel(std::int64_t chunk, std::int64_t panel, std::byte* into) const {
        pack_job job = job_for(plan_.right, 1, chunk);
        const int vectors = panel_vectors(panel);
        job.offset = kind_ == group_kind::bytes && corrected_;
        job.limb_shift = plan_.limb_shift;
        job.fold = plan_.fold;
        job.limb_step = vectors * vector_bytes;
        job.group_step = job.limb_step * plan_.limbs();
        const std::int64_t first = panel * plan_.panel * tile_lanes;
        offset_walker columns(plan_.right.view.rows, first);
        for (int v = 0; v < vectors; ++v)
            pack_lanes(isa_, job, lane_rows(columns, plan_.columns - first - v * tile_lanes), into + v * vector_bytes);
    }
    int panel_vectors(std::int64_t panel) const noexcept {
        return static_cast<int>(std::min<std::int64_t>(plan_.panel, plan_.vectors - panel * plan_.panel));
    }
    // Where a panel lies among the panels of a chunk.
    std::int64_t panel_offset(std::int64_t panel, std::int64_t chunk) const noexcept {
        return panel * plan_.panel * plan_.limbs() * vector_bytes * chunk_groups(chunk);
    }

    // What has to be done to the left operand before it can be read: part `id` of `count`.
    void prepare_left(std::int64_t id, std::int64_t count) const {
        if (!plan_.direct && !plan_.deep) return pack_left(0, memory_.left.data(), id, count);
        if (!plan_.widened) return;
        const offset_range range = plan_.left.storage();
        const auto* from = static_cast<const std::int8_t*>(plan_.left.view.data) + range.low;
        auto* to = reinterpret_cast<std::int16_t*>(memory_.left.data());
        const std::int64_t share = whole(range.size(), count);
        const std::int64_t end = std::min(range.size(), (id + 1) * share);
        for (std::int64_t i = id * share; i < end; ++i) to[i] = from[i];
    }
    // Where offset 0 of left rows that are read in place lies; otherwise where they were packed to.
    const std::byte* left_base() const noexcept {
        if (plan_.widened) return memory_.left.data() - 2 * plan_.left.storage().low;
        return plan_.direct ? static_cast<const std::byte*>(plan_.left.view.data) : memory_.left.data();
    }

    // ---- orders of work ---------------------------------------------------------------------------------------------

    void multiply_by_rows() {
        parallel(threads_, [&](std::int64_t id, std::int64_t count) {
            for (std::int64_t panel = id; panel < panels_; panel += count)
                pack_panel(0, panel, memory_.right.data() + panel_offset(panel, 0));
            prepare_left(id, count);
        });
        const bool listed = worth_lists({0, plan_.rows, 0, left_base()}, memory_.threads[0]);
        if (listed) row_block_ = skip_rows_;
        const std::int64_t items = whole(plan_.rows, row_block_) * panel_parts_;
        const std::int64_t share = whole(panels_, panel_parts_);
        parallel(threads_, [&](std::int64_t id, std::int64_t count) {
            thread_memory& mine = memory_.threads[size(id)];
            mine.seen = {};
            for (std::int64_t i = id; i < items; i += count) {
                const std::int64_t begin = i / panel_parts_ * row_block_, first = i % panel_parts_ * share;
                const part x{begin, std::min(plan_.rows, begin + row_block_), 0, left_base()};
                const std::int64_t last = std::min(panels_, first + share) - 1;
                fill_rows(x, mine);
                fill_offsets(out_rows_, x.row_begin, x.rows(), 1, mine.output_rows.data());
                // A column past the last one holds zeros, so that its sums are the corrections of the others.
                const bool spare = last == panels_ - 1 && plan_.columns % plan_.lane_columns() != 0;
                if (corrected_ && !spare) sum_left(x, mine);
                if (listed) mask_rows(x, mine);
                for (std::int64_t panel = last; panel >= first; --panel) {
                    if (listed && (panel == last || panel == panels_ - 2)) list_tiles(x, panel_vectors(panel), mine);
                    multiply_panel(x, panel, memory_.right.data() + panel_offset(panel, 0), mine,
                                   corrected_ && spare && panel == last, listed);
                }
                if (out_.seen != nullptr && panel_parts_ == 1) count_rows(x.row_begin, x.row_end, mine.seen);
            }
            if (streams_) end_stream();
        });
        if (out_.seen == nullptr) return;
        if (panel_parts_ != 1) return count_rows(0, plan_.rows, *out_.seen);
        for (std::int64_t i = 0; i < threads_; ++i) out_.seen->add(memory_.threads[size(i)].seen);
    }

    void multiply_by_depth() {
        parallel(threads_, [&](std::int64_t id, std::int64_t count) { prepare_left(id, count); });
        parallel(threads_, [&](std::int64_t id, std::int64_t count) {
            thread_memory& mine = memory_.threads[size(id)];
            mine.accumulators.fill_zero();
            const std::int64_t share = whole(chunks_, count), end = std::min(chunks_, (id + 1) * share);
            for (std::int64_t chunk = id * share; chunk < end; ++chunk) {
                if (!plan_.direct) pack_left(chunk, mine.left.data(), 0, 1);
                for (std::int64_t panel = 0; panel < panels_; ++panel)
                    pack_panel(chunk, panel, mine.right.data() + panel_offset(panel, chunk));
                part x{0, plan_.rows, chunk, plan_.direct ? left_base() : mine.left.data()};
                const bool listed = worth_lists(x, mine), spare = plan_.columns % tile_lanes != 0;
                const std::int64_t step = listed ? skip_rows_ : plan_.rows;
                for (; x.row_begin < plan_.rows; x.row_begin += step) {
                    x.row_end = std::min(plan_.rows, x.row_begin + step);
                    fill_rows(x, mine);
                    if (corrected_ && !spare) sum_left(x, mine);
                    if (listed) mask_rows(x, mine);
                    for (std::int64_t panel = panels_ - 1; panel >= 0; --panel) {
                        if (listed && panel >= panels_ - 2) list_tiles(x, panel_vectors(panel), mine);
                        multiply_panel(x, panel, mine.right.data() + panel_offset(panel, chunk), mine,
                                       corrected_ && spare && panel == panels_ - 1, listed);
                    }
                }
            }
        });
        buffer<std::int64_t>& total = memory_.threads[0].accumulators;
        for (std::int64_t i = 1; i < threads_; ++i)
            for (std::size_t j = 0; j < total.size(); ++j) total[j] += memory_.threads[size(i)].accumulators[j];
        const std::int64_t row_step = plan_.swapped ? 1 : pitch(), column_step = plan_.swapped ? pitch() : 1;
        const std::int64_t rows = out_rows_.size(), columns = plan_.swapped ? plan_.rows : plan_.columns;
        offset_walker row(out_rows_, 0);
        for (std::int64_t m = 0; m < rows; ++m, row.advance(1))
            for (std::int64_t n = 0; n < columns; ++n)
                store_uncounted(out_, row.offset() + n, n, total[size(m * row_step + n * column_step)]);
        if (out_.seen != nullptr) count_rows(0, rows, *out_.seen);
    }

    // ---- tiles ------------------------------------------------------------------------------------------------------

    // Multiplies the part's rows with a panel and drains the tiles, or adds them to the accumulators. `spare`: the
    // panel's column past the last one gives the corrections, which are kept for the other panels. `listed`:
    // list_tiles() was called for panels of this width.
    void multiply_panel(const part& x, std::int64_t panel, const std::byte* right, thread_memory& mine, bool spare,
                        bool listed) const {
        const int v = panel_vectors(panel);
        const std::int64_t first_column = panel * plan_.panel * tile_lanes;
        const std::int64_t columns = v * plan_.lane_columns();
        tile_job job{};
        job.kind = kind_;
        job.left = x.left;
        job.row_step = plan_.direct ? plan_.left.view.rows.stride[2] * (plan_.words ? 2 : 1) : 4;
        job.group_step = plan_.direct ? 4 * plan_.fold : vector_bytes;
        job.sums = mine.sums.data();
        job.group_left = mine.skip.left.data();
        widen_job widen;
        widen.sums = job.sums;
        widen.columns = static_cast<int>(columns);
        widen.limb_shift = plan_.limb_shift;
        drain_job drain;
        drain.out = &out_;
        drain.columns = static_cast<int>(std::min(columns, plan_.columns - first_column));
        drain.first_column = first_column;
        drain.pitch = columns;
        drain.narrow = narrow_;
        drain.stream = streams_;
        drain.bias = narrow_ && out_.bias != nullptr ? memory_.bias.data() : nullptr;
        const auto kernel_for = [&](std::int64_t left) {
            return kernel_of(isa_, kind_, plan_.fold, v * plan_.limbs(), plan_.quads(), left);
        };
        tile_kernel kernel = kernel_for(x.rows());
        const skip_tile* tile = listed ? mine.skip.tiles.data() : nullptr;
        for (std::int64_t row = x.row_begin; row < x.row_end; row += kernel.rows) {
            if (x.row_end - row < kernel.rows) kernel = kernel_for(x.row_end - row);
            const int rows = static_cast<int>(std::min<std::int64_t>(kernel.rows, x.row_end - row));
            const std::int64_t local = row - x.row_begin;
            job.rows = mine.left_rows.data() + local;
            job.rows_step = kernel.quads ? 4 : 1;
            drain.rows = mine.output_rows.data() + local;
            drain.row_count = widen.row_count = rows;
            if (corrected_) {
                drain.correction = spare ? job.sums + (plan_.columns - first_column) : mine.corrections.data() + local;
                drain.correction_step = spare ? columns : 1;
                widen.correction = drain.correction;
                widen.correction_step = drain.correction_step;
            }
            if (plan_.deep) {
                widen.into = mine.accumulators.data() + row * pitch() + first_column;
                widen.pitch = pitch();
                widen.add = true;
                multiply_blocks(x, right, job, kernel, &widen, tile, mine.skip);
            } else {
                if (memory_.walk.block_count == 1 && plan_.limb_shift == 0) {
                    const bool drains =
                        narrow_ && kernel.drains && (tile == nullptr || tile->kind != skip_kind::row_list);
                    job.drain = drains ? &drain : nullptr;
                    drain.spare = drains && spare ? mine.corrections.data() + local : nullptr;
                    multiply_blocks(x, right, job, kernel, nullptr, tile, mine.skip);
                    if (!drains) drain_sums(isa_, drain, job.sums);
                } else {
                    widen.into = mine.exact.data();
                    widen.pitch = columns;
                    widen.add = false;
                    multiply_blocks(x, right, job, kernel, &widen, tile, mine.skip);
                    drain_sums(isa_, drain, mine.exact.data());
                }
            }
            if (listed) ++tile;
            if (spare && job.drain == nullptr)
                for (int r = 0; r < rows; ++r) mine.corrections[size(local + r)] = drain.correction_of(r);
        }
    }

    // One tile over the blocks of a chunk: the sums of a single block, or all of them added up in 64 bits. A chunk
    // whose zeros are skipped is one block.
    void multiply_blocks(const part& x, const std::byte* right, tile_job& job, const tile_kernel& kernel,
                         widen_job* widen, const skip_tile* tile, const skip_memory& lists) const {
        const depth_walk& walk = memory_.walk;
        const std::int64_t begin = chunk_begin(x.chunk), end = chunk_end(x.chunk);
        job.right = right;
        for (std::int64_t b = begin; b < end; ++b) {
            const depth_block &from = walk.blocks[size(b)], &to = walk.blocks[size(b + 1)];
            job.spans = memory_.spans.data() + from.spans;
            job.span_count = to.spans - from.spans;
            job.list = nullptr;
            if (tile == nullptr || tile->kind == skip_kind::none)
                kernel.run(job);
            else
                multiply_listed(*tile, lists, job, kernel);
            job.right += (to.groups - from.groups) * kernel.vectors * vector_bytes;
            if (widen == nullptr) continue;
            widen_sums(isa_, *widen);
            widen->add = true;
        }
    }

    static void multiply_listed(const skip_tile& tile, const skip_memory& lists, tile_job& job,
                                const tile_kernel& kernel) {
        const std::uint32_t* groups = lists.groups.data() + tile.first;
        const std::int32_t* count = lists.counts.data() + tile.first_count;
        job.list = groups;
        job.list_count = *count;
        if (tile.kind == skip_kind::tile_list) return kernel.run(job);
        const std::int32_t* values = lists.values.data() + tile.first;
        for (int piece = 0; piece < tile.pieces; ++piece)
            for (int r = 0; r < tile.rows; ++r, ++count) {
                kernel.run_row(groups, values, *count, job.right, job.sums + r * kernel.vectors * tile_lanes,
                               piece != 0);
                groups += *count;
                values += *count;
            }
    }

    // corrections[row] = 128 x the sum of the left row over the part's chunk, one block.
    void sum_left(const part& x, thread_memory& mine) const {
        const depth_block& from = memory_.walk.blocks[size(chunk_begin(x.chunk))];
        const depth_block& to = memory_.walk.blocks[size(chunk_end(x.chunk))];
        if (plan_.direct)
            return sum_rows(isa_, x.left, mine.left_rows.data(), x.rows(), memory_.spans.data() + from.spans,
                            to.spans - from.spans, mine.corrections.data());
        for (std::int64_t i = 0; i < x.rows(); i += tile_lanes)
            sum_packed(isa_, x.left + mine.left_rows[size(i)], to.groups - from.groups, mine.corrections.data() + i);
    }

    // ---- histogram --------------------------------------------------------------------------------------------------

    // Adds the magnitudes of whole rows of the result, as long as they are contiguous in one call.
    void count_rows(std::int64_t begin, std::int64_t end, histogram& into) const {
        const std::int64_t columns = plan_.swapped ? plan_.rows : plan_.columns;
        while (begin < end) {
            const std::int64_t in_run = out_rows_.extent[2] - begin % out_rows_.extent[2];
            const std::int64_t rows = out_rows_.stride[2] == columns ? std::min(in_run, end - begin) : 1;
            count_magnitudes(out_.wide + out_rows_.offset(begin), rows * columns, into, isa_, 1);
            begin += rows;
        }
    }

    const output& out_;
    const int threads_;
    const bool narrow_;
    const axis out_rows_;
    const bool streams_;
    bool corrected_ = false;
    std::int64_t panels_ = 1, panel_parts_ = 1, chunks_ = 1, row_block_ = 1;
    std::int64_t skip_rows_ = 1;  // most rows of a row block whose zeros are skipped
};

}  // namespace detail

// C[m][n] = sum over k of a(m, k) x b(n, k). Throws argument_error (check.hpp).
inline void multiply_fused(const problem& p, const output& out, const settings& how, workspace& memory) {
    check(p, out);
    if (p.m() == 0 || p.n() == 0) return;
    if (p.k() == 0) {
        for (std::int64_t m = 0; m < p.m(); ++m)
            for (std::int64_t n = 0; n < p.n(); ++n) store_accumulator(out, m, n, 0);
        return;
    }
    detail::fused_call(p, out, how, memory.fused).run();
}

}  // namespace lamella::gemm
