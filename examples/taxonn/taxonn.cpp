// TaxoNN's way of training, a reimplementation of the idea (of the paper, only the abstract is public): per-sample
// descent in fixed point of its own width for each layer and role, on one array whose multipliers forward pass, error
// propagation and update share in turn. Searches a table of formats, trains under it and as the float32 twin over some
// seeds, and prints the misclassification of both, and cycles and utilisation of the array.
//
//   examples/run.sh taxonn --data data/mnist                       LeNet-5; generated digits without MNIST
//   examples/run.sh taxonn --model cnn3 --data data/cifar-10       cnn3; coloured digits without CIFAR-10
#include <lamella/accelerator/taxonn_json.hpp>

#include "../cifar10/models.hpp"
#include "../mnist/mnist.hpp"
#include "networks.hpp"

int main(int argc, char** argv) {
    CLI::App app{
        "Trains LeNet-5 on MNIST or cnn3 on CIFAR-10 one sample at a time, in fixed point whose formats it searches "
        "for each\n"
        "layer and role, beside the float32 twin."};
    example::taxonn_options o;
    example::options& run = o.run;
    run.model = "lenet5";
    run.small = true;
    run.valid = 6000;
    run.epochs = 2;
    app.add_option("--model", run.model, "network, and with it the data set")
        ->check(CLI::IsMember({"lenet5", "cnn3"}))
        ->capture_default_str();
    example::declare_data(app, run);
    app.add_option("--images", run.images, "training images used, the first ones; 0: all")->capture_default_str();
    app.add_option("--valid", run.valid, "training images kept back for the search")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--epochs", run.epochs, "epochs")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--seeds", o.seeds, "runs of each arithmetic, seeds 1..N")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--rate", o.rate, "learning rate 2^-RATE")->check(CLI::Range(0, 20))->capture_default_str();
    app.add_option("--halvings", o.halvings, "times that the learning rate is halved over the run, in equal parts")
        ->check(CLI::Range(0, 10))
        ->capture_default_str();
    app.add_option("--table", o.table,
                   "formats I.F,I.F,I.F of A, W, E, rows of layers joined by +; without it they are searched");
    app.add_option("--tolerance", o.tolerance,
                   "error that the formats of A, of W and of E may each add to single samples' gradients, percent of "
                   "their\nmean square")
        ->check(CLI::Range(0.0, 100.0))
        ->capture_default_str();
    std::string array;
    app.add_option("--accelerator", array, "TaxoNN's array, a JSON file (fields: accelerator/taxonn.hpp)")
        ->check(CLI::ExistingFile);
    app.add_option("--threads", run.threads, "threads; 0: LAMELLA_THREADS, else one")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    return example::main_of(app, argc, argv, "taxonn", [&] {
        if (!array.empty()) o.array = lamella::accelerator::read_taxonn(array);
        if (run.model == "lenet5")
            example::taxonn_lenet5(o, example::load_mnist(run));
        else
            example::taxonn_cnn3(o, example::load_cifar10(run));
    });
}
