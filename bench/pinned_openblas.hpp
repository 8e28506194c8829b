// OpenBLAS 0.3.21 does not know recent CPUs and then silently takes kernels that are five times slower, which would
// make every comparison with it too good. It chooses its kernels when it is loaded, hence the re-execution.
#pragma once

#include <cstdlib>
#include <string>

#include <dlfcn.h>
#include <unistd.h>

namespace lamella::bench {

// The OPENBLAS_CORETYPE that suits this CPU; empty where OpenBLAS' own choice stands.
inline std::string openblas_core_type() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"))
        return __builtin_cpu_supports("avx512bf16") ? "COOPERLAKE" : "SKYLAKEX";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return __builtin_cpu_is("amd") ? "ZEN" : "HASWELL";
#endif
    return {};
}

// Call first in main: starts the program anew with OPENBLAS_CORETYPE set to the CPU's kind and, with `threads` above 0,
// the number of threads of OpenBLAS and OpenMP. Variables that the user has set stay. Returns when nothing is left to
// set.
inline void pin_openblas(char** arguments, int threads) {
    bool changed = false;
    const auto preset = [&](const char* name, const std::string& value) {
        if (value.empty() || std::getenv(name) != nullptr) return;
        changed = setenv(name, value.c_str(), 0) == 0 || changed;
    };
    preset("OPENBLAS_CORETYPE", openblas_core_type());
    if (threads > 0) {
        preset("OPENBLAS_NUM_THREADS", std::to_string(threads));
        preset("OMP_NUM_THREADS", std::to_string(threads));
    }
    if (changed) execv("/proc/self/exe", arguments);  // returns only when it fails: then the names below tell
}

// The kernels in use, for the report; "no OpenBLAS" when it is not loaded.
inline std::string openblas_core_name() {
    void* symbol = dlsym(RTLD_DEFAULT, "openblas_get_corename");
    return symbol == nullptr ? "no OpenBLAS" : reinterpret_cast<char* (*)()>(symbol)();
}

}  // namespace lamella::bench
