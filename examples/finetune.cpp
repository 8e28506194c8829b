// A network trained in float by another tool, brought to 8-bit integers and trained further on what it meets there:
// digits that lie on their side.
//
//   finetune                                       generated digits, and weights that the float32 twin has learned
//   finetune data/mnist                            MNIST
//   finetune data/mnist lenet5.safetensors         another tool's weights (bench/torch_weights writes such a file)
#include <cstdio>
#include <exception>
#include <filesystem>
#include <lamella/io/float_weights.hpp>
#include <lamella/lamella.hpp>

using namespace lamella;

namespace {

constexpr auto lenet5 =
    nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{16, 5}, nn::relu{}, nn::max_pool2d{2},
                   nn::flatten{}, nn::linear{120}, nn::relu{}, nn::linear{84}, nn::relu{}, nn::linear{10});
constexpr nn::image_shape shape{28, 28, 1};

data::dataset turned(data::dataset digits) {
    const auto upright = digits.images;
    const std::size_t side = digits.width();
    for (std::size_t i = 0; i < digits.size(); ++i)
        for (std::size_t y = 0; y < side; ++y)
            for (std::size_t x = 0; x < side; ++x) digits.images(i, y, x, 0) = upright(i, x, side - 1 - y, 0);
    return digits;
}

optim::optimizer momentum(const char* learning_rate) {
    optim::optimizer_settings settings;
    settings.lr = parse_scaled(learning_rate, "lr");
    return optim::optimizer(settings);
}

// Stands in for the other tool.
void train_in_float(const data::dataset& digits, const std::string& file) {
    auto twin = nn::make_network<nn::float32>(lenet5, shape, nn::float32::settings{}, 1);
    auto optimizer = momentum("0.03");
    train::fit(twin, optimizer, digits, {.epochs = 3});
    io::export_float(twin, file);
}

void report(const char* what, auto& net, const data::train_and_test& upright, const data::train_and_test& lying) {
    std::printf("%-32s %6.2f %% %6.2f %%\n", what, 100 * train::evaluate(net, upright.test).accuracy(),
                100 * train::evaluate(net, lying.test).accuracy());
}

}  // namespace

int main(int argc, char** argv) try {
    const data::train_and_test upright =
        argc > 1 ? data::read_mnist(argv[1])
                 : data::train_and_test{data::generated_digits(1, 0, 6000), data::generated_digits(1, 6000, 1000)};
    const data::train_and_test lying{turned(upright.train), turned(upright.test)};

    std::string file = argc > 2 ? argv[2] : "";
    if (file.empty()) {
        file = (std::filesystem::temp_directory_path() / "lamella-finetune.safetensors").string();
        train_in_float(upright.train, file);
    }

    std::printf("%-32s  upright    lying\n", "test digits");
    auto twin = nn::make_network<nn::float32>(lenet5, shape, nn::float32::settings{}, 1);
    io::import_float(twin, file);
    report("float32", twin, upright, lying);

    auto net =
        nn::make_network<nn::fixed>(lenet5, shape, nn::fixed::settings{}, 1, std::make_unique<precision::fixed>(8));
    io::import_float(net, file);
    train::calibrate(net, data::take(upright.train, 0, 500));  // the ranges of activations
    report("imported, 8 bits", net, upright, lying);

    auto optimizer = momentum("0.01");
    train::fit(net, optimizer, data::take(lying.train, 0, 5000), {.epochs = 2});
    report("trained on 5000 lying, 8 bits", net, upright, lying);
} catch (const std::exception& failure) {
    std::fprintf(stderr, "finetune: %s\n", failure.what());
    return 1;
}
