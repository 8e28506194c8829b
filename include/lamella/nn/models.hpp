// Networks that examples, benchmarks and studies share, as blueprints: `make_network<A>(cnn3(), shape, ...)` builds one.
#pragma once

#include <cstdint>

#include "layers.hpp"
#include "network.hpp"
#include "pool.hpp"

namespace lamella::nn {

// Three times [3 x 3 convolution with padding 1 of 32, 64, 128 channels, ReLU, maximum of 2 x 2], then a linear layer.
// On 32 x 32 x 3 images and ten classes: 113 738 parameters, 9.2 million multiply-accumulates an image.
constexpr auto cnn3(std::int64_t classes = 10) {
    return sequential(conv2d{32, 3, 1, 1}, relu{}, max_pool2d{2}, conv2d{64, 3, 1, 1}, relu{}, max_pool2d{2},
                      conv2d{128, 3, 1, 1}, relu{}, max_pool2d{2}, flatten{}, linear{classes});
}

}  // namespace lamella::nn
