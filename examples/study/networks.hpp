// The networks that a study may train, each compiled in a file of its own, since they are what takes a compiler long.
#pragma once

#include "../shared/session.hpp"

namespace example {

json train_lenet5(const options& o, const sets& data);
json train_cnn3(const options& o, const sets& data);

}  // namespace example
