// What the CIFAR-10 program trains, and on what. The networks are each compiled in a file of their own, since they are
// what takes a compiler long.
#pragma once

#include "../shared/session.hpp"

namespace example {

void run_cnn3(const options& o, const sets& data);
void run_resnet20(const options& o, const sets& data);
void run_vgg_small(const options& o, const sets& data);

// The controller that the programs begin with: pixels cut to 5 bits lose what no later layer brings back, and a probe
// cannot see it (include/lamella/precision/README.md).
inline constexpr const char* cifar10_precision = "laps@first=8..16";

inline sets load_cifar10(const options& o) {
    using namespace lamella;
    const auto read = [](const std::string& folder) { return data::read_cifar10(folder); };
    return load_sets(o, "cifar-10", read, [] {
        return data::train_and_test{data::generated_coloured_digits(1, 0, 20000),
                                    data::generated_coloured_digits(1, 20000, 4000)};
    });
}

}  // namespace example
