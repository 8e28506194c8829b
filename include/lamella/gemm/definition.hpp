// What gemm::multiply consists of. multiply.hpp includes it, unless LAMELLA_SEPARATE_GEMM is 1 for the whole program: then
// one translation unit includes it, and the others compile in half the time.
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

#if LAMELLA_SEPARATE_GEMM
#define LAMELLA_GEMM_LINKAGE
#else
#define LAMELLA_GEMM_LINKAGE inline
#endif

// See multiply.hpp.
LAMELLA_GEMM_LINKAGE void multiply(const problem& p, const output& out, const settings& how, workspace& memory) {
    if (!available(how.isa)) throw argument_error("settings.isa", "a path that this CPU has", name_of(how.isa));
    if (how.threads < 1) throw argument_error("settings.threads", "at least 1", std::to_string(how.threads));
    switch (how.how) {
        case execution::fused: return multiply_fused(p, out, how, memory);
        case execution::sliced: return multiply_sliced(p, out, how, memory);
        default: return multiply_reference(p, out, how.digits);
    }
}

#undef LAMELLA_GEMM_LINKAGE

}  // namespace lamella::gemm
