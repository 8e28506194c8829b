// gemmlowp's 8-bit product with an int32 result. It packs inside the call. Compiled apart (gemmlowp.cpp), since its
// kernels are chosen by compiler flags.
#pragma once

#include <cstdint>

namespace lamella::bench {

// Whether this CPU has the instructions that gemmlowp.cpp was compiled for.
bool gemmlowp_available();

// c[m][n] = sum over k of a[m][k] x b[n][k], all stored by rows.
void multiply_gemmlowp(const std::uint8_t* a, const std::uint8_t* b, std::int32_t* c, int m, int n, int k, int threads);

}  // namespace lamella::bench
