// The GEMM of every layer and stage: checks the arguments and hands them to the chosen execution. All executions, paths
// and numbers of threads give the same bits.
#pragma once

#include "check.hpp"
#include "operation.hpp"
#include "workspace.hpp"

namespace lamella::gemm {

// C[m][n] = sum over k of a(m, k) x b(n, k), stored by the output rule (operation.hpp). Throws argument_error for
// operands and outputs that check.hpp refuses, a path that this machine does not have, and fewer than one thread.
void multiply(const problem& p, const output& out, const settings& how, workspace& memory);

}  // namespace lamella::gemm

#if !LAMELLA_SEPARATE
#include "multiply_definition.hpp"
#endif
