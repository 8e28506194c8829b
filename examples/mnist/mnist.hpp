// What the MNIST program trains, and on what: for it and for the benchmarks that look into its training.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>

#include "../shared/session.hpp"

namespace example {

inline const auto lenet5 = [] {
    using namespace lamella;
    return nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{16, 5}, nn::relu{}, nn::max_pool2d{2},
                          nn::flatten{}, nn::linear{120}, nn::relu{}, nn::linear{84}, nn::relu{}, nn::linear{10});
}();
inline const auto mlp = [] {
    using namespace lamella;
    return nn::sequential(nn::flatten{}, nn::linear{256}, nn::relu{}, nn::linear{128}, nn::relu{}, nn::linear{10});
}();

// MNIST from --data, LAMELLA_DATA/mnist or shared/data/mnist beside the sources, otherwise generated digits.
inline sets load_mnist(const options& o) {
    using namespace lamella;
    sets loaded;
    std::string folder = o.data;
    if (folder.empty()) {
        const std::string given = environment("LAMELLA_DATA");
        const std::string root = given.empty() ? LAMELLA_SOURCE_DIR "/../shared/data" : given;
        if (std::filesystem::is_directory(root + "/mnist")) folder = root + "/mnist";
    }
    if (folder.empty()) std::fprintf(stderr, "no --data and no LAMELLA_DATA with mnist: training on generated digits\n");
    if (folder.empty() || folder == "generated") {
        loaded.train = data::generated_digits(1, 0, 20000);
        loaded.test = data::generated_digits(1, 20000, 4000);
    } else {
        auto mnist = data::read_mnist(folder);
        loaded.train = std::move(mnist.train);
        loaded.test = std::move(mnist.test);
    }
    if (o.images != 0) loaded.train = data::take(loaded.train, 0, o.images);
    if (o.valid != 0) {
        auto parts = data::split(loaded.train, o.valid);
        loaded.train = std::move(parts.train);
        loaded.valid = std::move(parts.valid);
    }
    return loaded;
}

}  // namespace example
