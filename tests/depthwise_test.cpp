// A depthwise convolution equals, bit for bit, the convolution whose other weights are zero: output, input error and
// gradients, at every width, on every path.
#include <lamella/nn/network.hpp>
#include <lamella/precision/laps.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "training.hpp"

using namespace lamella;
using namespace testing;

namespace {

struct macs_of_stages : gemm::observer {
    std::array<std::int64_t, 3> macs{}, events{};
    void on_gemm(const gemm::gemm_event& e) override {
        macs[static_cast<std::size_t>(e.where)] += e.macs;
        ++events[static_cast<std::size_t>(e.where)];
    }
};

void fill(nn::fixed::tensor& t, std::int64_t samples, const nn::image_shape& shape, random_sequence& random) {
    t.reshape(samples, shape);
    t.exponent = -20;
    t.bits = 20;
    for (std::int32_t& x : t.data) x = random.between(-(1 << 19), 1 << 19);
}

void check(const nn::depthwise_conv2d& blueprint, const nn::image_shape& shape, std::int64_t samples, int width,
           const gemm::settings& kernels) {
    CAPTURE(blueprint.describe());
    CAPTURE(nn::to_string(shape));
    CAPTURE(width);
    CAPTURE(name_of(kernels.isa));
    CAPTURE(name_of(kernels.how));
    nn::fixed::engine engine;
    engine.options.kernels = kernels;
    engine.controller = std::make_unique<precision::fixed>(width);
    engine.controller->attach(2);
    engine.training = true;
    nn::depthwise_conv2d::layer<nn::fixed> layer(blueprint);
    nn::conv2d::layer<nn::fixed> dense(
        nn::conv2d{shape.channels, blueprint.kernel, blueprint.stride, blueprint.padding, blueprint.bias});
    nn::layer_ids ids, dense_ids;
    const nn::image_shape out_shape = layer.build(engine, shape, ids);
    REQUIRE(dense.build(engine, shape, dense_ids) == out_shape);
    const auto channels = static_cast<std::size_t>(shape.channels);
    const auto taps = static_cast<std::size_t>(blueprint.kernel * blueprint.kernel);
    CHECK(layer.weight().mantissa.size() == channels * taps);

    random_sequence random = random_of(static_cast<std::uint64_t>(width));
    for (std::int16_t& m : layer.bias().mantissa) m = static_cast<std::int16_t>(random.between(-32767, 32767));
    layer.bias().exponent = -14;
    std::copy(layer.bias().mantissa.begin(), layer.bias().mantissa.end(), dense.bias().mantissa.begin());
    dense.bias().exponent = -14;
    dense.weight().mantissa.fill_zero();
    dense.weight().exponent = layer.weight().exponent;
    const auto at = [&](std::size_t c, std::size_t tap) { return (c * taps + tap) * channels + c; };
    for (std::size_t c = 0; c < channels; ++c)
        for (std::size_t tap = 0; tap < taps; ++tap)
            dense.weight().mantissa[at(c, tap)] = layer.weight().mantissa[c * taps + tap];

    nn::fixed::tensor in, error, dense_error;
    fill(in, samples, shape, random);
    fill(error, samples, out_shape, random);
    dense_error = error;
    macs_of_stages seen;
    engine.observers.push_back(&seen);
    // A wide tensor drops as many bits as its bound asks for, which is larger for the dense layer.
    const auto same = [](const nn::fixed::tensor& part, const nn::fixed::tensor& whole) {
        const int dropped = whole.exponent - part.exponent;
        REQUIRE(dropped >= 0);
        CHECK(std::equal(part.data.begin(), part.data.end(), whole.data.begin(), whole.data.end(),
                         [&](std::int32_t x, std::int32_t y) { return round_nearest(x, dropped) == y; }));
    };
    const nn::fixed::tensor& out = layer.forward(engine, in);
    const nn::fixed::tensor& in_error = *layer.backward(engine, error, true);
    const macs_of_stages depthwise = seen;
    same(out, dense.forward(engine, in));
    same(in_error, *dense.backward(engine, dense_error, true));
    CHECK(layer.weight().gradient_exponent == dense.weight().gradient_exponent);
    for (std::size_t c = 0; c < channels; ++c)
        for (std::size_t tap = 0; tap < taps; ++tap)
            REQUIRE(layer.weight().gradient[c * taps + tap] == dense.weight().gradient[at(c, tap)]);
    CHECK(std::equal(layer.bias().gradient.begin(), layer.bias().gradient.end(), dense.bias().gradient.begin()));
    for (const std::size_t where : {0u, 1u, 2u}) {
        CHECK(depthwise.macs[where] * shape.channels == seen.macs[where] - depthwise.macs[where]);
        CHECK(depthwise.events[where] % shape.channels == 0);
    }
}

}  // namespace

TEST_CASE("a depthwise convolution equals the convolution whose other weights are zero") {
    for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
        if (!available(isa)) continue;
        for (const gemm::execution how : {gemm::execution::fused, gemm::execution::sliced})
            for (const int width : {2, 4, 8, 11}) {
                const gemm::settings kernels{how, isa, slice::encoding::sign_magnitude, width == 8 ? 3 : 1};
                check({3, 1, 1}, {6, 5, 7}, 3, width, kernels);
                check({3, 2, 1, false}, {9, 8, 3}, 2, width, kernels);
                check({2, 3, 0}, {8, 9, 4}, 2, width, kernels);
                check({3, 1, 0}, {3, 3, 1}, 1, width, kernels);
            }
    }
    check({3, 1, 1}, {16, 16, 40}, 5, 8, {});
    check({3, 1, 1}, {4, 4, 5}, 2, 6, {gemm::execution::reference, path::scalar, slice::encoding::signed_slice, 1});
}

TEST_CASE("a network with a depthwise convolution is probed, resumes to the same state and learns") {
    const auto model = nn::sequential(nn::conv2d{8, 3, 2, 1, false}, nn::batch_norm{}, nn::relu{},
                                      nn::depthwise_conv2d{3, 1, 1, false}, nn::batch_norm{}, nn::relu{},
                                      nn::conv2d{12, 1, 1, 0, false}, nn::batch_norm{}, nn::relu{},
                                      nn::global_avg_pool{}, nn::linear{5});
    const data::dataset set = noisy_images(3, 400, {8, 8, 1}, 5);
    using network = nn::network<nn::fixed, std::remove_const_t<decltype(model)>>;
    const auto make = [&] {
        precision::laps_settings s;
        s.every = 1;
        return training_run<network>({model, {8, 8, 1}, {}, 5, std::make_unique<precision::laps>(s)}, {}, set, 16, 80);
    };
    auto run = make();
    run.steps(0, 40);
    snapshot half = snapshot::of(run);
    run.steps(40, 40);
    auto resumed = make();
    half.restore(resumed);
    resumed.steps(40, 40);
    CHECK(snapshot::of(resumed) == snapshot::of(run));
    CHECK(train::evaluate(run.net, set).accuracy() > 0.5);
}
