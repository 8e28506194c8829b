#include "models.hpp"

void example::run_resnet20(const options& o, const sets& data) { run(lamella::nn::resnet20(), o, data); }
