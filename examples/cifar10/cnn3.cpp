#include "models.hpp"

void example::run_cnn3(const options& o, const sets& data) { run(lamella::nn::cnn3(), o, data); }
