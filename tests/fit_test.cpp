// The training loop: what callbacks are told and may decide, partial batches, interrupted and resumed runs, refusals.
#include <lamella/data/digits.hpp>
#include <lamella/io/hashes.hpp>
#include <lamella/nn/network.hpp>
#include <lamella/optim/optimizer.hpp>
#include <lamella/precision/laps.hpp>
#include <lamella/train/callbacks.hpp>
#include <lamella/train/fit.hpp>

#include <doctest/doctest.h>

#include <unistd.h>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "message_of.hpp"
#include "training.hpp"

using namespace lamella;
using namespace testing;

namespace {

constexpr nn::image_shape shape{10, 10, 1};
constexpr auto model = nn::sequential(nn::conv2d{4, 3}, nn::relu{}, nn::max_pool2d{2}, nn::flatten{}, nn::linear{12},
                                      nn::relu{}, nn::linear{4});
using model_type = std::remove_const_t<decltype(model)>;
using integer_network = nn::network<nn::fixed, model_type>;

integer_network make_network(std::uint64_t seed = 6) {
    precision::laps_settings s;
    s.every = 2;
    return {model, shape, {}, seed, std::make_unique<precision::laps>(s)};
}

// A network and an optimizer that has its moments, as one part.
struct pair_of {
    integer_network net;
    optim::optimizer optimizer;
    explicit pair_of(std::uint64_t seed = 6) : net(make_network(seed)) {
        net.parameters([&](auto& p) { optimizer.prepare(p); });
    }
    void visit(state_visitor& visitor) {
        net.visit(visitor);
        optimizer.visit(visitor);
    }
    template <class... Callbacks>
    train::fit_result fit(const data::dataset& set, const train::fit_settings& settings, Callbacks&... callbacks) {
        return train::fit(net, optimizer, set, settings, callbacks...);
    }
};

const data::dataset& images() {
    static const data::dataset set = noisy_images(1, 70, shape, 4);
    return set;
}

// Everything that may be heard.
struct listener {
    std::vector<std::string> heard;
    std::vector<std::uint64_t> steps, in_epoch, epochs, batches;
    std::uint64_t ends_at = 0;
    void on_start(const train::run_info& run) {
        heard.push_back("start");
        CHECK(run.samples == 70);
        CHECK(run.steps_per_epoch == 5);
        CHECK(run.total_steps() == run.epochs * 5);
    }
    void on_step(const train::step_info& info) {
        heard.push_back("step");
        steps.push_back(info.step);
        in_epoch.push_back(info.in_epoch);
        epochs.push_back(info.epoch);
        batches.push_back(static_cast<std::uint64_t>(info.score.samples));
        CHECK(info.score.correct >= 0);
        CHECK(info.score.correct <= info.score.samples);
        CHECK(std::isfinite(info.loss));
        CHECK(info.epoch_accuracy >= 0);
        CHECK(info.epoch_accuracy <= 1);
    }
    void on_epoch(const train::epoch_info& info) {
        heard.push_back("epoch");
        ends_at = info.next_step;
        CHECK(info.samples == 70);
    }
    void on_finish(const train::run_info&) { heard.push_back("finish"); }
};

std::string temporary(const char* name) {
    return (std::filesystem::temp_directory_path() / (std::to_string(::getpid()) + name)).string();
}

}  // namespace

TEST_CASE("fit tells its callbacks of every step and epoch, and its last batch is what is left of the epoch") {
    pair_of run;
    listener seen;
    const train::fit_result result = run.fit(images(), {.epochs = 2, .batch = 16}, seen);
    CHECK(result.finished);
    CHECK(result.next_step == 10);
    CHECK(result.epoch_seconds.size() == 2);
    CHECK(result.epoch_loss.size() == 2);
    CHECK(seen.heard == std::vector<std::string>{"start", "step", "step", "step", "step", "step", "epoch", "step",
                                                 "step", "step", "step", "step", "epoch", "finish"});
    CHECK(seen.steps == std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
    CHECK(seen.in_epoch == std::vector<std::uint64_t>{0, 1, 2, 3, 4, 0, 1, 2, 3, 4});
    CHECK(seen.epochs == std::vector<std::uint64_t>{0, 0, 0, 0, 0, 1, 1, 1, 1, 1});
    CHECK(seen.batches == std::vector<std::uint64_t>{16, 16, 16, 16, 6, 16, 16, 16, 16, 6});
    CHECK(seen.ends_at == 10);
}

TEST_CASE("a callback needs only one of the signatures, and may return nothing or whether to go on") {
    struct steps_only {
        int count = 0;
        void on_step(const train::step_info&) { ++count; }
    } steps;
    struct epochs_only {
        int count = 0;
        bool on_epoch(const train::epoch_info&) { return ++count < 2; }
    } epochs;
    struct start_only {
        int count = 0;
        void on_start(const train::run_info&) { ++count; }
    } start;
    struct finish_only {
        int count = 0;
        void on_finish(const train::run_info&) { ++count; }
    } finish;
    pair_of run;
    const train::fit_result result = run.fit(images(), {.epochs = 5, .batch = 35}, steps, epochs, start, finish);
    CHECK_FALSE(result.finished);
    CHECK(result.next_step == 4);
    CHECK(steps.count == 4);
    CHECK(epochs.count == 2);
    CHECK(start.count == 1);
    CHECK(finish.count == 1);
    struct misspelt {
        void on_steps(const train::step_info&) {}
    };
    struct of_another_type {
        void on_step(const std::string&) {}
    };
    static_assert(!train::detail::callback<misspelt>);
    static_assert(!train::detail::callback<of_another_type>);
    static_assert(train::detail::callback<steps_only>);
}

TEST_CASE("a callback that returns false ends the run after that step; the others still hear of it") {
    struct stopper {
        std::uint64_t at;
        bool on_step(const train::step_info& info) { return info.step != at; }
    } stop{6};
    listener before, after;
    pair_of run;
    const train::fit_result result = run.fit(images(), {.epochs = 3, .batch = 16}, before, stop, after);
    CHECK_FALSE(result.finished);
    CHECK(result.next_step == 7);
    CHECK(before.steps.size() == 7);
    CHECK(after.heard == before.heard);
    CHECK(after.heard.back() == "finish");
    // At an epoch's last step the epoch is complete.
    pair_of other;
    stopper at_end{4};
    listener seen;
    CHECK(other.fit(images(), {.epochs = 3, .batch = 16}, at_end, seen).next_step == 5);
    CHECK(seen.heard.at(seen.heard.size() - 2) == "epoch");
}

TEST_CASE("what fit reports is the mean over what it trained on") {
    struct sums {
        double loss = 0;
        std::int64_t correct = 0, samples = 0;
        double last_loss = 0, last_accuracy = 0;
        void on_step(const train::step_info& info) {
            loss += info.loss * static_cast<double>(info.score.samples);
            correct += info.score.correct;
            samples += info.score.samples;
            last_loss = info.epoch_loss;
            last_accuracy = info.epoch_accuracy;
        }
        void on_epoch(const train::epoch_info& info) {
            CHECK(info.loss == doctest::Approx(loss / static_cast<double>(samples)));
            CHECK(info.accuracy == doctest::Approx(static_cast<double>(correct) / static_cast<double>(samples)));
            CHECK(last_loss == info.loss);
            CHECK(last_accuracy == info.accuracy);
            loss = 0;
            correct = samples = 0;
        }
    } seen;
    pair_of run;
    const train::fit_result result = run.fit(images(), {.epochs = 25, .batch = 16}, seen);
    CHECK(result.epoch_loss.back() < result.epoch_loss.front() / 2);
    const train::evaluation score = train::evaluate(run.net, images());
    CHECK(score.accuracy() > 0.8);
    std::uint64_t all = 0, diagonal = 0;
    for (int label = 0; label < 4; ++label)
        for (int predicted = 0; predicted < 4; ++predicted) {
            all += score.count(label, predicted);
            diagonal += label == predicted ? score.count(label, predicted) : 0;
        }
    CHECK(all == 70);
    CHECK(diagonal == score.correct);
    const auto predicted = train::predict(run.net, images());
    std::uint64_t right = 0;
    for (std::size_t i = 0; i < 70; ++i) right += predicted(i) == images().labels(i);
    CHECK(right == score.correct);
}

TEST_CASE("a run that is interrupted at any step and resumed equals the uninterrupted one") {
    constexpr std::uint64_t total = 15;
    pair_of whole;
    CHECK(whole.fit(images(), {.epochs = 3, .batch = 16}).finished);
    const std::string expected = io::state_sha256(whole);
    for (std::uint64_t at = 1; at < total; ++at) {
        CAPTURE(at);
        pair_of first;
        CHECK(first.fit(images(), {.epochs = 3, .batch = 16, .first_step = 0, .last_step = at - 1}).next_step == at);
        pair_of second;
        snapshot::of(first).restore(second);
        const train::fit_result result = second.fit(images(), {.epochs = 3, .batch = 16, .first_step = at});
        CHECK(result.finished);
        CHECK(io::state_sha256(second) == expected);
    }
}

TEST_CASE("a finished run that is resumed does nothing") {
    pair_of run;
    run.fit(images(), {.epochs = 2, .batch = 16});
    const std::string before = io::state_sha256(run);
    struct {
        int steps = 0;
        void on_step(const train::step_info&) { ++steps; }
    } seen;
    const train::fit_result result = run.fit(images(), {.epochs = 2, .batch = 16, .first_step = 10}, seen);
    CHECK(result.finished);
    CHECK(seen.steps == 0);
    CHECK(io::state_sha256(run) == before);
}

TEST_CASE("callbacks and evaluation leave the weights alone") {
    pair_of quiet, loud;
    quiet.fit(images(), {.epochs = 2, .batch = 16});
    struct evaluator {
        integer_network& net;
        void on_step(const train::step_info&) { train::evaluate(net, images()); }
    } evaluate{loud.net};
    std::FILE* nowhere = std::fopen("/dev/null", "w");
    REQUIRE(nowhere != nullptr);
    train::progress shown(true, nowhere);
    loud.fit(images(), {.epochs = 2, .batch = 16}, evaluate, shown);
    std::fclose(nowhere);
    CHECK(io::state_sha256(quiet) == io::state_sha256(loud));
}

TEST_CASE("the twin trains in the same loop, from the same weights and on the same batches") {
    pair_of run;
    nn::network<nn::float64, model_type> twin(model, shape, {}, 6);
    optim::optimizer optimizer;
    const train::fit_result integers = run.fit(images(), {.epochs = 1, .batch = 16});
    const train::fit_result reals = train::fit(twin, optimizer, images(), {.epochs = 1, .batch = 16});
    CHECK(reals.epoch_loss[0] == doctest::Approx(integers.epoch_loss[0]).epsilon(0.1));
    CHECK(train::fit(twin, optimizer, images(), {.epochs = 25, .batch = 16, .first_step = 5}).epoch_loss.back() < 0.5);
}

TEST_CASE("a batch larger than the set is the whole set, and one sample is a set") {
    pair_of run;
    CHECK(run.fit(images(), {.epochs = 3, .batch = 1000}).next_step == 3);
    pair_of alone;
    const data::dataset one = data::take(images(), 0, 1);
    CHECK(alone.fit(one, {.epochs = 2, .batch = 16}).next_step == 2);
}

TEST_CASE("what cannot be trained on is refused before anything happens, naming what was expected") {
    pair_of run;
    const std::string before = io::state_sha256(run);
    listener seen;
    const auto refused = [&](const data::dataset& set, const train::fit_settings& settings) {
        return message_of<argument_error>([&] { run.fit(set, settings, seen); });
    };
    CHECK(refused(images(), {.epochs = 1, .batch = 0}) == "batch: expected at least 1, found 0");
    CHECK(refused(noisy_images(1, 0, shape, 4), {}) == "training set: expected at least one sample, found none");
    CHECK(refused(noisy_images(1, 5, {10, 9, 1}, 4), {}) == "image shape: expected 10x10x1, found 10x9x1");
    CHECK(refused(noisy_images(1, 5, shape, 5), {}) ==
          "classes of noisy images: expected at most the network's outputs, 4, found 5");
    CHECK(refused(images(), {.epochs = 2, .batch = 16, .first_step = 11}) == "first step: expected 0..10, found 11");
    data::dataset mislabelled = images();
    mislabelled.labels(3) = 9;
    CHECK(refused(mislabelled, {}) == "noisy images.labels[3]: expected 0..3, found 9");
    CHECK(seen.heard.empty());
    CHECK(io::state_sha256(run) == before);
}

namespace {

std::vector<std::string> lines_of(const std::string& path) {
    std::ifstream file(path);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    return lines;
}

}  // namespace

TEST_CASE("the JSON Lines log has an object a step and an epoch") {
    const std::string path = temporary("fit_test.jsonl");
    {
        pair_of run;
        train::json_lines log(path, false);
        run.fit(images(), {.epochs = 2, .batch = 16}, log);
    }
    const std::vector<std::string> lines = lines_of(path);
    CHECK(lines.size() == 12);
    for (const std::string& line : lines) {
        CHECK(line.front() == '{');
        CHECK(line.back() == '}');
        CHECK(line.find("\"loss\":") != std::string::npos);
    }
    CHECK(lines[0].starts_with("{\"step\":0,\"epoch\":0,\"loss\":"));
    CHECK(lines[5].starts_with("{\"epoch\":0,\"loss\":"));
    std::filesystem::remove(path);
    CHECK_THROWS_AS(train::json_lines("/nowhere/at/all", false), file_error);
}

TEST_CASE("a resumed run's log holds every step once, wherever the run before it was cut short") {
    const std::string path = temporary("fit_test.jsonl"), whole_path = temporary("fit_test_whole.jsonl");
    const auto starts_of = [](const std::string& from) {  // "seconds" differ from run to run
        std::vector<std::string> starts;
        for (const std::string& line : lines_of(from)) starts.push_back(line.substr(0, line.find("\"accuracy\"")));
        return starts;
    };
    for (const std::uint64_t every : {std::uint64_t{1}, std::uint64_t{3}}) {
        {
            pair_of run;
            train::json_lines log(whole_path, false, every);
            run.fit(images(), {.epochs = 2, .batch = 16}, log);
        }
        const std::vector<std::string> whole = starts_of(whole_path);
        for (std::uint64_t saved = 0; saved <= 10; ++saved)
            for (const bool torn : {false, true}) {
                CAPTURE(every);
                CAPTURE(saved);
                CAPTURE(torn);
                pair_of run;  // gets to step `saved`; its log, to the end
                if (saved != 0) run.fit(images(), {.epochs = 2, .batch = 16, .last_step = saved - 1});
                std::filesystem::copy_file(whole_path, path, std::filesystem::copy_options::overwrite_existing);
                if (torn && saved < 10) std::filesystem::resize_file(path, std::filesystem::file_size(path) - 9);
                train::json_lines log(path, true, every);
                run.fit(images(), {.epochs = 2, .batch = 16, .first_step = saved}, log);
                const std::vector<std::string> resumed = starts_of(path);
                // The loss of an epoch that was resumed in its midst is the mean of what was run of it.
                REQUIRE(resumed.size() == whole.size());
                for (std::size_t i = 0; i < whole.size(); ++i)
                    CHECK((resumed[i] == whole[i] ||
                           (whole[i].starts_with("{\"epoch\"") && resumed[i].substr(0, 10) == whole[i].substr(0, 10))));
            }
    }
    std::filesystem::remove(path);
    std::filesystem::remove(whole_path);
}

TEST_CASE("a loss that is no number is null in the log") {
    const std::string path = temporary("fit_test.jsonl");
    {
        train::json_lines log(path, false);
        const train::run_info run{1, 1, 0, 16};
        nn::batch_score score;
        score.samples = 16;
        log.on_step({run, 0, 0, 0, score, std::nan(""), 0, 0, 0, 16});
        log.on_epoch({run, 0, 1, std::numeric_limits<double>::infinity(), 0, 0, 16});
    }
    CHECK(lines_of(path) ==
          std::vector<std::string>{"{\"step\":0,\"epoch\":0,\"loss\":null,\"accuracy\":0.000000}",
                                   "{\"epoch\":0,\"loss\":null,\"accuracy\":0.000000,\"seconds\":0.000}"});
    std::filesystem::remove(path);
}

TEST_CASE("checkpoints are asked for every so many steps, and once at the end") {
    const auto saved_at = [](std::uint64_t every, const train::fit_settings& settings) {
        std::vector<std::uint64_t> at;
        train::checkpointing saving(every, [&](std::uint64_t next) { at.push_back(next); });
        pair_of run;
        run.fit(images(), settings, saving);
        return at;
    };
    CHECK(saved_at(4, {.epochs = 2, .batch = 16}) == std::vector<std::uint64_t>{4, 8, 10});
    CHECK(saved_at(5, {.epochs = 2, .batch = 16}) == std::vector<std::uint64_t>{5, 10});
    CHECK(saved_at(0, {.epochs = 2, .batch = 16}) == std::vector<std::uint64_t>{10});
    CHECK(saved_at(4, {.epochs = 2, .batch = 16, .first_step = 8}) == std::vector<std::uint64_t>{10});
    CHECK(saved_at(4, {.epochs = 2, .batch = 16, .first_step = 10}).empty());
}
