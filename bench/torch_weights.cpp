// Trains LeNet-5 in libtorch, float32, and writes its weights as safetensors.torch.save_file(net.state_dict(), FILE)
// would: what examples/finetune takes.
//
//   torch_weights MNIST FILE [EPOCHS]     default: 5 epochs of batches of 64, momentum 0.9, learning rate 0.02

// Before libtorch, whose headers include the compiler's intrinsics without core/intrinsics.hpp's care for g++ 12.
#include <lamella/data/idx.hpp>
#include <lamella/io/safetensors.hpp>

#include <torch/torch.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <span>
#include <string>
#include <vector>

#include "pinned_openblas.hpp"

namespace {

torch::Tensor images_of(const lamella::data::dataset& set) {
    const auto extent = [](std::size_t x) { return static_cast<std::int64_t>(x); };
    return torch::from_blob(const_cast<std::uint8_t*>(set.images.data()),
                            {extent(set.size()), 1, extent(set.height()), extent(set.width())}, torch::kUInt8)
        .to(torch::kFloat32)
        .div(256);
}
torch::Tensor labels_of(const lamella::data::dataset& set) {
    return torch::from_blob(const_cast<std::uint8_t*>(set.labels.data()), {static_cast<std::int64_t>(set.size())},
                            torch::kUInt8)
        .to(torch::kInt64);
}

torch::nn::Sequential lenet5() {
    namespace nn = torch::nn;
    return nn::Sequential(nn::Conv2d(1, 6, 5), nn::ReLU(), nn::MaxPool2d(2), nn::Conv2d(6, 16, 5), nn::ReLU(),
                          nn::MaxPool2d(2), nn::Flatten(), nn::Linear(256, 120), nn::ReLU(), nn::Linear(120, 84),
                          nn::ReLU(), nn::Linear(84, 10));
}

void train(torch::nn::Sequential& net, const torch::Tensor& images, const torch::Tensor& labels, int epochs) {
    constexpr std::int64_t batch = 64;
    torch::optim::SGD optimizer(net->parameters(), torch::optim::SGDOptions(0.02).momentum(0.9));
    for (int epoch = 0; epoch < epochs; ++epoch) {
        const torch::Tensor order = torch::randperm(images.size(0));
        for (std::int64_t first = 0; first + batch <= images.size(0); first += batch) {
            const torch::Tensor index = order.narrow(0, first, batch);
            optimizer.zero_grad();
            torch::nn::functional::cross_entropy(net->forward(images.index_select(0, index)),
                                                 labels.index_select(0, index))
                .backward();
            optimizer.step();
        }
    }
}

void write(const torch::nn::Sequential& net, const std::string& path) {
    lamella::io::safetensors_header header;
    std::vector<torch::Tensor> kept;
    std::vector<std::span<const std::uint8_t>> pieces;
    for (const auto& named : net->named_parameters()) {
        const torch::Tensor& values = kept.emplace_back(named.value().detach().contiguous());
        const std::size_t begin = header.data_bytes(), bytes = values.nbytes();
        header.tensors.push_back({named.key(),
                                  lamella::io::element_type::f32,
                                  {values.sizes().begin(), values.sizes().end()},
                                  begin,
                                  begin + bytes});
        pieces.emplace_back(static_cast<const std::uint8_t*>(values.data_ptr()), bytes);
    }
    lamella::io::write_safetensors(path, header, pieces);
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 3) throw lamella::argument_error("arguments", "a folder with MNIST and a file to write", "fewer");
    const lamella::data::train_and_test sets = lamella::data::read_mnist(argv[1]);
    torch::manual_seed(1);
    torch::nn::Sequential net = lenet5();
    train(net, images_of(sets.train), labels_of(sets.train), argc > 3 ? std::atoi(argv[3]) : 5);
    const auto right = net->forward(images_of(sets.test)).argmax(1).eq(labels_of(sets.test)).sum().item<std::int64_t>();
    std::printf("libtorch: %.2f %% of %zu test images\n",
                100.0 * static_cast<double>(right) / static_cast<double>(sets.test.size()), sets.test.size());
    write(net, argv[2]);
} catch (const std::exception& failure) {
    std::fprintf(stderr, "torch_weights: %s\n", failure.what());
    return 1;
}
