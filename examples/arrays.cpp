// Your own arrays in, arrays out: two spirals, learned from xtensor expressions of real numbers.
//
// Images are samples x height x width x channels; points of the plane are images of one pixel with two channels. The
// library makes 16-bit mantissas with one exponent of them: data::from_arrays.
#include <cmath>
#include <cstdio>
#include <lamella/lamella.hpp>

using namespace lamella;

int main() {
    constexpr std::size_t samples = 1200;
    xt::xtensor<float, 4> points = xt::zeros<float>(std::array<std::size_t, 4>{samples, 1, 1, 2});
    xt::xtensor<int, 1> arms = xt::zeros<int>(std::array<std::size_t, 1>{samples});
    for (std::size_t i = 0; i < samples; ++i) {
        arms(i) = static_cast<int>(i % 2);
        const float t = static_cast<float>(i) / samples, angle = 6 * t + 3.1415927f * static_cast<float>(arms(i));
        points(i, 0, 0, 0) = t * std::cos(angle);
        points(i, 0, 0, 1) = t * std::sin(angle);
    }

    const auto model = nn::sequential(nn::linear{32}, nn::relu{}, nn::linear{32}, nn::relu{}, nn::linear{2});
    auto net = nn::make_network<nn::fixed>(model, nn::image_shape{1, 1, 2}, nn::fixed::settings{}, 1,
                                           precision::parse_controller("fixed:12", {}));
    optim::optimizer_settings settings;
    settings.lr = parse_scaled("0.1", "lr");
    optim::optimizer optimizer(settings);
    train::fit(net, optimizer, data::from_arrays(points, arms, 2), {.epochs = 150, .batch = 50});

    const xt::xtensor<std::uint8_t, 1> found = train::predict(net, points);
    std::size_t right = 0;
    for (std::size_t i = 0; i < samples; ++i) right += found(i) == arms(i);
    std::printf("%zu of %zu points on the right arm\n", right, samples);
}
