// What the MNIST program trains, and on what: for it and for the benchmarks that look into its training.
#pragma once

#include "../shared/session.hpp"

namespace example {

inline const auto lenet5 = [] {
    using namespace lamella;
    return nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{16, 5}, nn::relu{},
                          nn::max_pool2d{2}, nn::flatten{}, nn::linear{120}, nn::relu{}, nn::linear{84}, nn::relu{},
                          nn::linear{10});
}();
inline auto mlp(std::int64_t first, std::int64_t second) {
    using namespace lamella;
    return nn::sequential(nn::flatten{}, nn::linear{first}, nn::relu{}, nn::linear{second}, nn::relu{}, nn::linear{10});
}

inline sets load_mnist(const options& o) {
    using namespace lamella;
    return load_sets(o, "mnist", data::read_mnist, [] {
        return data::train_and_test{data::generated_digits(1, 0, 20000), data::generated_digits(1, 20000, 4000)};
    });
}

}  // namespace example
