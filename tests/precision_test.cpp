// Who decides the widths: the fixed controller, LAPS' ladder, probes and moves, and the probes as the network computes
// them.
#include <lamella/data/digits.hpp>
#include <lamella/nn/network.hpp>
#include <lamella/optim/optimizer.hpp>
#include <lamella/precision/fixed.hpp>
#include <lamella/precision/laps.hpp>
#include <lamella/train/evaluate.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "training.hpp"

using namespace lamella;
using namespace testing;
using precision::laps;
using precision::laps_settings;
using precision::layer_widths;
using precision::probe_request;
using slice::encoding;

namespace {

laps_settings every_step(std::uint32_t patience = 1, std::uint32_t cooldown = 0) {
    laps_settings s;
    s.hi = 32768;  // 1/2
    s.lo = 16384;  // 1/4
    s.every = 1;
    s.patience = patience;
    s.cooldown = cooldown;
    return s;
}

// Distances in 2^-16 of the magnitude.
void answer(laps& controller, const probe_request& request, std::uint32_t distance) {
    controller.on_probe({request, precision::uint128{distance} << 40, precision::uint128{1} << 56});
}

constexpr std::uint32_t far = 40000, middle = 20000, near = 10000;

// The next request, which must be there.
probe_request next(laps& controller, std::uint64_t step) {
    const std::optional<probe_request> request = controller.begin_step(step);
    REQUIRE(request.has_value());
    return *request;
}

// One layer's FF probes, its EP probes left unanswered; returns the FF width after each.
std::vector<int> forward_widths(laps& controller, const std::vector<std::uint32_t>& distances) {
    std::vector<int> widths;
    std::uint64_t step = 0;
    for (const std::uint32_t d : distances) {
        const probe_request request = next(controller, step++);
        REQUIRE(request.where == stage::feed_forward);
        answer(controller, request, d);
        widths.push_back(controller.widths(0).activation);
        next(controller, step++);
    }
    return widths;
}

}  // namespace

TEST_CASE("fixed widths are the same for all layers and steps, but for a last layer of its own") {
    precision::fixed plain(8, 12), last(8, 12);
    precision::width_rules rules;
    rules.add("last=16");
    last.within(rules);
    plain.attach(3);
    last.attach(3);
    for (int layer = 0; layer < 3; ++layer) CHECK(plain.widths(layer) == layer_widths{8, 8, 12});
    CHECK(last.widths(1) == layer_widths{8, 8, 12});
    CHECK(last.widths(2) == layer_widths{16, 16, 16});
    CHECK(plain.ceiling() == 12);
    CHECK(last.ceiling() == 16);
    CHECK_FALSE(plain.begin_step(9).has_value());
    CHECK(plain.description() != last.description());
    CHECK_THROWS_AS(precision::fixed(1), argument_error);
    CHECK_THROWS_AS(precision::fixed(8, 17), argument_error);
}

TEST_CASE("LAPS starts on the rung at or next below the first width") {
    const auto first = [](encoding digits, int width) {
        laps_settings s;
        s.digits = digits;
        s.first_width = width;
        laps controller(s);
        controller.attach(2);
        CHECK(controller.widths(0) == controller.widths(1));
        CHECK(controller.widths(0).error == controller.widths(0).activation);
        return controller.widths(0).activation;
    };
    CHECK(first(encoding::sign_magnitude, 8) == 8);
    CHECK(first(encoding::twos_complement, 8) == 8);
    CHECK(first(encoding::signed_slice, 8) == 7);
    CHECK(first(encoding::sign_magnitude, 16) == 16);
    CHECK(first(encoding::sign_magnitude, 15) == 12);
    CHECK(first(encoding::signed_slice, 12) == 10);
    CHECK(first(encoding::sign_magnitude, 2) == 5);  // no rung below
}

TEST_CASE("LAPS climbs and descends exactly its encoding's ladder") {
    for (const auto& expected : {std::pair{encoding::sign_magnitude, std::vector{5, 8, 12, 16}},
                                 std::pair{encoding::twos_complement, std::vector{4, 8, 12, 16}},
                                 std::pair{encoding::signed_slice, std::vector{4, 7, 10, 13, 16}}}) {
        const encoding digits = expected.first;
        const std::vector<int>& ladder = expected.second;
        CAPTURE(name_of(digits));
        laps_settings s = every_step();
        s.digits = digits;
        s.first_width = 2;
        laps controller(s);
        controller.attach(1);
        std::vector<int> climbed{controller.widths(0).activation};
        for (std::uint64_t step = 0; step < 40; ++step) {
            const probe_request request = next(controller, step);
            if (request.where != stage::feed_forward) continue;
            CHECK(std::find(ladder.begin(), ladder.end(), request.low) + 1 ==
                  std::find(ladder.begin(), ladder.end(), request.high));
            answer(controller, request, far);
            if (controller.widths(0).activation != climbed.back()) climbed.push_back(controller.widths(0).activation);
        }
        CHECK(climbed == ladder);
        CHECK(controller.changes(0, 0) == static_cast<std::int64_t>(ladder.size()) - 1);
        CHECK(controller.changes(0, 1) == 0);
        CHECK(controller.widths(0).weight == 16);
        CHECK(controller.widths(0).error == ladder.front());
        for (std::uint64_t step = 40; step < 80; ++step) {
            const probe_request request = next(controller, step);
            if (request.where == stage::feed_forward) answer(controller, request, near);
        }
        CHECK(controller.widths(0).activation == ladder.front());
        CHECK(controller.changes(0, 0) == 2 * (static_cast<std::int64_t>(ladder.size()) - 1));
    }
}

TEST_CASE("LAPS probes every so many steps, layers and stages in turn, up and down by turns") {
    laps_settings s = every_step();
    s.every = 3;
    laps controller(s);
    controller.attach(3);
    int seen = 0;
    for (std::uint64_t step = 0; step < 3 * 18; ++step) {
        CAPTURE(step);
        const auto request = controller.begin_step(step);
        CHECK(request.has_value() == (step % 3 == 2));
        if (!request) continue;
        CHECK(request->layer == seen / 2 % 3);
        CHECK(request->where == (seen % 2 == 0 ? stage::feed_forward : stage::error_propagation));
        const bool up = seen / 6 % 2 == 0;
        CHECK(request->low == (up ? 8 : 5));
        CHECK(request->high == (up ? 12 : 8));
        ++seen;
    }
    CHECK(seen == 18);
}

TEST_CASE("at the top LAPS only looks down, at the bottom only up") {
    for (const int width : {5, 16}) {
        laps_settings s = every_step();
        s.first_width = width;
        laps controller(s);
        controller.attach(1);
        for (std::uint64_t step = 0; step < 8; ++step) {
            const probe_request request = next(controller, step);
            CHECK(request.low == (width == 5 ? 5 : 12));
            CHECK(request.high == (width == 5 ? 8 : 16));
            answer(controller, request, middle);
        }
        CHECK(controller.widths(0) == layer_widths{width, width, width});
    }
}

TEST_CASE("LAPS raises when an up probe is far, and between its thresholds it stays") {
    laps controller(every_step());
    controller.attach(1);  // probes: up, down, up, down ..
    CHECK(forward_widths(controller, {middle, middle, near, middle, far}) == std::vector<int>{8, 8, 8, 8, 12});
    laps exact(every_step());
    exact.attach(1);  // the thresholds themselves move nothing
    CHECK(forward_widths(exact, {32768, 16384, 32768, 16384}) == std::vector<int>{8, 8, 8, 8});
    CHECK(forward_widths(exact, {32769}) == std::vector<int>{12});
}

TEST_CASE("LAPS lowers when `patience` down probes running are near") {
    laps patient(every_step(3));
    patient.attach(1);
    //                                      up     down  up      down    up      down
    CHECK(forward_widths(patient, {middle, near, middle, near, middle, near}) == std::vector<int>{8, 8, 8, 8, 8, 5});
    laps disturbed(every_step(2));
    disturbed.attach(1);
    CHECK(forward_widths(disturbed, {middle, near, middle, middle, middle, near, middle, near}) ==
          std::vector<int>{8, 8, 8, 8, 8, 8, 8, 5});
    laps raised(every_step(2));
    raised.attach(1);  // a raise forgets what agreed before
    CHECK(forward_widths(raised, {middle, near, far, near, middle, near}) == std::vector<int>{8, 8, 12, 12, 12, 8});
}

TEST_CASE("after a change LAPS lets `cooldown` probes of that layer and stage pass") {
    laps controller(every_step(1, 2));
    controller.attach(1);
    //                                  up   down  up   down  up
    CHECK(forward_widths(controller, {far, near, far, near, middle}) == std::vector<int>{12, 12, 12, 8, 8});
}

TEST_CASE("a probe without a magnitude leaves the width alone") {
    laps controller(every_step());
    controller.attach(1);
    for (std::uint64_t step = 0; step < 6; ++step) controller.on_probe({next(controller, step), 5, 0});
    CHECK(controller.widths(0) == layer_widths{8, 8, 8});
}

TEST_CASE("a pinned last layer is neither probed nor moved") {
    precision::width_rules rules;
    rules.add("last=16");
    laps controller(every_step());
    controller.within(rules);
    controller.attach(2);
    for (std::uint64_t step = 0; step < 8; ++step) {
        const probe_request request = next(controller, step);
        CHECK(request.layer == 0);
        answer(controller, request, far);
    }
    CHECK(controller.widths(0).activation > 8);
    CHECK(controller.widths(1) == layer_widths{16, 16, 16});
    laps alone(every_step());
    alone.within(rules);
    alone.attach(1);
    CHECK_FALSE(alone.begin_step(0).has_value());
}

TEST_CASE("sums near the limit of 64-bit accumulators do not overflow LAPS' comparison") {
    laps controller(every_step());
    controller.attach(1);
    const precision::uint128 huge = precision::uint128{1} << 102;  // 2^62 over 2^40 accumulators
    controller.on_probe({next(controller, 0), huge / 2 + huge / 16, huge});
    CHECK(controller.widths(0).activation == 12);
    controller.on_probe({next(controller, 1), huge / 2 - huge / 16, huge});
    CHECK(controller.widths(0).error == 8);
}

TEST_CASE("LAPS' settings come from text, and bad ones are refused by name") {
    const laps_settings s = precision::parse_laps("0.5:0.25:20:3:4");
    CHECK(s.hi == 32768);
    CHECK(s.lo == 16384);
    CHECK(s.every == 20);
    CHECK(s.patience == 3);
    CHECK(s.cooldown == 4);
    laps_settings base;
    base.first_width = 12;
    CHECK(precision::parse_laps("0.5:0.5:1:1:0", base).first_width == 12);
    const auto refused = [](const char* text) {
        return message_of<argument_error>([&] { precision::parse_laps(text); });
    };
    CHECK(refused("0.5:0.2:10:2") == "laps: expected hi:lo:every:patience:cooldown, found 0.5:0.2:10:2");
    CHECK(refused("") == "laps: expected hi:lo:every:patience:cooldown, found ");
    CHECK(refused("0.5:0.2:10:2:1:7") == "laps: expected hi:lo:every:patience:cooldown, found 0.5:0.2:10:2:1:7");
    CHECK(refused("0.2:0.5:10:2:1") == "laps lo: expected at most hi (0.2), found 0.5");
    CHECK(refused("0.5:0.2:0:2:1") == "laps every: expected at least 1, found 0");
    CHECK(refused("0.5:0.2:10:0:1") == "laps patience: expected at least 1, found 0");
    CHECK(refused("0.5:0.2:x:2:1") == "laps every: expected a whole number, found x");
    CHECK(refused("0.5:0.2:10:2:-1") == "laps cooldown: expected a whole number, found -1");
    CHECK(refused("0.5:0.2:10:2:1e3") == "laps cooldown: expected a whole number, found 1e3");
    CHECK(refused("0.5:0.2:9999999999:2:1") == "laps every: expected a whole number, found 9999999999");
    CHECK(refused("much:0.2:10:2:1").starts_with("laps hi: expected a decimal number"));
    CHECK(refused("1.5:0.2:10:2:1") == "laps hi: expected a number in 0..1, found 1.5");
    laps_settings none;
    none.every = 0;
    CHECK_THROWS_AS(laps{none}, argument_error);
    laps_settings wide;
    wide.first_width = 17;
    CHECK_THROWS_AS(laps{wide}, argument_error);
}

TEST_CASE("descriptions tell settings apart, so that a resumed run can refuse others") {
    const auto text = [](const auto& change) {
        laps_settings s;
        change(s);
        return laps(s).description();
    };
    const std::string plain = text([](laps_settings&) {});
    CHECK(text([](laps_settings& s) { ++s.hi; }) != plain);
    CHECK(text([](laps_settings& s) { ++s.lo; }) != plain);
    CHECK(text([](laps_settings& s) { ++s.every; }) != plain);
    CHECK(text([](laps_settings& s) { ++s.patience; }) != plain);
    CHECK(text([](laps_settings& s) { ++s.cooldown; }) != plain);
    CHECK(text([](laps_settings& s) { s.first_width = 16; }) != plain);
    CHECK(text([](laps_settings& s) { s.digits = encoding::twos_complement; }) != plain);
}

TEST_CASE("LAPS goes on where its visited state was") {
    const laps_settings s = every_step(2, 1);
    laps first(s);
    first.attach(3);
    random_sequence random = random_of(1);
    const auto run = [](laps& controller, random_sequence& draws, std::uint64_t from, std::uint64_t to) {
        std::vector<int> widths;
        for (std::uint64_t step = from; step < to; ++step) {
            answer(controller, next(controller, step), draws.below(65536));
            for (int layer = 0; layer < 3; ++layer) {
                widths.push_back(controller.widths(layer).activation);
                widths.push_back(controller.widths(layer).error);
            }
        }
        return widths;
    };
    run(first, random, 0, 41);
    laps second(s);
    second.attach(3);
    snapshot::of(first).restore(second);
    random_sequence same = random;
    const auto expected = run(first, random, 41, 120);
    CHECK(run(second, same, 41, 120) == expected);
    CHECK(std::any_of(expected.begin(), expected.end(), [](int w) { return w != 8; }));
    CHECK(snapshot::of(first) == snapshot::of(second));
    const auto copy = first.clone();
    CHECK(copy->description() == first.description());
    CHECK(copy->widths(1) == first.widths(1));
}

TEST_CASE("a hostile state cannot move LAPS off its ladder") {
    laps controller(every_step());
    controller.attach(1);
    snapshot state = snapshot::of(controller);
    state.tensors.at("slot0").mantissas[0] = 77;
    state.tensors.at("slot1").mantissas[0] = -3;
    state.restore(controller);
    CHECK(controller.widths(0) == layer_widths{16, 16, 5});
}

namespace {

// Asks for one probe at the given step and keeps what came of it.
class asking final : public precision::controller {
  public:
    asking(int width, probe_request request, std::vector<precision::probe_result>& results)
        : width_(width), request_(request), results_(results) {}
    void attach(int) override {}
    layer_widths widths(int) const override { return {width_, width_, width_}; }
    std::optional<probe_request> begin_step(std::uint64_t) override { return request_; }
    void on_probe(const precision::probe_result& r) override { results_.push_back(r); }
    std::string description() const override { return "asking"; }
    void visit(state_visitor&) override {}
    std::unique_ptr<controller> clone() const override { return std::make_unique<asking>(*this); }

  private:
    int width_;
    probe_request request_;
    std::vector<precision::probe_result>& results_;
};

struct probe_watch : gemm::observer {
    std::vector<std::pair<int, int>> widths;  // of both operands
    std::vector<stage> where;
    void on_gemm(const gemm::gemm_event& e) override {
        if (!e.probe) return;
        widths.emplace_back(e.a.view.width, e.b.view.width);
        where.push_back(e.where);
    }
};

struct probe_outcome {
    std::vector<precision::probe_result> results;
    probe_watch seen;
};

template <class Model>
void ask(const Model& model, const data::dataset& set, int width, const probe_request& request, probe_outcome& outcome,
         const auto& prepare) {
    const nn::image_shape shape{static_cast<std::int64_t>(set.height()), static_cast<std::int64_t>(set.width()),
                                static_cast<std::int64_t>(set.channels())};
    nn::network<nn::fixed, Model> net(model, shape, {}, 3, std::make_unique<asking>(width, request, outcome.results));
    net.observe(outcome.seen);
    prepare(net);
    const auto index = positions(0, set.size());
    net.train_step(train::view_of(set, index), labels_of(set, 0, set.size()), 0);
}

}  // namespace

TEST_CASE("a probe sees the width alone: operands whose low bits are zero are no distance apart") {
    // Pixels of 0 and 128 and weights of +-2^14 need one bit of mantissa; any width holds them.
    data::dataset set = noisy_images(1, 12, {6, 6, 1}, 3);
    for (std::uint8_t& p : set.images) p = p >= 64 ? 128 : 0;
    for (const auto& rungs : {std::pair{5, 8}, std::pair{8, 12}, std::pair{12, 16}, std::pair{4, 7}}) {
        const int low = rungs.first, high = rungs.second;
        CAPTURE(low);
        for (const int width : {low, high}) {
            probe_outcome outcome;
            ask(nn::sequential(nn::conv2d{2, 3, 1, 1}, nn::flatten{}, nn::linear{3}), set, width,
                {0, stage::feed_forward, low, high}, outcome, [](auto& net) {
                    net.parameters([](nn::fixed_parameter& p) {
                        if (!p.bias)
                            for (std::size_t i = 0; i < p.mantissa.size(); ++i)
                                p.mantissa[i] = static_cast<std::int16_t>(i % 3 == 0 ? 16384 : i % 3 == 1 ? -16384 : 0);
                    });
                });
            REQUIRE(outcome.results.size() == 1);
            CHECK(outcome.results[0].distance == 0);
            CHECK(outcome.results[0].magnitude > 0);
            CHECK(outcome.seen.widths == std::vector{std::pair{high, high}, std::pair{low, low}});
        }
    }
}

TEST_CASE("a probe's distance is that of the layer's sums at the two widths") {
    const data::dataset set = noisy_images(2, 3, {4, 4, 1}, 3);
    for (const auto& rungs : {std::pair{5, 8}, std::pair{8, 12}}) {
        const int low = rungs.first, high = rungs.second;
        CAPTURE(low);
        // By hand, from the wide tensors: the same top bit, rounded to nearest, one exponent a width.
        for (const int width : {low, high}) {
            probe_outcome outcome;
            std::vector<std::int16_t> weights;
            nn::fixed::settings settings;
            ask(nn::sequential(nn::flatten{}, nn::linear{3}), set, width, {0, stage::feed_forward, low, high}, outcome,
                [&](auto& net) {
                    net.engine().options.activation.rule = radix_rule::no_overflow;
                    net.parameters([&](nn::fixed_parameter& p) {
                        if (!p.bias) weights.assign(p.mantissa.begin(), p.mantissa.end());
                    });
                });
            const auto dropped_at = [&](auto first, auto last, int to) {  // so that the largest just fits at `width`
                histogram seen;
                for (; first != last; ++first) seen.add(*first);
                return dropped_bits({radix_rule::no_overflow, 0, 0}, seen, width, rounding::nearest, 0) + width - to;
            };
            const auto sums = [&](int to) {
                const int da = dropped_at(set.images.begin(), set.images.end(), to);
                const int dw = dropped_at(weights.begin(), weights.end(), to);
                std::vector<double> found;
                for (std::size_t s = 0; s < 3; ++s)
                    for (std::size_t o = 0; o < 3; ++o) {
                        std::int64_t sum = 0;
                        for (std::size_t i = 0; i < 16; ++i)
                            sum += clip(round_nearest(set.image(s)[i], da), to) *
                                   clip(round_nearest(weights[16 * o + i], dw), to);
                        found.push_back(std::ldexp(static_cast<double>(sum), da + dw));
                    }
                return found;
            };
            const std::vector<double> at_high = sums(high), at_low = sums(low);
            double distance = 0, magnitude = 0;
            for (std::size_t i = 0; i < at_high.size(); ++i) {
                distance += std::abs(at_high[i] - at_low[i]);
                magnitude += std::abs(at_high[i]);
            }
            REQUIRE(outcome.results.size() == 1);
            const auto& r = outcome.results[0];
            CHECK(distance > 0);
            CHECK(static_cast<double>(r.distance) * magnitude ==
                  doctest::Approx(distance * static_cast<double>(r.magnitude)).epsilon(1e-12));
        }
    }
}

TEST_CASE("an EP probe compares weight gradients at two widths of the error alone, in the first layer too") {
    const data::dataset set = noisy_images(4, 6, {6, 6, 2}, 3);
    const auto model = nn::sequential(nn::conv2d{3, 3, 2, 1}, nn::relu{}, nn::flatten{}, nn::linear{3});
    for (const int layer : {0, 1}) {
        CAPTURE(layer);
        probe_outcome outcome;
        ask(model, set, 8, {layer, stage::error_propagation, 8, 12}, outcome, [](auto&) {});
        REQUIRE(outcome.results.size() == 1);
        CHECK(outcome.results[0].distance > 0);
        CHECK(outcome.results[0].distance < outcome.results[0].magnitude / 8);
        CHECK(outcome.seen.widths == std::vector{std::pair{12, 8}, std::pair{8, 8}});
        CHECK(outcome.seen.where == std::vector{stage::weight_gradient, stage::weight_gradient});
    }
}

TEST_CASE("an FF probe compares no more than the first 1024 rows") {
    // 40 images of 36 positions each; only the first 28 and part of the 29th count.
    data::dataset set = noisy_images(5, 40, {6, 6, 1}, 3);
    const auto model = nn::sequential(nn::conv2d{2, 3, 1, 1}, nn::flatten{}, nn::linear{3});
    const auto magnitude = [&] {
        probe_outcome outcome;
        ask(model, set, 16, {0, stage::feed_forward, 8, 12}, outcome,
            [](auto& net) { net.engine().options.activation.rule = radix_rule::no_overflow; });
        return outcome.results.at(0).magnitude;
    };
    set.image(39)[0] = 255;  // the exponent follows the largest pixel
    const precision::uint128 before = magnitude();
    std::fill_n(set.image(29).begin(), 36, std::uint8_t{77});
    std::fill_n(set.image(28).begin() + 30, 6, std::uint8_t{200});  // rows from 16 on look at pixels from 9 on
    CHECK(magnitude() == before);
    set.image(28)[0] = 201;
    CHECK(magnitude() != before);
}

TEST_CASE("a probe leaves the training step as it is") {
    const data::dataset set = noisy_images(6, 6, {6, 6, 2}, 3);
    const auto model = nn::sequential(nn::conv2d{3, 3, 2, 1}, nn::relu{}, nn::flatten{}, nn::linear{3});
    const auto index = positions(0, 6);
    auto plain = fixed_network(model, {6, 6, 2}, 8, 3);
    plain.train_step(train::view_of(set, index), labels_of(set, 0, 6), 0);
    for (const stage where : {stage::feed_forward, stage::error_propagation})
        for (const int layer : {0, 1}) {
            probe_outcome outcome;
            std::vector<precision::probe_result> results;
            nn::network<nn::fixed, std::remove_const_t<decltype(model)>> net(
                model, {6, 6, 2}, {}, 3, std::make_unique<asking>(8, probe_request{layer, where, 8, 12}, results));
            net.train_step(train::view_of(set, index), labels_of(set, 0, 6), 0);
            CHECK(results.size() == 1);
            std::vector<nn::fixed_parameter*> expected;
            plain.parameters([&](nn::fixed_parameter& p) { expected.push_back(&p); });
            std::size_t at = 0;
            net.parameters([&](nn::fixed_parameter& p) {
                const nn::fixed_parameter& q = *expected[at++];
                CHECK(std::equal(p.gradient.begin(), p.gradient.end(), q.gradient.begin(), q.gradient.end()));
            });
        }
}

TEST_CASE("training on generated digits under LAPS changes widths and learns") {
    const data::dataset set = data::generated_digits(1, 0, 160);
    const auto model = nn::sequential(nn::conv2d{4, 5, 2}, nn::relu{}, nn::max_pool2d{2}, nn::flatten{}, nn::linear{24},
                                      nn::relu{}, nn::linear{10});
    laps_settings s;
    s.every = 1;
    s.first_width = 8;
    auto owned = std::make_unique<laps>(s);
    const laps& controller = *owned;
    nn::network<nn::fixed, std::remove_const_t<decltype(model)>> net(model, {28, 28, 1}, {}, 2, std::move(owned));
    optim::optimizer optimizer;
    double first_loss = 0, last_loss = 0;
    for (std::uint64_t step = 0; step < 120; ++step) {
        const std::size_t at = step % 5 * 32;
        const auto index = positions(at, 32);
        net.train_step(train::view_of(set, index), labels_of(set, at, 32), step);
        optimizer.begin_step(step, 120, 32);
        net.parameters([&](auto& p) { optimizer.update(p, 2, static_cast<std::uint32_t>(step), net.engine().isa()); });
        if (step == 0) first_loss = net.loss().mean_loss();
        last_loss = net.loss().mean_loss();
    }
    std::int64_t forward = 0, backward = 0;
    for (int layer = 0; layer < 3; ++layer) {
        forward += controller.changes(layer, 0);
        backward += controller.changes(layer, 1);
    }
    CHECK(forward > 0);
    CHECK(backward > 0);
    CHECK(last_loss < first_loss / 2);
}
