// What gemm::multiply consists of. multiply.hpp includes it, unless that is compiled once (definitions.hpp).
#pragma once

#include <string>

#include "check.hpp"
#include "fused.hpp"
#include "multiply.hpp"
#include "operation.hpp"
#include "reference.hpp"
#include "sliced.hpp"
#include "workspace.hpp"

namespace lamella::gemm {

// See multiply.hpp.
LAMELLA_ONCE void multiply(const problem& p, const output& out, const settings& how, workspace& memory) {
    if (!available(how.isa)) throw argument_error("settings.isa", "a path that this CPU has", name_of(how.isa));
    if (how.threads < 1) throw argument_error("settings.threads", "at least 1", std::to_string(how.threads));
    switch (how.how) {
        case execution::fused: return multiply_fused(p, out, how, memory);
        case execution::sliced: return multiply_sliced(p, out, how, memory);
        default: return multiply_reference(p, out, how.digits);
    }
}

}  // namespace lamella::gemm
