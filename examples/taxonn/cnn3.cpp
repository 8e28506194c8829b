#include "per_sample.hpp"

void example::taxonn_cnn3(const taxonn_options& o, const sets& data) {
    per_sample(lamella::nn::cnn3(), o, data).report();
}
