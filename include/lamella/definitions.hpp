// What is compiled once for a program whose units are all compiled with LAMELLA_SEPARATE=1, and otherwise with the same
// flags: one of them includes this header (best one that has nothing else), and the others compile in a third of the
// time. None includes a part of it. Without LAMELLA_SEPARATE there is no need for it.
#pragma once

#include "accelerator/counted_operand_definition.hpp"
#include "accelerator/live_outputs_definition.hpp"
#include "accelerator/optc_definition.hpp"
#include "core/quantise_definition.hpp"
#include "gemm/multiply_definition.hpp"
#include "nn/fixed_product_definition.hpp"
#include "nn/pool_definition.hpp"
#include "slice/bitmap_definition.hpp"
