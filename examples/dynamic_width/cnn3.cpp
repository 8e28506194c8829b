#include "networks.hpp"

void example::dynamic_cnn3(const options& o, const dynamic_options& d, const sets& data) {
    run_dynamic(lamella::nn::cnn3(), o, d, data);
}
