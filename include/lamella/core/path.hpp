// Instruction-set paths: which ones this machine has, and how a kernel body is compiled once for each of them.
//
// Every kernel is compiled for every path through per-function target attributes, so users need no compiler flag; the
// path is a run-time value. All paths give the same bits.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "config.hpp"
#include "errors.hpp"

namespace lamella {

// avx512: F, BW, DQ, VL, CD and VNNI. neon: 64-bit Arm.
enum class path : unsigned char { scalar, avx2, avx512, neon };

inline constexpr std::array<std::string_view, 4> path_names{"scalar", "avx2", "avx512", "neon"};
constexpr std::string_view name_of(path p) noexcept { return path_names[static_cast<std::size_t>(p)]; }

// True when this machine can run the path.
inline bool available(path p) noexcept {
    switch (p) {
        case path::scalar: return true;
#if LAMELLA_X86
        case path::avx2: return __builtin_cpu_supports("avx2") != 0;
        case path::avx512:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vnni");
#endif
#if LAMELLA_NEON
        case path::neon: return true;
#endif
        default: return false;
    }
}

// The fastest path of this machine.
inline path best_path() noexcept {
    static const path best = [] {
        for (path p : {path::avx512, path::avx2, path::neon})
            if (available(p)) return p;
        return path::scalar;
    }();
    return best;
}

// The path of that name, "auto" being the fastest. Throws argument_error for an unknown name and for a path that this
// machine does not have.
inline path parse_path(std::string_view name) {
    if (name == "auto") return best_path();
    for (std::size_t i = 0; i < path_names.size(); ++i)
        if (path_names[i] == name) {
            const path p = static_cast<path>(i);
            if (!available(p)) throw argument_error("path", "one that this CPU has", std::string(name));
            return p;
        }
    throw argument_error("path", "auto, scalar, avx2, avx512 or neon", std::string(name));
}

}  // namespace lamella

#if LAMELLA_X86
#define LAMELLA_TARGET_AVX2 __attribute__((target("avx2,fma,bmi,bmi2,lzcnt,popcnt")))
#define LAMELLA_AVX512_FEATURES "avx2,fma,bmi,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx512vnni"
#if defined(__clang__)
#define LAMELLA_TARGET_AVX512 __attribute__((target(LAMELLA_AVX512_FEATURES), min_vector_width(512)))
#else
#define LAMELLA_TARGET_AVX512 __attribute__((target(LAMELLA_AVX512_FEATURES ",prefer-vector-width=512")))
#endif
#endif

// At -O2 g++ leaves loops of unknown length as they are; with this it vectorises them as at -O3, as clang always does.
// (Without, a training step of LeNet-5 takes twice as long at -O2.)
#if defined(__GNUC__) && !defined(__clang__)
#define LAMELLA_VECTORISED __attribute__((optimize("tree-vectorize", "vect-cost-model=dynamic")))
#else
#define LAMELLA_VECTORISED
#endif

// LAMELLA_MULTIVERSION(name, (int* x, long n), (x, n)) defines void name(path p, int* x, long n), which runs the
// always-inline function name_body(x, n), compiled once for each path so that the compiler vectorises it for that
// instruction set.
#if LAMELLA_X86
#define LAMELLA_UNWRAP(...) __VA_ARGS__
#define LAMELLA_MULTIVERSION(name, parameters, arguments)                                                    \
    LAMELLA_VECTORISED inline void name##_scalar parameters { name##_body arguments; }                       \
    LAMELLA_VECTORISED LAMELLA_TARGET_AVX2 inline void name##_avx2 parameters { name##_body arguments; }     \
    LAMELLA_VECTORISED LAMELLA_TARGET_AVX512 inline void name##_avx512 parameters { name##_body arguments; } \
    inline void name(::lamella::path chosen_path, LAMELLA_UNWRAP parameters) {                               \
        switch (chosen_path) {                                                                               \
            case ::lamella::path::avx512: return name##_avx512 arguments;                                    \
            case ::lamella::path::avx2: return name##_avx2 arguments;                                        \
            default: return name##_scalar arguments;                                                         \
        }                                                                                                    \
    }
// The same for a function template: LAMELLA_MULTIVERSION_TEMPLATE(name, (class T), (T* x, long n), (x, n)).
#define LAMELLA_MULTIVERSION_TEMPLATE(name, types, parameters, arguments)           \
    template <LAMELLA_UNWRAP types>                                                 \
    LAMELLA_VECTORISED inline void name##_scalar parameters {                       \
        name##_body arguments;                                                      \
    }                                                                               \
    template <LAMELLA_UNWRAP types>                                                 \
    LAMELLA_VECTORISED LAMELLA_TARGET_AVX2 inline void name##_avx2 parameters {     \
        name##_body arguments;                                                      \
    }                                                                               \
    template <LAMELLA_UNWRAP types>                                                 \
    LAMELLA_VECTORISED LAMELLA_TARGET_AVX512 inline void name##_avx512 parameters { \
        name##_body arguments;                                                      \
    }                                                                               \
    template <LAMELLA_UNWRAP types>                                                 \
    inline void name(::lamella::path chosen_path, LAMELLA_UNWRAP parameters) {      \
        switch (chosen_path) {                                                      \
            case ::lamella::path::avx512: return name##_avx512 arguments;           \
            case ::lamella::path::avx2: return name##_avx2 arguments;               \
            default: return name##_scalar arguments;                                \
        }                                                                           \
    }
#else
#define LAMELLA_UNWRAP(...) __VA_ARGS__
#define LAMELLA_MULTIVERSION(name, parameters, arguments) \
    LAMELLA_VECTORISED inline void name(::lamella::path, LAMELLA_UNWRAP parameters) { name##_body arguments; }
#define LAMELLA_MULTIVERSION_TEMPLATE(name, types, parameters, arguments)             \
    template <LAMELLA_UNWRAP types>                                                   \
    LAMELLA_VECTORISED inline void name(::lamella::path, LAMELLA_UNWRAP parameters) { \
        name##_body arguments;                                                        \
    }
#endif
