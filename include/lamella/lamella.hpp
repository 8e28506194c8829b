// Everything that a training program needs, and nothing beyond xtensor: formats and the quantiser, slices, sliced GEMM,
// layers and networks, precision controllers, optimizers, the training loop, data readers, counts.
//
// Not included, each with a component of its own: io/checkpoint.hpp (lamella::json).
#pragma once

#include "accelerator/slice_counts.hpp"
#include "core/config.hpp"
#include "core/fixed_tensor.hpp"
#include "data/cifar.hpp"
#include "data/coloured_digits.hpp"
#include "data/digits.hpp"
#include "data/idx.hpp"
#include "gemm/multiply.hpp"
#include "io/hashes.hpp"
#include "nn/models.hpp"
#include "nn/network.hpp"
#include "nn/summary.hpp"
#include "optim/optimizer.hpp"
#include "precision/parse.hpp"
#include "precision/trace.hpp"
#include "train/callbacks.hpp"
#include "train/fit.hpp"
#include "train/interrupt.hpp"
