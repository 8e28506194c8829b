// The operand quantiser: a wide tensor in, an operand of 2..16 bits out, at the GEMM that consumes it. Start here; how
// it goes over a tensor is in core/quantise_definition.hpp, the kernels in core/quantise_kernels.hpp and
// core/histogram_kernels.hpp, the choice of the exponent in core/sdfxp.hpp.
//
// Element e of sample s becomes clip(round(x, dropped), width). Stochastic rounding takes the 16 bits of
// random_16(site, first_position + s, e) (core/random.hpp), so the result depends neither on threads nor on how a batch
// is spread over ranks. Bits are equal on all paths. Nothing is allocated.
#pragma once

#include <cstdint>
#include <span>

#include "config.hpp"
#include "format.hpp"
#include "histogram.hpp"
#include "path.hpp"
#include "random.hpp"
#include "rounding.hpp"

namespace lamella {

// What rounding did to the non-zero elements: `overflows` were clipped (the rounding carry included), `underflows`
// became zero.
struct clip_counts {
    std::uint64_t nonzeros = 0, overflows = 0, underflows = 0;
    constexpr std::uint64_t left() const noexcept { return nonzeros - underflows; }  // mantissas that are not zero
    constexpr void add(const clip_counts& other) noexcept {
        nonzeros += other.nonzeros;
        overflows += other.overflows;
        underflows += other.underflows;
    }
    friend bool operator==(const clip_counts&, const clip_counts&) = default;
};

// Source: int32 for what layers hand each other, int16 for master weights.
template <class Source>
struct basic_quantise_job {
    const Source* wide = nullptr;  // samples x elements, contiguous
    std::int64_t samples = 0;
    std::int64_t elements = 0;  // of one sample
    int dropped = 0;            // low bits to drop, -31..62; negative shifts left
    int width = 8;              // of the operand, 2..16 bits
    rounding mode = rounding::stochastic;
    random_site site;
    std::uint32_t first_position = 0;  // of the first sample in the global batch
};
using quantise_job = basic_quantise_job<std::int32_t>;

namespace detail {
inline constexpr std::int64_t elements_a_thread = 1 << 14;  // below, waking a thread costs more than it saves
}  // namespace detail

// Writes the operand's mantissas, in the layout of the wide tensor: int8 up to 8 bits, int16 above. Overlap is not
// allowed. Throws argument_error when the width or the dropped bits are out of range.
clip_counts quantise(const quantise_job& job, void* mantissas, path isa, int threads);
clip_counts quantise(const basic_quantise_job<std::int16_t>& job, void* mantissas, path isa, int threads);

// Adds the magnitudes of n wide mantissas to a histogram. Magnitudes are below 2^31 (a wide tensor never holds -2^31).
void count_magnitudes(const std::int32_t* wide, std::int64_t n, histogram& into, path isa, int threads);
void count_magnitudes(const std::int16_t* wide, std::int64_t n, histogram& into, path isa, int threads);

// The largest magnitude of n wide mantissas, 0 for none.
std::uint32_t largest_magnitude(const std::int32_t* wide, std::int64_t n, path isa, int threads);

// The 16 random bits of elements first_element .. of one position: what random_16 gives for each of them.
// Throws argument_error unless first_element is a multiple of 8, where a block begins.
void fill_random_16(path isa, const random_site& site, std::uint32_t position, std::uint64_t first_element,
                    std::span<std::uint16_t> draws);

}  // namespace lamella

#if !LAMELLA_SEPARATE
#include "quantise_definition.hpp"
#endif
