// RAN, the network between cores and memory: how the work of one GEMM is spread over cores, the tree that merges what
// cores have summed, and the banks that let one tile drain while the next accumulates.
//
// Sourced (COOL CHIPS 2021, JSSC 2021, abstracts): double-buffered, adaptive bandwidth, reconfigurable layer
// allocation, high core utilisation at every precision. Everything below is our reconstruction of how that can be done:
//
//   mapping   cores hold plane pairs, partners (output channels), depth (input channels) or streamed rows (batch); each
//             dimension takes the largest power of two that it can fill, in the configuration's order. What one
//             dimension has too few of, the next one takes: a 16-bit layer spreads 16 plane pairs, a 4-bit layer 16
//             groups of channels. Cores left over are idle.
//   tree      one level a bit of the core's number. A node adds, shifted by the slices' weight, where its children have
//             summed parts of one output (planes, depth), and passes both where they have different outputs: so four
//             bits carry sixteen times the outputs of sixteen, on the same wires.
//   cluster   the cores that share streamed rows. They meet at the end of every tile; clusters never wait for one
//             another.
//   banks     tile q accumulates into bank q mod banks, once what was there has drained.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "configuration.hpp"
#include "datapath.hpp"

namespace lamella::accelerator {

// x modulo 2^bits, as a signed number.
constexpr std::int64_t wrapped(std::int64_t x, int bits) noexcept {
    const int unused = 64 - bits;
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(x) << unused) >> unused;
}

// An accumulator of N bits that drops what passes them: however often it wraps on the way, the sum is exact modulo 2^N.
template <int N>
class accumulator {
    static_assert(N >= 2 && N <= 64);

  public:
    constexpr void add(std::int64_t x) noexcept {
        value_ =
            wrapped(static_cast<std::int64_t>(static_cast<std::uint64_t>(value_) + static_cast<std::uint64_t>(x)), N);
    }
    constexpr std::int64_t value() const noexcept { return value_; }

  private:
    std::int64_t value_ = 0;
};

// What a level of the tree does with its two children.
struct tree_level {
    bool adds = false;
    int shift = 0;  // bits, of the upper child
};

// Which part of each dimension a core has: group g of n.
struct core_place {
    bool idle = false;
    int streamed_plane = 0, held_plane = 0;  // planes g, g + n, ...
    int output = 0;                          // a block of partners
    int input = 0;                           // a block of windows along depth
    int cluster = 0;                         // tiles g, g + n, ...
};

// A range of rows, windows or partners.
struct block {
    std::int64_t first = 0, last = 0;  // last excluded
};
// Block g of n equal ones (the last may be short or empty).
constexpr block block_of(std::int64_t size, int n, int g) noexcept {
    const std::int64_t each = (size + n - 1) / n;
    return {std::min(size, g * each), std::min(size, (g + 1) * each)};
}

// Which core does which part of a GEMM: how the cores are split over plane pairs, outputs, inputs and tiles.
class ran_mapping {
  public:
    ran_mapping(const configuration& c, const datapath_view& v)
        : cores(c.cores), windows((v.depth() + c.window - 1) / c.window),
          tiles((v.rows() + c.tile_rows() - 1) / c.tile_rows()) {
        int left = c.cores;
        const auto take = [&](int& factor, std::int64_t extent, auto level) {
            while (left > 1 && 2 * factor <= extent) {
                tree[static_cast<std::size_t>(levels++)] = level(factor);
                bits_[static_cast<std::size_t>(levels - 1)] = {&factor, factor};
                factor *= 2;
                left /= 2;
            }
        };
        const auto pass = [](int) { return tree_level{}; };
        const auto add = [](int) { return tree_level{true, 0}; };
        const auto add_planes = [&](int weight) { return tree_level{true, v.radix_bits() * weight}; };
        for (const dimension d : c.order) switch (d) {
                case dimension::plane_pairs:
                    take(held_planes, v.held_planes(), add_planes);
                    take(streamed_planes, v.streamed_planes(), add_planes);
                    break;
                case dimension::output_channels: take(outputs, v.partners(), pass); break;
                case dimension::input_channels: take(inputs, windows, add); break;
                default: take(clusters, tiles, pass);
            }
        for (int core = 0; core < cores; ++core) places_[static_cast<std::size_t>(core)] = place(core);
    }
    ran_mapping(const ran_mapping&) = delete;
    ran_mapping& operator=(const ran_mapping&) = delete;

    const core_place& operator[](int core) const noexcept { return places_[static_cast<std::size_t>(core)]; }
    int used() const noexcept { return 1 << levels; }
    // The core that does in `cluster` what `core` does in cluster 0.
    int core_of(int core, int cluster) const noexcept {
        for (int level = 0; level < levels; ++level) {
            const auto [factor, weight] = bits_[static_cast<std::size_t>(level)];
            if (factor == &clusters && (cluster & weight) != 0) core |= 1 << level;
        }
        return core;
    }

    int cores;
    std::int64_t windows, tiles;
    int streamed_planes = 1, held_planes = 1, outputs = 1, inputs = 1, clusters = 1;  // groups of each dimension
    std::array<tree_level, 6> tree{};  // from the leaves to the root
    int levels = 0;

  private:
    struct bit {
        const int* factor = nullptr;
        int weight = 0;
    };
    core_place place(int core) const noexcept {
        core_place p;
        p.idle = core >= used();
        for (std::size_t level = 0; level < static_cast<std::size_t>(levels) && !p.idle; ++level) {
            if ((core >> level & 1) == 0) continue;
            const auto [factor, weight] = bits_[level];
            (factor == &streamed_planes ? p.streamed_plane
             : factor == &held_planes   ? p.held_plane
             : factor == &outputs       ? p.output
             : factor == &inputs        ? p.input
                                        : p.cluster) += weight;
        }
        return p;
    }

    std::array<bit, 6> bits_;
    std::array<core_place, max_cores> places_{};
};

// Runs one value of each core up the tree, in place: afterwards the cores whose adding levels all say 0 hold outputs.
inline void merge(const ran_mapping& map, std::uint64_t* value) noexcept {
    for (int level = 0; level < map.levels; ++level) {
        const tree_level node = map.tree[static_cast<std::size_t>(level)];
        if (!node.adds) continue;
        for (int core = 0; core < map.used(); ++core)
            if ((core >> level & 1) == 0) value[core] += value[core | 1 << level] << node.shift;
    }
}

// Cycles to drain a tile: every block of partners has a port of its own.
constexpr std::uint64_t drain_cycles(std::uint64_t largest_block, int drain_width) noexcept {
    const auto width = static_cast<std::uint64_t>(drain_width);
    return (largest_block + width - 1) / width;
}

// When the tiles of one cluster accumulate and drain, in closed form.
class bank_schedule {
  public:
    explicit bank_schedule(int banks) : banks_(static_cast<std::size_t>(banks)) {}

    // The next tile, which accumulates and drains so many cycles.
    void add(std::uint64_t accumulate, std::uint64_t drain) noexcept {
        std::uint64_t& free_at = free_[count_++ % banks_];
        const std::uint64_t start = std::max(accumulated_, free_at);
        stalled_ += start - accumulated_;
        accumulated_ = start + accumulate;
        free_at = drained_ = std::max(accumulated_, drained_) + drain;
    }
    std::uint64_t end() const noexcept { return std::max(accumulated_, drained_); }
    std::uint64_t stalled() const noexcept { return stalled_; }
    std::uint64_t exposed() const noexcept { return end() - accumulated_; }

  private:
    std::size_t banks_, count_ = 0;
    std::array<std::uint64_t, 8> free_{};
    std::uint64_t accumulated_ = 0, drained_ = 0, stalled_ = 0;
};

}  // namespace lamella::accelerator
