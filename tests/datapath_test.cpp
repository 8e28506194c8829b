// The datapath emulator, the closed-form counters, the slice counts and the kernels against each other: random layers,
// widths, encodings, masks and configurations. A failure prints its seed; run_case(seed) repeats it.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <lamella/accelerator/control.hpp>
#include <lamella/accelerator/counters.hpp>
#include <lamella/accelerator/emulator.hpp>
#include <lamella/accelerator/optc_cycles.hpp>
#include <lamella/accelerator/recording.hpp>
#include <lamella/gemm/multiply.hpp>
#include <lamella/precision/laps.hpp>

#include "layer_step.hpp"
#include "training.hpp"

using namespace lamella;
using namespace lamella::accelerator;
using testing::draw;
using testing::generator;
using testing::layer_step;

namespace {

configuration any_configuration(generator& r) {
    configuration c;
    const auto pick = [&](std::initializer_list<int> values) {
        return values.begin()[draw(r, 0, static_cast<std::int64_t>(values.size()) - 1)];
    };
    c.cores = pick({1, 2, 4, 8, 16, 32});
    c.lanes = pick({1, 2, 3, 4, 7});
    c.multipliers = pick({1, 2, 3, 4, 8, 16});
    c.rows_a_lane = pick({1, 1, 2, 3, 5});
    c.window = pick({1, 2, 4, 8, 16, 32, 64});
    c.index = draw(r, 0, 1) == 0 ? index_format::bitmap : index_format::run_length;
    c.run_bits = pick({1, 2, 4});
    c.input_skip = draw(r, 0, 4) != 0;
    c.output_skip = draw(r, 0, 3) != 0;
    c.balance = static_cast<lane_balance>(draw(r, 0, 2));
    c.banks = pick({1, 2, 2, 3});
    c.drain_width = pick({1, 2, 5, 32});
    std::shuffle(c.order.begin(), c.order.end(), r);
    c.accumulator_bits = pick({8, 16, 24, 48, 64});
    c.overflow = draw(r, 0, 1) == 0 ? overflow::report : overflow::wrap;
    const auto kind = draw(r, 0, 7);
    c.products = kind == 0 ? product_kind::native : kind == 1 ? product_kind::sixteen_bit_slices : product_kind::slices;
    c.encoding = static_cast<slice::encoding>(draw(r, 0, 2));
    return c;
}

std::string describe(const configuration& c) {
    std::string text;
    each_number(c, [&](std::string_view name, int value, int, int) {
        text += std::string(name) + " " + std::to_string(value) + ", ";
    });
    text += std::string(name_of(c.index)) + (c.input_skip ? " in" : "") + (c.output_skip ? " out " : " ");
    text += std::string(name_of(c.balance)) + " " + std::string(name_of(c.overflow)) + " " +
            std::string(name_of(c.products));
    text += " " + std::string(slice::name_of(c.encoding));
    for (const dimension d : c.order) text += " " + std::string(name_of(d));
    return text;
}

// The kernels' result of an event, by one execution.
std::vector<std::int64_t> multiplied(const gemm::gemm_event& e, gemm::execution how, slice::encoding digits,
                                     gemm::workspace& memory) {
    const gemm::problem p{e.a.view, e.b.view};
    std::vector<std::int64_t> result(static_cast<std::size_t>(p.m() * p.n()));
    gemm::output to;
    to.rows = gemm::axis::linear(p.m(), p.n());
    to.exact = result.data();
    gemm::settings s;
    s.how = how;
    s.digits = digits;
    gemm::multiply(p, to, s, memory);
    return result;
}

void compare(const datapath_counts& closed, const datapath_counts& walked) {
    REQUIRE(closed.products() == walked.products());
    REQUIRE(closed.busy == walked.busy);
    REQUIRE(closed.scanning == walked.scanning);
    REQUIRE(closed.waiting == walked.waiting);
    REQUIRE(closed.stalled == walked.stalled);
    REQUIRE(closed.exposed == walked.exposed);
    REQUIRE(closed.cycles == walked.cycles);
    REQUIRE(closed.streamed_bits == walked.streamed_bits);
    REQUIRE(closed.index_bits == walked.index_bits);
    REQUIRE(closed.held_bits == walked.held_bits);
    REQUIRE(closed.partial_sums == walked.partial_sums);
    REQUIRE(closed.outputs == walked.outputs);
    REQUIRE(closed == walked);
}

// Many rows that one core each walks: what counters take a vector of rows and of tiles at a time.
int run_many_rows(std::uint64_t seed, std::array<int, 3>& met) {
    generator r(seed);
    const std::int64_t channels = std::array<std::int64_t, 4>{1, 3, 8, 16}[seed % 4],
                       outputs = draw(r, 1, 3) * (seed % 3 == 0 ? 8 : 1);
    layer_step layer(r, nn::convolution({draw(r, 7, 10), draw(r, 7, 10), channels}, outputs, 3, 3, 1, draw(r, 0, 1)),
                     draw(r, 2, 4));
    configuration c = any_configuration(r);
    c.order = {dimension::batch, dimension::output_channels, dimension::plane_pairs, dimension::input_channels};
    c.cores = std::array<int, 4>{1, 2, 4, 8}[seed / 2 % 4];
    c.lanes = static_cast<int>(draw(r, 1, 6));
    c.rows_a_lane = static_cast<int>(draw(r, 1, 4));
    c.window = std::array<int, 3>{4, 8, 16}[seed % 3];
    c.index = index_format::bitmap;
    c.input_skip = true;
    if (c.balance == lane_balance::iterative) c.balance = lane_balance::none;
    emulator machine(c);
    const std::array paths{path::scalar, best_path(), available(path::avx2) ? path::avx2 : best_path()};
    datapath_counter counter(c, paths[seed / 3 % paths.size()]);
    CAPTURE(seed);
    CAPTURE(describe(c));
    CAPTURE(layer.describe());
    std::vector<gemm::gemm_event> events = layer.propagation(0, 0, draw(r, 0, 3) != 0);
    events.push_back(layer.forward(0, 0));
    for (const gemm::gemm_event& e : events) {
        CAPTURE(name_of(e.where));
        compare(counter.count(e, true), machine.run(e, true));
        met[0] += e.gate != nullptr;
        met[1] += e.active != nullptr && e.active->size() < static_cast<std::size_t>(layer.samples);
        met[2] += c.balance == lane_balance::greedy;
    }
    return static_cast<int>(events.size());
}

// One layer, one configuration, one or two steps. Returns the events compared.
int run_case(std::uint64_t seed, std::array<int, 8>& met) {
    generator r(seed);
    layer_step layer(r);
    while (layer.samples * layer.g.macs() > 6000) layer = layer_step(r);  // small: the emulator takes every product
    const configuration c = any_configuration(r);
    emulator machine(c);
    const std::array paths{path::scalar, best_path(), available(path::avx2) ? path::avx2 : best_path()};
    datapath_counter counter(c, paths[seed % paths.size()]);
    slice_counts issued(c.encoding);
    gemm::workspace memory;
    CAPTURE(seed);
    CAPTURE(describe(c));
    int events_seen = 0;
    const std::uint64_t steps = c.balance == lane_balance::iterative ? 2 : 1;
    for (std::uint64_t step = 0; step < steps; ++step, layer.renew(r)) {
        const bool gated = draw(r, 0, 3) != 0;
        std::vector<gemm::gemm_event> events = layer.propagation(step, 0, gated);
        events.insert(events.begin(), layer.gradient(step, 0));
        events.insert(events.begin(), layer.forward(step, 0));
        for (const gemm::gemm_event& e : events) {
            CAPTURE(step);
            CAPTURE(layer.describe());
            CAPTURE(name_of(e.where));
            CAPTURE(gated);
            issued.on_gemm(e);
            const bool a_streams = draw(r, 0, 3) == 0 ? draw(r, 0, 1) == 0 : issued.last().a_streams;
            CAPTURE(a_streams);

            const std::vector<std::int64_t> expected = multiplied(e, gemm::execution::reference, c.encoding, memory);
            REQUIRE(multiplied(e, gemm::execution::sliced, c.encoding, memory) == expected);
            REQUIRE(multiplied(e, gemm::execution::fused, c.encoding, memory) == expected);
            std::vector<std::int64_t> result(expected.size(), -1);
            const datapath_counts walked = machine.run(e, a_streams, result.data());

            const std::int64_t columns = e.b.view.rows.size();
            for (std::size_t i = 0; i < expected.size(); ++i) {
                const std::int64_t m = static_cast<std::int64_t>(i) / columns,
                                   n = static_cast<std::int64_t>(i) % columns;
                const bool needed = !c.output_skip || e.gate == nullptr || e.gate[e.gate_rows.offset(m) + n] > 0;
                const std::int64_t sum =
                    c.overflow == overflow::wrap ? wrapped(expected[i], c.accumulator_bits) : expected[i];
                REQUIRE(result[i] == (needed ? sum : -1));
            }
            compare(counter.count(e, a_streams), walked);
            if (c.products == product_kind::slices && c.input_skip && (c.output_skip || e.gate == nullptr) &&
                a_streams == issued.last().a_streams)
                REQUIRE(walked.issued == issued.last().pairs);
            if (c.products == product_kind::slices && !c.input_skip && (!c.output_skip || e.gate == nullptr))
                REQUIRE(walked.products() == issued.last().counts.dense);

            ++events_seen;
            met[static_cast<std::size_t>(e.where)] += 1;
            met[3] += e.gate != nullptr && !a_streams;
            met[4] += walked.stalled != 0;
            met[5] += walked.scanning != 0;
            met[6] += walked.waiting != 0;
            met[7] += e.gate != nullptr && a_streams;
        }
    }
    return events_seen;
}

}  // namespace

TEST_CASE("emulator, counters, slice counts and kernels agree in ten thousand cases") {
    std::array<int, 8> met{};
    int cases = 0;
    std::uint64_t seed = 0;
    for (; cases < 10000; ++seed) cases += run_case(seed, met);
    MESSAGE(cases << " events of " << seed << " layers");
    for (const int times : met) CHECK(times > 300);
}

TEST_CASE("counters that take rows and tiles by vectors equal the emulator") {
    std::array<int, 3> met{};
    for (std::uint64_t seed = 0; seed < 240; ++seed) run_many_rows(seed, met);
    for (const int times : met) CHECK(times > 50);
}

TEST_CASE("in training, counters of sampled steps equal the emulator on a recording of them") {
    const auto model = nn::sequential(nn::conv2d{5, 3, 1, 1}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{4, 3},
                                      nn::relu{}, nn::flatten{}, nn::linear{6});
    const nn::image_shape shape{9, 9, 2};
    const data::dataset images = testing::noisy_images(3, 32, shape, 6);
    for (const lane_balance balance : {lane_balance::greedy, lane_balance::iterative}) {
        configuration c = hnpu();
        c.cores = 4;
        c.lanes = 3;
        c.rows_a_lane = 3;
        c.balance = balance;
        auto net = testing::fixed_network(model, shape, 8);
        slice_counts products(c.encoding, best_path(), net.products());
        counters cycles(c, products, 3);
        recording steps(products, 3);
        for (gemm::observer* o : std::initializer_list<gemm::observer*>{&products, &cycles, &steps}) net.observe(*o);
        const auto index = testing::positions(0, 8);
        for (std::uint64_t step = 0; step < 8; ++step)
            net.train_step(nn::batch_view<std::uint8_t>{images.images.data(), index, shape, images.exponent},
                           testing::labels_of(images, 0, 8), step);
        emulator machine(c);
        datapath_counts walked;
        for (const recorded_gemm& g : steps.gemms())
            g.replay([&](const gemm::gemm_event& e) {
                const datapath_counts& counts = machine.run(e, g.a_streams);
                if (g.sample) walked += counts;
            });
        CHECK(cycles.steps() == 3);
        CHECK(steps.steps() == 3);
        CHECK(walked.cycles > 0);
        compare(cycles.total(), walked);
        CHECK(cycles.probes() == datapath_counts{});
    }
}

TEST_CASE("of the steps with probes every n-th is counted, and a resumed run's counters go on with their sums") {
    const auto model = nn::sequential(nn::conv2d{4, 3}, nn::relu{}, nn::flatten{}, nn::linear{6});
    const nn::image_shape shape{7, 7, 1};
    const data::dataset images = testing::noisy_images(3, 32, shape, 6);
    precision::laps_settings settings;
    settings.every = 4;  // probes at steps 3, 7, 11, ...: none of which a sample of every second step meets
    const auto make = [&] {
        return nn::make_network<nn::fixed>(model, shape, nn::fixed::settings{}, std::uint64_t{3},
                                           std::make_unique<precision::laps>(settings));
    };
    const auto train = [&](auto& net, std::uint64_t first, std::uint64_t end) {
        const auto index = testing::positions(0, 8);
        for (std::uint64_t step = first; step < end; ++step)
            net.train_step(nn::batch_view<std::uint8_t>{images.images.data(), index, shape, images.exponent},
                           testing::labels_of(images, 0, 8), step);
    };
    auto net = make();
    slice_counts products(hnpu().encoding, best_path(), net.products());
    counters cycles(hnpu(), products, 2);
    net.observe(products);
    net.observe(cycles);
    train(net, 0, 13);
    testing::snapshot trained = testing::snapshot::of(net), sums = testing::snapshot::of(cycles);
    CHECK(cycles.steps() == 7);
    CHECK(cycles.probe_steps_seen() == 3);
    CHECK(cycles.probe_steps() == 2);
    CHECK(cycles.probes().gemms == 4);  // two widths each
    CHECK(cycles.probes().cycles > 0);
    train(net, 13, 24);

    auto again = make();
    slice_counts products_again(hnpu().encoding, path::scalar, again.products());
    counters resumed(hnpu(), products_again, 2);
    trained.restore(again);
    sums.restore(resumed);
    again.observe(products_again);
    again.observe(resumed);
    train(again, 13, 24);
    CHECK(testing::snapshot::of(resumed) == testing::snapshot::of(cycles));
    compare(resumed.total(), cycles.total());
    compare(resumed.probes(), cycles.probes());
}

TEST_CASE("counters need slice counts of their own encoding, told first") {
    slice_counts products(slice::encoding::signed_slice);
    CHECK_THROWS_AS(counters(hnpu(), products), argument_error);
    slice_counts same(hnpu().encoding);
    CHECK_THROWS_AS(counters(hnpu(), same, 0), argument_error);
    counters cycles(hnpu(), same);
    generator r(1);
    const layer_step layer(r);
    CHECK_THROWS_AS(cycles.on_gemm(layer.forward(0, 0)), argument_error);
}

TEST_CASE("an accumulator of N bits is exact modulo 2^N however often it wraps on the way") {
    generator r(7);
    for (int i = 0; i < 200; ++i) {
        accumulator<12> narrow;
        std::int64_t exact = 0;
        for (int n = 0; n < 50; ++n) {
            const std::int64_t x = draw(r, -5000, 5000);
            narrow.add(x);
            exact += x;
        }
        REQUIRE(narrow.value() == wrapped(exact, 12));
        REQUIRE(((narrow.value() - exact) % 4096) == 0);
        REQUIRE((narrow.value() >= -2048 && narrow.value() < 2048));
    }
}

TEST_CASE("two banks hide the shorter of accumulating and draining, one bank hides nothing") {
    bank_schedule one(1), two(2);
    for (int tile = 0; tile < 10; ++tile)
        for (bank_schedule* b : {&one, &two}) b->add(7, 5);
    CHECK(one.end() == 10 * (7 + 5));
    CHECK(two.end() == 10 * 7 + 5);
    CHECK(two.stalled() == 0);
    bank_schedule slow(2);  // draining takes longer
    for (int tile = 0; tile < 10; ++tile) slow.add(5, 7);
    CHECK(slow.end() == 5 + 10 * 7);
    CHECK(slow.stalled() == 8 * 2);
}

TEST_CASE("a step runs FF up and WG, EP, WU down, updates beside the array") {
    const auto order = training_step(2);
    const std::vector<phase> expected{{0, stage::feed_forward},    {1, stage::feed_forward},
                                      {1, stage::weight_gradient}, {1, stage::error_propagation},
                                      {1, stage::weight_update},   {0, stage::weight_gradient},
                                      {0, stage::weight_update}};
    CHECK(order == expected);
    const auto line = schedule(order, [](const phase& p) { return p.where == stage::weight_update ? 100 : 10; });
    CHECK(line[4].begin == 40);
    CHECK(line[5].begin == 40);                // the array goes on
    CHECK(line[6].begin == 140);               // the optimizer core is taken
    CHECK(end_of(line) == 240);
}

TEST_CASE("the optimizer core takes its lanes' number of elements a beat, Adam two beats") {
    configuration c = hnpu();
    c.optc_lanes = 8;
    CHECK(optc_update(17, 1, c).cycles == 3 + optc_pipeline);
    CHECK(optc_update(17, 2, c).cycles == 6 + optc_pipeline);
    CHECK(optc_update(0, 2, c).cycles == 0);
    CHECK(optc_update(10, 0, c).written_bits == 10 * 16);
}
