// Gradients against central differences, on the float64 twin: every layer kind, for inputs, weights and biases, and a
// whole network. A check that cannot fail shows nothing, so each one is repeated with a gradient off by a factor 1.01.
#include <lamella/nn/network.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

using namespace lamella;
using nn::float64;

namespace {

constexpr double planted = 1.01;

random_sequence random_of(std::uint64_t seed) { return random_sequence({.seed = seed, .use = stream::digits}); }

// The values +-0.11, +-0.12, .. in a random order: no two equal, none near zero, so that no step of a central
// difference crosses the kink of a ReLU or of a maximum.
std::vector<double> distinct_values(std::size_t count, std::uint64_t seed) {
    random_sequence random = random_of(seed);
    std::vector<double> values(count);
    for (std::size_t i = 0; i < count; ++i)
        values[i] = (0.11 + 0.01 * static_cast<double>(i)) * (random.below(2) == 0 ? 1 : -1);
    for (std::size_t i = count; i > 1; --i)
        std::swap(values[i - 1], values[random.below(static_cast<std::uint32_t>(i))]);
    return values;
}

// Central differences of `loss` by each of `values`.
std::vector<double> differences(std::span<double> values, const std::function<double()>& loss) {
    constexpr double step = 1e-4;
    std::vector<double> slopes(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double kept = values[i];
        values[i] = kept + step;
        const double above = loss();
        values[i] = kept - step;
        slopes[i] = (above - loss()) / (2 * step);
        values[i] = kept;
    }
    return slopes;
}

// Element by element, relative to the largest slope.
bool agrees(std::span<const double> gradient, std::span<const double> slopes, double tolerance) {
    if (gradient.size() != slopes.size()) return false;
    double largest = 0;
    for (const double s : slopes) largest = std::max(largest, std::abs(s));
    for (std::size_t i = 0; i < slopes.size(); ++i)
        if (!(std::abs(gradient[i] - slopes[i]) <= tolerance * largest)) return false;
    return true;
}

// The gradient holds; scaled by 1.01 as a whole, or in its largest element alone, it does not.
void check_gradient(std::span<const double> gradient, std::span<const double> slopes, double tolerance = 1e-7) {
    CHECK(agrees(gradient, slopes, tolerance));
    std::vector<double> wrong(gradient.begin(), gradient.end());
    const auto largest = std::max_element(wrong.begin(), wrong.end(),
                                          [](double a, double b) { return std::abs(a) < std::abs(b); });
    REQUIRE(largest != wrong.end());
    REQUIRE(*largest != 0);
    *largest *= planted;
    CHECK_FALSE(agrees(wrong, slopes, tolerance));
    std::copy(gradient.begin(), gradient.end(), wrong.begin());
    for (double& g : wrong) g *= planted;
    CHECK_FALSE(agrees(wrong, slopes, tolerance));
}

// The loss sum c_i out_i, whose error by the output is c.
template <class Blueprint>
void check_layer(const Blueprint& blueprint, const nn::image_shape& shape, std::int64_t samples) {
    CAPTURE(blueprint.describe());
    CAPTURE(nn::to_string(shape));
    float64::engine engine;
    engine.seed = 7;
    engine.training = true;
    nn::layer_ids ids;
    typename Blueprint::template layer<float64> layer(blueprint);
    const nn::image_shape out_shape = layer.build(engine, shape, ids);
    layer.parameters([](auto& p) {
        if (p.bias) std::iota(p.value.begin(), p.value.end(), 0.25);
    });

    std::vector<double> input = distinct_values(static_cast<std::size_t>(samples * shape.size()), 1);
    const std::vector<double> c = distinct_values(static_cast<std::size_t>(samples * out_shape.size()), 2);
    float64::tensor in, error;
    const auto forward = [&]() -> float64::tensor& {
        in.reshape(samples, shape);
        std::copy(input.begin(), input.end(), in.data.begin());
        float64::tensor& out = layer.forward(engine, in);
        REQUIRE(out.shape == out_shape);
        return out;
    };
    const auto loss = [&] {
        const float64::tensor& out = forward();
        return std::inner_product(c.begin(), c.end(), out.data.begin(), 0.0);
    };

    forward();
    error.reshape(samples, out_shape);
    std::copy(c.begin(), c.end(), error.data.begin());
    float64::tensor* in_error = layer.backward(engine, error, true);
    REQUIRE(in_error != nullptr);
    REQUIRE(in_error->size() == in.size());
    const std::vector<double> input_gradient(in_error->data.begin(), in_error->data.end());
    std::string by = "input";
    CAPTURE(by);
    check_gradient(input_gradient, differences(input, loss));
    layer.parameters([&](auto& p) {
        by = p.name;
        const std::vector<double> gradient(p.gradient.begin(), p.gradient.end());
        check_gradient(gradient, differences(p.value.span(), loss));
    });
}

}  // namespace

TEST_CASE("linear passes the gradients that central differences give") {
    check_layer(nn::linear{5}, {1, 1, 7}, 3);
    check_layer(nn::linear{1}, {3, 2, 2}, 1);
    check_layer(nn::linear{6}, {1, 1, 70}, 9);
}

TEST_CASE("conv2d passes the gradients that central differences give, whatever its kernel, stride and padding") {
    check_layer(nn::conv2d{3, 3}, {5, 6, 2}, 2);
    check_layer(nn::conv2d{2, 1}, {4, 3, 3}, 2);
    check_layer(nn::conv2d{2, 3, 1, 1}, {4, 4, 2}, 2);
    check_layer(nn::conv2d{2, 3, 2, 1}, {6, 5, 2}, 2);
    check_layer(nn::conv2d{3, 5, 1, 4}, {3, 4, 1}, 2);
    check_layer(nn::conv2d{2, 4, 3, 2}, {8, 7, 1}, 2);
    check_layer(nn::conv2d{2, 2, 3, 0}, {8, 9, 2}, 2);
    check_layer(nn::conv2d{4, 1, 2, 0}, {5, 4, 3}, 1);
}

TEST_CASE("depthwise_conv2d passes the gradients that central differences give") {
    check_layer(nn::depthwise_conv2d{3, 1, 1}, {4, 5, 3}, 2);
    check_layer(nn::depthwise_conv2d{3, 2, 1, false}, {6, 5, 2}, 2);
    check_layer(nn::depthwise_conv2d{2, 3}, {8, 7, 4}, 2);
}

TEST_CASE("relu, pooling and flatten pass the gradients that central differences give") {
    check_layer(nn::relu{}, {4, 3, 2}, 3);
    check_layer(nn::leaky_relu{}, {4, 3, 2}, 3);
    check_layer(nn::dropout{30}, {4, 3, 2}, 3);
    check_layer(nn::flatten{}, {4, 3, 2}, 3);
    check_layer(nn::max_pool2d{2}, {6, 4, 3}, 2);
    check_layer(nn::max_pool2d{3}, {7, 8, 2}, 2);
    check_layer(nn::max_pool2d{2, 3}, {8, 8, 2}, 2);
    check_layer(nn::max_pool2d{3, 2}, {7, 9, 2}, 2);
    check_layer(nn::max_pool2d{3, 1}, {5, 6, 2}, 2);
    check_layer(nn::avg_pool2d{3, 2}, {7, 9, 2}, 2);
    check_layer(nn::avg_pool2d{2, 1}, {4, 5, 2}, 2);
    check_layer(nn::avg_pool2d{2}, {6, 4, 3}, 2);
    check_layer(nn::avg_pool2d{3}, {7, 6, 2}, 2);
    check_layer(nn::avg_pool2d{3, 4}, {7, 8, 1}, 2);
    check_layer(nn::global_avg_pool{}, {4, 4, 3}, 2);
    check_layer(nn::global_avg_pool{}, {5, 3, 2}, 3);
}

TEST_CASE("batch normalisation passes the gradients that central differences give") {
    check_layer(nn::batch_norm{}, {3, 4, 5}, 3);
    check_layer(nn::batch_norm{}, {1, 1, 2}, 7);
    check_layer(nn::batch_norm{}, {5, 4, 1}, 1);
}

TEST_CASE("residual blocks pass the gradients that central differences give, whatever their paths") {
    check_layer(nn::residual(nn::conv2d{2, 3, 1, 1}), {4, 5, 2}, 2);
    check_layer(nn::residual(nn::conv2d{4, 3, 2, 1}, nn::subsample{2, 4}), {5, 4, 3}, 2);
    check_layer(nn::residual(nn::conv2d{4, 3, 2, 1}, nn::conv2d{4, 1, 2, 0, false}), {5, 4, 3}, 2);
    check_layer(nn::residual(nn::sequential(nn::relu{}, nn::conv2d{2, 1}, nn::max_pool2d{1})), {3, 4, 2}, 2);
    check_layer(nn::residual(nn::sequential(nn::conv2d{2, 1}, nn::relu{}), nn::sequential(nn::flatten{}, nn::relu{})),
                {1, 1, 2}, 3);
    check_layer(nn::residual(nn::sequential(nn::conv2d{3, 3, 2, 1, false}, nn::batch_norm{}, nn::relu{},
                                            nn::conv2d{3, 3, 1, 1, false}, nn::batch_norm{}),
                                            nn::subsample{2, 3}), {6, 5, 2}, 2);
    check_layer(nn::subsample{3, 4}, {7, 8, 2}, 2);
    check_layer(nn::subsample{1, 2}, {2, 3, 2}, 1);
}

TEST_CASE("softmax cross-entropy gives the error that central differences of the summed loss give") {
    for (const std::int64_t classes : {2, 3, 10}) {
        CAPTURE(classes);
        constexpr std::int64_t samples = 4;
        nn::loss<float64> loss;
        float64::tensor logits;
        logits.reshape(samples, {1, 1, classes});
        const std::vector<double> values = distinct_values(static_cast<std::size_t>(samples * classes), 3);
        std::copy(values.begin(), values.end(), logits.data.begin());
        std::vector<std::uint8_t> labels;
        for (std::int64_t s = 0; s < samples; ++s) labels.push_back(static_cast<std::uint8_t>(s % classes));
        const float64::tensor& error = loss(logits, labels);
        const std::vector<double> gradient(error.data.begin(), error.data.end());
        check_gradient(gradient, differences(logits.data.span(), [&] {
            loss(logits, labels);
            return loss.mean_loss() * samples;
        }));
    }
}

TEST_CASE("softmax of one class has no error") {
    nn::loss<float64> loss;
    float64::tensor logits;
    logits.reshape(2, {1, 1, 1});
    logits.data[0] = 3;
    logits.data[1] = -5;
    for (const double e : loss(logits, std::vector<std::uint8_t>{0, 0}).data) CHECK(e == 0);
    CHECK(loss.mean_loss() == 0);
}

TEST_CASE("every parameter of a network gets the gradient that central differences of its loss give") {
    const auto model = nn::sequential(
        nn::conv2d{3, 3}, nn::relu{}, nn::max_pool2d{2},
        nn::sequential(nn::conv2d{4, 3, 2, 1}, nn::relu{}, nn::avg_pool2d{3}), nn::flatten{}, nn::linear{6}, nn::relu{},
        nn::linear{4});
    nn::network<float64, std::remove_const_t<decltype(model)>> net(model, {14, 14, 2}, {}, 11);
    constexpr std::size_t samples = 3;
    random_sequence random = random_of(12);
    std::vector<std::uint8_t> pixels(samples * 14 * 14 * 2);
    for (std::uint8_t& p : pixels) p = static_cast<std::uint8_t>(random.below(256));
    const std::vector<std::uint32_t> index{2, 0, 1};
    const std::vector<std::uint8_t> labels{3, 0, 2};
    const nn::batch_view<std::uint8_t> batch{pixels.data(), index, {14, 14, 2}, -8};
    net.parameters([&](auto& p) {
        if (!p.bias) return;
        for (double& b : p.value) b = (static_cast<double>(random.below(1000)) - 400) / 4000;
    });

    net.train_step(batch, labels, 0);
    std::vector<std::vector<double>> gradients;
    net.parameters([&](auto& p) { gradients.emplace_back(p.gradient.begin(), p.gradient.end()); });
    std::size_t number = 0;
    net.parameters([&](auto& p) {
        CAPTURE(number);
        check_gradient(gradients[number++], differences(p.value.span(), [&] {
            net.score(batch, labels);
            return net.loss().mean_loss() * static_cast<double>(samples);
        }), 1e-5);
    });
    CHECK(number == 8);
}
