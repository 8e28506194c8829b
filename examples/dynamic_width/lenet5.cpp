#include "../mnist/mnist.hpp"
#include "networks.hpp"

void example::dynamic_lenet5(const options& o, const dynamic_options& d, const sets& data) {
    run_dynamic(lenet5, o, d, data);
}
