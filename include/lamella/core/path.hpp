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

#if LAMELLA_X86
#include <cpuid.h>
#endif
#if LAMELLA_NEON && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace lamella {

// avx_vnni: AVX2 with dot products on 32-byte vectors, as AVX-VNNI or as AVX-512 VL and VNNI have them. avx512: F, BW,
// DQ, VL, CD and VNNI. neon: 64-bit Arm. neon_dot: with its dot products (sdot). Only products tell avx_vnni from avx2,
// and neon_dot from neon.
enum class path : unsigned char { scalar, avx2, avx_vnni, avx512, neon, neon_dot };

// Every path, whether this CPU has it or not.
inline constexpr std::array all_paths{path::scalar, path::avx2, path::avx_vnni,
                                      path::avx512, path::neon, path::neon_dot};
inline constexpr std::array<std::string_view, 6> path_names{"scalar", "avx2", "avx_vnni", "avx512", "neon", "neon_dot"};
constexpr std::string_view name_of(path p) noexcept { return path_names[static_cast<std::size_t>(p)]; }

// A path of AVX2 vectors, with or without dot products.
constexpr bool has_avx2(path p) noexcept { return p == path::avx2 || p == path::avx_vnni; }

namespace detail {
#if LAMELLA_X86
// The same instructions in their older encoding, on CPUs without AVX-512. Compilers do not all know the name.
inline bool has_avx_vnni() noexcept {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 4) != 0;
}
inline bool has_avx512_vnni() noexcept {
    return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#endif
// sdot, known to the compiler and to the CPU.
inline bool has_neon_dot() noexcept {
#if defined(__ARM_FEATURE_DOTPROD)
    return true;
#elif LAMELLA_NEON_DOT && defined(__linux__)
    return (getauxval(AT_HWCAP) & 1u << 20) != 0;  // HWCAP_ASIMDDP
#else
    return false;
#endif
}
}  // namespace detail

// True when this machine can run the path.
inline bool available(path p) noexcept {
    switch (p) {
        case path::scalar: return true;
#if LAMELLA_X86
        case path::avx2: return __builtin_cpu_supports("avx2") != 0;
        case path::avx_vnni:
            return __builtin_cpu_supports("avx2") && (detail::has_avx_vnni() || detail::has_avx512_vnni());
        case path::avx512:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512vnni");
#endif
#if LAMELLA_NEON
        case path::neon: return true;
        case path::neon_dot: return detail::has_neon_dot();
#endif
        default: return false;
    }
}

// The fastest path of this machine.
inline path best_path() noexcept {
    static const path best = [] {
        for (path p : {path::avx512, path::avx_vnni, path::avx2, path::neon_dot, path::neon})
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
    throw argument_error("path", "auto, scalar, avx2, avx_vnni, avx512, neon or neon_dot", std::string(name));
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
