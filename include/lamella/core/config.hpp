// Version and feature macros. Every macro is 0 or 1, may be set before the first include, and must be the same in all
// translation units of a program.
#pragma once

#define LAMELLA_VERSION_MAJOR 0
#define LAMELLA_VERSION_MINOR 1
#define LAMELLA_VERSION_PATCH 0

// 1 when built for x86-64: the AVX2 and AVX-512 kernels are compiled through per-function target attributes and chosen
// at run time, whatever the compiler's flags.
#ifndef LAMELLA_X86
#if defined(__x86_64__)
#define LAMELLA_X86 1
#else
#define LAMELLA_X86 0
#endif
#endif

// 1 when built for 64-bit Arm, where NEON is always there.
#ifndef LAMELLA_NEON
#if defined(__aarch64__)
#define LAMELLA_NEON 1
#else
#define LAMELLA_NEON 0
#endif
#endif

// 1 when the compiler can also make Arm's dot products: g++ through a target attribute, clang++ when its flags name
// them.
#ifndef LAMELLA_NEON_DOT
#if LAMELLA_NEON && (defined(__ARM_FEATURE_DOTPROD) || !defined(__clang__))
#define LAMELLA_NEON_DOT 1
#else
#define LAMELLA_NEON_DOT 0
#endif
#endif

// 1 when kernels may run on OpenMP threads (`lamella::openmp`). Results never depend on it.
#ifndef LAMELLA_OPENMP
#if defined(_OPENMP)
#define LAMELLA_OPENMP 1
#else
#define LAMELLA_OPENMP 0
#endif
#endif

// 1 when .gz files can be read (`lamella::zlib`).
#ifndef LAMELLA_ZLIB
#define LAMELLA_ZLIB 0
#endif

// 1 when the float twin multiplies through CBLAS (`lamella::cblas`), otherwise through a blocked kernel of its own.
#ifndef LAMELLA_CBLAS
#define LAMELLA_CBLAS 0
#endif

// 1 when what is the same in every program (products, quantiser, the GEMMs of integer layers, optimizer core, slice
// counts: more than half of what a file that trains has to compile) is compiled once, in the one translation unit that
// includes definitions.hpp.
#ifndef LAMELLA_SEPARATE
#define LAMELLA_SEPARATE 0
#endif

// Begins the definition of a function that is compiled once then.
#if LAMELLA_SEPARATE
#define LAMELLA_ONCE
#else
#define LAMELLA_ONCE inline
#endif

// Of what makes texts: compiled for size, which takes a fraction of the time that inlining all the pieces takes.
// (`cold` would pass to callers: a main that prints one of the texts would be compiled for size, too.)
#if defined(__GNUC__) && !defined(__clang__)
#define LAMELLA_SELDOM __attribute__((noinline, optimize("Os")))
#else
#define LAMELLA_SELDOM __attribute__((noinline))
#endif

#define LAMELLA_ALWAYS_INLINE inline __attribute__((always_inline))
#define LAMELLA_RESTRICT __restrict__

namespace lamella {

// The version that a program was compiled with.
struct version {
    int major = LAMELLA_VERSION_MAJOR, minor = LAMELLA_VERSION_MINOR, patch = LAMELLA_VERSION_PATCH;
};

}  // namespace lamella
