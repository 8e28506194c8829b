// The kernels of all tests (LAMELLA_SEPARATE_GEMM).
#include <lamella/gemm/definition.hpp>
