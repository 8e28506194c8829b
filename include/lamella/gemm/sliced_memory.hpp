// Memory of the `sliced` execution, part of workspace.hpp. Grow-only, sized for 16-bit operands. Next: sliced.hpp.
#pragma once

#include <cstdint>

#include "../core/memory.hpp"
#include "../slice/sliced_matrix.hpp"

namespace lamella::gemm::detail {

struct sliced_memory {
    slice::sliced_matrix a, b;
    buffer<std::uint8_t> packed;    // b: [plane][panel][group][column][4 digits]
    buffer<std::uint8_t> b_used;    // [plane][panel][256 k]: 0 when all digits are zero
    buffer<std::uint8_t> a_kind;    // [plane][tile row][256 k]: panel_kind
    buffer<std::uint32_t> prefix;   // [plane][tile row][256 k + 1][row]: sums of a's digits, modulo 2^32
    buffer<std::int16_t> gathered;  // some rows for each thread
    buffer<std::uint64_t> tiles;    // 64-bit accumulators of each thread
};

}  // namespace lamella::gemm::detail
