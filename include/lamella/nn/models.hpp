// Networks that examples and studies share, as blueprints: `make_network<A>(cnn3(), shape, ...)` makes one.
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

namespace detail {

// 3 x 3 convolution that keeps the image's size, unless it has a stride, for a batch normalisation after it.
constexpr conv2d same3x3(std::int64_t channels, std::int64_t stride = 1) { return {channels, 3, stride, 1, false}; }

// Two 3 x 3 convolutions with batch normalisation, and a ReLU between them: the main path of a residual block.
constexpr auto two_convolutions(std::int64_t channels, std::int64_t stride = 1) {
    return sequential(same3x3(channels, stride), batch_norm{}, relu{}, same3x3(channels), batch_norm{});
}
constexpr auto block(std::int64_t channels) { return sequential(residual(two_convolutions(channels)), relu{}); }
// A block that halves the image; its shortcut leaves pixels out and adds channels of zeros (option A of He et al.
// 2015).
constexpr auto halving_block(std::int64_t channels) {
    return sequential(residual(two_convolutions(channels, 2), subsample{2, channels}), relu{});
}

}  // namespace detail

// ResNet-20 for 32 x 32 images (He et al. 2015, section 4.2, option A): three stages of three blocks, 16, 32 and 64
// channels. On 32 x 32 x 3 images and ten classes: 269 722 parameters, 37.0 million multiply-accumulates an image.
constexpr auto resnet20(std::int64_t classes = 10) {
    using namespace detail;
    return sequential(same3x3(16), batch_norm{}, relu{}, block(16), block(16), block(16), halving_block(32), block(32),
                      block(32), halving_block(64), block(64), block(64), global_avg_pool{}, linear{classes});
}

// Six 3 x 3 convolutions with batch normalisation and ReLU, a maximum of 2 x 2 after every second: 64, 128 and 256
// channels, then a linear layer (a narrower VGG-small, the network of NITI and of binary networks before it).
constexpr auto vgg_small(std::int64_t classes = 10) {
    const auto pair = [](std::int64_t channels) {
        return sequential(detail::same3x3(channels), batch_norm{}, relu{}, detail::same3x3(channels), batch_norm{},
                          relu{}, max_pool2d{2});
    };
    return sequential(pair(64), pair(128), pair(256), flatten{}, linear{classes});
}

// A ResNet of three stages of one block, 4, 8 and 16 channels, whose halving shortcuts are projections, with dropout in
// front of the last layer: every kind of layer in a network that is small enough for tests.
constexpr auto resnet8(std::int64_t classes = 10) {
    using namespace detail;
    const auto halving = [](std::int64_t channels) {
        return sequential(
            residual(two_convolutions(channels, 2), sequential(conv2d{channels, 1, 2, 0, false}, batch_norm{})),
            relu{});
    };
    return sequential(same3x3(4), batch_norm{}, relu{}, block(4), halving(8), halving(16), global_avg_pool{},
                      dropout{10}, linear{classes});
}

}  // namespace lamella::nn
