// What becomes of a tile of sums: the output rule of operation.hpp for whole tiles, and the addition of sums to 64-bit
// accumulators. Same rule as store_uncounted in reference.hpp; whole row blocks are counted afterwards.
#pragma once

#include "drain_avx512.hpp"
#include "drain_portable.hpp"

namespace lamella::gemm::detail {

inline void widen_sums(path isa, const widen_job& job) {
#if LAMELLA_X86
    if (isa == path::avx512) return widen_avx512(job);
#endif
    widen_portable(isa, job);
}

// A thread that streamed results calls this before another may read them.
inline void end_stream() noexcept {
#if LAMELLA_X86
    _mm_sfence();
#endif
}

inline void drain_sums(path isa, const drain_job& job, const std::int32_t* sums) {
#if LAMELLA_X86
    if (isa == path::avx512) return job.narrow ? drain_narrow_avx512(job, sums) : drain_exact_avx512(job, sums);
#endif
    drain_tile(isa, job, sums);
}
inline void drain_sums(path isa, const drain_job& job, const std::int64_t* sums) {
#if LAMELLA_X86
    if (isa == path::avx512) return drain_exact_avx512(job, sums);
#endif
    drain_tile(isa, job, sums);
}

}  // namespace lamella::gemm::detail
