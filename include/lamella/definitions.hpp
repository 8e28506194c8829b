// What is compiled once for a program whose units are all compiled with LAMELLA_SEPARATE=1: one of them includes this
// header, and the others compile in a third of the time. Without LAMELLA_SEPARATE there is no need for it.
#pragma once

#include "accelerator/counted_operand_definition.hpp"
#include "accelerator/live_outputs_definition.hpp"
#include "accelerator/optc_definition.hpp"
#include "core/quantise_definition.hpp"
#include "gemm/definition.hpp"
#include "nn/fixed_product_definition.hpp"
#include "nn/pool_definition.hpp"
#include "slice/bitmap_definition.hpp"
