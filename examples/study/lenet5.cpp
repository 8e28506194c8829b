#include "../mnist/mnist.hpp"
#include "networks.hpp"

example::json example::train_lenet5(const options& o, const sets& data) { return build_and_train(lenet5, o, data); }
