#include <cstdio>
#include <lamella/lamella.hpp>

using namespace lamella;

int main() {
    const data::dataset digits = data::generated_digits(1, 0, 6000), unseen = data::generated_digits(1, 6000, 1000);

    const auto model = nn::sequential(nn::conv2d{8, 5}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{16, 5}, nn::relu{},
                                      nn::max_pool2d{2}, nn::flatten{}, nn::linear{10});
    auto net = nn::make_network<nn::fixed>(model, nn::image_shape{28, 28, 1}, nn::fixed::settings{}, 1,
                                           std::make_unique<precision::laps>(precision::laps_settings{}));

    optim::optimizer optimizer;  // momentum, cosine schedule
    train::progress progress(false);
    train::fit(net, optimizer, digits, {.epochs = 3, .batch = 32}, progress);

    const train::evaluation result = train::evaluate(net, unseen);
    std::printf("accuracy %.1f %%\n", 100 * result.accuracy());
}
