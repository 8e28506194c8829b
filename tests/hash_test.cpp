// One training run, one weight hash: over paths, executions, threads, encodings, and over a resume at any step. The
// hashes are constants here, so that compilers, optimisation levels and machines are compared too.
#include <lamella/data/digits.hpp>
#include <lamella/io/checkpoint.hpp>
#include <lamella/io/hashes.hpp>
#include <lamella/nn/models.hpp>
#include <lamella/optim/optimizer.hpp>
#include <lamella/precision/parse.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unistd.h>
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

constexpr auto small = nn::sequential(nn::conv2d{4, 5, 2, 1}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{6, 3, 2, 1},
                                      nn::relu{}, nn::flatten{}, nn::linear{16}, nn::relu{}, nn::linear{10});
constexpr auto lenet5 = nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{16, 5}, nn::relu{},
                                       nn::max_pool2d{2}, nn::flatten{}, nn::linear{120}, nn::relu{}, nn::linear{84},
                                       nn::relu{}, nn::linear{10});

const data::dataset& digits() {
    static const data::dataset set = data::generated_digits(11, 0, 192);
    return set;
}

std::unique_ptr<precision::controller> restless_laps() {
    precision::laps_settings s = precision::parse_laps("0.12:0.06:1:1:0");
    s.first_width = 5;
    return std::make_unique<precision::laps>(s);
}
std::unique_ptr<precision::controller> fixed_widths() { return precision::parse_controller("fixed:8,12@last=16"); }

using maker = std::unique_ptr<precision::controller> (*)();

template <class Model>
auto make_run(const Model& model, maker controller, const gemm::settings& kernels, std::size_t batch, std::uint64_t total,
              optim::rule rule = optim::rule::momentum) {
    nn::fixed::settings options;
    options.kernels = kernels;
    optim::optimizer_settings settings;
    settings.rule = rule;
    settings.lr = parse_scaled(rule == optim::rule::adam ? "0.002" : "0.05", "lr");  // whatever the default is
    return training_run<nn::network<nn::fixed, Model>>({model, {28, 28, 1}, options, 21, controller()}, settings, digits(),
                                                       batch, total);
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

}  // namespace

TEST_CASE("30 steps under LAPS give the known hash on every path, in fused and sliced execution") {
    for (const path isa : paths())
        for (const execution how : {execution::fused, execution::sliced}) {
            CAPTURE(name_of(isa));
            CAPTURE(name_of(how));
            CHECK(hash_after(small, restless_laps, {how, isa, encoding::sign_magnitude, 1}, 16, whole, whole) == small_laps);
        }
    CHECK(hash_after(small, restless_laps, {}, 16, whole, whole, optim::rule::adam) == small_adam);
}

TEST_CASE("the reference execution gives the hash of the fused one") {
    const std::string fused = hash_after(small, restless_laps, {}, 2, 3, whole);
    for (const encoding digits : {encoding::sign_magnitude, encoding::twos_complement, encoding::signed_slice}) {
        CAPTURE(name_of(digits));
        CHECK(hash_after(small, restless_laps, {execution::reference, best_path(), digits, 1}, 2, 3, whole) == fused);
    }
}

TEST_CASE("LeNet-5 under LAPS gives the known hash with 1, 2 and 5 threads, on every path") {
    for (const path isa : paths())
        for (const int threads : {1, 2, 5}) {
            if (threads != 1 && isa != best_path()) continue;
            CAPTURE(name_of(isa));
            CAPTURE(threads);
            CHECK(hash_after(lenet5, restless_laps, {execution::fused, isa, encoding::sign_magnitude, threads}, 64, 6, whole) ==
                  lenet_laps);
        }
    for (const int threads : {1, 2, 5}) {
        CAPTURE(threads);
        CHECK(hash_after(lenet5, restless_laps, {execution::sliced, best_path(), encoding::sign_magnitude, threads}, 64, 2,
                         whole) == hash_after(lenet5, restless_laps, {}, 64, 2, whole));
    }
}

TEST_CASE("a residual network with batch normalisation and dropout gives the known hash on every path and with threads") {
    constexpr auto residual = nn::resnet8();
    for (const path isa : paths())
        for (const execution how : {execution::fused, execution::sliced}) {
            CAPTURE(name_of(isa));
            CAPTURE(name_of(how));
            CHECK(hash_after(residual, restless_laps, {how, isa, encoding::sign_magnitude, 1}, 8, 12, 12) == residual_laps);
        }
    for (const int threads : {2, 5}) {
        CAPTURE(threads);
        CHECK(hash_after(residual, restless_laps, {execution::fused, best_path(), encoding::sign_magnitude, threads}, 8, 12,
                         12) == residual_laps);
    }
}

TEST_CASE("encodings change counts, never results: the hash under fixed widths is one") {
    for (const encoding digits : {encoding::sign_magnitude, encoding::twos_complement, encoding::signed_slice})
        for (const execution how : {execution::fused, execution::sliced}) {
            CAPTURE(name_of(digits));
            CAPTURE(name_of(how));
            CHECK(hash_after(small, fixed_widths, {how, best_path(), digits, 1}, 16, whole, whole) == small_fixed);
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
    CHECK(io::weights_sha256(run) == small_laps);
    for (std::uint64_t step = 0; step < whole; ++step) {
        CAPTURE(step);
        auto resumed = make_run(small, restless_laps, {}, 16, whole);
        states[step].restore(resumed);
        resumed.steps(step, whole - step);
        CHECK(io::state_sha256(resumed) == expected);
    }
}

TEST_CASE("a run that goes on from a checkpoint file ends at the uninterrupted run's hash") {
    const std::string path = (std::filesystem::temp_directory_path() /
                              ("lamella_hash_test_" + std::to_string(::getpid()) + ".safetensors")).string();
    for (const optim::rule rule : {optim::rule::momentum, optim::rule::adam}) {
        CAPTURE(name_of(rule));
        auto run = make_run(small, restless_laps, {}, 16, whole, rule);
        run.steps(0, 13);
        const std::string written = io::write_checkpoint(path, run);
        CHECK(written == io::state_sha256(run));
        run.steps(13, whole - 13);

        auto resumed = make_run(small, restless_laps, {}, 16, whole, rule);
        io::checkpoint file(path);
        file.load(resumed);
        CHECK(io::state_sha256(resumed) == written);
        resumed.steps(13, whole - 13);
        CHECK(io::weights_sha256(resumed) == io::weights_sha256(run));
        CHECK(io::state_sha256(resumed) == io::state_sha256(run));
    }
    auto residual = make_run(nn::resnet8(), restless_laps, {}, 8, 12);
    residual.steps(0, 5);
    io::write_checkpoint(path, residual);
    auto resumed = make_run(nn::resnet8(), restless_laps, {}, 8, 12);
    io::checkpoint file(path);
    file.load(resumed);
    resumed.steps(5, 7);
    CHECK(io::weights_sha256(resumed) == residual_laps);
    std::filesystem::remove(path);
}

TEST_CASE("another seed, batch or step gives another hash") {
    const std::string one = hash_after(small, restless_laps, {}, 16, 3, whole);
    CHECK(hash_after(small, restless_laps, {}, 16, 4, whole) != one);
    CHECK(hash_after(small, restless_laps, {}, 15, 3, whole) != one);
    CHECK(hash_after(small, fixed_widths, {}, 16, 3, whole) != one);
    CHECK(hash_after(small, restless_laps, {}, 16, 3, whole + 1) != one);
}
