// The tile in plain C++: words only. Correct everywhere; compilers vectorise the loop over lanes.
#pragma once

#include <cstdint>
#include <cstring>

#include "tile.hpp"

namespace lamella::gemm::detail {

template <int Rows, int Vectors>
void tile_scalar(const tile_job& job) {
    constexpr int columns = Vectors * tile_lanes;
    std::int32_t sums[Rows][columns] = {};
    const std::byte* right = job.right;
    for (std::int64_t s = 0; s < job.span_count; ++s)
        for (std::int64_t g = 0; g < job.spans[s].groups; ++g, right += Vectors * vector_bytes) {
            std::int16_t vector[2 * columns], even[columns], odd[columns];  // apart, so that compilers vectorise
            std::memcpy(vector, right, sizeof vector);
            for (int c = 0; c < columns; ++c) {
                even[c] = vector[2 * c];
                odd[c] = vector[2 * c + 1];
            }
            for (int r = 0; r < Rows; ++r) {
                std::int16_t pair[2];
                std::memcpy(pair, job.left + job.rows[r * job.rows_step] + job.spans[s].left + g * job.group_step,
                            sizeof pair);
                for (int c = 0; c < columns; ++c) sums[r][c] += pair[0] * even[c];
                for (int c = 0; c < columns; ++c) sums[r][c] += pair[1] * odd[c];
            }
        }
    std::memcpy(job.sums, sums, sizeof sums);
}

inline tile_kernel word_kernel_scalar(int vectors) noexcept {
    if (vectors == 1) return {tile_scalar<4, 1>, 4, 1};
    return {tile_scalar<2, 2>, 2, 2};
}

}  // namespace lamella::gemm::detail
