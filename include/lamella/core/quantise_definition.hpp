// How the operand quantiser goes over a tensor: parts, threads and the choice of a kernel (quantise.hpp has the
// interface, and says what the results are).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "errors.hpp"
#include "format.hpp"
#include "histogram_kernels.hpp"
#include "largest.hpp"
#include "memory.hpp"
#include "path.hpp"
#include "quantise.hpp"
#include "quantise_kernels.hpp"
#include "random.hpp"
#include "rounding.hpp"
#include "threads.hpp"

namespace lamella {

namespace detail {

inline constexpr std::int64_t quantise_chunk = 2048;  // elements; their draws stay in the L1 cache

// Groups of 64 draws, from a block on. Writes 64 x groups values.
inline void fill_groups(path isa, const random_site& site, std::uint32_t position, std::uint32_t first_block,
                        std::int64_t groups, std::uint16_t* out) noexcept {
#if LAMELLA_X86
    if (isa == path::avx512) return fill_groups_avx512(make_stem(site, position), first_block, groups, out);
    if (has_avx2(isa)) return fill_groups_avx2(make_stem(site, position), first_block, groups, out);
#endif
    static_cast<void>(isa);
    fill_groups_plain(site, position, first_block, groups, out);
}

template <step_kind Kind, class Source, class Target>
inline tally round_elements(path isa, const Source* x, const std::uint16_t* draw, Target* out, std::int64_t n,
                            int dropped, std::int32_t largest) noexcept {
#if LAMELLA_X86
    if (isa == path::avx512) return round_avx512<Kind>(x, draw, out, n, dropped, largest);
    if (has_avx2(isa)) return round_avx2<Kind>(x, draw, out, n, dropped, largest);
#endif
    static_cast<void>(isa);
    return round_plain<Kind>(x, draw, out, n, dropped, largest);
}

// Dropping 32 bits or more leaves -1, 0 or 1 of an int32; rare (an evaluation far below its running exponent).
template <class Source, class Target>
inline tally round_by_definition(const Source* x, const std::uint16_t* draw, Target* out, std::int64_t n, int dropped,
                                 int width, rounding mode) noexcept {
    tally seen;
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t q =
            mode == rounding::stochastic ? round_stochastic(x[i], dropped, draw[i]) : round_nearest(x[i], dropped);
        const std::int64_t kept = clip(q, width);
        out[i] = static_cast<Target>(kept);
        seen.zeros_in += x[i] == 0;
        seen.zeros_out += kept == 0;
        seen.clipped += kept != q;
    }
    return seen;
}

// Elements [begin, begin + n) of the tensor, which lie in one sample, or are whole samples.
template <class Source, class Target>
inline tally quantise_part(const basic_quantise_job<Source>& job, Target* out, path isa, std::int64_t begin,
                           std::int64_t n) noexcept {
    const Source* const x = job.wide + begin;
    Target* const to = out + begin;
    const std::int32_t largest = largest_mantissa(job.width);
    if (all_zero(x, n)) {  // as learned samples' errors are; zero stays zero, whatever its draw
        std::memset(to, 0, static_cast<std::size_t>(n) * sizeof(Target));
        return {static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(n), 0};
    }
    if (job.dropped <= 0) return round_elements<step_kind::left>(isa, x, nullptr, to, n, job.dropped, largest);
    const bool draws_needed = job.mode == rounding::stochastic;
    alignas(64) std::uint16_t draw[quantise_chunk + draw_group];
    if (draws_needed) {
        // Each sample's draws overwrite what the last group of the one before made too many.
        for (std::int64_t done = 0; done < n;) {
            const std::int64_t sample = (begin + done) / job.elements, element = (begin + done) % job.elements;
            const std::int64_t count = std::min(job.elements - element, n - done);
            fill_groups(isa, job.site, job.first_position + static_cast<std::uint32_t>(sample),
                        static_cast<std::uint32_t>(element / 8), (count + draw_group - 1) / draw_group, draw + done);
            done += count;
        }
        std::memset(draw + n, 0, draw_group * sizeof *draw);  // kernels read whole vectors
    }
    if (job.dropped > 31) return round_by_definition(x, draw, to, n, job.dropped, job.width, job.mode);
    if (draws_needed) return round_elements<step_kind::stochastic>(isa, x, draw, to, n, job.dropped, largest);
    return round_elements<step_kind::nearest>(isa, x, nullptr, to, n, job.dropped, largest);
}

template <class Source, class Target>
inline clip_counts quantise_all(const basic_quantise_job<Source>& job, Target* out, path isa, int threads) {
    // A chunk is part of a sample, beginning at a multiple of eight, or as many whole samples as fit.
    const bool split = job.elements > quantise_chunk;
    const std::int64_t parts = split ? (job.elements + quantise_chunk - 1) / quantise_chunk : 1;
    const std::int64_t together = split ? 1 : quantise_chunk / job.elements;
    const std::int64_t chunks = split ? job.samples * parts : (job.samples + together - 1) / together;
    const std::int64_t total = job.samples * job.elements;
    tally all;
    parallel(threads_worth(threads, total, elements_a_thread), [&](std::int64_t id, std::int64_t count) {
        tally mine;
        for (std::int64_t c = chunks * id / count; c < chunks * (id + 1) / count; ++c) {
            const std::int64_t begin =
                split ? c / parts * job.elements + c % parts * quantise_chunk : c * together * job.elements;
            const std::int64_t room = split ? job.elements - c % parts * quantise_chunk : total - begin;
            const std::int64_t n = std::min(room, split ? quantise_chunk : together * job.elements);
            mine.add(quantise_part(job, out, isa, begin, n));
        }
        one_at_a_time([&] { all.add(mine); });
    });
    return {static_cast<std::uint64_t>(total) - all.zeros_in, all.clipped,
            all.zeros_out - all.zeros_in};  // zero always stays zero
}

template <class Source>
inline clip_counts quantise_checked(const basic_quantise_job<Source>& job, void* mantissas, path isa, int threads) {
    checked_width(job.width);
    if (job.dropped < -31 || job.dropped > 62)
        throw argument_error("dropped bits", "-31..62", std::to_string(job.dropped));
    if (job.samples <= 0 || job.elements <= 0) return {};
    return job.width <= byte_width ? quantise_all(job, static_cast<std::int8_t*>(mantissas), isa, threads)
                                   : quantise_all(job, static_cast<std::int16_t*>(mantissas), isa, threads);
}

template <class Source>
inline void count_part(path isa, const Source* x, std::int64_t n, histogram& into) noexcept {
#if LAMELLA_X86
    if (isa == path::avx512 && n >= count_worth_planes) return count_avx512(x, n, into);
#endif
    count_plain(isa, x, n, into);
}

template <class Source>
inline void count_all(const Source* x, std::int64_t n, histogram& into, path isa, int threads) {
    const int used = threads_worth(threads, n, elements_a_thread);
    if (used == 1 && n <= count_chunk) return count_part(isa, x, n, into);
    parallel(used, [&](std::int64_t id, std::int64_t count) {
        histogram mine;
        const std::int64_t end = n * (id + 1) / count;
        for (std::int64_t begin = n * id / count; begin < end; begin += count_chunk)
            count_part(isa, x + begin, std::min(count_chunk, end - begin), mine);
        one_at_a_time([&] { into.add(mine); });
    });
}

}  // namespace detail

LAMELLA_ONCE clip_counts quantise(const quantise_job& job, void* mantissas, path isa, int threads) {
    return detail::quantise_checked(job, mantissas, isa, threads);
}
LAMELLA_ONCE clip_counts quantise(const basic_quantise_job<std::int16_t>& job, void* mantissas, path isa, int threads) {
    return detail::quantise_checked(job, mantissas, isa, threads);
}

LAMELLA_ONCE void count_magnitudes(const std::int32_t* wide, std::int64_t n, histogram& into, path isa, int threads) {
    detail::count_all(wide, n, into, isa, threads);
}
LAMELLA_ONCE void count_magnitudes(const std::int16_t* wide, std::int64_t n, histogram& into, path isa, int threads) {
    detail::count_all(wide, n, into, isa, threads);
}

LAMELLA_ONCE std::uint32_t largest_magnitude(const std::int32_t* wide, std::int64_t n, path isa, int threads) {
    std::uint32_t largest = 0;
    detail::parallel(
        detail::threads_worth(threads, n, detail::elements_a_thread), [&](std::int64_t id, std::int64_t count) {
            const std::int64_t begin = n * id / count, end = n * (id + 1) / count;
            const auto mine = static_cast<std::uint32_t>(largest_magnitude(isa, wide + begin, end - begin));
            detail::one_at_a_time([&] { largest = std::max(largest, mine); });
        });
    return largest;
}

LAMELLA_ONCE void fill_random_16(path isa, const random_site& site, std::uint32_t position, std::uint64_t first_element,
                                 std::span<std::uint16_t> draws) {
    if (first_element % 8 != 0) throw argument_error("first element", "a multiple of 8", std::to_string(first_element));
    const std::uint32_t first_block = static_cast<std::uint32_t>(first_element / 8);
    const std::int64_t groups = static_cast<std::int64_t>(draws.size()) / detail::draw_group;
    const std::size_t whole = static_cast<std::size_t>(groups * detail::draw_group);
    detail::fill_groups(isa, site, position, first_block, groups, draws.data());
    if (whole == draws.size()) return;
    std::uint16_t rest[detail::draw_group];
    detail::fill_groups(isa, site, position, first_block + 8 * static_cast<std::uint32_t>(groups), 1, rest);
    std::memcpy(draws.data() + whole, rest, (draws.size() - whole) * sizeof(std::uint16_t));
}

}  // namespace lamella
