// Trains a network for CIFAR-10 in integers, at widths that LAPS moves while it trains, or its float32 twin.
//
//   examples/run.sh cifar10                       CIFAR-10 when examples/get-data.sh has fetched it or LAMELLA_DATA
//                                                 names a folder with it, else coloured digits
//   examples/run.sh cifar10 --data DIR --json     CIFAR-10 from a folder with the binary version's files, raw or .gz
#include <map>
#include <string>

#include "models.hpp"

int main(int argc, char** argv) {
    CLI::App app{
        "Trains cnn3 (three convolutions, each with a pool), ResNet-20 or a VGG-like network on CIFAR-10 in integer\n"
        "arithmetic, or the float32 twin of the same network."};
    const std::map<std::string, void (*)(const example::options&, const example::sets&)> models{
        {"cnn3", example::run_cnn3}, {"resnet20", example::run_resnet20}, {"vgg-small", example::run_vgg_small}};
    example::options o;
    o.interrupted = "cifar10-interrupted.safetensors";
    o.precision = example::cifar10_precision;
    example::declare(app, o, {"cnn3", "resnet20", "vgg-small"});
    app.add_flag("--augment", o.augment, "cut training images from a border of 4 zero pixels, and mirror half of them")
        ->group("Data");
    return example::main_of(app, argc, argv, "cifar10", [&] {
        models.at(o.model)(o, example::load_cifar10(o));
    });
}
