// Where operands wait and how often each level of the memory is asked for them: register files in the PEs, the network
// between, the buffer, DRAM. Four dataflows, named after what stays in a PE while a feed-forward layer runs. Next:
// memory.hpp, which turns accesses into the bits of real operands.
//
// Sourced (Sze et al., Proc. IEEE 105(12), 2017, section 5.2): what each dataflow keeps, broadcasts and passes on.
// Reconstruction: the loops below, so that counts are exact and can be made by hand.
//
// A GEMM is rows x partners x depth (datapath.hpp): `moving` is the operand of the rows, `resident` that of the
// partners. DRAM holds everything. The buffer holds one tile of each operand and one of sums; tiles follow each other
// in the dataflow's order, what is there is not fetched again, and sums that leave unfinished go to DRAM and come back.
// Inside a tile, blocks of it go over the array of PEs one after the other, each fetching what it needs from the
// buffer:
//
//   weight_stationary   a PE holds one resident element while all rows of the tile pass. A moving element is read once
//   and
//                       sent to all partners of the block; sums hop along the depth of the block and return to the
//                       buffer.
//   output_stationary   a PE holds the sums of one row and `sums` partners over the depth of the tile. A moving element
//   goes
//                       to each PE that has its row; a resident one is read once a block and sent for every product.
//   row_stationary      a PE runs a one-dimensional convolution: a row of taps over a window that slides, both in its
//                       registers, to a row of outputs. PEs with the same window share one read of it; sums hop over
//                       the filter rows of the block. The innermost levels of the axes are the rows: nothing slides in
//                       a matrix, where a window is as large as outputs x taps.
//   no_local_reuse      no registers: a resident element is read for every product; otherwise as weight_stationary.
//
// `products` are those issued: registers, and whatever is fetched for each product, are asked for that often.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "datapath.hpp"

namespace lamella::accelerator {

// Where a word of an operand or result is read or written, from the multipliers outwards.
enum class memory_level : std::uint8_t { registers, network, buffer, dram };
inline constexpr std::array<std::string_view, 4> memory_level_names{"registers", "network", "buffer", "dram"};
constexpr std::string_view name_of(memory_level l) noexcept { return memory_level_names[static_cast<std::size_t>(l)]; }

// Elements along each dimension: of the array, one a PE (`sums` partners a PE in output_stationary; rows of outputs and
// of taps in row_stationary), and of the tile in the buffer.
struct tiling {
    std::int64_t array_rows = 1, array_partners = 1, array_depth = 1;
    std::int64_t sums = 1;
    std::int64_t buffer_rows = 1, buffer_partners = 1, buffer_depth = 1;
    friend bool operator==(const tiling&, const tiling&) = default;
};

// Elements, each once a time. The network only transfers: its reads are transfers towards PEs or between them, its
// writes those that leave for the buffer.
struct access_count {
    std::uint64_t reads = 0, writes = 0;
    friend bool operator==(const access_count&, const access_count&) = default;
};
struct gemm_accesses {
    std::array<access_count, 4> moving, resident, sums;  // by level
    friend bool operator==(const gemm_accesses&, const gemm_accesses&) = default;
};

// What the dataflows need to know of one GEMM: follows from its shape alone, worked out once a shape.
class gemm_loops {
  public:
    gemm_loops(const gemm::event_operand& moving, const gemm::event_operand& resident, accelerator::dataflow flow,
               const tiling& t)
        : flow_(flow),
          tiles_(t),
          rows_(moving.view.rows.size()),
          partners_(resident.view.rows.size()),
          depth_(moving.view.depth.size()) {
        row_outputs_ = flow == dataflow::row_stationary ? moving.view.rows.extent[2] : 1;
        row_taps_ = flow == dataflow::row_stationary ? moving.view.depth.extent[2] : 1;
        tiles_.buffer_rows = whole_rows(t.buffer_rows, rows_, row_outputs_);
        tiles_.buffer_depth = whole_rows(t.buffer_depth, depth_, row_taps_);
        tiles_.buffer_partners = std::min(t.buffer_partners, partners_);
        const present_map moves(moving), stays(resident);
        moving_pairs_ = moves.pairs;
        resident_pairs_ = stays.pairs;
        walk_tiles(moves, stays);
        if (flow == dataflow::row_stationary) list_windows(moving, moves);
    }

    // Accesses when `products` are issued for `outputs` of the rows x partners sums.
    gemm_accesses count(std::uint64_t products, std::uint64_t outputs) const {
        gemm_accesses n;
        const auto at = [](memory_level l) { return static_cast<std::size_t>(l); };
        auto& [moving_registers, moving_network, moving_buffer, moving_dram] = n.moving;
        auto& [resident_registers, resident_network, resident_buffer, resident_dram] = n.resident;
        const tiling& t = tiles_;
        const std::uint64_t row_tiles = pieces(rows_, t.buffer_rows, t.buffer_rows);
        const std::uint64_t depth_tiles = pieces(depth_, t.buffer_depth, t.buffer_depth);
        std::uint64_t visits = depth_tiles;  // of a sum to the PEs: each ends in the buffer
        std::uint64_t hops = 0;              // of a sum between PEs, over all visits
        switch (flow_) {
            case dataflow::weight_stationary:
            case dataflow::no_local_reuse:
                moving_buffer.reads = moving_pairs_ * pieces(partners_, t.buffer_partners, t.array_partners);
                moving_network.reads = moving_pairs_ * unsigned_of(partners_);
                if (flow_ == dataflow::weight_stationary) {
                    resident_buffer.reads = resident_network.reads = resident_registers.writes =
                        resident_pairs_ * row_tiles;
                    resident_registers.reads = products;
                } else {
                    resident_buffer.reads = resident_network.reads = products;
                }
                visits = pieces(depth_, t.buffer_depth, t.array_depth);
                hops = unsigned_of(depth_) - visits;
                break;
            case dataflow::output_stationary: {
                moving_buffer.reads = moving_pairs_ * pieces(partners_, t.buffer_partners, t.array_partners * t.sums);
                moving_network.reads = moving_pairs_ * pieces(partners_, t.buffer_partners, t.sums);
                resident_buffer.reads = resident_pairs_ * pieces(rows_, t.buffer_rows, t.array_rows);
                resident_network.reads = products;
                const std::uint64_t parts = over_tiles(
                    depth_, t.buffer_depth, [&](std::int64_t size) { return std::min(t.array_depth, size); });
                hops = parts - visits;
                n.sums[at(memory_level::registers)] = {products + outputs * parts, products + outputs * (visits - 1)};
                break;
            }
            default:
                moving_buffer.reads = shared_windows_ * pieces(partners_, t.buffer_partners, t.array_partners);
                moving_network.reads = moving_registers.writes = all_windows_ * unsigned_of(partners_);
                resident_buffer.reads =
                    resident_pairs_ * pieces(rows_ / row_outputs_, t.buffer_rows / row_outputs_, t.array_rows);
                resident_network.reads = resident_registers.writes =
                    resident_pairs_ * unsigned_of(rows_ / row_outputs_);
                moving_registers.reads = resident_registers.reads = products;
                n.sums[at(memory_level::registers)] = {products, products};
                visits = pieces(depth_ / row_taps_, t.buffer_depth / row_taps_, t.array_depth);
                hops = unsigned_of(depth_ / row_taps_) - visits;
        }
        n.sums[at(memory_level::network)] = {outputs * (hops + visits - 1), outputs * visits};
        n.sums[at(memory_level::buffer)] = {outputs * (visits - 1), outputs * visits};

        moving_dram.reads = moving_fetched_;
        resident_dram.reads = resident_fetched_;
        n.sums[at(memory_level::dram)] = {spilled_, spilled_ + outputs};
        moving_buffer.writes += moving_fetched_;
        resident_buffer.writes += resident_fetched_;
        n.sums[at(memory_level::buffer)].reads += spilled_ + outputs;
        n.sums[at(memory_level::buffer)].writes += spilled_;
        return n;
    }

    // Pairs (row, depth) of the moving operand, (partner, depth) of the resident one, that are no padding.
    std::uint64_t moving_pairs() const noexcept { return moving_pairs_; }
    std::uint64_t resident_pairs() const noexcept { return resident_pairs_; }

  private:
    // Where each (row, depth) of an operand lies, and whether it is padding.
    struct present_map {
        explicit present_map(const gemm::event_operand& o) {
            const std::int64_t base = detail::base_of(o);
            for (std::int64_t i = 0; i < o.view.rows.size(); ++i) rows.push_back(base + o.view.rows.offset(i));
            for (std::int64_t k = 0; k < o.view.depth.size(); ++k) depths.push_back(o.view.depth.offset(k));
            present.resize(unsigned_of(o.stored.samples * o.stored.image()));
            for (std::size_t i = 0; i < present.size(); ++i)
                present[i] = detail::inside(o.stored, static_cast<std::int64_t>(i));
            stamp.resize(present.size());
            for (const std::int64_t row : rows)
                for (const std::int64_t depth : depths) pairs += present[unsigned_of(row + depth)];
        }
        // Elements that the rows and depths of a tile reach, each once.
        std::uint64_t distinct(std::int64_t row, std::int64_t last_row, std::int64_t first, std::int64_t last) const {
            ++turn;
            std::uint64_t n = 0;
            for (; row < last_row; ++row)
                for (std::int64_t k = first; k < last; ++k) {
                    const std::size_t at = unsigned_of(rows[unsigned_of(row)] + depths[unsigned_of(k)]);
                    n += present[at] != 0 && stamp[at] != turn;
                    stamp[at] = turn;
                }
            return n;
        }
        std::uint64_t pairs = 0;
        std::vector<std::int64_t> rows, depths;
        std::vector<std::uint8_t> present;
        mutable std::vector<std::uint32_t> stamp;
        mutable std::uint32_t turn = 0;
    };

    static std::uint64_t unsigned_of(std::int64_t x) noexcept { return static_cast<std::uint64_t>(x); }
    // A tile's extent in whole rows of outputs or taps, at least one.
    static std::int64_t whole_rows(std::int64_t tile, std::int64_t extent, std::int64_t row) noexcept {
        return std::min(std::max(tile / row, std::int64_t{1}) * row, extent);
    }
    template <class Size>
    static std::uint64_t over_tiles(std::int64_t extent, std::int64_t tile, Size&& of_size) {
        const std::int64_t rest = extent % tile;
        return unsigned_of(extent / tile * of_size(tile) + (rest == 0 ? 0 : of_size(rest)));
    }
    // Blocks of at most `block` in all tiles of `extent`.
    static std::uint64_t pieces(std::int64_t extent, std::int64_t tile, std::int64_t block) {
        return over_tiles(extent, tile, [&](std::int64_t size) { return (size + block - 1) / block; });
    }

    struct step {
        std::int64_t row, partner, depth;
        friend bool operator==(const step&, const step&) = default;
    };
    template <class Visit>
    void each_tile(Visit&& visit) const {
        const bool rows_last = flow_ == dataflow::weight_stationary;
        const std::int64_t outer = rows_last ? partners_ : rows_,
                           outer_by = rows_last ? tiles_.buffer_partners : tiles_.buffer_rows;
        const std::int64_t middle = rows_last ? depth_ : partners_,
                           middle_by = rows_last ? tiles_.buffer_depth : tiles_.buffer_partners;
        const std::int64_t inner = rows_last ? rows_ : depth_,
                           inner_by = rows_last ? tiles_.buffer_rows : tiles_.buffer_depth;
        for (std::int64_t x = 0; x < outer; x += outer_by)
            for (std::int64_t y = 0; y < middle; y += middle_by)
                for (std::int64_t z = 0; z < inner; z += inner_by) visit(rows_last ? step{z, x, y} : step{x, y, z});
    }
    void walk_tiles(const present_map& moves, const present_map& stays) {
        step held{-1, -1, -1};  // where the tiles in the buffer begin
        std::vector<std::uint8_t> begun(pieces(rows_, tiles_.buffer_rows, tiles_.buffer_rows) *
                                        pieces(partners_, tiles_.buffer_partners, tiles_.buffer_partners));
        each_tile([&](const step& at) {
            const std::int64_t row_end = std::min(rows_, at.row + tiles_.buffer_rows);
            const std::int64_t partner_end = std::min(partners_, at.partner + tiles_.buffer_partners);
            const std::int64_t end = std::min(depth_, at.depth + tiles_.buffer_depth);
            if (at.row != held.row || at.depth != held.depth)
                moving_fetched_ += moves.distinct(at.row, row_end, at.depth, end);
            if (at.partner != held.partner || at.depth != held.depth)
                resident_fetched_ += stays.distinct(at.partner, partner_end, at.depth, end);
            const std::int64_t across = (partners_ + tiles_.buffer_partners - 1) / tiles_.buffer_partners;
            std::uint8_t& seen =
                begun[unsigned_of(at.row / tiles_.buffer_rows * across + at.partner / tiles_.buffer_partners)];
            if ((at.row != held.row || at.partner != held.partner) && seen != 0)  // left unfinished, comes back
                spilled_ += unsigned_of((row_end - at.row) * (partner_end - at.partner));
            seen = 1;
            held = at;
        });
    }
    void list_windows(const gemm::event_operand& o, const present_map& map) {
        std::vector<std::int64_t> places;  // of one window, from its start
        for (std::int64_t x = 0; x < row_outputs_; ++x)
            for (std::int64_t s = 0; s < row_taps_; ++s)
                places.push_back(x * o.view.rows.stride[2] + s * o.view.depth.stride[2]);
        std::sort(places.begin(), places.end());
        places.erase(std::unique(places.begin(), places.end()), places.end());
        const auto elements = [&](std::int64_t start) {
            std::uint64_t n = 0;
            for (const std::int64_t p : places) n += map.present[unsigned_of(start + p)];
            return n;
        };
        std::vector<std::int64_t> starts;
        const std::int64_t row_block = tiles_.array_rows * row_outputs_, depth_block = tiles_.array_depth * row_taps_;
        const auto blocks = [](std::int64_t extent, std::int64_t tile, std::int64_t block, auto&& visit) {
            for (std::int64_t t = 0; t < extent; t += tile)
                for (std::int64_t b = t; b < std::min(extent, t + tile); b += block)
                    visit(b, std::min({extent, t + tile, b + block}));
        };
        blocks(rows_, tiles_.buffer_rows, row_block, [&](std::int64_t row, std::int64_t row_end) {
            blocks(depth_, tiles_.buffer_depth, depth_block, [&](std::int64_t first, std::int64_t end) {
                starts.clear();
                for (std::int64_t r = row; r < row_end; r += row_outputs_)
                    for (std::int64_t k = first; k < end; k += row_taps_)
                        starts.push_back(map.rows[unsigned_of(r)] + map.depths[unsigned_of(k)]);
                for (const std::int64_t s : starts) all_windows_ += elements(s);
                std::sort(starts.begin(), starts.end());
                starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
                for (const std::int64_t s : starts) shared_windows_ += elements(s);
            });
        });
    }

    dataflow flow_;
    tiling tiles_;
    std::int64_t rows_, partners_, depth_;
    std::int64_t row_outputs_, row_taps_;  // of a one-dimensional convolution
    std::uint64_t moving_pairs_ = 0, resident_pairs_ = 0;
    std::uint64_t moving_fetched_ = 0, resident_fetched_ = 0, spilled_ = 0;
    std::uint64_t all_windows_ = 0,
                  shared_windows_ = 0;  // elements of the windows of all PEs; of those read from the buffer
};

}  // namespace lamella::accelerator
