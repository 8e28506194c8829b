// TaxoNN's array: emulator, closed-form counts and kernels against each other on random layers and configurations, the
// identities of its schedule, and a network's real steps. A failure prints its seed.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <lamella/accelerator/recording.hpp>
#include <lamella/accelerator/taxonn_emulator.hpp>
#include <lamella/gemm/multiply.hpp>
#include <lamella/precision/table.hpp>

#include "layer_step.hpp"
#include "message_of.hpp"
#include "training.hpp"

using namespace lamella;
using namespace lamella::accelerator;
using testing::draw;
using testing::generator;
using testing::layer_step;

namespace {

constexpr std::array uses{taxonn_use::inference, taxonn_use::time_multiplexed, taxonn_use::overlapped,
                          taxonn_use::training_array, taxonn_use::three_arrays};

// The layers of a sample, of random shapes that need not fit together, and their GEMMs in random order.
struct random_sample {
    std::vector<layer_step> layers;
    std::vector<gemm::gemm_event> events;
    taxonn_sample shapes;

    explicit random_sample(generator& r) {
        for (auto left = draw(r, 1, 3); left > 0; --left) {
            layer_step any(r);
            while (any.g.macs() > 3000) any = layer_step(r);  // small: the emulator takes every product
            layers.emplace_back(r, any.g, 1);
        }
        for (std::size_t l = 0; l < layers.size(); ++l) {
            const int layer = static_cast<int>(l);
            events.push_back(layers[l].forward(0, layer));
            events.push_back(layers[l].gradient(0, layer));
            if (l == 0) continue;
            for (const auto& e : layers[l].propagation(0, layer, draw(r, 0, 1) == 1)) events.push_back(e);
        }
        std::shuffle(events.begin(), events.end(), r);
        for (const auto& e : events) add_to(shapes, e);
    }
};

taxonn_configuration any_configuration(generator& r) {
    taxonn_configuration c;
    c.multipliers = static_cast<int>(draw(r, 2, draw(r, 0, 2) == 0 ? 200 : 12));
    c.split = draw(r, 0, 1) == 0 ? 0 : static_cast<int>(draw(r, 1, c.multipliers - 1));
    c.fill = static_cast<int>(draw(r, 0, 5));
    c.drain = static_cast<int>(draw(r, 0, 5));
    c.write_back = static_cast<int>(draw(r, 0, 2));
    return c;
}

// The kernels' result of an event, with E2's gate.
std::vector<std::int64_t> multiplied(const gemm::gemm_event& e, gemm::workspace& memory) {
    const gemm::problem p{e.a.view, e.b.view};
    std::vector<std::int64_t> result(static_cast<std::size_t>(p.m() * p.n()));
    gemm::output to;
    to.rows = gemm::axis::linear(p.m(), p.n());
    to.exact = result.data();
    gemm::multiply(p, to, {}, memory);
    for (std::int64_t i = 0; e.gate != nullptr && i < p.m() * p.n(); ++i)
        if (e.gate[e.gate_rows.offset(i / p.n()) + i % p.n()] <= 0) result[static_cast<std::size_t>(i)] = 0;
    return result;
}

}  // namespace

TEST_CASE("the array's results are the kernels', its cycles and products those counted in closed form") {
    gemm::workspace memory;
    int gated = 0, padded = 0, side_by_side = 0;
    for (std::uint64_t seed = 1; seed <= 120; ++seed) {
        generator r(seed);
        const random_sample sample(r);
        const taxonn_configuration c = any_configuration(r);
        const taxonn_use use = uses[seed % uses.size()];
        CAPTURE(seed);
        CAPTURE(name_of(use));
        CAPTURE(c.multipliers);
        CAPTURE(c.split);
        std::size_t received = 0;
        std::uint64_t macs = 0, cycles = 0;
        const taxonn_counts walked = taxonn_emulator(c).run(
            sample.events, use,
            [&](const gemm::gemm_event& e, std::span<const std::int64_t> results) {
                ++received;
                gated += e.gate != nullptr;
                REQUIRE(std::vector<std::int64_t>(results.begin(), results.end()) == multiplied(e, memory));
            },
            [&](const taxonn_activity& now) {
                REQUIRE(now.cycle == cycles);
                ++cycles;
                const auto [forward, propagation, gradient] = now.multiplying;
                REQUIRE(forward + propagation + gradient <= c.multipliers * (use == taxonn_use::three_arrays ? 2 : 1));
                side_by_side += propagation > 0 && gradient > 0;
                macs += static_cast<std::uint64_t>(forward + propagation + gradient);
            });
        REQUIRE(received == (use == taxonn_use::inference ? sample.layers.size() : sample.events.size()));
        REQUIRE(walked == count(c, sample.shapes, use));
        REQUIRE(walked.macs == macs);
        REQUIRE(walked.cycles == cycles);
        padded += walked.macs * 4 < walked.capacity * 3;
    }
    CHECK(gated > 20);
    CHECK(padded > 20);
    CHECK(side_by_side > 100);
}

TEST_CASE("what a sample costs, from the least hardware to the most") {
    int gained = 0;
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        CAPTURE(seed);
        generator r(seed);
        const random_sample sample(r);
        const taxonn_configuration c = any_configuration(r);
        const auto of = [&](taxonn_use use) { return count(c, sample.shapes, use); };
        const auto inference = of(taxonn_use::inference), shared = of(taxonn_use::time_multiplexed),
                   overlapped = of(taxonn_use::overlapped), second = of(taxonn_use::training_array),
                   three = of(taxonn_use::three_arrays);
        CHECK(inference.cycles < three.cycles + 1);
        CHECK(three.cycles <= overlapped.cycles);
        CHECK(overlapped.cycles <= shared.cycles);
        CHECK(second.cycles == overlapped.cycles);
        CHECK(second.capacity == 2 * overlapped.capacity);
        gained += overlapped.cycles < shared.cycles;

        std::uint64_t macs = 0;
        for (const layer_step& layer : sample.layers) macs += static_cast<std::uint64_t>(layer.g.macs());
        const auto first = static_cast<std::uint64_t>(sample.layers[0].g.macs());
        CHECK(inference.macs == macs);
        for (const taxonn_counts& training : {shared, overlapped, second, three}) {
            CHECK(training.macs == 3 * macs - first);
            CHECK(training.macs <= training.capacity);
        }
        CHECK(shared.shadow == 0);
        CHECK((overlapped.shadow > 0) == (overlapped.cycles < shared.cycles));
    }
    CHECK(gained > 50);
}

TEST_CASE("a layer's weights are written after its error propagation has read them, or to a second bank beside it") {
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
        CAPTURE(seed);
        generator r(seed);
        const random_sample sample(r);
        const taxonn_configuration c = any_configuration(r);
        for (const taxonn_use use : uses) {
            std::vector<std::pair<int, stage>> order;
            std::uint64_t end = 0;
            for (const taxonn_slot& slot : taxonn_schedule(c, sample.shapes, use)) {
                CHECK(slot.begin == end);
                end = slot.end;
                for (const taxonn_part& p : slot.parts) order.emplace_back(slot.layer, p.where);
                if (slot.parts.size() == 1) continue;
                CHECK(slot.parts[0].where == stage::error_propagation);
                CHECK(slot.parts[1].where == stage::weight_gradient);
                if (use != taxonn_use::three_arrays) CHECK(slot.parts[0].units + slot.parts[1].units == c.multipliers);
            }
            const int layers = static_cast<int>(sample.layers.size());
            std::vector<std::pair<int, stage>> expected;
            for (int l = 0; l < layers; ++l) expected.emplace_back(l, stage::feed_forward);
            for (int l = layers - 1; l >= 0 && use != taxonn_use::inference; --l) {
                if (l > 0) expected.emplace_back(l, stage::error_propagation);
                expected.emplace_back(l, stage::weight_gradient);
            }
            CHECK(order == expected);
        }
    }
}

TEST_CASE("no other split takes fewer cycles than the one chosen") {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        generator r(seed);
        const random_sample sample(r);
        taxonn_configuration c = any_configuration(r);
        c.multipliers = static_cast<int>(draw(r, 2, 40));
        c.split = 0;
        const std::uint64_t chosen = count(c, sample.shapes, taxonn_use::overlapped).cycles;
        for (c.split = 1; c.split < c.multipliers; ++c.split)
            CHECK(chosen <= count(c, sample.shapes, taxonn_use::overlapped).cycles);
    }
}

TEST_CASE("a linear layer and its neighbour, cycle by cycle") {
    // 6 -> 4 -> 3 on 4 units: FF 1 wave of 6 and 1 of 4; EP(1) 1 wave of 3; WG(1) 3 waves of 1; WG(0) 6 waves of 1.
    const taxonn_sample sample{{{{{4, 6, 24}}, {}, {{24, 1, 24}}}}, {{{{3, 4, 12}}, {{4, 3, 12}}, {{12, 1, 12}}}}};
    taxonn_configuration c{"small", 4, 2, 1, 2, 1, 200};
    CHECK(count(c, sample, taxonn_use::inference) == taxonn_counts{3 + 6 + 3 + 4, 36, 64, 0});
    const std::uint64_t backward = (3 + 3) + (3 + 3 * 2) + (3 + 6 * 2);
    CHECK(count(c, sample, taxonn_use::time_multiplexed) == taxonn_counts{16 + backward, 84, 4 * (16 + backward), 0});
    // Two units each: EP(1) 3 + 2 x 3, WG(1) 3 + 6 x 2. One after the other is as quick, so they do not share.
    CHECK(count(c, sample, taxonn_use::overlapped) == count(c, sample, taxonn_use::time_multiplexed));
    CHECK(count(c, sample, taxonn_use::three_arrays) == taxonn_counts{16 + 9 + 15, 84, 12 * 40, 12});
    c.split = 0;  // one unit for EP: 3 + 4 x 3 and 3 + 4 x 2
    CHECK(count(c, sample, taxonn_use::overlapped) == taxonn_counts{16 + 15 + 15, 84, 4 * 46, 0});
    c.write_back = 0;  // 3 + 2 x 3 and 3 + 6 on two units each, against 6 and 6 in turn
    CHECK(count(c, sample, taxonn_use::overlapped) == taxonn_counts{16 + 9 + 9, 84, 4 * 34, 12});
}

TEST_CASE("per-sample training under a table, its steps executed on the array") {
    const auto model = nn::sequential(nn::conv2d{3, 3, 1, 1}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{4, 3},
                                      nn::relu{}, nn::flatten{}, nn::linear{5});
    const data::dataset set = testing::noisy_images(3, 20, {8, 8, 1}, 5);
    optim::optimizer_settings settings;
    settings.rule = optim::rule::sgd;
    settings.lr = {1 << 30, -30 - 5};
    settings.schedule.shape = optim::schedule_shape::step;
    settings.schedule.gamma = {1 << 30, -31};
    testing::training_run run(
        nn::make_network<nn::fixed>(
            model, {8, 8, 1}, nn::fixed::settings{}, 7,
            std::make_unique<precision::table>(precision::parse_table("0.8,1.5,1.9+3.5,1.6,2.8+3.4,1.7,1.10"))),
        settings, set, 1, 12);
    slice_counts products(slice::encoding::sign_magnitude);
    recording steps(products, 1);
    taxonn_shapes shapes;
    run.net.observe(products);
    run.net.observe(steps);
    run.net.observe(shapes);
    for (std::uint64_t step = 0; step < 12; ++step) {
        run.step(step);
        const scaled rate = run.optimizer.learning_rate();  // the update's product is a shift
        CHECK(rate.mantissa == 1 << 30);
        CHECK(rate.exponent == -30 - 5 - static_cast<int>(step / 4));
    }

    const taxonn_configuration c{"small", 24, 0, 2, 2, 1, 200};
    gemm::workspace memory;
    std::vector<gemm::gemm_event> events;
    for (const recorded_gemm& g : steps.gemms()) g.replay([&](const gemm::gemm_event& e) { events.push_back(e); });
    REQUIRE(events.size() == 12 * 8);  // FF and WG of three layers, EP of two
    for (std::size_t first = 0; first < events.size(); first += 8)
        for (const taxonn_use use : {taxonn_use::time_multiplexed, taxonn_use::overlapped}) {
            const taxonn_counts walked = taxonn_emulator(c).run(
                std::span(events).subspan(first, 8), use,
                [&](const gemm::gemm_event& e, std::span<const std::int64_t> results) {
                    CHECK(std::vector<std::int64_t>(results.begin(), results.end()) == multiplied(e, memory));
                });
            CHECK(walked == count(c, shapes.sample(), use));
        }
}

TEST_CASE("the twin tells the largest magnitudes that its operands take in training") {
    const data::dataset set = testing::noisy_images(3, 20, {4, 4, 1}, 3);
    auto twin = nn::make_network<nn::float32>(nn::sequential(nn::flatten{}, nn::linear{3}), {4, 4, 1},
                                              nn::float32::settings{}, 1);
    std::vector<std::array<float, 3>> largest(1);
    twin.engine().largest = &largest;
    const auto index = testing::positions(0, 20);
    twin.predict(train::view_of(set, index));
    CHECK(largest[0] == std::array<float, 3>{});
    twin.train_step(train::view_of(set, index), testing::labels_of(set, 0, 20), 0);
    float weight = 0;
    twin.parameters([&](const auto& p) {
        for (const float w : p.value)
            if (!p.bias) weight = std::max(weight, std::abs(w));
    });
    const auto pixel = *std::max_element(set.images.begin(), set.images.end());
    CHECK(largest[0][0] == static_cast<float>(pixel) / 256);
    CHECK(largest[0][1] == weight);
    CHECK(largest[0][2] > 0.5f);
    CHECK(largest[0][2] < 1.0f);
}

TEST_CASE("configurations and steps that TaxoNN has no place for are refused by name") {
    taxonn_configuration c = taxonn();
    CHECK(&validated(c) == &c);
    c.multipliers = 1;
    CHECK(message_of<argument_error>([&] { validated(c); }) == "multipliers: expected 2..65536, found 1");
    c = taxonn();
    c.split = 256;
    CHECK(message_of<argument_error>([&] { taxonn_emulator{c}; }) ==
          "split: expected fewer than the multipliers, 256, found 256");
    c = taxonn();
    c.fill = -1;
    CHECK(message_of<argument_error>([&] { count(c, {}, taxonn_use::inference); }) ==
          "fill: expected 0..1000, found -1");

    const data::dataset set = testing::noisy_images(3, 20, {4, 4, 1}, 3);
    const auto model = nn::sequential(nn::flatten{}, nn::linear{3});
    taxonn_shapes shapes;
    {
        testing::training_run run(testing::fixed_network(model, {4, 4, 1}, 8), {}, set, 2, 4);
        run.net.observe(shapes);
        CHECK(message_of<argument_error>([&] { run.step(0); }) == "samples of a step: expected 1, found 2");
    }
    generator r(1);
    gemm::gemm_event probe = layer_step(r, nn::convolution({1, 1, 4}, 3, 1, 1, 1, 0), 1).forward(0, 0);
    probe.probe = true;
    CHECK(message_of<argument_error>([&] { shapes.on_gemm(probe); }) ==
          "controller: expected one without probes, found a probe");
}
