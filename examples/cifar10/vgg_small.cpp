#include "models.hpp"

void example::run_vgg_small(const options& o, const sets& data) { run(lamella::nn::vgg_small(), o, data); }
