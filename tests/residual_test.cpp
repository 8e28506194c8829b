// Residual blocks: the sum of two wide tensors by its definition, in both modes; what a path may do to what it is
// given; and the shapes, parameters and multiply-accumulates of the networks that are made of them.
#include <lamella/nn/models.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "training.hpp"

using namespace lamella;
using namespace testing;

namespace {

int bits_of(const nn::fixed::tensor& t) {
    std::int64_t most = 0;
    for (const std::int32_t m : t.data) most = std::max<std::int64_t>(most, std::abs(std::int64_t{m}));
    return bit_length(static_cast<std::uint64_t>(most));
}

// The definition in nn/add.hpp, in 64 bits.
void check_sum(nn::fixed::engine& engine, nn::fixed::tensor& x, nn::fixed::tensor& y, bool measured) {
    const int bits_x = measured ? bits_of(x) : x.bits, bits_y = measured ? bits_of(y) : y.bits;
    std::vector<int> exponents, tops;
    for (const auto& [bits, exponent] : {std::pair{bits_x, x.exponent}, std::pair{bits_y, y.exponent}})
        if (bits != 0) {
            exponents.push_back(exponent);
            tops.push_back(bits + exponent);
        }
    const int expected = exponents.empty() ? 0
                                           : std::max(*std::min_element(exponents.begin(), exponents.end()),
                                                      *std::max_element(tops.begin(), tops.end()) - 30);
    const auto aligned = [&](const nn::fixed::tensor& t, std::size_t i) {
        return t.data[i] == 0 ? 0 : round_nearest(t.data[i], expected - t.exponent);
    };
    std::vector<std::int64_t> sum(x.data.size());
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = aligned(x, i) + aligned(y, i);

    const auto check = [&](const nn::fixed::tensor& out) {
        CHECK(out.exponent == expected);
        CHECK(std::equal(out.data.begin(), out.data.end(), sum.begin(), sum.end()));
        CHECK(bits_of(out) <= out.bits);
        CHECK(out.bits <= 31);
    };
    nn::fixed::tensor out;
    const auto add = [&](nn::fixed::tensor& to) {
        if (measured)
            nn::detail::add(engine, x, y, to, nn::detail::measured_bits{});
        else
            nn::detail::add(engine, x, y, to, nn::detail::promised_bits{});
    };
    add(out);
    check(out);
    add(x);  // in place
    check(x);
}

// The forward pass of a model's events.
struct sizes : gemm::observer {
    std::int64_t macs = 0;
    void on_gemm(const gemm::gemm_event& e) override {
        if (e.where == stage::feed_forward) macs += e.macs;
    }
};
template <class Model>
void check_network(const Model& model, const nn::image_shape& shape, std::size_t parameters, std::int64_t macs,
                   int products) {
    CAPTURE(model.describe());
    auto net = fixed_network(model, shape, 4);
    sizes seen;
    net.observe(seen);
    const data::dataset set = noisy_images(1, 1, shape, 10);
    net.train_step(train::view_of(set, positions(0, 1)), labels_of(set, 0, 1), 0);
    std::size_t count = 0;
    net.parameters([&](const auto& p) { count += p.mantissa.size(); });
    CHECK(count == parameters);
    CHECK(seen.macs == macs);
    CHECK(net.products() == products);
    CHECK(net.output() == nn::image_shape{1, 1, 10});
}

}  // namespace

TEST_CASE("the sum of two wide tensors is that of the definition, whatever their exponents and bits, on every path") {
    random_sequence random = random_of(1);
    for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
        if (!available(isa)) continue;
        for (int repeat = 0; repeat < 400; ++repeat) {
            CAPTURE(name_of(isa));
            CAPTURE(repeat);
            nn::fixed::engine engine;
            engine.options.kernels.isa = isa;
            engine.options.kernels.threads = repeat % 50 == 0 ? 3 : 1;
            nn::fixed::tensor x, y;
            const std::int64_t count = repeat % 50 == 0 ? 40000 : random.between(1, 100);
            const auto fill = [&](nn::fixed::tensor& t, int exponent) {
                t.reshape(1, {1, 1, count});
                t.exponent = exponent;
                t.bits = random.between(0, 31);
                const int used = random.between(0, t.bits);  // less than is promised
                const std::int32_t most = static_cast<std::int32_t>((std::int64_t{1} << used) - 1);
                for (std::int32_t& m : t.data) m = random.between(-most, most);
            };
            const int exponent = random.between(-40, 40);
            fill(x, exponent);
            fill(y, exponent + random.between(-1, 1) * random.between(0, random.below(4) == 0 ? 200 : 36));
            check_sum(engine, x, y, random.below(2) == 0);
        }
    }
}

TEST_CASE("a path that works in place changes neither what the other path reads nor the error that it gets") {
    const auto block = nn::residual(nn::sequential(nn::relu{}, nn::max_pool2d{1}, nn::relu{}), nn::relu{});
    const auto plain = nn::residual(nn::identity{}, nn::identity{});
    nn::fixed::engine engine;
    engine.training = true;
    nn::layer_ids ids;
    typename std::remove_const_t<decltype(block)>::layer<nn::fixed> layer(block);
    typename std::remove_const_t<decltype(plain)>::layer<nn::fixed> twice(plain);
    layer.build(engine, {2, 2, 1}, ids);
    twice.build(engine, {2, 2, 1}, ids);
    nn::fixed::tensor in, error;
    in.reshape(1, {2, 2, 1});
    error.reshape(1, {2, 2, 1});
    const std::vector<std::int32_t> values{5, -3, 0, 7}, errors{-2, 9, 4, 1};
    std::copy(values.begin(), values.end(), in.data.begin());
    std::copy(errors.begin(), errors.end(), error.data.begin());
    in.bits = error.bits = 4;
    const auto of = [](const nn::fixed::tensor& t) { return std::vector<std::int32_t>(t.data.begin(), t.data.end()); };
    CHECK(of(layer.forward(engine, in)) == std::vector<std::int32_t>{10, 0, 0, 14});
    CHECK(of(in) == values);
    CHECK(of(*layer.backward(engine, error, true)) == std::vector<std::int32_t>{-4, 0, 0, 2});
    CHECK(of(error) == errors);
    CHECK(of(twice.forward(engine, in)) == std::vector<std::int32_t>{10, -6, 0, 14});
    CHECK(of(*twice.backward(engine, error, true)) == std::vector<std::int32_t>{-4, 18, 8, 2});
}

TEST_CASE("a shortcut of another shape, and a subsampling that would lose channels, are refused") {
    const auto build = [](const auto& model) { fixed_network(model, {8, 8, 3}, 8); };
    CHECK_THROWS_WITH_AS(build(nn::sequential(nn::residual(nn::conv2d{4, 3, 1, 1}))),
                         "residual shortcut: expected 8x8x4, as the main path, found 8x8x3", argument_error);
    CHECK_THROWS_WITH_AS(build(nn::sequential(nn::subsample{2, 2})),
                         "subsample channels: expected at least the input's 3, found 2", argument_error);
    CHECK_THROWS_WITH_AS(build(nn::sequential(nn::subsample{0, 3})), "subsample stride: expected at least 1, found 0",
                         argument_error);
}

// Multiply-accumulates without padding, which the papers' figures include.
TEST_CASE("the networks have the parameters and products that their layers say") {
    check_network(nn::cnn3(), {32, 32, 3}, 113738, 9167232, 4);
    check_network(nn::resnet20(), {32, 32, 3}, 269722, 36957504, 20);
    check_network(nn::vgg_small(), {32, 32, 3}, 1187274, 137511680, 7);
    check_network(nn::resnet8(), {16, 16, 1}, 5142, 169424, 10);
}
