// Accesses of the four dataflows: by hand for the smallest GEMM, and against loops that touch every element, over
// random layers, stages and tiles. A failure prints its seed; run_case(seed) repeats it.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <lamella/accelerator/dataflow.hpp>

#include "layer_step.hpp"

using namespace lamella;
using namespace lamella::accelerator;
using testing::draw;
using testing::generator;
using testing::layer_step;

namespace {

constexpr std::size_t registers = 0, network = 1, buffer_level = 2, dram = 3;

std::string text_of(const gemm_accesses& n) {
    std::string text;
    for (const auto* operand : {&n.moving, &n.resident, &n.sums}) {
        for (const access_count& c : *operand) text += std::to_string(c.reads) + "/" + std::to_string(c.writes) + " ";
        text += "| ";
    }
    return text;
}

// 2 x 2 x 2, dense matrices.
struct small_gemm {
    std::array<std::int8_t, 4> a{1, 2, 3, 4}, b{5, 6, 7, 8};
    gemm::event_operand operand(const std::array<std::int8_t, 4>& from) const {
        gemm::event_operand o;
        o.view = {from.data(), 8, 0, gemm::axis::linear(2, 2), gemm::axis::linear(2, 1)};
        o.stored = {from.data(), 1, 1, 1, 4};
        return o;
    }
    gemm_accesses on(dataflow flow, const tiling& t) const {
        return gemm_loops(operand(a), operand(b), flow, t).count(8, 4);
    }
};

constexpr tiling one_lane{1, 1, 1, 1, 2, 2, 2};

gemm_accesses by_hand(std::array<access_count, 4> moving, std::array<access_count, 4> resident,
                      std::array<access_count, 4> sums) {
    return {moving, resident, sums};
}

// Everything touched one by one. Products are those whose operands are both there.
struct walker {
    const gemm::event_operand &moving, &resident;
    dataflow flow;
    tiling t;
    gemm_accesses n{};
    std::uint64_t products = 0, outputs = 0;

    static std::int64_t place(const gemm::event_operand& o, std::int64_t row, std::int64_t k) {
        return accelerator::detail::base_of(o) + o.view.rows.offset(row) + o.view.depth.offset(k);
    }
    static bool there(const gemm::event_operand& o, std::int64_t at) {
        return accelerator::detail::inside(o.stored, at);
    }

    struct range {
        std::int64_t first, last;
        friend auto operator<=>(const range&, const range&) = default;
    };
    static std::vector<range> cut(range whole, std::int64_t by) {
        std::vector<range> parts;
        for (std::int64_t i = whole.first; i < whole.last; i += by) parts.push_back({i, std::min(whole.last, i + by)});
        return parts;
    }

    void fetch(const gemm::event_operand& o, range rows, range depth, std::array<access_count, 4>& to) const {
        std::set<std::int64_t> tile;
        for (std::int64_t r = rows.first; r < rows.last; ++r)
            for (std::int64_t k = depth.first; k < depth.last; ++k)
                if (there(o, place(o, r, k))) tile.insert(place(o, r, k));
        to[dram].reads += tile.size();
        to[buffer_level].writes += tile.size();
    }

    void run() {
        const bool rs = flow == dataflow::row_stationary;
        const std::int64_t row = rs ? moving.view.rows.extent[2] : 1, taps = rs ? moving.view.depth.extent[2] : 1;
        const range all_rows{0, moving.view.rows.size()}, all_partners{0, resident.view.rows.size()},
            all_depth{0, moving.view.depth.size()};
        const auto row_tiles = cut(all_rows, std::max(t.buffer_rows / row, std::int64_t{1}) * row);
        const auto partner_tiles = cut(all_partners, t.buffer_partners);
        const auto depth_tiles = cut(all_depth, std::max(t.buffer_depth / taps, std::int64_t{1}) * taps);
        struct tile {
            range rows, partners, depth;
        };
        std::vector<tile> order;
        if (flow == dataflow::weight_stationary) {
            for (const range p : partner_tiles)
                for (const range d : depth_tiles)
                    for (const range r : row_tiles) order.push_back({r, p, d});
        } else {
            for (const range r : row_tiles)
                for (const range p : partner_tiles)
                    for (const range d : depth_tiles) order.push_back({r, p, d});
        }
        std::map<std::pair<std::int64_t, std::int64_t>, int> visits;
        std::map<std::pair<range, range>, bool> sums_begun;
        const tile* held = nullptr;
        for (const tile& now : order) {
            if (held == nullptr || held->rows != now.rows || held->depth != now.depth)
                fetch(moving, now.rows, now.depth, n.moving);
            if (held == nullptr || held->partners != now.partners || held->depth != now.depth)
                fetch(resident, now.partners, now.depth, n.resident);
            if (held == nullptr || held->rows != now.rows || held->partners != now.partners) {
                bool& begun = sums_begun[{now.rows, now.partners}];
                const auto size = static_cast<std::uint64_t>((now.rows.last - now.rows.first) *
                                                             (now.partners.last - now.partners.first));
                if (begun) {  // it went out unfinished and is back
                    n.sums[dram].writes += size;
                    n.sums[buffer_level].reads += size;
                    n.sums[dram].reads += size;
                    n.sums[buffer_level].writes += size;
                }
                begun = true;
            }
            held = &now;
            const bool by_rows = flow == dataflow::output_stationary || rs,
                       by_depth = flow != dataflow::output_stationary;
            for (const range r : cut(now.rows, by_rows ? t.array_rows * row : now.rows.last - now.rows.first))
                for (const range p :
                     cut(now.partners, t.array_partners * (flow == dataflow::output_stationary ? t.sums : 1)))
                    for (const range d :
                         cut(now.depth, by_depth ? t.array_depth * taps : now.depth.last - now.depth.first))
                        block(r, p, d, row, taps, visits);
        }
        outputs = visits.size();
        n.sums[dram].writes += outputs;
        n.sums[buffer_level].reads += outputs;
    }

    void block(range rows, range partners, range depth, std::int64_t row, std::int64_t taps,
               std::map<std::pair<std::int64_t, std::int64_t>, int>& visits) {
        const bool ws = flow == dataflow::weight_stationary, os = flow == dataflow::output_stationary;
        const bool rs = flow == dataflow::row_stationary, nlr = flow == dataflow::no_local_reuse;
        std::set<std::int64_t> windows;
        for (std::int64_t r = rows.first; r < rows.last; r += row)
            for (std::int64_t k = depth.first; k < depth.last; k += taps) {
                std::set<std::int64_t> window;
                for (std::int64_t x = 0; x < row; ++x)
                    for (std::int64_t s = 0; s < taps; ++s)
                        if (there(moving, place(moving, r + x, k + s))) window.insert(place(moving, r + x, k + s));
                const bool first = windows.insert(place(moving, r, k)).second;
                if (!rs && window.empty()) continue;
                if (!os) {
                    if (first || !rs) n.moving[buffer_level].reads += window.size();
                    for (std::int64_t p = partners.first; p < partners.last; ++p)
                        n.moving[network].reads += window.size();
                    if (rs)
                        n.moving[registers].writes +=
                            window.size() * static_cast<std::uint64_t>(partners.last - partners.first);
                } else {
                    n.moving[buffer_level].reads += 1;
                    n.moving[network].reads += cut(partners, t.sums).size();
                }
            }
        for (std::int64_t p = partners.first; p < partners.last; ++p)
            for (std::int64_t k = depth.first; k < depth.last; ++k) {
                if (!there(resident, place(resident, p, k))) continue;
                if (!nlr) n.resident[buffer_level].reads += 1;
                if (ws) n.resident[network].reads += 1, n.resident[registers].writes += 1;
                if (rs) {
                    n.resident[network].reads += static_cast<std::uint64_t>((rows.last - rows.first) / row);
                    n.resident[registers].writes += static_cast<std::uint64_t>((rows.last - rows.first) / row);
                }
                for (std::int64_t r = rows.first; r < rows.last; ++r) {
                    if (!there(moving, place(moving, r, k))) continue;
                    ++products;
                    if (nlr) n.resident[buffer_level].reads += 1;
                    if (nlr || os) n.resident[network].reads += 1;
                    if (ws || rs) n.resident[registers].reads += 1;
                    if (rs) n.moving[registers].reads += 1;
                    if (rs || os) n.sums[registers].reads += 1, n.sums[registers].writes += 1;
                }
            }
        const auto pes = static_cast<std::uint64_t>(os ? std::min(t.array_depth, depth.last - depth.first)
                                                       : (depth.last - depth.first) / taps);
        for (std::int64_t r = rows.first; r < rows.last; ++r)
            for (std::int64_t p = partners.first; p < partners.last; ++p) {
                n.sums[network].reads += pes - 1;
                if (os) n.sums[registers].reads += pes;
                if (visits[{r, p}]++ != 0) {
                    n.sums[buffer_level].reads += 1;
                    n.sums[network].reads += 1;
                    if (os) n.sums[registers].writes += 1;
                }
                n.sums[buffer_level].writes += 1;
                n.sums[network].writes += 1;
            }
    }
};

void run_case(std::uint64_t seed) {
    generator r(seed);
    layer_step layer(r);
    while (layer.samples * layer.g.macs() > 20000) layer = layer_step(r);
    const auto flow = static_cast<dataflow>(draw(r, 0, 3));
    tiling t;
    for (std::int64_t* x : {&t.array_rows, &t.array_partners, &t.array_depth, &t.sums}) *x = draw(r, 1, 5);
    if (flow != dataflow::output_stationary) t.sums = 1;
    t.buffer_rows = draw(r, 1, draw(r, 0, 1) == 0 ? 400 : 20);
    t.buffer_partners = draw(r, 1, 20);
    t.buffer_depth = draw(r, 1, draw(r, 0, 1) == 0 ? 400 : 20);
    std::vector<gemm::gemm_event> events = layer.propagation(0, 0, false);
    events.push_back(layer.gradient(0, 0));
    events.push_back(layer.forward(0, 0));
    CAPTURE(seed);
    CAPTURE(layer.describe());
    CAPTURE(name_of(flow));
    for (const gemm::gemm_event& e : events) {
        CAPTURE(name_of(e.where));
        const bool a_moves = draw(r, 0, 1) == 0;
        CAPTURE(a_moves);
        const gemm::event_operand &moving = a_moves ? e.a : e.b, &resident = a_moves ? e.b : e.a;
        walker walked{moving, resident, flow, t};
        walked.run();
        const gemm_accesses counted = gemm_loops(moving, resident, flow, t).count(walked.products, walked.outputs);
        REQUIRE(text_of(counted) == text_of(walked.n));
        REQUIRE(counted == walked.n);
    }
}

}  // namespace

// reads/writes of registers, network, buffer, DRAM: eight products, each operand of four elements, four sums.
TEST_CASE("a 2 x 2 x 2 GEMM on one lane has the accesses counted by hand") {
    const small_gemm g;
    // Two passes over the moving operand, one a partner; each weight comes once and is used twice; each sum visits the
    // lane twice, once a depth, and waits in the buffer between.
    CHECK(g.on(dataflow::weight_stationary, one_lane) == by_hand({{{0, 0}, {8, 0}, {8, 4}, {4, 0}}},
                                                                 {{{8, 4}, {4, 0}, {4, 4}, {4, 0}}},
                                                                 {{{0, 0}, {4, 8}, {8, 8}, {0, 4}}}));
    // Each of four sums takes two products in its register and leaves once; both operands are fetched for each product.
    CHECK(g.on(dataflow::output_stationary, one_lane) == by_hand({{{0, 0}, {8, 0}, {8, 4}, {4, 0}}},
                                                                 {{{0, 0}, {8, 0}, {8, 4}, {4, 0}}},
                                                                 {{{12, 8}, {0, 4}, {4, 4}, {0, 4}}}));
    // A window of four moving elements and a row of two taps lie in the lane: two passes, one a partner.
    CHECK(g.on(dataflow::row_stationary, one_lane) == by_hand({{{8, 8}, {8, 0}, {8, 4}, {4, 0}}},
                                                              {{{8, 4}, {4, 0}, {4, 4}, {4, 0}}},
                                                              {{{8, 8}, {0, 4}, {4, 4}, {0, 4}}}));
    // Nothing stays: as weight-stationary, with the weights read for each product.
    CHECK(g.on(dataflow::no_local_reuse, one_lane) == by_hand({{{0, 0}, {8, 0}, {8, 4}, {4, 0}}},
                                                              {{{0, 0}, {8, 0}, {8, 4}, {4, 0}}},
                                                              {{{0, 0}, {4, 8}, {8, 8}, {0, 4}}}));
}

TEST_CASE(
    "a tile of one row in the buffer fetches the other operand again, one of one depth brings sums back from DRAM") {
    const small_gemm g;
    tiling t = one_lane;
    t.buffer_rows = t.buffer_partners = 1;  // four tiles of sums, each two products deep
    gemm_accesses n = g.on(dataflow::output_stationary, t);
    CHECK(n.moving[dram].reads == 4);    // stays while partners change
    CHECK(n.resident[dram].reads == 8);  // once a row
    CHECK(n.sums[dram] == access_count{0, 4});
    t = one_lane;
    t.buffer_rows = t.buffer_depth = 1;  // weight-stationary: partners, depth, rows
    n = g.on(dataflow::weight_stationary, t);
    CHECK(n.resident[dram].reads == 4);
    CHECK(n.moving[dram].reads == 4);
    CHECK(n.sums[dram] == access_count{4, 8});  // the sums of each row leave before its second depth
}

TEST_CASE("accesses equal loops that touch every element, in random layers, stages, dataflows and tiles") {
    for (std::uint64_t seed = 0; seed < 400; ++seed) run_case(seed);
}
