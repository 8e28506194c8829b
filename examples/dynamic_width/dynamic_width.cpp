// Inference whose width follows the input: characterises a trained network at several widths on training images that
// were kept back, picks widths and thresholds, and measures them on the test set.
//
//   examples/run.sh dynamic_width                        LeNet-5 on MNIST, or on generated digits; trains it first
//   examples/run.sh dynamic_width --model cnn3           cnn3 on CIFAR-10, or on generated coloured digits
//   examples/run.sh dynamic_width --eval CHECKPOINT      of the mnist or cifar10 program, with its --valid and --images
//   examples/run.sh dynamic_width --save FILE            keeps the characterisation; --load FILE takes it from there
#include "../cifar10/models.hpp"
#include "../mnist/mnist.hpp"
#include "networks.hpp"

int main(int argc, char** argv) {
    CLI::App app{
        "Characterises a trained network at several widths and lets the width follow the input: a narrow pass first, "
        "a\n"
        "wider one when the score margin is small. Training images that --valid keeps back are the calibration set."};
    example::options o;
    example::dynamic_options d;
    example::declare(app, o, {"lenet5", "cnn3"});
    o.valid = 5000;
    o.precision = "fixed:8";
    example::declare(app, d);
    return example::main_of(app, argc, argv, "dynamic_width", [&] {
        if (o.model == "lenet5") return example::dynamic_lenet5(o, d, example::load_mnist(o));
        if (o.lr.empty()) o.lr = "0.02";
        example::dynamic_cnn3(o, d, example::load_cifar10(o));
    });
}
