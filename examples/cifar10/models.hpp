// The networks of the CIFAR-10 program, each compiled in a file of its own, since they are what takes a compiler long.
#pragma once

#include "../shared/session.hpp"

namespace example {

void run_cnn3(const options& o, const sets& data);
void run_resnet20(const options& o, const sets& data);
void run_vgg_small(const options& o, const sets& data);

}  // namespace example
