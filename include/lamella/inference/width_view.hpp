// A trained integer network seen at another width: every layer's activations and weights at `width` bits, for as long
// as the view lives.
//
// There is one set of weights, the 16-bit masters. What a narrow view multiplies is made of them when the operand is
// made (nn/fixed_product.hpp): mantissas shifted right, rounded to nearest, clipped symmetrically, with the exponent
// that the network's radix policy finds for so many bits. The view only puts another controller in place of the
// network's own.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

#include "../nn/network.hpp"
#include "../precision/fixed.hpp"

namespace lamella::inference {

// A network in nn::fixed.
template <class Network>
concept integer_network = std::is_same_v<typename Network::arithmetic, nn::fixed>;

template <integer_network Network>
class width_view {
  public:
    // Only for evaluation and prediction: a training step under it would train at this width. Throws argument_error
    // for a width that is not 2..16.
    width_view(Network& net, int width) : engine_(net.engine()) {
        auto every_layer = std::make_unique<precision::fixed>(width);
        every_layer->attach(net.products());
        own_ = std::exchange(engine_.controller, std::move(every_layer));
    }
    width_view(const width_view&) = delete;
    width_view& operator=(const width_view&) = delete;
    ~width_view() { engine_.controller = std::move(own_); }

  private:
    nn::fixed::engine& engine_;
    std::unique_ptr<precision::controller> own_;
};

}  // namespace lamella::inference
