// Trains LeNet-5 or an MLP on MNIST in integers, at widths that LAPS moves while it trains, or its float32 twin.
//
//   examples/run.sh mnist                          MNIST when examples/get-data.sh has fetched it or LAMELLA_DATA names
//                                                  a folder with it, else generated digits
//   examples/run.sh mnist --data DIR --json        MNIST from a folder with the IDX files, raw or .gz
#include "mnist.hpp"

int main(int argc, char** argv) {
    CLI::App app{"Trains LeNet-5 (conv 6@5x5, pool, conv 16@5x5, pool, 120, 84, 10) or an MLP (784-256-128-10, or\n"
                 "784-100-50-10) on MNIST in integer arithmetic, or the float32 twin of the same network."};
    example::options o;
    o.interrupted = "mnist-interrupted.safetensors";
    o.small = true;
    example::declare(app, o, {"lenet5", "mlp", "mlp-100-50"});
    return example::main_of(app, argc, argv, "mnist", [&] {
        const example::sets sets = example::load_mnist(o);
        if (o.model == "lenet5")
            example::run(example::lenet5, o, sets);
        else
            example::run(o.model == "mlp" ? example::mlp(256, 128) : example::mlp(100, 50), o, sets);
    });
}
