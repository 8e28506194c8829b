// The x86 intrinsics, without the false alarms that g++ 12 raises inside its own header (its _mm512_undefined_epi32 is
// a variable initialised with itself). Nothing where LAMELLA_X86 is 0.
#pragma once

#include "config.hpp"

#if LAMELLA_X86
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif
