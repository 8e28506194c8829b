// The networks that the program may run, each compiled in a file of its own, since they are what takes a compiler long.
#pragma once

#include "program.hpp"

namespace example {

void dynamic_lenet5(const options& o, const dynamic_options& d, const sets& data);
void dynamic_cnn3(const options& o, const dynamic_options& d, const sets& data);

}  // namespace example
