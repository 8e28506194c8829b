// What the TaxoNN program is told, and the networks that it trains, each compiled in a file of its own, since they are
// what takes a compiler long.
#pragma once

#include <cstddef>
#include <cstdint>
#include <lamella/accelerator/taxonn.hpp>
#include <string>

#include "../shared/session.hpp"

namespace example {

struct taxonn_options {
    options run;                 // data, training images, epochs, held-back images, machine
    std::string table;           // empty: search one
    int rate = 7, halvings = 3;  // learning rate 2^-rate, halved so often over the run
    std::uint64_t seeds = 3;     // runs of each arithmetic, seeds 1..N
    double tolerance = 2;        // percent of the gradients' mean square that the formats of a role may add
    lamella::accelerator::taxonn_configuration array = lamella::accelerator::taxonn();
};

// Cycles and utilisation of one sample, for inference, for training, and with more hardware.
void print_costs(const lamella::accelerator::taxonn_configuration& c,
                 const lamella::accelerator::taxonn_sample& sample);

void taxonn_lenet5(const taxonn_options& o, const sets& data);
void taxonn_cnn3(const taxonn_options& o, const sets& data);

}  // namespace example
