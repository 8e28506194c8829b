// One training run, one weight hash: over paths, executions, threads, encodings, and over a resume at any step. The
// hashes are constants here, so that compilers, optimisation levels and machines are compared too (same_bits.sh).
#include <lamella/data/digits.hpp>
#include <lamella/io/checkpoint.hpp>
#include <lamella/io/hashes.hpp>
#include <lamella/nn/models.hpp>
#include <lamella/optim/optimizer.hpp>
#include <lamella/precision/parse.hpp>

#include <doctest/doctest.h>

#include <unistd.h>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "training.hpp"

using namespace lamella;
using namespace testing;
using gemm::execution;
using slice::encoding;

namespace {

// Whoever changes the arithmetic or the generated digits changes these; a failing test prints the new ones.
constexpr std::string_view small_laps = "ee9d14bd668e74b2a73c73a90bb27cb51454634fbdc0588150ac884a7c76455e";
constexpr std::string_view small_fixed = "09a3c9b6d5fb4128c3b9542c7bfd481e5839dfb4134f0d16c8c7473c51eae3f2";
constexpr std::string_view lenet_laps = "759731904ac10db8fc1f7405e16fd5c2a99df5eb729acbce16a69a98f2a15b1a";
constexpr std::string_view small_adam = "fd0fb03ecb4377631c7e0e5a5ac93189f293ae078f39461fa7f43baeef23925f";
constexpr std::string_view residual_laps = "a7bb6c83ddad648977836740c420bae59b56f5613127bc28c6bf9eb79d3bb12b";

// Of weights, of the whole state.
constexpr std::string_view long_lenet[] = {"fbae6229f48f260fca566079be6cfcb675db584df86769a838013b4814491395",
                                           "0188e1d3e756df4718e19a2f0b938497a80720dc7d01d1ae8561cbd25e7d2780"};
constexpr std::string_view long_resnet[] = {"0f089cc5055e04dc0eb2f0fbc11fab7e2238e7b00fc505e5cf07e3e11bc6ec79",
                                            "34f1a795f2e9338ca89def2a842853f3620121ce84447195160cea594c8a065c"};

struct tally {
    int count = 0;
    ~tally() { std::printf("%d hashes compared\n", count); }
} compared;

void check_hash(const std::string& hash, std::string_view expected) {
    ++compared.count;
    CHECK(hash == expected);
}

constexpr auto small = nn::sequential(nn::conv2d{4, 5, 2, 1}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{6, 3, 2, 1},
                                      nn::relu{}, nn::flatten{}, nn::linear{16}, nn::relu{}, nn::linear{10});
constexpr auto lenet5 =
    nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{16, 5}, nn::relu{}, nn::max_pool2d{2},
                   nn::flatten{}, nn::linear{120}, nn::relu{}, nn::linear{84}, nn::relu{}, nn::linear{10});

const data::dataset& digits() {
    static const data::dataset set = data::generated_digits(11, 0, 192);
    return set;
}
const data::dataset& colours() {
    static const data::dataset set = noisy_images(7, 160, {16, 16, 3}, 10);
    return set;
}

std::unique_ptr<precision::controller> restless_laps() {
    precision::laps_settings s = precision::parse_laps("0.12:0.06:1:1:0");
    s.first_width = 5;
    return std::make_unique<precision::laps>(s);
}
std::unique_ptr<precision::controller> usual_laps() {
    return std::make_unique<precision::laps>(precision::parse_laps("0.20:0.12:10:2:1"));
}
std::unique_ptr<precision::controller> fixed_widths() { return precision::parse_controller("fixed:8,12@last=16"); }

using maker = std::unique_ptr<precision::controller> (*)();

template <class Model>
auto make_run(const Model& model, maker controller, const gemm::settings& kernels, std::size_t batch,
              std::uint64_t total, optim::rule rule = optim::rule::momentum, const data::dataset& set = digits()) {
    nn::fixed::settings options;
    options.kernels = kernels;
    optim::optimizer_settings settings;
    settings.rule = rule;
    settings.lr = parse_scaled(rule == optim::rule::adam ? "0.002" : "0.05", "lr");  // whatever the default is
    return training_run<nn::network<nn::fixed, Model>>(
        {model, train::view_of(set, {}).shape, options, 21, controller()}, settings, set, batch, total);
}

template <class Model>
std::string hash_after(const Model& model, maker controller, const gemm::settings& kernels, std::size_t batch,
                       std::uint64_t steps, std::uint64_t total, optim::rule rule = optim::rule::momentum) {
    auto run = make_run(model, controller, kernels, batch, total, rule);
    run.steps(0, steps);
    return io::weights_sha256(run);
}

std::vector<path> paths() {
    std::vector<path> found;
    for (const path isa : all_paths)
        if (available(isa)) found.push_back(isa);
    return found;
}

constexpr std::uint64_t whole = 30;

// A run that touches everything, 1.2 and 0.2 thousand million multiply-accumulates: its steps on every path, sliced,
// with threads, and resumed at a step that is another one each time.
template <class Make>
void check_long_run(Make&& make, std::uint64_t steps, const std::string_view (&expected)[2]) {
    const auto check = [&](auto& run) {
        check_hash(io::weights_sha256(run), expected[0]);
        check_hash(io::state_sha256(run), expected[1]);
    };
    const auto whole_run = [&](const gemm::settings& kernels) {
        CAPTURE(name_of(kernels.isa));
        CAPTURE(name_of(kernels.how));
        CAPTURE(kernels.threads);
        auto run = make(kernels);
        run.steps(0, steps);
        check(run);
    };
    for (const path isa : paths()) whole_run({execution::fused, isa, encoding::sign_magnitude, 1});
    whole_run({execution::sliced, best_path(), encoding::sign_magnitude, 1});
    for (const int threads : {2, 5}) whole_run({execution::fused, best_path(), encoding::sign_magnitude, threads});

    const std::uint64_t at = std::random_device{}() % steps;
    CAPTURE(at);
    auto run = make({}), resumed = make({});
    run.steps(0, at);
    snapshot::of(run).restore(resumed);
    resumed.steps(at, steps - at);
    check(resumed);
}

}  // namespace

TEST_CASE("30 steps under LAPS give the known hash on every path, in fused and sliced execution") {
    for (const path isa : paths())
        for (const execution how : {execution::fused, execution::sliced}) {
            CAPTURE(name_of(isa));
            CAPTURE(name_of(how));
            check_hash(hash_after(small, restless_laps, {how, isa, encoding::sign_magnitude, 1}, 16, whole, whole),
                       small_laps);
        }
    check_hash(hash_after(small, restless_laps, {}, 16, whole, whole, optim::rule::adam), small_adam);
}

TEST_CASE("the reference execution gives the hash of the fused one") {
    const std::string fused = hash_after(small, restless_laps, {}, 2, 3, whole);
    for (const encoding digits : {encoding::sign_magnitude, encoding::twos_complement, encoding::signed_slice}) {
        CAPTURE(name_of(digits));
        check_hash(hash_after(small, restless_laps, {execution::reference, best_path(), digits, 1}, 2, 3, whole),
                   fused);
    }
}

TEST_CASE("LeNet-5 under LAPS gives the known hash with 1, 2 and 5 threads, on every path") {
    for (const path isa : paths())
        for (const int threads : {1, 2, 5}) {
            if (threads != 1 && isa != best_path()) continue;
            CAPTURE(name_of(isa));
            CAPTURE(threads);
            check_hash(hash_after(lenet5, restless_laps, {execution::fused, isa, encoding::sign_magnitude, threads}, 64,
                                  6, whole),
                       lenet_laps);
        }
    for (const int threads : {1, 2, 5}) {
        CAPTURE(threads);
        check_hash(hash_after(lenet5, restless_laps,
                              {execution::sliced, best_path(), encoding::sign_magnitude, threads}, 64, 2, whole),
                   hash_after(lenet5, restless_laps, {}, 64, 2, whole));
    }
}

TEST_CASE("LeNet-5, 100 steps of Adam under LAPS: the known hashes of weights and state, however it is run") {
    check_long_run(
        [](const gemm::settings& how) { return make_run(lenet5, usual_laps, how, 16, 100, optim::rule::adam); }, 100,
        long_lenet);
}

TEST_CASE("ResNet-8, 40 steps of momentum under LAPS: the known hashes of weights and state, however it is run") {
    check_long_run(
        [](const gemm::settings& how) {
            return make_run(nn::resnet8(), usual_laps, how, 8, 40, optim::rule::momentum, colours());
        },
        40, long_resnet);
}

TEST_CASE(
    "a residual network with batch normalisation and dropout gives the known hash on every path and with threads") {
    constexpr auto residual = nn::resnet8();
    for (const path isa : paths())
        for (const execution how : {execution::fused, execution::sliced}) {
            CAPTURE(name_of(isa));
            CAPTURE(name_of(how));
            check_hash(hash_after(residual, restless_laps, {how, isa, encoding::sign_magnitude, 1}, 8, 12, 12),
                       residual_laps);
        }
    for (const int threads : {2, 5}) {
        CAPTURE(threads);
        check_hash(hash_after(residual, restless_laps,
                              {execution::fused, best_path(), encoding::sign_magnitude, threads}, 8, 12, 12),
                   residual_laps);
    }
}

TEST_CASE("encodings change counts, never results: the hash under fixed widths is one") {
    for (const encoding digits : {encoding::sign_magnitude, encoding::twos_complement, encoding::signed_slice})
        for (const execution how : {execution::fused, execution::sliced}) {
            CAPTURE(name_of(digits));
            CAPTURE(name_of(how));
            check_hash(hash_after(small, fixed_widths, {how, best_path(), digits, 1}, 16, whole, whole), small_fixed);
        }
}

TEST_CASE("a run that goes on from its visited state, at any step, ends at the uninterrupted run's hash") {
    auto run = make_run(small, restless_laps, {}, 16, whole);
    std::vector<snapshot> states;
    for (std::uint64_t step = 0; step < whole; ++step) {
        states.push_back(snapshot::of(run));
        run.step(step);
    }
    const std::string expected = io::state_sha256(run);
    check_hash(io::weights_sha256(run), small_laps);
    for (std::uint64_t step = 0; step < whole; ++step) {
        CAPTURE(step);
        auto resumed = make_run(small, restless_laps, {}, 16, whole);
        states[step].restore(resumed);
        resumed.steps(step, whole - step);
        check_hash(io::state_sha256(resumed), expected);
    }
}

TEST_CASE("a run that goes on from a checkpoint file ends at the uninterrupted run's hash") {
    const std::string path =
        (std::filesystem::temp_directory_path() / ("lamella_hash_test_" + std::to_string(::getpid()) + ".safetensors"))
            .string();
    for (const optim::rule rule : {optim::rule::momentum, optim::rule::adam}) {
        CAPTURE(name_of(rule));
        auto run = make_run(small, restless_laps, {}, 16, whole, rule);
        run.steps(0, 13);
        const std::string written = io::write_checkpoint(path, run);
        check_hash(written, io::state_sha256(run));
        run.steps(13, whole - 13);

        auto resumed = make_run(small, restless_laps, {}, 16, whole, rule);
        io::checkpoint file(path);
        file.load(resumed);
        check_hash(io::state_sha256(resumed), written);
        resumed.steps(13, whole - 13);
        check_hash(io::weights_sha256(resumed), io::weights_sha256(run));
        check_hash(io::state_sha256(resumed), io::state_sha256(run));
    }
    auto residual = make_run(nn::resnet8(), restless_laps, {}, 8, 12);
    residual.steps(0, 5);
    io::write_checkpoint(path, residual);
    auto resumed = make_run(nn::resnet8(), restless_laps, {}, 8, 12);
    io::checkpoint file(path);
    file.load(resumed);
    resumed.steps(5, 7);
    check_hash(io::weights_sha256(resumed), residual_laps);
    std::filesystem::remove(path);
}

TEST_CASE("another seed, batch or step gives another hash") {
    const std::string one = hash_after(small, restless_laps, {}, 16, 3, whole);
    CHECK(hash_after(small, restless_laps, {}, 16, 4, whole) != one);
    CHECK(hash_after(small, restless_laps, {}, 15, 3, whole) != one);
    CHECK(hash_after(small, fixed_widths, {}, 16, 3, whole) != one);
    CHECK(hash_after(small, restless_laps, {}, 16, 3, whole + 1) != one);
}
