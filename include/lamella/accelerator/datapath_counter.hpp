// The numbers of emulator.hpp in closed form, one GEMM at a time, from bitmaps of non-zero slices: cycles, stalls,
// utilisation and traffic without walking a single product. Equal, number for number, over random shapes, widths,
// encodings, masks and configurations (tests/datapath_test.cpp). counters.hpp applies it to a training run.
//
//   a row on a core   cycles = sum over its planes of [non-zero digits x ceil(partners x held slices / multipliers)
//                     + windows with digits but no non-zero one]
//   a tile            the longest sum of rows over all lanes and cores of a cluster; lane by deal_rows (ioss.hpp)
//   a cluster         bank_schedule (ran.hpp) over its tiles; the GEMM ends with the last cluster
//
// Where held digits stand for padding (only where weights stream over a bordered image), partners differ along depth and
// each non-zero digit is looked at. Memory is grow-only.
// Reconstruction, as what it computes is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "../core/memory.hpp"
#include "bit_image.hpp"
#include "border_shapes.hpp"
#include "column_counts.hpp"
#include "configuration.hpp"
#include "datapath.hpp"
#include "ioss.hpp"
#include "partner_bits.hpp"
#include "ran.hpp"
#include "row_kernels.hpp"
#include "whole_tiles.hpp"

namespace lamella::accelerator {

class datapath_counter {
  public:
    // Throws argument_error for a configuration that validated() refuses.
    explicit datapath_counter(configuration c, path isa = best_path()) : how_(std::move(c)), isa_(isa) { validated(how_); }

    const configuration& how() const noexcept { return how_; }

    // What emulator::run returns.
    const datapath_counts& count(const gemm::gemm_event& event, bool a_streams) {
        const datapath_view view(event, how_, a_streams);
        const ran_mapping map(how_, view);
        prepare(event, view, map);
        if (alone_) {
            plane_products_ = whole_tiles_.count(event, view, map, how_, isa_, {digit_columns_, places_, present_digits_, present_windows_},
                                                 counts_, banks_);
            end_of_clusters();
            finish(view, map);
            return counts_;
        }
        std::vector<std::uint64_t>* const history = history_.of(event);
        const bool by_history = how_.balance == lane_balance::iterative && history != nullptr &&
                                static_cast<std::int64_t>(history->size()) == view.rows();
        loads_.resize(static_cast<std::size_t>(view.rows()));

        banks_.assign(static_cast<std::size_t>(map.clusters), bank_schedule(how_.banks));
        for (std::int64_t tile = 0; tile < map.tiles; ++tile) {
            const int cluster = static_cast<int>(tile % map.clusters);
            const std::int64_t first = tile * how_.tile_rows(), count = std::min<std::int64_t>(how_.tile_rows(), view.rows() - first);
            tile_outputs_.fill(0);
            for (std::int64_t i = 0; i < count; ++i) row(view, map, cluster, first + i, i);
            std::span<const std::uint64_t> by;
            if (how_.balance == lane_balance::greedy) by = std::span(loads_).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
            if (by_history) by = std::span(*history).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
            lane_of_.resize(static_cast<std::size_t>(count));
            deal_rows(how_.balance, by, how_.lanes, lane_of_, order_);
            banks_[static_cast<std::size_t>(cluster)].add(
                tile_cycles(count),
                drain_cycles(*std::max_element(tile_outputs_.begin(), tile_outputs_.end()), how_.drain_width));
        }
        end_of_clusters();
        if (history != nullptr) history->assign(loads_.begin(), loads_.end());
        finish(view, map);
        return counts_;
    }

    // Only what iterative balance must know of the step before a counted one.
    void remember(const gemm::gemm_event& event, bool a_streams) {
        if (how_.balance != lane_balance::iterative || event.probe) return;
        const datapath_view view(event, how_, a_streams);
        const ran_mapping map(how_, view);
        prepare(event, view, map);
        loads_.resize(static_cast<std::size_t>(view.rows()));
        for (std::int64_t m = 0; m < view.rows(); ++m) row(view, map, -1, m, 0);
        history_.of(event)->assign(loads_.begin(), loads_.end());
    }

  private:
    static std::size_t at(std::int64_t i) noexcept { return static_cast<std::size_t>(i); }
    // Sums of one row over the planes of one group, in one block of windows.
    struct row_part {
        std::uint64_t digits = 0;   // that are issued
        std::uint64_t scanned = 0;  // windows with digits, none of them issued
    };

    void prepare(const gemm::gemm_event& event, const datapath_view& v, const ran_mapping& map) {
        counts_ = {};
        counts_.gemms = 1;
        counts_.too_wide = v.too_wide() ? 1 : 0;
        plane_products_.fill(0);
        words_ = (v.depth() + 63) / 64;
        depth_.set(v.streamed().view.depth);
        base_ = detail::base_of(v.streamed());
        edges_ = borders_.touched_by(v.streamed());
        held_edges_ = borders_.touched_by(v.held());
        columns_ = how_.input_skip && how_.index == index_format::bitmap && !held_edges_ && map.inputs == 1 &&
                   digit_columns_.fits(v.streamed());
        const std::vector<std::int64_t>* const active = v.a_streams() ? event.active : nullptr;
        alone_ = columns_ && detail::whole_tiles::serve(how_, v, map);
        if (columns_) {
            prepare_columns(v, active);
        } else if (how_.input_skip) {
            image_.mark(v.streamed(), how_, v.streamed_planes(), depth_.unit, active, isa_);
        }
        if (edges_ && !columns_) presence_.mark_present(v.streamed(), depth_.unit, isa_);
        full_.resize(at(words_ + 2));
        for (std::int64_t w = 0; w < words_; ++w)
            full_[at(w)] = ~std::uint64_t{0} >> (w + 1 < words_ ? 0 : (64 - v.depth() % 64) % 64);
        bits_.resize(at((words_ + 2) * (v.streamed_planes() + 1)));
        for (int p = 0; p < map.outputs; ++p) {
            const block b = block_of(v.partners(), map.outputs, p);
            needed_[at(p)] = static_cast<std::uint64_t>(b.last - b.first);
        }
        for (int g = 0; g < map.inputs; ++g) {
            const block b = block_of(map.windows, map.inputs, g);
            inputs_[at(g)] = {std::min(v.depth(), b.first * how_.window), std::min(v.depth(), b.last * how_.window)};
        }
        if ((v.masked() && !alone_) || held_edges_) bits_of_partners_.list_needed(event, v);
        if (held_edges_) bits_of_partners_.list_held(v, isa_);
        cores_.clear();
        for (int core = 0; core < map.used(); ++core)
            if (map[core].cluster == 0) cores_.push_back(core);
        cycles_.resize(cores_.size() * at(how_.tile_rows()));
        met_partners_.assign(cores_.size() + 1, 0);
        met_cycles_.assign(cores_.size() + 1, 0);
        fold_ = 0;
        for (int bit = 0; bit < 64; bit += how_.window) fold_ |= std::uint64_t{1} << bit;
    }

    // Counts all rows at once.
    void prepare_columns(const datapath_view& v, const std::vector<std::int64_t>* active) {
        const gemm::event_operand& o = v.streamed();
        places_.clear();
        const gemm::axis& rows = o.view.rows;
        for (std::int64_t m = 0; m < v.rows(); m += rows.extent[2]) {
            const std::int64_t place = digit_columns_.place(rows, m);
            if (!places_.empty() && places_.back().from + places_.back().count == place)
                places_.back().count += rows.extent[2];
            else
                places_.push_back({m, place, rows.extent[2]});
        }
        present_digits_ = present_windows_ = nullptr;
        if (edges_) {
            detail::border_shape& shape = borders_.of(o);
            if (shape.digits.empty()) {
                digit_columns_.count_present(o, how_, isa_);
                for (const detail::run& r : places_)
                    for (std::int64_t i = 0; i < r.count; ++i) {
                        shape.digits.push_back(digit_columns_.digits(0)[r.from + i]);
                        shape.windows.push_back(digit_columns_.windows(0)[r.from + i]);
                    }
                shape.digits.resize(shape.digits.size() + detail::rows_at_once);  // may be read
                shape.windows.resize(shape.windows.size() + detail::rows_at_once);
            }
            present_digits_ = shape.digits.data();
            present_windows_ = shape.windows.data();
        }
        digit_columns_.count(o, how_, v.streamed_planes(), active, isa_);
    }

    void end_of_clusters() noexcept {
        for (const bank_schedule& b : banks_) {
            counts_.cycles = std::max(counts_.cycles, b.end());
            counts_.stalled += b.stalled();
            counts_.exposed += b.exposed();
        }
    }
    // Everything that one row adds; its cycles on each core of its cluster go to cycles_[core][index]. A negative
    // cluster asks for the row's load alone.
    void row(const datapath_view& v, const ran_mapping& map, int cluster, std::int64_t m, std::int64_t index) {
        if (v.masked())
            for (int g = 0; g < map.outputs; ++g) {
                const block b = block_of(v.partners(), map.outputs, g);
                const std::uint64_t* const bits = bits_of_partners_.needed(m);
                needed_[at(g)] = detail::common_bits(isa_, bits, bits, b.first, b.last);
            }
        std::uint64_t all = 0;
        for (int g = 0; g < map.outputs; ++g) {
            all += needed_[at(g)];
            tile_outputs_[at(g)] += needed_[at(g)];
        }
        loads_[at(m)] = 0;
        if (all == 0) {
            if (cluster >= 0)
                for (std::size_t c = 0; c < cores_.size(); ++c) cycles_[c * at(how_.tile_rows()) + at(index)] = 0;
            return;
        }
        if (cluster >= 0) {
            counts_.outputs += all;
            counts_.partial_sums += all * static_cast<std::uint64_t>(map.streamed_planes * map.held_planes * map.inputs);
        }
        if (columns_) return column_row(v, map, cluster, m, index, all);
        read_row(v, m);
        if (cluster >= 0) count_traffic(v);
        if (held_edges_)
            uneven_row(v, map, cluster, m, index);
        else
            even_row(v, map, cluster, m, index, all);
    }

    // Bits of the row: of each plane, the digits that are issued when partners are there; then those present.
    std::uint64_t* plane_bits(int p) noexcept { return bits_.data() + p * (words_ + 2); }
    void read_row(const datapath_view& v, std::int64_t m) {
        const std::int64_t offset = base_ + v.streamed().view.rows.offset(m);
        const std::int64_t q = depth_.unit == 1 ? offset : offset / depth_.unit, c = offset - q * depth_.unit;
        const int planes = v.streamed_planes();
        bits_.fill_zero();
        std::uint64_t* const present = plane_bits(planes);
        if (edges_)
            presence_.read(0, q, c, depth_, present);
        else
            std::copy_n(full_.data(), words_, present);
        for (int p = 0; p < planes; ++p) {
            if (how_.input_skip)
                image_.read(p, q, c, depth_, plane_bits(p));
            else
                std::copy_n(present, words_, plane_bits(p));
        }
    }

    void even_row(const datapath_view& v, const ran_mapping& map, int cluster, std::int64_t m, std::int64_t index, std::uint64_t all) {
        const int planes = v.streamed_planes();
        const std::uint64_t* const present = plane_bits(planes);
        for (int p = 0; p < planes; ++p)
            for (int g = 0; g < map.inputs; ++g) {
                row_part& sum = parts_[at(p * map.inputs + g)];
                sum = {};
                const block b = inputs_[at(g)];
                detail::count_row(isa_, plane_bits(p), present, b.first, b.last, how_.window, fold_, sum.digits, sum.scanned);
                if (!how_.input_skip) sum.scanned = 0;
            }
        add_row(v, map, cluster, m, index, all);
    }
    void column_row(const datapath_view& v, const ran_mapping& map, int cluster, std::int64_t m, std::int64_t index, std::uint64_t all) {
        const int planes = v.streamed_planes();
        const std::int64_t place = digit_columns_.place(v.streamed().view.rows, m);
        const std::uint64_t windows = present_windows_ == nullptr ? static_cast<std::uint64_t>(map.windows) : present_windows_[m];
        const std::uint64_t digits = present_digits_ == nullptr ? static_cast<std::uint64_t>(v.depth()) : present_digits_[m];
        std::uint64_t stored = 0;
        for (int p = 0; p < planes; ++p) {
            parts_[at(p)] = {digit_columns_.digits(p)[place], windows - digit_columns_.windows(p)[place]};
            stored += parts_[at(p)].digits;
        }
        if (cluster >= 0) {
            counts_.streamed_bits += stored * static_cast<std::uint64_t>(digit_bits(how_));
            counts_.index_bits += digits * static_cast<std::uint64_t>(planes);
        }
        add_row(v, map, cluster, m, index, all);
    }

    // Cycles of a digit on the i-th core of a cluster; neighbouring rows mostly have equally many partners.
    std::uint64_t cycles_a_digit(std::size_t i, std::uint64_t products) noexcept {
        if (met_partners_[i] != products) {
            met_partners_[i] = products;
            met_cycles_[i] = digit_cycles(products, how_.multipliers);
        }
        return met_cycles_[i];
    }
    // Adds what parts_ say of row m.
    void add_row(const datapath_view& v, const ran_mapping& map, int cluster, std::int64_t m, std::int64_t index, std::uint64_t all) {
        const int planes = v.streamed_planes();
        row_part lone;
        for (int p = 0; p < planes; ++p)
            for (int g = 0; g < map.inputs; ++g) {
                const row_part& part = parts_[at(p * map.inputs + g)];
                plane_products_[at(p)] += part.digits * all;
                lone.digits += part.digits;
                lone.scanned += part.scanned;
            }
        loads_[at(m)] =
            lone.digits * cycles_a_digit(cores_.size(), all * static_cast<std::uint64_t>(v.held_planes())) + lone.scanned;
        if (cluster < 0) return;
        for (std::size_t i = 0; i < cores_.size(); ++i) {
            const core_place& place = map[cores_[i]];
            const std::uint64_t partners = needed_[at(place.output)];
            std::uint64_t& cycles = cycles_[i * at(how_.tile_rows()) + at(index)];
            cycles = 0;
            if (partners == 0) continue;
            const std::uint64_t products = partners * held_planes(v, map, place);
            row_part own;
            for (int p = place.streamed_plane; p < planes; p += map.streamed_planes) {
                own.digits += parts_[at(p * map.inputs + place.input)].digits;
                own.scanned += parts_[at(p * map.inputs + place.input)].scanned;
            }
            add_core(map, cluster, i, own.digits * products, own.digits * cycles_a_digit(i, products), own.scanned, cycles);
        }
    }

    // Partners differ along depth.
    void uneven_row(const datapath_view& v, const ran_mapping& map, int cluster, std::int64_t m, std::int64_t index) {
        const int planes = v.streamed_planes();
        const std::uint64_t* const present = plane_bits(planes);
        const std::uint64_t* const needed = bits_of_partners_.needed(m);
        met_.resize(at(v.depth() * map.outputs));
        for (std::int64_t k = 0; k < v.depth(); ++k)
            for (int g = 0; g < map.outputs; ++g) {
                const block b = block_of(v.partners(), map.outputs, g);
                met_[at(k * map.outputs + g)] = detail::common_bits(isa_, needed, bits_of_partners_.held(k), b.first, b.last);
            }
        const auto set = [](const std::uint64_t* bits, std::int64_t k) { return (bits[k >> 6] >> (k & 63) & 1) != 0; };
        for (int p = 0; p < planes; ++p)
            for (std::int64_t k = 0; k < v.depth();) {
                std::uint64_t any = 0, cost = 0;
                for (const std::int64_t end = std::min(v.depth(), k + how_.window); k < end; ++k) {
                    any |= std::uint64_t{set(present, k)};
                    if (!set(plane_bits(p), k)) continue;
                    std::uint64_t met = 0;
                    for (int g = 0; g < map.outputs; ++g) met += met_[at(k * map.outputs + g)];
                    plane_products_[at(p)] += met;
                    cost += digit_cycles(met * static_cast<std::uint64_t>(v.held_planes()), how_.multipliers);
                }
                loads_[at(m)] += cost + std::uint64_t{how_.input_skip && cost == 0 && any != 0};
            }
        if (cluster < 0) return;
        for (std::size_t i = 0; i < cores_.size(); ++i) {
            const core_place& place = map[cores_[i]];
            std::uint64_t& cycles = cycles_[i * at(how_.tile_rows()) + at(index)];
            cycles = 0;
            if (needed_[at(place.output)] == 0) continue;
            const std::uint64_t held = held_planes(v, map, place);
            std::uint64_t issued = 0, busy = 0, scanned = 0;
            for (int p = place.streamed_plane; p < planes; p += map.streamed_planes)
                for (std::int64_t first = inputs_[at(place.input)].first; first < inputs_[at(place.input)].last;) {
                    const std::int64_t end = std::min(inputs_[at(place.input)].last, first + how_.window);
                    std::uint64_t any = 0, cost = 0;
                    for (; first < end; ++first) {
                        any |= std::uint64_t{set(present, first)};
                        if (!set(plane_bits(p), first)) continue;
                        const std::uint64_t products = met_[at(first * map.outputs + place.output)] * held;
                        issued += products;
                        cost += digit_cycles(products, how_.multipliers);
                    }
                    busy += cost;
                    scanned += std::uint64_t{how_.input_skip && cost == 0 && any != 0};
                }
            add_core(map, cluster, i, issued, busy, scanned, cycles);
        }
    }

    static std::uint64_t held_planes(const datapath_view& v, const ran_mapping& map, const core_place& place) noexcept {
        return static_cast<std::uint64_t>((v.held_planes() - place.held_plane + map.held_planes - 1) / map.held_planes);
    }
    void add_core(const ran_mapping& map, int cluster, std::size_t i, std::uint64_t issued, std::uint64_t busy,
                  std::uint64_t scanned, std::uint64_t& cycles) noexcept {
        counts_.core_issued[at(map.core_of(cores_[i], cluster))] += issued;
        counts_.busy += busy;
        counts_.scanning += scanned;
        cycles = busy + scanned;
    }

    std::uint64_t tile_cycles(std::int64_t rows) {
        std::uint64_t longest = 0, walked = 0;
        std::array<std::uint64_t, 256> lane;
        for (std::size_t i = 0; i < cores_.size(); ++i) {
            std::fill_n(lane.begin(), how_.lanes, std::uint64_t{0});
            const std::uint64_t* const cycles = cycles_.data() + i * at(how_.tile_rows());
            for (std::int64_t r = 0; r < rows; ++r) {
                lane[lane_of_[at(r)]] += cycles[r];
                walked += cycles[r];
            }
            longest = std::max(longest, *std::max_element(lane.begin(), lane.begin() + how_.lanes));
        }
        counts_.waiting += longest * cores_.size() * at(how_.lanes) - walked;
        return longest;
    }

    void count_traffic(const datapath_view& v) {
        const int planes = v.streamed_planes();
        const std::uint64_t* const present = plane_bits(planes);
        std::uint64_t stored = 0, index = 0;
        for (int p = 0; p < planes; ++p) detail::add_bits(isa_, plane_bits(p), words_, stored);
        if (how_.input_skip && how_.index == index_format::bitmap) {
            detail::add_bits(isa_, present, words_, index);
            index *= static_cast<std::uint64_t>(planes);
        } else if (how_.input_skip) {
            for (int p = 0; p < planes; ++p) stored += longest_runs(plane_bits(p), present);
            index = stored * static_cast<std::uint64_t>(how_.run_bits);
        }
        counts_.streamed_bits += stored * static_cast<std::uint64_t>(digit_bits(how_));
        counts_.index_bits += index;
    }
    // Zero digits that are stored because a run of zeros before a digit is longer than an index can say.
    std::uint64_t longest_runs(const std::uint64_t* bits, const std::uint64_t* present) const noexcept {
        std::uint64_t stored = 0, run = 0;
        for (std::int64_t w = 0; w < words_; ++w) {
            std::uint64_t here = present[w];
            for (std::uint64_t x = bits[w]; x != 0; x &= x - 1) {
                const std::uint64_t below = (x & -x) - 1;
                run += static_cast<std::uint64_t>(std::popcount(here & below));
                stored += run >> how_.run_bits;
                run = 0;
                here &= ~(below | (x & -x));
            }
            run += static_cast<std::uint64_t>(std::popcount(here));
        }
        return stored;
    }

    void finish(const datapath_view& v, const ran_mapping& map) noexcept {
        for (int i = 0; i < v.streamed_planes(); ++i)
            for (int j = 0; j < v.held_planes(); ++j)
                (v.a_streams() ? counts_.issued[at(i)][at(j)] : counts_.issued[at(j)][at(i)]) = plane_products_[at(i)];
        const std::uint64_t held = held_edges_ ? bits_of_partners_.held_digits() : static_cast<std::uint64_t>(v.depth() * v.partners());
        counts_.held_bits = held * static_cast<std::uint64_t>(v.held_planes() * map.clusters * digit_bits(how_));
        counts_.capacity = counts_.cycles * static_cast<std::uint64_t>(how_.all_multipliers());
    }

    configuration how_;
    path isa_;
    datapath_counts counts_;
    row_history history_;
    detail::bit_image image_, presence_;
    detail::partner_bits bits_of_partners_;
    detail::border_shapes borders_;
    detail::axis_runs depth_;
    std::int64_t words_ = 0, base_ = 0;
    bool edges_ = false, held_edges_ = false;
    std::uint64_t fold_ = 0;
    std::array<std::uint64_t, slice::max_slices> plane_products_{};
    std::array<std::uint64_t, max_cores> needed_{}, tile_outputs_{};
    std::array<block, max_cores> inputs_{};
    std::array<row_part, slice::max_slices * max_cores> parts_;  // of a row: [plane][input block]
    std::vector<int> cores_;  // of a cluster
    std::vector<bank_schedule> banks_;
    buffer<std::uint64_t> full_, bits_, met_, cycles_;
    std::vector<std::uint64_t> loads_;
    std::vector<std::uint16_t> lane_of_;
    std::vector<std::uint64_t> order_;
    bool columns_ = false;  // rows are read from digit_columns_
    detail::column_counts digit_columns_;
    const std::uint32_t *present_digits_ = nullptr, *present_windows_ = nullptr;  // of each row; null: everything is there
    std::vector<detail::run> places_;  // rows (`to`) at neighbouring places (`from`)
    bool alone_ = false;  // whole_tiles_ serves
    detail::whole_tiles whole_tiles_;
    std::vector<std::uint64_t> met_partners_, met_cycles_;  // of each core, and of one that has everything: cycles a digit
};

}  // namespace lamella::accelerator
