#include "../mnist/mnist.hpp"
#include "per_sample.hpp"

void example::taxonn_lenet5(const taxonn_options& o, const sets& data) { per_sample(lenet5, o, data).report(); }
