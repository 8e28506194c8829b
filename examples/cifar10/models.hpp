// The networks of the CIFAR-10 program, each compiled in a file of its own: one network in two arithmetics is what a
// compiler takes longest for.
#pragma once

#include "../shared/session.hpp"

namespace example {

void run_cnn3(const options& o, const sets& data);

}  // namespace example
