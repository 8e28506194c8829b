#include "networks.hpp"

example::json example::train_cnn3(const options& o, const sets& data) {
    return build_and_train(lamella::nn::cnn3(), o, data);
}
