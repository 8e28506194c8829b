// Dynamic width: a narrow view against loops, chains against static widths, the search against its own records, and
// files.
#include <lamella/accelerator/energy_tables.hpp>
#include <lamella/inference/characterisation_json.hpp>
#include <lamella/inference/dynamic_width.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "message_of.hpp"
#include "scratch.hpp"
#include "training.hpp"

using namespace lamella;
using namespace testing;
using namespace lamella::inference;

namespace {

constexpr auto small = nn::sequential(nn::conv2d{4, 3, 2, 1}, nn::relu{}, nn::flatten{}, nn::linear{5});
using small_network = nn::network<nn::fixed, std::remove_const_t<decltype(small)>>;

// Trained for a moment, so that some answers are wrong at every width.
small_network trained(std::uint64_t seed) {
    static const data::dataset set = noisy_images(31, 64, {8, 8, 1}, 5);
    training_run run(fixed_network(small, {8, 8, 1}, 8, seed), {}, set, 16, 6);
    run.steps(0, 6);
    return std::move(run.net);
}
const data::dataset& calibration() {
    static const data::dataset set = noisy_images(32, 300, {8, 8, 1}, 5);
    return set;
}
std::vector<accelerator::energy_table> two_tables() {
    return {accelerator::bit_fusion_fixed(), accelerator::horowitz()};
}
cost_settings quick() {
    cost_settings s;
    s.batch = s.images = 4;
    return s;
}
const std::vector<int> widths{2, 3, 4, 6, 16};

// Records of `samples` images at random, wider widths dearer and more often right.
characterisation random_records(std::uint64_t seed) {
    random_sequence random = random_of(seed);
    characterisation c;
    c.weights_sha256 = std::string(64, 'a');
    c.network = "none";
    c.data = "random";
    c.classes = random.between(2, 6);
    c.tables = {{"a table", "pJ", 100000}};
    const int samples = random.between(1, 200), count = random.between(1, 5);
    for (int i = 0; i < samples; ++i)
        c.labels.push_back(static_cast<std::uint8_t>(random.below(static_cast<std::uint32_t>(c.classes))));
    std::uint64_t energy = 0;
    for (int k = 0; k < count; ++k) {
        width_record r;
        r.width = 2 + 2 * k;
        r.cycles = static_cast<std::uint64_t>(10 + k);
        energy += 1 + random.below(1000);
        r.energy = {energy};
        const std::uint32_t few = 2 + random.below(4);  // margins repeat
        for (const std::uint8_t label : c.labels) {
            const bool right = random.below(10) < 5 + static_cast<std::uint32_t>(k);
            const auto other = static_cast<std::uint8_t>(random.below(static_cast<std::uint32_t>(c.classes)));
            r.predictions.push_back(right ? label : other);
            r.correct += r.predictions.back() == label;
            r.margins.push_back(random.below(few) == 0 ? margin_t{1} << 20 : random.between(0, largest_margin));
        }
        c.widths.push_back(std::move(r));
    }
    return c;
}

}  // namespace

TEST_CASE("a narrow view multiplies the masters shifted right, to nearest, clipped symmetrically") {
    for (const radix_rule rule : {radix_rule::no_overflow, radix_rule::least_error})
        for (const int width : {2, 3, 4, 5, 8, 11, 16}) {
            CAPTURE(width);
            small_network net = trained(1);
            net.engine().options.weight.rule = rule;
            struct look final : gemm::observer {
                void on_gemm(const gemm::gemm_event& event) override {
                    CHECK(event.where == stage::feed_forward);
                    const gemm::event_operand& w = event.b;
                    CHECK(event.a.view.width == w.view.width);
                    const int dropped = w.view.exponent - w.source.exponent;
                    const std::int64_t largest = largest_mantissa(w.view.width);
                    for (std::int64_t i = 0; i < w.source.size; ++i)
                        REQUIRE(
                            gemm::operand_view{w.stored.data, w.view.width, 0, {}, gemm::axis::linear(w.source.size, 1)}
                                .at(0, i) ==
                            std::clamp(round_nearest(std::int64_t{w.source.master[i]}, dropped), -largest, largest));
                    widest = std::max(widest, w.view.width);
                    ++gemms;
                }
                int widest = 0, gemms = 0;
            } seen;
            const std::string weights = io::weights_sha256(net), before = io::state_sha256(net);
            {
                const width_view view(net, width);
                const inference::detail::inference_observation told(net.engine(), {&seen});
                const auto index = positions(0, 3);
                net.predict(train::view_of(calibration(), index));
            }
            CHECK(seen.gemms == 2);
            CHECK(seen.widest == width);
            CHECK(io::weights_sha256(net) == weights);
            CHECK(io::state_sha256(net) == before);
            CHECK(net.engine().controller->widths(0).weight == 8);
        }
}

TEST_CASE("a chain that never escalates is its narrow width, one that always does its wide one, image for image") {
    small_network net = trained(2);
    const characterisation known = characterize(net, calibration(), widths, two_tables(), quick());
    REQUIRE(known.widths.size() == widths.size());
    for (std::size_t low = 0; low < widths.size(); ++low)
        for (std::size_t high = low + 1; high < widths.size(); ++high) {
            CAPTURE(widths[low]);
            CAPTURE(widths[high]);
            const auto run = [&](margin_t threshold) {
                return dynamic_width(net, known, {{widths[low], widths[high]}, {std::vector<margin_t>(5, threshold)}})
                    .predict(calibration());
            };
            const answers narrow = run(never), wide = run(always), some = run(largest_margin / 3);
            CHECK(narrow.predictions == known.widths[low].predictions);
            CHECK(narrow.margins == known.widths[low].margins);
            CHECK(wide.predictions == known.widths[high].predictions);
            CHECK(wide.margins == known.widths[high].margins);
            for (std::size_t i = 0; i < calibration().size(); ++i) {
                const bool sure = known.widths[low].margins[i] > largest_margin / 3;
                REQUIRE(some.levels[i] == (sure ? 0 : 1));
                const width_record& from = known.widths[sure ? low : high];
                REQUIRE(some.predictions[i] == from.predictions[i]);
                REQUIRE(some.margins[i] == from.margins[i]);
            }
        }
    CHECK(net.engine().controller->widths(0).weight == 8);
}

TEST_CASE("what is chosen does on the calibration set what its record says") {
    for (const std::uint64_t seed : {3u, 4u}) {
        CAPTURE(seed);
        small_network net = trained(seed);
        const characterisation known = characterize(net, calibration(), widths, two_tables(), quick());
        for (std::size_t table = 0; table < 2; ++table)
            for (const std::uint64_t bound : {0u, 100u, 500u, 2000u}) {
                CAPTURE(bound);
                const choice found = choose(known, table, bound);
                const answers said = dynamic_width(net, known, found.chosen.run).predict(calibration());
                CHECK(said.correct(known.labels) == found.chosen.result.correct);
                CHECK(said.correct(known.labels) >= found.needed);
                const auto reached = said.reached(found.chosen.run.widths.size());
                CHECK(reached == found.chosen.result.reached);
                std::uint64_t energy = 0;
                for (std::size_t k = 0; k < reached.size(); ++k)
                    energy +=
                        reached[k] *
                        known.widths[inference::detail::place_of(known, found.chosen.run.widths[k])].energy[table];
                CHECK(energy == found.chosen.result.energy);
                CHECK(energy <= found.best_static.result.energy);
                CHECK(found.beats_static == (energy < found.best_static.result.energy));
                if (!found.beats_static) CHECK(found.chosen.run == found.best_static.run);
            }
    }
}

TEST_CASE("points of the search are what their chains do, and nothing is better than the Pareto set") {
    for (std::uint64_t seed = 1; seed <= 25; ++seed) {
        CAPTURE(seed);
        const characterisation c = random_records(seed);
        std::vector<operating_point> all = inference::detail::static_points(c, 0);
        inference::detail::add_pairs(c, 0, all);
        inference::detail::add_triples(c, 0, all);
        random_sequence random = random_of(seed + 500);
        for (std::size_t n = 0; n < 60; ++n) {
            const operating_point& p = all[random.below(static_cast<std::uint32_t>(all.size()))];
            const outcome o = apply(c, 0, p.to_chain(c));
            REQUIRE(o.correct == p.correct);
            REQUIRE(o.energy == p.energy);
        }
        const auto front = pareto_set(c, 0);
        for (const operating_point& p : all)
            REQUIRE(std::any_of(front.begin(), front.end(), [&](const operating_point& q) {
                return q.energy <= p.energy && q.correct >= p.correct;
            }));
        for (std::size_t i = 1; i < front.size(); ++i) {
            REQUIRE(front[i].energy > front[i - 1].energy);
            REQUIRE(front[i].correct > front[i - 1].correct);
        }
    }
}

TEST_CASE("thresholds of classes are never worse than one threshold, nor than an oracle allows") {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        const characterisation c = random_records(seed);
        for (const std::uint64_t bound : {0u, 200u, 1000u}) {
            const choice found = choose(c, 0, bound);
            CHECK(found.best_static.result.correct >= found.needed);
            for (const auto* x : {&found.pair, &found.per_class, &found.triple})
                if (*x) CHECK((*x)->result.correct >= found.needed);
            if (!found.pair) continue;
            REQUIRE(found.per_class.has_value());
            CHECK(found.per_class->result.energy <= found.pair->result.energy);
            const outcome& o = found.pair->result;
            const auto limits = bounds_of(c, found.pair->run.widths[0], found.pair->run.widths[1], o.reached[1]);
            CHECK(o.correct <= limits.oracle);
        }
    }
}

TEST_CASE("costs grow with the width, dense 16 bits do not depend on it, weights on the chip need less of DRAM") {
    small_network net = trained(5);
    std::vector<width_cost> costs;
    for (const int width : {3, 5, 9, 16}) {
        const width_view view(net, width);
        costs.push_back(measure_cost(net, calibration(), two_tables(), quick()));
        cost_settings stay = quick();
        stay.weights_stay = true;
        const width_cost kept = measure_cost(net, calibration(), two_tables(), stay);
        for (std::size_t t = 0; t < 2; ++t) CHECK(kept.energy[t] < costs.back().energy[t]);
        CHECK(kept.cycles == costs.back().cycles);
    }
    for (std::size_t i = 1; i < costs.size(); ++i)
        for (std::size_t t = 0; t < 2; ++t) {
            CHECK(costs[i].energy[t] > costs[i - 1].energy[t]);
            CHECK(costs[i].dense16[t] == costs[0].dense16[t]);
        }
    CHECK(net.engine().inference_observers.empty());
}

TEST_CASE("a characterisation comes back from its file as it was, and is refused for another network") {
    small_network net = trained(6), other = trained(7);
    const characterisation known = characterize(net, calibration(), {3, 8}, two_tables(), quick());
    const scratch directory;
    const std::string path = directory / "known.json";
    write_characterisation(path, known);
    const characterisation back = read_characterisation(path);
    CHECK(back == known);
    const choice found = choose(back, 1, 300);
    CHECK_NOTHROW(dynamic_width(net, back, found.chosen.run));
    CHECK_THROWS_WITH_AS(dynamic_width(other, back, found.chosen.run),
                         doctest::Contains("characterisation: expected that of this network"), argument_error);
    CHECK_THROWS_WITH_AS(dynamic_width(net, back, {{5}, {}}), doctest::Contains("one that was characterised"),
                         argument_error);
}

TEST_CASE("wrong inputs are refused, with what was expected and what was found") {
    small_network net = trained(8);
    const auto tables = two_tables();
    const auto refuses = [&](const data::dataset& set, const std::vector<int>& w, const std::string& message) {
        CAPTURE(message);
        CHECK_THROWS_WITH_AS(characterize(net, set, w, tables, quick()), doctest::Contains(message.c_str()),
                             argument_error);
    };
    refuses(data::make_dataset(0, 8, 8, 1, 5, "nothing"), {3, 8}, "calibration set: expected at least one image");
    refuses(calibration(), {}, "widths: expected at least one");
    refuses(calibration(), {3, 3}, "widths: expected ascending ones, found 3 after 3");
    refuses(calibration(), {8, 3}, "widths: expected ascending ones");
    refuses(calibration(), {3, 17}, "2..16");
    refuses(noisy_images(1, 8, {9, 8, 1}, 5), {3, 8}, "image shape");
    CHECK(message_of<argument_error>([&] {
              characterize(net, calibration(), {3, 8}, {}, quick());
          }) == "energy tables: expected at least one, found none");

    const characterisation known = characterize(net, calibration(), {3, 8}, tables, quick());
    CHECK(message_of<argument_error>([&] { choose(known, 2, 100); }) == "table: expected 0..2 exclusive, found 2");
    CHECK(message_of<argument_error>([&] { choose(known, 0, 10001); }) ==
          "accuracy bound: expected at most 100 points, found 10001 hundredths");
    const auto chain_refused = [&](const chain& x) {
        return message_of<argument_error>([&] { dynamic_width(net, known, x); });
    };
    CHECK(chain_refused({{3, 8}, {}}) == "thresholds: expected those of 1 levels, found 0");
    CHECK(chain_refused({{3, 8}, {{1, 2}}}) == "thresholds: expected one for each of 5 classes, found 2");
    CHECK(chain_refused({{8, 3}, {std::vector<margin_t>(5, 0)}}) == "widths: expected ascending ones, found 3 after 8");
    CHECK(chain_refused({{3, 8}, {std::vector<margin_t>(5, -2)}}) == "threshold: expected -1 .. 2^28, found -2");
}

TEST_CASE("files that are damaged or say something else are refused, with the field") {
    const characterisation c = random_records(4);
    const std::string text = to_json(c);
    CHECK(characterisation_from_json(text, "f") == c);
    const auto refuses = [&](const std::string& from, const std::string& to, const std::string& message) {
        CAPTURE(from);
        CAPTURE(to);
        std::string changed = text;
        const std::size_t at = changed.find(from);
        REQUIRE(at != std::string::npos);
        changed.replace(at, from.size(), to);
        CHECK_THROWS_WITH_AS(characterisation_from_json(changed, "known.json"),
                             doctest::Contains(("known.json: " + message).c_str()), file_error);
    };
    refuses("\"format\":\"lamella.characterisation.1\"", "\"format\":\"2\"",
            "format: expected lamella.characterisation.1, found 2");
    refuses("\"weights_sha256\":\"aa", "\"weights_sha256\":\"A", "weights_sha256: expected 64 hexadecimal digits");
    refuses("\"network\"", "\"netwrk\"", "netwrk: expected no such key");
    refuses("\"classes\":", "\"classes\":-", "classes: expected a whole number 1..256");
    refuses("\"labels\":[", "\"labels\":[999,", "labels[0]: expected a whole number 0..");
    refuses("\"labels\":[", "\"labels\":[0,", "widths[0].predictions: expected ");
    refuses("\"data\":", "\"data\":\"x\",\"data\":", "data: expected this key once, found it twice");
    refuses("\"width\":2", "\"width\":1", "widths[0].width: expected a whole number 2..16, found 1");
    refuses("\"energy\":[", "\"energy\":[NaN,", "characterisation: expected JSON");
    refuses("\"energy\":[", "\"energy\":[0.5,", "widths[0].energy: expected 1 numbers, found 2");
    refuses("\"margins\":[", "\"margins\":[1e3,", "widths[0].margins: expected ");
    refuses("\"static16\":100000", "\"static16\":1e5", "tables[0].static16: expected a whole number");
    refuses("\"tables\":[", "\"tables\":[[],", "tables[0]: expected an object");
    refuses("\"widths\":[", "\"widths\":[],\"more\":[", "more: expected no such key");
    std::string cut = text.substr(0, text.size() / 2);
    CHECK_THROWS_AS(characterisation_from_json(cut, "f"), file_error);
    CHECK_THROWS_AS(read_characterisation("/nowhere/known.json"), file_error);
}
