// What rounding does to a sample's gradient: an integer network's beside its twin's at the same weights.
//
//   train::gradient_error error(twin, images);  // keeps the twin's weights, and each image's gradients
//   double share = error(net);                  // what net's gradients at those weights differ by
//
// The result is, in the mean over the layers, sum |g - g'|^2 / sum |g'|^2: g' the twin's gradient of a layer's weights
// for one image, g the integers' for the same, summed over the images. Descent a sample at a time lives on gradients
// that scatter about their mean; rounding which adds a share r to their mean square makes them scatter about so much
// more. So a bound on r means the same for any network, loss and stage of training, and no training has to show it
// (a reconstruction of ours; from no paper).
//
// Of a layer with many weights, some are looked at, evenly spread; biases are not.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../core/errors.hpp"
#include "../core/fixed_tensor.hpp"
#include "../data/dataset.hpp"
#include "../nn/network.hpp"
#include "evaluate.hpp"

namespace lamella::train {

class gradient_error {
  public:
    // Most weights of a layer that are looked at.
    static constexpr std::size_t sampled = 2048;

    // The twin's weights stay as they are, its gradients become those of the last image. Throws argument_error without
    // images, or when they do not fit the network.
    template <class Twin>
    gradient_error(Twin& twin, data::dataset images) : images_(std::move(images)) {
        if (images_.size() == 0) throw argument_error("images", "at least one", "none");
        twin.parameters([&](const auto& p) { weights_.emplace_back(p.value.begin(), p.value.end()); });
        each_gradient(twin, [&](std::size_t, double g) { gradients_.push_back(static_cast<float>(g)); });
    }

    // Gives the integer network, of the same model, the twin's weights as 16-bit masters, and its gradients become
    // those of the last image. A layer in which the twin has no gradient counts as without error.
    template <class Network>
    double operator()(Network& net) const {
        auto weights = weights_.begin();
        net.parameters([&](nn::fixed_parameter& p) { set(p, *weights++); });
        std::vector<double> difference, length;
        auto expected = gradients_.begin();
        each_gradient(net, [&](std::size_t layer, double g) {
            if (layer == length.size()) {
                difference.push_back(0);
                length.push_back(0);
            }
            const double twins = *expected++;
            difference[layer] += (g - twins) * (g - twins);
            length[layer] += twins * twins;
        });
        double sum = 0;
        for (std::size_t i = 0; i < length.size(); ++i)
            if (length[i] > 0) sum += difference[i] / length[i];
        return sum / static_cast<double>(length.size());
    }

  private:
    static double gradient(const nn::fixed_parameter& p, std::size_t i) {
        return std::ldexp(static_cast<double>(p.gradient[i]), p.gradient_exponent);
    }
    static double gradient(const nn::real_parameter<float>& p, std::size_t i) {
        return static_cast<double>(p.gradient[i]);
    }
    static void set(nn::fixed_parameter& to, const std::vector<float>& from) {
        const std::array<std::size_t, 1> shape{from.size()};
        const auto masters =
            quantise_tensor<1, std::int16_t>(xt::adapt(from.data(), from.size(), xt::no_ownership(), shape), 16);
        std::copy(masters.mantissas().begin(), masters.mantissas().end(), to.mantissa.begin());
        to.exponent = masters.exponent();
    }

    // Calls visit(layer, gradient) for the weights looked at, layer by layer, image by image.
    template <class Network, class Visit>
    void each_gradient(Network& net, Visit&& visit) const {
        for (std::uint32_t image = 0; image < images_.size(); ++image) {
            const std::array index{image};
            net.train_step(view_of(images_, index), {images_.labels.data() + image, 1}, image);
            std::size_t layer = 0;
            net.parameters([&](const auto& p) {
                if (p.bias) return;
                // An odd stride, so that of channels in powers of two none is passed over.
                const std::size_t stride = (p.gradient.size() - 1) / (sampled / 2) | 1;
                for (std::size_t i = 0; i < p.gradient.size(); i += stride) visit(layer, gradient(p, i));
                ++layer;
            });
        }
    }

    data::dataset images_;
    std::vector<std::vector<float>> weights_;
    std::vector<float> gradients_;  // of the twin, in the order of each_gradient
};

}  // namespace lamella::train
