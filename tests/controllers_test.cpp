// The controllers beside LAPS: hand-computed traces, bounds, stages, settings from text, and runs that go on where a
// checkpoint was taken.
#include <lamella/accelerator/slice_counts.hpp>
#include <lamella/precision/parse.hpp>
#include <lamella/precision/trace.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "training.hpp"

using namespace lamella;
using namespace testing;
using precision::layer_widths;
using precision::parse_controller;

namespace {

// One of each, with settings that make it move within a few steps; alone, by stages, within bounds.
const std::vector<std::string>& restless() {
    static const std::vector<std::string> texts{
        "fixed:7,9",
        "laps:0.002:0.001:1:1:0",
        "cyclic:4:12:7",
        "progressive:5-8-12:1:0.9",
        "gradient-diversity:5-8-12:1",
        "quantisation-error:0.005:3",
        "table:2.6,1.7,1.9",
        "cyclic:4:12:5/fixed:8",
        "laps:0.002:0.001:2:1:0/laps:0.002:0.001:3:1:0",
        "quantisation-error:0.01:2/progressive:6-9:1:0.9",
        "table:2.6,1.7,1.9/gradient-diversity:6-9-11:1",
        "laps:0.002:0.001:1:1:0@first=8..12@last=16",
    };
    return texts;
}

const nn::image_shape shape{6, 6, 2};
constexpr auto model =
    nn::sequential(nn::conv2d{3, 3, 2, 1}, nn::relu{}, nn::flatten{}, nn::linear{7}, nn::relu{}, nn::linear{3});
using network = nn::network<nn::fixed, std::remove_const_t<decltype(model)>>;

const data::dataset& images() {
    static const data::dataset set = noisy_images(3, 40, shape, 3);
    return set;
}
training_run<network> run_of(const std::string& text) {
    return {network(model, shape, {}, 5, parse_controller(text)), {}, images(), 8, 40};
}

struct seen_operands final : gemm::observer {
    struct row {
        int layer;
        role what;
        int width, exponent;
        bool zero;
    };
    std::vector<row> rows;
    void on_gemm(const gemm::gemm_event& event) override {
        if (event.probe) return;
        for (const gemm::event_operand* o : {&event.a, &event.b})
            rows.push_back({event.layer, o->what, o->view.width, o->view.exponent, o->clips.nonzeros == 0});
    }
};

// A step of a controller outside a network.
void step(precision::controller& c, std::uint64_t number, std::uint64_t loss, std::int64_t samples = 1) {
    c.begin_step(number);
    c.on_loss(loss, samples);
    c.end_step();
}

void gradient_step(precision::controller& c, std::uint64_t number, const std::vector<std::vector<std::int64_t>>& layers,
                   int exponent) {
    c.begin_step(number);
    for (std::size_t l = 0; l < layers.size(); ++l) {
        if (c.wants_gradients()) c.on_gradient(static_cast<int>(l), layers[l], exponent);
    }
    c.end_step();
}

}  // namespace

TEST_CASE("the cyclic width is the paper's formula, rounded to even, and the rung at or above it is used") {
    precision::cyclic plain({3, 8, 8});
    std::vector<int> wanted;
    for (std::uint64_t t = 0; t < 9; ++t) wanted.push_back(plain.width_at(t));
    // 3, 3.19, 3.73, 4.54, 5.5, 6.46, 7.27, 7.81, then again from the start
    CHECK(wanted == std::vector{3, 3, 4, 5, 6, 6, 7, 8, 3});
    CHECK(precision::cyclic({2, 7, 2}).width_at(1) == 4);  // 4.5
    CHECK(precision::cyclic({8, 8, 5}).width_at(3) == 8);
    CHECK(precision::cyclic({5, 16, 1}).width_at(7) == 5);

    plain.attach(2);
    std::vector<int> used;
    for (std::uint64_t t = 0; t < 9; ++t) {
        CHECK_FALSE(plain.begin_step(t).has_value());
        used.push_back(plain.widths(1).error);
        CHECK(plain.widths(0) == plain.widths(1));
    }
    CHECK(used == std::vector{5, 5, 5, 5, 8, 8, 8, 8, 5});
    CHECK(plain.ceiling() == 8);
    precision::cyclic signed_slices({3, 8, 8, slice::encoding::signed_slice});
    signed_slices.attach(1);
    signed_slices.begin_step(7);
    CHECK(signed_slices.widths(0).weight == 10);
    CHECK(signed_slices.ceiling() == 10);

    for (const std::uint64_t period : {3u, 10u, 147u})
        for (std::uint64_t t = 0; t < period; ++t) {
            const double x =
                4 + 6 * (1 - std::cos(3.14159265358979 * static_cast<double>(t) / static_cast<double>(period))) / 2;
            CHECK(std::abs(precision::cyclic({4, 10, static_cast<std::uint32_t>(period)}).width_at(t) - x) <=
                  0.5 + 1e-9);
        }
}

TEST_CASE("progressive takes the next width when four intervals' losses are all near the present one") {
    precision::progressive c({{5, 8, 12}, 2, 6554});  // two steps an interval, eps 0.1
    c.attach(1);
    std::uint64_t number = 0;
    const auto interval = [&](std::uint64_t loss) {  // its mean; the two steps lie around it
        step(c, number++, (loss - 2) << 16, 1);
        step(c, number++, 3 * (loss << 16) + (2 << 16), 3);
        return c.widths(0).activation;
    };
    std::vector<int> widths;
    // The fifth is the first that four others stand before: 60 away, 0.1 x 54 allowed. The sixth: 10 away, 5.2. The
    // seventh: none away.
    for (const int loss : {100, 50, 40, 40, 40, 40, 40}) widths.push_back(interval(static_cast<std::uint64_t>(loss)));
    CHECK(widths == std::vector{5, 5, 5, 5, 5, 5, 8});
    CHECK(c.turning_points() == 1);
    // The window starts anew; 0.03 x 46.1 (the first ten) = 1.38 is allowed now.
    widths.clear();
    for (const int loss : {38, 37, 36, 35, 34, 34, 34, 34})
        widths.push_back(interval(static_cast<std::uint64_t>(loss)));
    CHECK(widths == std::vector{8, 8, 8, 8, 8, 8, 8, 12});
    for (int i = 0; i < 12; ++i) interval(34);  // there is no further width
    CHECK(c.widths(0) == layer_widths{12, 12, 12});
    CHECK(c.turning_points() == 2);
}

TEST_CASE("progressive counts a loss that differs by exactly the share as stalled") {
    // A quarter of the mean of five, 40: 10 away at most.
    for (const auto& [losses, width] : {std::pair{std::vector{44, 40, 40, 40, 36}, 8},
                                        {{46, 40, 40, 38, 36}, 8},
                                        {{47, 40, 40, 37, 36}, 5},
                                        {{34, 40, 40, 41, 45}, 5}}) {
        precision::progressive c({{5, 8}, 1, 16384});
        c.attach(1);
        std::uint64_t number = 0;
        for (const int loss : losses) step(c, number++, static_cast<std::uint64_t>(loss) << 16);
        CHECK(c.widths(0).weight == width);
    }
}

TEST_CASE("gradient diversity raises the width at the second window whose gradients are much more alike") {
    // Alike: |g|^2 three times 1 over |sum|^2 = 9, so 1/3. Unlike: 3 over 1. At samples 9 and 12 the thresholds are
    // 1 + 1.5 exp(-0.8) = 1.67 and 1.50, and 3 / (1/3) = 9 is above both.
    using gradients = std::vector<std::vector<std::int64_t>>;
    const gradients right{{1, 0}}, up{{0, 1}}, left{{-1, 0}};
    for (const int exponent : {-20, 3}) {
        CAPTURE(exponent);
        precision::gradient_diversity c({{5, 8, 12}, 2});
        c.layer_built(0, 2);
        c.attach(1);
        std::uint64_t number = 0;
        const auto window = [&](const gradients& a, const gradients& b, const gradients& d) {
            for (const gradients* g : {&a, &b, &d}) {
                gradient_step(c, number++, {{77, -5}}, 9);  // not sampled
                gradient_step(c, number++, *g, exponent);
            }
            return c.widths(0).error;
        };
        CHECK(window(right, right, right) == 5);
        CHECK(window(right, up, left) == 5);      // the new largest
        CHECK(window(right, right, right) == 5);  // violation
        CHECK(window(right, up, left) == 5);      // none, and none forgotten
        CHECK(window(up, up, up) == 8);
        CHECK(window(right, right, right) == 8);  // the largest starts anew
        CHECK(window(right, right, right) == 8);
        std::vector<precision::measurement> compared;
        c.each_measurement(number - 1, [&](const precision::measurement& m) { compared.push_back(m); });
        REQUIRE(compared.size() == 2);
        CHECK(compared[0].metric == 65536);  // equally alike
        CHECK(compared[0].threshold == doctest::Approx(65536 * (1 + 1.5 * std::exp(-2.0))).epsilon(1e-4));
    }
}

TEST_CASE(
    "gradient diversity is the mean over layers, whatever a layer's scale, and leaves out those that sum to zero") {
    precision::gradient_diversity c({{5, 8}, 1});
    for (int layer = 0; layer < 3; ++layer) c.layer_built(layer, layer == 1 ? 1 : 2);
    c.attach(3);
    // Window one: diversities 3 / 9, 3 / 9 and none: mean 1/3. Window two, layer 0 unlike: (3 + 1/3) / 2 = 5/3.
    const std::int64_t big = std::int64_t{1} << 50;
    std::uint64_t number = 0;
    for (int i = 0; i < 3; ++i) gradient_step(c, number++, {{1, 0}, {big}, {0, 0}}, -3 * i);
    gradient_step(c, number++, {{4, 0}, {big}, {5, 5}}, 0);
    gradient_step(c, number++, {{0, 2}, {big / 2}, {0, 0}}, 1);
    gradient_step(c, number++, {{-8, 0}, {big * 2}, {-10, -10}}, -1);
    std::vector<precision::measurement> compared;
    c.each_measurement(number - 1, [&](const precision::measurement& m) { compared.push_back(m); });
    REQUIRE(compared.size() == 6);
    CHECK(compared[0].metric == 65536);  // the largest so far
    for (int i = 0; i < 3; ++i) gradient_step(c, number++, {{1, 0}, {big}, {0, 0}}, 0);
    compared.clear();
    c.each_measurement(number - 1, [&](const precision::measurement& m) { compared.push_back(m); });
    REQUIRE(compared.size() == 6);
    CHECK(std::abs(static_cast<int>(compared[0].metric) - 5 * 65536) <= 1);  // 5/3 over 1/3
}

TEST_CASE("quantisation error takes the lowest rung that keeps the mean magnitude") {
    // 127 and eight ones, in use at 8 bits with nothing dropped. At 5 bits three bits go: 16 is clipped to 15, the ones
    // vanish: 120 of 135, a change of 1/9. At 8 bits nothing changes.
    const std::vector<std::int32_t> values{-127, 1, 1, -1, 1, 1, 1, 1, -1};
    const std::vector<std::int16_t> master{120, -120, 64};  // 15, 15 and 8 at 5 bits: no change
    const auto widths = [&](const char* text) {
        auto c = parse_controller(text);
        c->attach(1);
        c->begin_step(0);
        CHECK(c->wants_events());
        gemm::gemm_event event;
        event.a.what = role::activation;
        event.a.view.width = event.b.view.width = 8;
        event.a.source = {values.data(), nullptr, 9, 4};
        event.a.view.exponent = 4;
        event.b.what = role::weight;
        event.b.source = {nullptr, master.data(), 3, -7};
        event.b.view.exponent = -7;
        c->on_gemm(event);
        event.where = stage::weight_gradient;
        event.a.what = role::error;
        event.a.view.width = 5;  // in use at 5 bits now: the same top bit means three dropped
        event.a.view.exponent = 7;
        c->on_gemm(event);
        c->begin_step(1);
        CHECK_FALSE(c->wants_events());
        return c->widths(0);
    };
    CHECK(widths("quantisation-error:0.112:100") == layer_widths{5, 5, 5});
    CHECK(widths("quantisation-error:0.111:100") == layer_widths{8, 5, 8});
    CHECK(widths("quantisation-error:0:100@all=12..16") == layer_widths{12, 12, 12});
    CHECK(widths("quantisation-error:0:100@all=2..6") == layer_widths{6, 5, 6});
    CHECK(widths("quantisation-error:0:100/fixed:8") == layer_widths{8, 5, 8});
}

TEST_CASE("under a table every operand has its row's width and a radix point that never moves") {
    auto run = run_of("table:2.6,1.7,1.9+3.2,-1.9,0.11+2.6,1.15,2.6");
    seen_operands seen;
    run.net.observe(seen);
    run.steps(0, 6);
    const int width[3][3] = {{8, 8, 10}, {5, 8, 11}, {8, 16, 8}}, fraction[3][3] = {{6, 7, 9}, {2, 9, 11}, {6, 15, 6}};
    CHECK(seen.rows.size() > 50);
    for (const auto& row : seen.rows) {
        CHECK(row.width == width[row.layer][static_cast<int>(row.what)]);
        if (!row.zero) CHECK(row.exponent == -fraction[row.layer][static_cast<int>(row.what)]);
    }
    const auto index = positions(0, 5);
    const auto alone = run.net.predict(train::view_of(images(), positions(4, 1))).data[2];
    CHECK(run.net.predict(train::view_of(images(), index)).data[14] == alone);
}

TEST_CASE("formats far from the data lose or clip everything, and nothing else happens") {
    for (const char* text : {"table:-38.40,-38.40,-38.40", "table:40.-38,40.-38,40.-38", "table:1.1,40.-38,-38.40"}) {
        CAPTURE(text);
        auto run = run_of(text);
        run.steps(0, 3);
        run.net.predict(train::view_of(images(), positions(0, 3)));
    }
}

TEST_CASE("of two controllers the first decides on A and W, the second on E") {
    auto both = parse_controller("fixed:6/cyclic:4:12:4");
    both->attach(2);
    both->begin_step(2);
    CHECK(both->widths(1) == layer_widths{6, 6, 8});
    CHECK(both->ceiling() == 12);
    auto tables = parse_controller("table:2.6,1.7,1.9/fixed:8");
    tables->attach(1);
    CHECK(tables->exponent(0, role::weight) == -7);
    CHECK_FALSE(tables->exponent(0, role::error).has_value());
}

TEST_CASE("two controllers that ask in one step are answered in two") {
    auto both = parse_controller("laps:0.5:0.2:2:1:0/laps:0.5:0.2:2:1:0");
    both->attach(1);
    std::vector<std::string> asked;
    for (std::uint64_t number = 0; number < 6; ++number) {
        const auto request = both->begin_step(number);
        asked.push_back(!request ? "-" : request->where == stage::feed_forward ? "F" : "E");
        if (request) both->on_probe({*request, 3, 4});  // raises when it looks up
        if (number == 3) {                              // what waits is part of the state
            auto copy = both->clone();
            auto resumed = parse_controller("laps:0.5:0.2:2:1:0/laps:0.5:0.2:2:1:0");
            resumed->attach(1);
            snapshot::of(*both).restore(*resumed);
            const auto next = resumed->begin_step(4), of_copy = copy->begin_step(4);
            REQUIRE(next.has_value());
            REQUIRE(of_copy.has_value());
            CHECK(next->where == stage::error_propagation);
            CHECK(of_copy->where == next->where);
            CHECK(of_copy->low == next->low);
        }
    }
    CHECK(asked == std::vector<std::string>{"-", "F", "E", "F", "E", "F"});
    CHECK(both->widths(0) == layer_widths{16, 16, 12});  // three and two probes, every other one down
}

TEST_CASE("rules bound each layer, a later one replaces an earlier one, and they hold for every controller") {
    precision::width_rules rules;
    for (const char* text : {"all=5..8", "first=8", "last=8..16", "2=12"}) rules.add(text);
    using b = precision::width_bounds;
    CHECK(rules.resolve(4) == std::vector<b>{{8, 8}, {5, 8}, {12, 12}, {8, 16}});
    CHECK(rules.resolve(3) == std::vector<b>{{8, 8}, {5, 8}, {12, 12}});
    CHECK_THROWS_AS(rules.resolve(2), argument_error);
    CHECK(rules.ceiling(5) == 12);
    CHECK(rules.ceiling(16) == 16);

    for (const std::string& text : restless()) {
        if (text.find('@') != std::string::npos) continue;
        CAPTURE(text);
        std::string bounded;
        for (const std::string& part : precision::detail::fields(text, '/'))
            bounded += (bounded.empty() ? "" : "/") + part + "@first=10@1=6..8";
        auto run = run_of(bounded);
        seen_operands seen;
        run.net.observe(seen);
        run.steps(0, 12);
        CHECK(seen.rows.size() > 100);
        for (const auto& row : seen.rows) {
            if (row.layer == 0) CHECK(row.width == 10);
            if (row.layer == 1) CHECK((row.width >= 6 && row.width <= 8));
            CHECK(row.width <= run.net.engine().controller->ceiling());
        }
    }
}

TEST_CASE("LAPS moves within its bounds and asks only where it may move") {
    auto c = parse_controller("laps:0.5:0.2:1:1:0@first=8@1=8..12@2=9..11");
    c->attach(4);
    for (std::uint64_t number = 0; number < 40; ++number) {
        const auto request = c->begin_step(number);
        REQUIRE(request.has_value());
        CHECK((request->layer == 1 || request->layer == 3));
        if (request->layer == 1) CHECK((request->low == 8 && request->high == 12));
        c->on_probe({*request, 9, 10});
    }
    CHECK(c->widths(0) == layer_widths{8, 8, 8});
    CHECK(c->widths(1) == layer_widths{12, 12, 12});
    CHECK(c->widths(2) == layer_widths{11, 11, 11});  // no rung lies between its bounds
    CHECK(c->widths(3) == layer_widths{16, 16, 16});
}

TEST_CASE("a run under any controller goes on with the same bits, whenever it was interrupted") {
    const auto widths = [](auto& run, int layer) { return run.net.engine().controller->widths(layer); };
    for (const std::string& text : restless()) {
        CAPTURE(text);
        auto whole = run_of(text);
        std::vector<snapshot> at;
        bool moved = false;
        for (std::uint64_t number = 0; number < 20; ++number) {
            const layer_widths before[2] = {widths(whole, 1), widths(whole, 2)};
            if (number == 4 || number == 9 || number == 13) at.push_back(snapshot::of(whole));
            whole.step(number);
            moved = moved || !(widths(whole, 1) == before[0]) || !(widths(whole, 2) == before[1]);
        }
        const bool still =
            text.find('/') == std::string::npos && (text.starts_with("fixed") || text.starts_with("table"));
        CHECK(moved != still);
        const snapshot expected = snapshot::of(whole);
        std::size_t i = 0;
        for (const std::uint64_t from : {4u, 9u, 13u}) {
            CAPTURE(from);
            auto resumed = run_of(text);
            at[i++].restore(resumed);
            resumed.steps(from, 20 - from);
            CHECK(snapshot::of(resumed) == expected);
        }
    }
}

TEST_CASE("a copy of a controller goes its own way from the same state") {
    for (const std::string& text : restless()) {
        CAPTURE(text);
        auto run = run_of(text);
        run.steps(0, 7);
        precision::controller& original = *run.net.engine().controller;
        const auto copy = original.clone();
        CHECK(copy->description() == original.description());
        CHECK(snapshot::of(*copy) == snapshot::of(original));
        for (int layer = 0; layer < 3; ++layer) CHECK(copy->widths(layer) == original.widths(layer));
    }
}

TEST_CASE("what an event tells of its sources is what the network holds") {
    struct check final : gemm::observer {
        network* net = nullptr;
        int weights_seen = 0;
        void on_gemm(const gemm::gemm_event& event) override {
            if (event.probe) {
                CHECK(event.a.source.wide == nullptr);
                return;
            }
            CHECK(event.a.source.wide != nullptr);
            CHECK(event.a.source.size == event.a.stored.size());
            if (event.where != stage::feed_forward) return;
            std::vector<nn::fixed_parameter*> weights;
            net->parameters([&](nn::fixed_parameter& p) {
                if (!p.bias) weights.push_back(&p);
            });
            const nn::fixed_parameter& own = *weights.at(static_cast<std::size_t>(event.layer));
            CHECK(event.b.source.master == own.mantissa.data());
            CHECK(event.b.source.size == static_cast<std::int64_t>(own.mantissa.size()));
            ++weights_seen;
        }
    } seen;
    auto run = run_of("laps:0.002:0.001:1:1:0");
    seen.net = &run.net;
    run.net.observe(seen);
    run.steps(0, 2);
    CHECK(seen.weights_seen == 6);
}

namespace {

// Remembers what it was told of the last batch.
struct listening final : precision::bounded_controller {
    std::uint64_t loss = 0;
    std::int64_t samples = 0;
    std::vector<std::vector<std::int64_t>> gradients;
    bool wants_loss() const override { return true; }
    void on_loss(std::uint64_t sum, std::int64_t count) override {
        loss = sum;
        samples = count;
    }
    bool wants_gradients() const override { return true; }
    void on_gradient(int layer, std::span<const std::int64_t> sums, int) override {
        gradients.resize(3);
        gradients.at(static_cast<std::size_t>(layer)).assign(sums.begin(), sums.end());
    }
    layer_widths wanted(int) const override { return {}; }
    std::string settings_text() const override { return "listening"; }
    void visit(state_visitor&) override {}
    std::unique_ptr<controller> clone() const override { return std::make_unique<listening>(*this); }
};

}  // namespace

TEST_CASE("controllers hear the sum of the labels' bits and the gradients of the step") {
    auto owned = std::make_unique<listening>();
    const listening& heard = *owned;
    network net(model, shape, {}, 5, std::move(owned));
    net.train_step(train::view_of(images(), positions(0, 13)), labels_of(images(), 0, 13), 0);
    CHECK(heard.samples == 13);
    const double bits = 13 * net.loss().mean_loss() / std::log(2.0);
    CHECK(std::abs(static_cast<double>(heard.loss) / 65536 - bits) < 13.0 / 65536 + 1e-9);  // under a unit a sample
    std::size_t layer = 0;
    net.parameters([&](nn::fixed_parameter& p) {
        if (!p.bias) CHECK(std::ranges::equal(p.gradient.span(), heard.gradients.at(layer++)));
    });
    CHECK(layer == 3);
}

TEST_CASE("a trace has the metric and the threshold of each comparison") {
    auto run = run_of("laps:0.25:0.125:2:1:0");
    accelerator::slice_counts counts(slice::encoding::sign_magnitude, best_path(), run.net.products());
    std::vector<std::string> lines;
    precision::trace trace(
        counts, [&](std::string_view line) { lines.emplace_back(line); }, 1, run.net.engine().controller.get());
    run.net.observe(counts);
    run.net.observe(trace);
    run.steps(0, 12);
    trace.flush();
    std::vector<std::string> compared;
    for (const std::string& line : lines) {
        const auto cells = precision::detail::fields(line.substr(0, line.size() - 1), ',');
        REQUIRE(cells.size() == 25);
        if (cells[23].empty()) continue;
        compared.push_back(cells[0] + " " + cells[1] + " " + cells[2] + " " + cells[24]);
        CHECK(std::stod(cells[23]) < 1.5);
    }
    CHECK(compared == std::vector<std::string>{"1 0 feed_forward 0.250000", "3 0 weight_gradient 0.250000",
                                               "5 1 feed_forward 0.250000", "7 1 weight_gradient 0.250000",
                                               "9 2 feed_forward 0.250000", "11 2 weight_gradient 0.250000"});
}

TEST_CASE("settings that make no sense are refused by name") {
    const auto refused = [](const char* text) { return message_of<argument_error>([&] { parse_controller(text); }); };
    CHECK(refused("magic").starts_with("precision: expected laps, fixed:W"));
    CHECK(refused("").starts_with("precision: expected laps"));
    CHECK(refused("cyclic").starts_with("precision: expected laps"));
    CHECK(refused("laps/laps/laps") ==
          "precision: expected one controller, or feed-forward/error-propagation, found laps/laps/laps");
    CHECK(refused("laps/") == refused(""));
    CHECK(refused("laps:1:2") == "laps: expected hi:lo:every:patience:cooldown, found 1:2");
    CHECK(refused("fixed:5,6,7") == "fixed: expected W or FF,EP, found 5,6,7");
    CHECK(refused("fixed:17") == "fixed: expected 2..16 bits, found 17");
    CHECK(refused("fixed:x") == "fixed: expected a whole number, found x");
    CHECK(refused("cyclic:5:8") == "cyclic: expected lowest:highest:period, found 5:8");
    CHECK(refused("cyclic:8:5:10") == "cyclic lowest: expected at most highest (5), found 8");
    CHECK(refused("cyclic:5:8:0") == "cyclic period: expected at least 1, found 0");
    CHECK(refused("cyclic:1:8:9") == "cyclic lowest: expected 2..16 bits, found 1");
    CHECK(refused("progressive:5-8") == "progressive: expected widths:every:eps, found 5-8");
    CHECK(refused("progressive:8-5:10:0.05") ==
          "progressive widths: expected widths that grow, as in 5-8-12, found 8-5");
    CHECK(refused("progressive:5-8:0:0.05") == "progressive every: expected at least 1, found 0");
    CHECK(refused("progressive:5-8:10:1.5") == "progressive eps: expected a number in 0..1, found 1.5");
    CHECK(refused("gradient-diversity:5-8") == "gradient-diversity: expected widths:every, found 5-8");
    CHECK(refused("gradient-diversity:5-20:9") == "gradient-diversity widths: expected 2..16 bits, found 20");
    CHECK(refused("quantisation-error:0.1") == "quantisation-error: expected threshold:every, found 0.1");
    CHECK(refused("quantisation-error:2:9") == "quantisation-error threshold: expected a number in 0..1, found 2");
    CHECK(refused("table:1.7,1.7") == "table: expected I.F of activation, weight and error, found 1.7,1.7");
    CHECK(refused("table:1.7,1.7,8") == "table: expected I.F, found 8");
    CHECK(refused("table:1.7,1.7,8.9") == "table: expected I + F from 2 to 16 bits, found 8.9");
    CHECK(refused("table:1.7,1.7,-90.99") == "table: expected I and F from -40 to 40, found -90");
    CHECK(refused("laps@") == "width rule: expected all, first, last or a layer's number, then =W or =LO..HI, found ");
    CHECK(refused("laps@middle=8") ==
          "width rule: expected all, first, last or a layer's number, then =W or =LO..HI, found middle=8");
    CHECK(refused("laps@last=8..5") == "width rule last: expected a floor that is at most the ceiling, found 8..5");
    CHECK(refused("laps@last=8..99") == "width rule last: expected 2..16 bits, found 99");
    CHECK(message_of<argument_error>([] { run_of("laps@7=8"); }) ==
          "width rule: expected a layer from 0 to 2, found 7");
    CHECK(message_of<argument_error>([] { run_of("table:1.7,1.7,1.7+1.7,1.7,1.7"); }) ==
          "table: expected one row or 3, one a layer, found 2");
    CHECK_THROWS_AS(precision::progressive({{}, 1, 0}), argument_error);
    CHECK_THROWS_AS(precision::gradient_diversity({{}, 1}), argument_error);
    CHECK_THROWS_AS(precision::table({}), argument_error);
    CHECK_THROWS_AS(precision::per_stage(nullptr, std::make_unique<precision::fixed>(8)), argument_error);
}

TEST_CASE("descriptions tell all these controllers apart") {
    std::vector<std::string> texts;
    for (const std::string& text : restless()) texts.push_back(parse_controller(text)->description());
    for (const char* text : {"laps@last=8", "laps@0=8", "laps@last=8..9", "cyclic:4:12:8", "progressive:5-8-12:2:0.9",
                             "progressive:5-8:1:0.9", "gradient-diversity:5-8-12:2", "quantisation-error:0.005:4",
                             "table:2.6,1.7,2.8", "fixed:8/cyclic:4:12:5"})
        texts.push_back(parse_controller(text)->description());
    std::sort(texts.begin(), texts.end());
    CHECK(std::adjacent_find(texts.begin(), texts.end()) == texts.end());
}
