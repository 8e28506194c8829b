// Packing: 16 rows of an operand become the lanes of vectors, one vector a group of depth (tile.hpp). The same for the
// vector side and for a broadcast side whose rows are not contiguous in memory.
//
// Three ways to read a row: depth contiguous (16-byte chunks, transposed), rows contiguous (bytes of up to 16 rows at
// one depth, interleaved), and anything else element by element. The first two need AVX-512 (pack_avx512.hpp).
#pragma once

#include "pack_avx512.hpp"
#include "pack_portable.hpp"

namespace lamella::gemm::detail {

inline void pack_lanes(path isa, const pack_job& job, const lane_rows& rows, std::byte* into) {
#if LAMELLA_X86
    if (isa == path::avx512 && job.fold == 1 && !job.walk->tabled && job.walk->stride[job.side] == 1)
        return pack_depth_avx512(job, rows, into);
    if (isa == path::avx512 && job.fold == 1 && rows.pieces <= 4) return pack_rows_avx512(job, rows, into);
#endif
    if (!job.words && job.fold == 1) return pack_bytes(isa, job, rows, into);
    if (job.words && job.fold == 1) {
        if (job.source_bytes) return pack_words(isa, static_cast<const std::int8_t*>(job.data), job, rows, into);
        return pack_words(isa, static_cast<const std::int16_t*>(job.data), job, rows, into);
    }
    job.source_bytes ? pack_plain<std::int8_t>(job, rows, into) : pack_plain<std::int16_t>(job, rows, into);
}

}  // namespace lamella::gemm::detail
