// The numbers of emulator.hpp in closed form, one GEMM at a time, from bitmaps of non-zero slices: cycles, stalls,
// utilisation and traffic without walking a single product. Equal, number for number, over random shapes, widths,
// encodings, masks and configurations (tests/datapath_test.cpp). counters.hpp applies it to a training run.
//
//   a row on a core   cycles = sum over its planes of [non-zero digits x ceil(partners x held slices / multipliers)
//                     + windows with digits but no non-zero one]
//   a tile            the longest sum of rows over all lanes and cores of a cluster; lane by deal_rows (ioss.hpp)
//   a cluster         bank_schedule (ran.hpp) over its tiles; the GEMM ends with the last cluster
//
// Where held digits stand for padding (only where weights stream over a bordered image), partners differ along depth
// and each non-zero digit is looked at. Rows that a single core walks are served by whole_tiles.hpp, the others by
// shared_rows.hpp; they are counted all at once (column_counts.hpp) or read as bits (row_bits.hpp). Memory is
// grow-only. Reconstruction, as what it computes is: configuration.hpp says what is sourced.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "border_shapes.hpp"
#include "column_counts.hpp"
#include "configuration.hpp"
#include "datapath.hpp"
#include "ran.hpp"
#include "shared_rows.hpp"
#include "whole_tiles.hpp"

namespace lamella::accelerator {

class datapath_counter {
  public:
    // Throws argument_error for a configuration that validated() refuses.
    explicit datapath_counter(configuration c, path isa = best_path()) : how_(std::move(c)), isa_(isa) {
        validated(how_);
    }

    const configuration& how() const noexcept { return how_; }

    // What emulator::run returns.
    const datapath_counts& count(const gemm::gemm_event& event, bool a_streams) {
        const datapath_view view(event, how_, a_streams);
        const ran_mapping map(how_, view);
        counts_ = {};
        counts_.gemms = 1;
        counts_.too_wide = view.too_wide() ? 1 : 0;
        const detail::counted_gemm g = prepare(event, view, map);
        std::array<std::uint64_t, slice::max_slices> products;
        if (g.seen && detail::whole_tiles::serve(how_, view, map)) {
            products = whole_tiles_.count(event, view, map, how_, isa_, *g.seen, counts_, banks_);
        } else {
            std::vector<std::uint64_t>* const history =
                how_.balance == lane_balance::iterative ? history_.of(event) : nullptr;
            const bool known = history != nullptr && static_cast<std::int64_t>(history->size()) == view.rows();
            products = shared_rows_.count(g, known ? *history : std::span<const std::uint64_t>(), counts_, banks_);
            if (history != nullptr) history->assign(shared_rows_.loads().begin(), shared_rows_.loads().end());
        }
        finish(g, products);
        return counts_;
    }

    // Only what iterative balance must know of the step before a counted one.
    void remember(const gemm::gemm_event& event, bool a_streams) {
        if (how_.balance != lane_balance::iterative || event.probe) return;
        const datapath_view view(event, how_, a_streams);
        const ran_mapping map(how_, view);
        shared_rows_.list_loads(prepare(event, view, map));
        history_.of(event)->assign(shared_rows_.loads().begin(), shared_rows_.loads().end());
    }

  private:
    detail::counted_gemm prepare(const gemm::gemm_event& event, const datapath_view& v, const ran_mapping& map) {
        detail::counted_gemm g{
            event, v, map, how_, isa_, borders_.touched_by(v.streamed()), borders_.touched_by(v.held()), {}};
        if (how_.input_skip && how_.index == index_format::bitmap && !g.held_edges && map.inputs == 1 &&
            digit_columns_.fits(v.streamed()))
            g.seen.emplace(see_all_rows(v, g.edges, v.a_streams() ? event.active : nullptr));
        return g;
    }

    // Counts all rows at once.
    detail::seen_rows see_all_rows(const datapath_view& v, bool edges, const std::vector<std::int64_t>* active) {
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
        detail::seen_rows seen{digit_columns_, places_, nullptr, nullptr};
        if (edges) {
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
            seen.digits = shape.digits.data();
            seen.windows = shape.windows.data();
        }
        digit_columns_.count(o, how_, v.streamed_planes(), active, isa_);
        return seen;
    }

    void finish(const detail::counted_gemm& g, const std::array<std::uint64_t, slice::max_slices>& products) noexcept {
        for (const bank_schedule& b : banks_) {
            counts_.cycles = std::max(counts_.cycles, b.end());
            counts_.stalled += b.stalled();
            counts_.exposed += b.exposed();
        }
        const datapath_view& v = g.view;
        for (std::size_t i = 0; i < static_cast<std::size_t>(v.streamed_planes()); ++i)
            for (std::size_t j = 0; j < static_cast<std::size_t>(v.held_planes()); ++j)
                (v.a_streams() ? counts_.issued[i][j] : counts_.issued[j][i]) = products[i];
        const std::uint64_t held =
            g.held_edges ? shared_rows_.held_digits() : static_cast<std::uint64_t>(v.depth() * v.partners());
        counts_.held_bits = held * static_cast<std::uint64_t>(v.held_planes() * g.map.clusters * digit_bits(how_));
        counts_.capacity = counts_.cycles * static_cast<std::uint64_t>(how_.all_multipliers());
    }

    configuration how_;
    path isa_;
    datapath_counts counts_;
    row_history history_;  // for iterative balance
    detail::border_shapes borders_;
    detail::column_counts digit_columns_;
    std::vector<detail::run> places_;  // rows (`to`) at neighbouring places (`from`) of digit_columns_
    detail::whole_tiles whole_tiles_;
    detail::shared_rows shared_rows_;
    std::vector<bank_schedule> banks_;
};

}  // namespace lamella::accelerator
