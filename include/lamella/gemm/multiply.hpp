// The GEMM of every layer and stage: checks the arguments and hands them to the chosen execution. All executions, paths
// and numbers of threads give the same bits.
#pragma once

#include <string>

#include "check.hpp"
#include "fused.hpp"
#include "operation.hpp"
#include "reference.hpp"
#include "sliced.hpp"
#include "workspace.hpp"

namespace lamella::gemm {

// C[m][n] = sum over k of a(m, k) x b(n, k), stored by the output rule (operation.hpp). Throws argument_error for
// operands and outputs that check.hpp refuses, a path that this machine does not have, and fewer than one thread.
inline void multiply(const problem& p, const output& out, const settings& how, workspace& memory) {
    if (!available(how.isa)) throw argument_error("settings.isa", "a path that this CPU has", name_of(how.isa));
    if (how.threads < 1) throw argument_error("settings.threads", "at least 1", std::to_string(how.threads));
    switch (how.how) {
        case execution::fused: return multiply_fused(p, out, how, memory);
        case execution::sliced: return multiply_sliced(p, out, how, memory);
        default: return multiply_reference(p, out, how.digits);
    }
}

}  // namespace lamella::gemm
