// Numbers at the edges: the narrowest and widest operands, the deepest products, images that say nothing, and runs that
// blow up. Defined arithmetic throughout (CI runs this under UBSan), the same bits on every path.
#include <lamella/accelerator/slice_counts.hpp>
#include <lamella/gemm/multiply.hpp>
#include <lamella/io/hashes.hpp>
#include <lamella/nn/network.hpp>
#include <lamella/nn/pool.hpp>
#include <lamella/optim/optimizer.hpp>
#include <lamella/precision/trace.hpp>
#include <lamella/train/fit.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "training.hpp"

using namespace lamella;
using namespace testing;

namespace {

std::vector<gemm::settings> every_execution() {
    std::vector<gemm::settings> all;
    for (const path isa : all_paths)
        if (available(isa))
            for (const gemm::execution how : {gemm::execution::fused, gemm::execution::sliced})
                all.push_back({how, isa, slice::encoding::sign_magnitude, 1});
    return all;
}

// Two rows of k mantissas at the ends of their width: all largest; and in turn largest and smallest.
struct extremes {
    std::vector<std::int8_t> bytes;
    std::vector<std::int16_t> words;
    gemm::operand_view view;

    extremes(int width, std::int64_t k) {
        const int largest = largest_mantissa(width);
        for (std::int64_t i = 0; i < 2 * k; ++i) {
            const int m = i < k || i % 2 == 0 ? largest : -largest;
            if (width <= byte_width)
                bytes.push_back(static_cast<std::int8_t>(m));
            else
                words.push_back(static_cast<std::int16_t>(m));
        }
        bytes.resize(bytes.size() + 64);
        words.resize(words.size() + 32);
        view.width = width;
        view.data = width <= byte_width ? static_cast<const void*>(bytes.data()) : words.data();
        view.rows = gemm::axis::linear(2, k);
        view.depth = gemm::axis::linear(k, 1);
    }
};

constexpr auto small =
    nn::sequential(nn::conv2d{3, 3, 1, 1}, nn::relu{}, nn::max_pool2d{2}, nn::flatten{}, nn::linear{4});
constexpr auto tiny = nn::sequential(nn::flatten{}, nn::linear{2});

struct outcome {
    std::string hash;
    double loss;
    std::uint64_t saturated, clipped;
};

// Trains for some steps, and checks what holds after every one: masters in their range and a loss that is a number.
template <class Model>
outcome train_on(const data::dataset& set, const Model& model, int width, const gemm::settings& how, std::size_t batch,
                 const optim::optimizer_settings& rule = {}, std::uint64_t steps = 12) {
    nn::fixed::settings options;
    options.kernels = how;
    auto net = fixed_network(model, train::view_of(set, {}).shape, width, 1, options);
    accelerator::slice_counts counts(how.digits, how.isa, net.products());
    std::uint64_t clipped = 0;
    precision::trace trace(counts, [&](std::string_view row) {
        std::istringstream cells{std::string(row)};
        std::string cell;
        for (int column = 0; std::getline(cells, cell, ','); ++column)
            if (column == 12 || column == 19) clipped += std::stoull(cell);  // a_overflows, b_overflows
    });
    net.observe(counts);
    net.observe(trace);
    training_run run(std::move(net), rule, set, batch, steps);
    bool in_range = true, finite = true;
    for (std::uint64_t step = 0; step < steps; ++step) {
        run.step(step);
        finite = finite && std::isfinite(run.net.loss().mean_loss()) && run.net.loss().mean_loss() >= 0;
        run.net.parameters([&](const nn::fixed_parameter& p) {
            in_range = in_range && std::ranges::all_of(p.mantissa, [](int m) { return m >= -32767 && m <= 32767; });
        });
    }
    trace.flush();
    CHECK(in_range);
    CHECK(finite);
    return {io::state_sha256(run), run.net.loss().mean_loss(), run.optimizer.saturations().total(), clipped};
}

// The same on every path and execution; returns that of the best path.
template <class Model>
outcome train_everywhere(const data::dataset& set, const Model& model, int width, std::size_t batch,
                         const optim::optimizer_settings& rule = {}) {
    const outcome best = train_on(set, model, width, {}, batch, rule);
    for (const gemm::settings& how : every_execution()) {
        CAPTURE(name_of(how.isa));
        CAPTURE(name_of(how.how));
        CHECK(train_on(set, model, width, how, batch, rule).hash == best.hash);
    }
    return best;
}

data::dataset filled(std::uint8_t pixel, int classes) {
    data::dataset set = noisy_images(3, 8, {6, 6, 1}, classes);
    std::fill(set.images.data(), set.images.data() + set.images.size(), pixel);
    return set;
}

}  // namespace

TEST_CASE("products of the largest mantissas are exact, 2 and 16 bits wide and up to 2^20 deep") {
    gemm::workspace memory;
    for (const int wa : {2, 8, 9, 16})
        for (const int wb : {2, 16})
            for (const std::int64_t k : {std::int64_t{1}, std::int64_t{2}, std::int64_t{1} << 20}) {
                if (k > 2 && wa != wb) continue;
                const extremes a(wa, k), b(wb, k);
                const std::int64_t whole = std::int64_t{largest_mantissa(wa)} * largest_mantissa(wb) * k;
                const std::int64_t mixed = k == 1 ? -whole : 0;  // of a row of one sign with a row of both
                for (const gemm::settings& how : every_execution()) {
                    CAPTURE(wa);
                    CAPTURE(wb);
                    CAPTURE(k);
                    CAPTURE(name_of(how.isa));
                    CAPTURE(name_of(how.how));
                    std::int64_t c[4] = {1, 1, 1, 1};
                    gemm::output out;
                    out.rows = gemm::axis::linear(2, 2);
                    out.exact = c;
                    gemm::multiply({a.view, b.view}, out, how, memory);
                    CHECK(c[0] == whole);
                    CHECK(c[1] == mixed);
                    CHECK(c[2] == mixed);
                    CHECK(c[3] == whole);
                }
            }
}

TEST_CASE("images that are all zero, or all alike, train at 2, 8 and 16 bits") {
    for (const int width : {2, 8, 16})
        for (const std::uint8_t pixel : {std::uint8_t{0}, std::uint8_t{255}}) {
            CAPTURE(width);
            CAPTURE(pixel);
            train_everywhere(filled(pixel, 4), small, width, 4);
        }
}

TEST_CASE("a set of one class is learned, and nothing saturates") {
    data::dataset set = noisy_images(3, 8, {6, 6, 1}, 4);
    std::fill(set.labels.begin(), set.labels.end(), std::uint8_t{2});
    const outcome first = train_on(set, small, 8, {}, 4, {}, 1), last = train_everywhere(set, small, 8, 4);
    CHECK(last.loss < first.loss);
    CHECK(last.saturated == 0);
}

TEST_CASE("an image of one pixel and a batch of one sample train") {
    const data::dataset set = noisy_images(4, 3, {1, 1, 1}, 2);
    for (const int width : {2, 16}) train_everywhere(set, tiny, width, 1);
}

TEST_CASE("a learning rate of 100 saturates, says so, and stays defined under every rule and width") {
    const data::dataset set = noisy_images(3, 8, {6, 6, 1}, 4);
    for (const optim::rule rule :
         {optim::rule::momentum, optim::rule::sgd, optim::rule::adam, optim::rule::adamw, optim::rule::sign})
        for (const int width : {2, 8, 16}) {
            CAPTURE(name_of(rule));
            CAPTURE(width);
            optim::optimizer_settings wild;
            wild.rule = rule;
            wild.lr = parse_scaled("100", "lr");
            const outcome end = train_everywhere(set, small, width, 4, wild);
            if (width == 8) CHECK(end.clipped > 0);  // operands, in the trace
        }
    optim::optimizer_settings wildest;
    wildest.lr = parse_scaled("1000000", "lr");
    wildest.weight_decay = parse_scaled("1", "weight decay");
    CHECK(train_on(set, small, 8, {}, 4, wildest, 100).saturated > 0);
}

TEST_CASE("a batch larger than its set is the set; a batch, set or class that is not there is refused") {
    const data::dataset set = noisy_images(3, 8, {6, 6, 1}, 4), none = data::make_dataset(0, 6, 6, 1, 4, "none");
    const auto fitted = [&](std::uint32_t batch) {
        auto net = fixed_network(small, {6, 6, 1}, 8);
        optim::optimizer optimizer;
        const train::fit_result result = train::fit(net, optimizer, set, {.epochs = 2, .batch = batch});
        CHECK(result.next_step == 2);
        return io::weights_sha256(net);
    };
    CHECK(fitted(1000) == fitted(8));
    auto net = fixed_network(small, {6, 6, 1}, 8);
    optim::optimizer optimizer;
    const std::string before = io::weights_sha256(net);
    CHECK_THROWS_AS(train::fit(net, optimizer, none, {.epochs = 1, .batch = 4}), argument_error);
    CHECK_THROWS_AS(train::fit(net, optimizer, set, {.epochs = 1, .batch = 0}), argument_error);
    CHECK_THROWS_AS(net.train_step(train::view_of(set, {}), {}, 0), argument_error);
    const std::vector<std::uint8_t> wrong{4};
    CHECK_THROWS_AS(net.train_step(train::view_of(set, positions(0, 1)), wrong, 0), argument_error);
    CHECK(io::weights_sha256(net) == before);
}
