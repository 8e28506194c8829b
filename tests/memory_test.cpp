// Stored bits against their definition, a training step's traffic by hand, and a run's costs against the counters that
// they are made of.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <lamella/accelerator/counters.hpp>
#include <lamella/accelerator/run_costs.hpp>

#include "layer_step.hpp"
#include "scratch.hpp"
#include "training.hpp"

using namespace lamella;
using namespace lamella::accelerator;
using testing::draw;
using testing::generator;
using testing::layer_step;

namespace {

slice_census by_definition(const gemm::event_operand& o, slice::encoding digits, int run_bits) {
    slice_census n;
    n.width = o.view.width;
    n.planes = slice::slice_count(digits, o.view.width);
    for (std::int64_t i = 0; i < o.stored.samples * o.stored.image(); ++i)
        if (accelerator::detail::inside(o.stored, i)) {
            ++n.elements;
            n.digits += static_cast<std::uint64_t>(
                slice::nonzero_slices(digits, accelerator::detail::mantissa_at(o, i), n.width));
        }
    std::set<std::int64_t> touched;
    for (std::int64_t row = 0; row < o.view.rows.size(); ++row)
        for (std::int64_t k = 0; k < o.view.depth.size(); ++k) {
            const std::int64_t at = accelerator::detail::base_of(o) + o.view.rows.offset(row) + o.view.depth.offset(k);
            if (!accelerator::detail::inside(o.stored, at)) continue;
            ++n.pairs;
            touched.insert(at);
            n.live_pairs += accelerator::detail::mantissa_at(o, at) != 0;
            n.paired_digits += static_cast<std::uint64_t>(
                slice::nonzero_slices(digits, accelerator::detail::mantissa_at(o, at), n.width));
        }
    n.touched = touched.size();
    for (int p = 0; p < n.planes; ++p) {  // write the stream down: a zero that 2^run_bits - 1 zeros precede is stored
        int zeros = 0;
        std::uint64_t stored = 0, kept = 0;  // kept: up to the last non-zero slice
        for (std::int64_t i = 0; i < o.stored.samples * o.stored.image(); ++i) {
            if (!accelerator::detail::inside(o.stored, i)) continue;
            const bool zero =
                slice::split(digits, accelerator::detail::mantissa_at(o, i), n.width)[static_cast<std::size_t>(p)] == 0;
            if (zero && zeros < (1 << run_bits) - 1) {
                ++zeros;
                continue;
            }
            ++stored;
            zeros = 0;
            if (!zero) kept = stored;
        }
        n.run_digits += kept;
    }
    return n;
}

// Two samples, two inputs, two outputs, everything 1.
struct small_layer {
    std::array<std::int16_t, 4> activation{1, 1, 1, 1}, weight{1, 1, 1, 1}, error{1, 1, 1, 1};

    static gemm::event_operand operand(const std::array<std::int16_t, 4>& from, role what, bool across) {
        gemm::event_operand o;
        o.view = {from.data(), 16, 0, gemm::axis::linear(2, across ? 1 : 2), gemm::axis::linear(2, across ? 2 : 1)};
        o.stored = {from.data(), 2, 1, 1, 2};
        if (what == role::weight) o.stored = {from.data(), 1, 1, 1, 4};
        o.what = what;
        return o;
    }
    gemm::gemm_event event(stage where, int layer) const {
        gemm::gemm_event e;
        e.where = where;
        e.layer = layer;
        e.samples = 2;
        e.macs = 8;
        const bool gradient = where == stage::weight_gradient, propagation = where == stage::error_propagation;
        e.a = where == stage::feed_forward ? operand(activation, role::activation, false)
                                           : operand(error, role::error, gradient);
        e.b = gradient ? operand(activation, role::activation, true) : operand(weight, role::weight, propagation);
        return e;
    }
};

configuration one_lane(dataflow flow) {
    configuration c = dense_16_native(hnpu());
    c.cores = c.lanes = c.multipliers = c.rows_a_lane = c.native_multipliers = c.sums_a_lane = 1;
    c.buffer_rows = c.buffer_partners = c.buffer_depth = 2;
    c.flow = flow;
    return c;
}

}  // namespace

TEST_CASE("the census of an operand is what its mantissas, its view and its stream of slices say") {
    int compressed = 0;
    for (std::uint64_t seed = 0; seed < 300; ++seed) {
        generator r(seed);
        layer_step layer(r);
        while (layer.samples * layer.g.macs() > 20000) layer = layer_step(r);
        CAPTURE(seed);
        configuration c = hnpu();
        c.encoding = static_cast<slice::encoding>(draw(r, 0, 2));
        c.run_bits = static_cast<int>(draw(r, 1, 5));
        c.index = draw(r, 0, 1) == 0 ? index_format::bitmap : index_format::run_length;
        slice_survey survey(c.encoding, c.run_bits);
        std::vector<gemm::gemm_event> events = layer.propagation(0, 0, false);
        events.push_back(layer.gradient(0, 0));
        events.push_back(layer.forward(0, 0));
        for (const gemm::gemm_event& e : events) {
            const std::array<slice_census, 2> n = survey(e);
            REQUIRE(n[0] == by_definition(e.a, c.encoding, c.run_bits));
            REQUIRE(n[1] == by_definition(e.b, c.encoding, c.run_bits));
            for (const slice_census& operand : n) {
                const auto digit = static_cast<std::uint64_t>(digit_bits(c));
                const std::uint64_t raw = operand.elements * static_cast<std::uint64_t>(operand.width);
                const std::uint64_t smaller =
                    c.index == index_format::bitmap
                        ? operand.elements * static_cast<std::uint64_t>(operand.planes) + operand.digits * digit
                        : operand.run_digits * (digit + static_cast<std::uint64_t>(c.run_bits));
                const stored_bits bits = store(operand, c);
                REQUIRE(bits.all == std::min(raw, smaller));
                REQUIRE(bits.of_elements(operand.elements) == bits.all);
                REQUIRE(store(operand, dense_16_slices(c)).all == operand.elements * 16);
                compressed += bits.compressed;
            }
        }
    }
    CHECK(compressed > 300);
}

// Elements and bits of a step of one layer on one lane; native 16-bit products, so sums need 32 bits.
TEST_CASE("a layer of two inputs and outputs moves the bits counted by hand") {
    const small_layer layer;
    memory_model model(one_lane(dataflow::output_stationary));
    slice_survey survey(slice::encoding::sign_magnitude, 4);
    const auto count = [&](const gemm::gemm_event& e) { return model.count(e, true, survey(e), 8, 4); };
    using k = tensor_kind;
    using l = memory_level;

    const memory_counts ff = count(layer.event(stage::feed_forward, 0));
    CHECK(ff.at(k::activation, l::network) == traffic{8, 0, 8 * 16, 0});
    CHECK(ff.at(k::activation, l::buffer) == traffic{8, 4, 8 * 16, 4 * 16});
    CHECK(ff.at(k::weight, l::network) == traffic{8, 0, 8 * 16, 0});
    CHECK(ff.at(k::weight, l::buffer) == traffic{8, 4, 8 * 16, 4 * 16});
    CHECK(ff.at(k::weight, l::dram) == traffic{4, 0, 4 * 16, 0});
    CHECK(ff.at(k::partial_sum, l::registers) == traffic{12, 8, 12 * 32, 8 * 32});
    CHECK(ff.at(k::partial_sum, l::network) == traffic{0, 4, 0, 4 * 32});
    CHECK(ff.at(k::partial_sum, l::buffer) == traffic{4, 4, 4 * 32, 4 * 32});
    CHECK(ff.at(k::partial_sum, l::dram) == traffic{});
    CHECK(ff.at(k::wide, l::dram) == traffic{4, 0, 4 * 8, 0});                // pixels
    CHECK(ff.at(k::stored_activation, l::dram) == traffic{0, 4, 0, 4 * 16});  // until WG
    CHECK(ff.total(l::dram) == traffic{8, 4, 4 * 16 + 4 * 8, 4 * 16});
    CHECK(ff.transposed == 0);

    const memory_counts group = count(layer.event(stage::feed_forward, 0));  // of the same layer: its input is there
    CHECK(group.at(k::wide, l::dram) == traffic{});
    CHECK(group.at(k::stored_activation, l::dram) == traffic{});
    CHECK(group.at(k::weight, l::dram) == ff.at(k::weight, l::dram));

    const memory_counts second = count(layer.event(stage::feed_forward, 1));
    CHECK(second.at(k::wide, l::dram) == traffic{4, 4, 4 * 32, 4 * 32});  // what the first layer handed on

    const memory_counts wg = count(layer.event(stage::weight_gradient, 1));
    CHECK(wg.at(k::wide, l::dram) == traffic{8, 8, 8 * 32, 8 * 32});  // logits and their error, out and in
    CHECK(wg.at(k::error, l::dram) == traffic{0, 4, 0, 4 * 16});      // for EP
    CHECK(wg.at(k::stored_activation, l::dram) == traffic{4, 0, 4 * 16, 0});
    CHECK(wg.at(k::gradient, l::dram) == traffic{0, 4, 0, 4 * 32});

    const memory_counts ep = count(layer.event(stage::error_propagation, 1));
    CHECK(ep.at(k::error, l::dram) == traffic{4, 0, 4 * 16, 0});
    CHECK(ep.at(k::weight, l::dram) == traffic{4, 0, 4 * 16, 0});
    CHECK(ep.at(k::wide, l::dram) == traffic{0, 4, 0, 4 * 32});
    CHECK(ep.transposed == 8);

    const memory_counts first = count(layer.event(stage::weight_gradient, 0));
    CHECK(first.at(k::wide, l::dram) == traffic{4, 0, 4 * 32, 0});
    CHECK(first.at(k::error, l::dram) == traffic{});

    const memory_counts update = model.update(1, 6, 1);
    CHECK(update.at(k::gradient, l::dram) == traffic{6, 0, 6 * 32, 0});
    CHECK(update.at(k::weight, l::dram) == traffic{6, 6, 6 * 16, 6 * 16});
    CHECK(update.at(k::optimizer_state, l::dram) == traffic{6, 6, 6 * 32, 6 * 32});
    CHECK(model.update(1, 6, 0).at(k::optimizer_state, l::dram).bits() == 0);
    CHECK(model.update(1, 6, 2).at(k::optimizer_state, l::dram) == traffic{6, 6, 6 * 56, 6 * 56});
}

TEST_CASE("a transposed weight costs a word where the buffer cannot turn") {
    const small_layer layer;
    configuration c = one_lane(dataflow::weight_stationary);
    c.transposable = false;
    c.word_bits = 64;
    memory_model model(c);
    slice_survey survey(slice::encoding::sign_magnitude, 4);
    const gemm::gemm_event ff = layer.event(stage::feed_forward, 1), ep = layer.event(stage::error_propagation, 1);
    CHECK(model.count(ff, true, survey(ff), 8, 4).at(tensor_kind::weight, memory_level::buffer).read_bits == 4 * 16);
    const memory_counts turned = model.count(ep, true, survey(ep), 8, 4);
    CHECK(turned.transposed == 4);
    CHECK(turned.at(tensor_kind::weight, memory_level::buffer).read_bits == 4 * 64);
}

TEST_CASE("a run's costs are the counters' and the memory model's, machine by machine, and add up") {
    const auto model =
        nn::sequential(nn::conv2d{5, 3, 1, 1}, nn::relu{}, nn::max_pool2d{2}, nn::depthwise_conv2d{3, 1, 1}, nn::relu{},
                       nn::conv2d{4, 3, 2}, nn::relu{}, nn::flatten{}, nn::linear{6});
    const nn::image_shape shape{9, 9, 2};
    const data::dataset images = testing::noisy_images(3, 32, shape, 6);
    for (const dataflow flow : {dataflow::output_stationary, dataflow::row_stationary}) {
        configuration c = hnpu();
        c.cores = 4;
        c.lanes = 3;
        c.balance = lane_balance::iterative;
        c.flow = flow;
        auto net = testing::fixed_network(model, shape, 8);
        slice_counts products(c.encoding, best_path(), net.products());
        counters cycles(c, products, 3);
        run_costs costs(c, products, {10, 20, 30, 40}, 1, 3);
        for (gemm::observer* o : std::initializer_list<gemm::observer*>{&products, &cycles, &costs}) net.observe(*o);
        const auto index = testing::positions(0, 8);
        for (std::uint64_t step = 0; step < 8; ++step)
            net.train_step(nn::batch_view<std::uint8_t>{images.images.data(), index, shape, images.exponent},
                           testing::labels_of(images, 0, 8), step);
        CHECK(costs.steps() == 3);
        CHECK(costs.samples().size() == 12);
        for (const stage s : {stage::feed_forward, stage::error_propagation, stage::weight_gradient})
            for (int layer = 0; layer < costs.layers(); ++layer) {
                CHECK(costs.macs(layer, s).all * 8 == products.at(layer, s).macs * 3);  // three of eight like steps
                CHECK(costs.macs(layer, s).effective <= costs.macs(layer, s).all);
            }
        for (const layer_sample& s : costs.samples()) CHECK(s.width == std::array<int, 3>{8, 8, 8});
        const std::size_t last = costs.machines().size() - 1;
        CHECK(costs.machines()[last].how == c);
        std::uint64_t stored = 0, restored = 0;
        for (std::size_t m = 0; m <= last; ++m) {
            stage_cost sum;
            for (int layer = 0; layer < costs.layers(); ++layer) {
                for (const stage s :
                     {stage::feed_forward, stage::error_propagation, stage::weight_gradient, stage::weight_update})
                    sum += costs.at(m, layer, s);
                if (m == last)
                    for (const stage s : {stage::feed_forward, stage::error_propagation, stage::weight_gradient})
                        CHECK(costs.at(m, layer, s).datapath == cycles.at(layer, s));
                stored += costs.at(m, layer, stage::feed_forward)
                              .actions.memory.at(tensor_kind::stored_activation, memory_level::dram)
                              .writes;
                restored += costs.at(m, layer, stage::weight_gradient)
                                .actions.memory.at(tensor_kind::stored_activation, memory_level::dram)
                                .reads;
                CHECK(costs.at(m, layer, stage::weight_update).actions.update_products ==
                      3 * costs.weights()[static_cast<std::size_t>(layer)] * update_products(1));
            }
            CHECK(sum == costs.total(m));
            CHECK(sum.actions.products == sum.datapath.products());
        }
        CHECK(stored > 0);
        CHECK(restored > stored / 2);  // the stride leaves some pixels out
        const auto bits = [&](std::size_t m) { return costs.total(m).actions.memory.total(memory_level::dram).bits(); };
        CHECK(bits(1) > bits(2));  // narrower operands
        CHECK(bits(2) > bits(3));  // compressed
        CHECK(bits(3) > bits(4));  // outputs that nobody needs
    }
}

TEST_CASE("costs refuse what cannot be counted") {
    slice_counts products(slice::encoding::sign_magnitude);
    CHECK_THROWS_AS(run_costs(hnpu(), products, {1}, 1, 0), argument_error);
    slice_counts other(slice::encoding::signed_slice);
    CHECK_THROWS_AS(run_costs(hnpu(), other, {1}, 1, 1), argument_error);
    configuration c = hnpu();
    c.buffer_kbytes = 1;
    CHECK(message_of<argument_error>([&] { memory_model{c}; }).find("buffer_kbytes") == 0);
    c = hnpu();
    c.register_bytes = 8;
    CHECK(message_of<argument_error>([&] { memory_model{c}; }).find("register_bytes") == 0);
    run_costs narrow(hnpu(), products, {}, 1, 1);
    const small_layer layer;
    const gemm::gemm_event e = layer.event(stage::feed_forward, 0);
    CHECK_THROWS_AS(narrow.on_gemm(e), argument_error);
    products.on_gemm(e);
    CHECK_THROWS_AS(narrow.on_gemm(e), argument_error);
}
