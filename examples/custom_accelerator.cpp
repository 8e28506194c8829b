// An accelerator of your own: what a training run costs on it, counted while the fast kernels train.
//
// A configuration is data; accelerator/configuration_json.hpp reads the same fields from a file. Slice products are
// counted on every step, cycles on every fourth one here.
#include <cstdio>
#include <lamella/accelerator/counters.hpp>
#include <lamella/lamella.hpp>

using namespace lamella;

int main() {
    accelerator::configuration wide;  // hnpu, but half the cores with twice the lanes
    wide.name = "wide";
    wide.cores = 8;
    wide.lanes = 32;
    accelerator::configuration blind = wide;  // and without its zero detectors
    blind.name = "blind";
    blind.input_skip = blind.output_skip = false;

    const data::dataset digits = data::generated_digits(1, 0, 1000);
    const auto model = nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{4}, nn::flatten{}, nn::linear{10});
    auto net = nn::make_network<nn::fixed>(model, nn::image_shape{28, 28, 1}, nn::fixed::settings{}, 1,
                                           std::make_unique<precision::laps>(precision::laps_settings{}));
    accelerator::slice_counts products(wide.encoding, best_path(), net.products());
    accelerator::counters with(wide, products, 4), without(blind, products, 4);
    net.observe(products);  // first: the others read what it has counted
    net.observe(with);
    net.observe(without);
    optim::optimizer optimizer;
    train::fit(net, optimizer, digits, {.epochs = 2, .batch = 32});

    const accelerator::stage_counts work = products.total();
    std::printf("slice products: %llu, of which %llu issued\n", static_cast<unsigned long long>(work.dense),
                static_cast<unsigned long long>(work.issued));
    for (const accelerator::counters* c : {&with, &without})
        std::printf("%-6s %d multipliers, %.0f cycles a step\n", c->how().name.c_str(), c->how().all_multipliers(),
                    static_cast<double>(c->total().cycles) / static_cast<double>(c->steps()));
}
