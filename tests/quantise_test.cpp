#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "lamella/core/quantise.hpp"

using namespace lamella;

namespace {

std::vector<path> paths() {
    std::vector<path> found;
    for (const path p : {path::scalar, path::avx2, path::avx512, path::neon})
        if (available(p)) found.push_back(p);
    return found;
}

// Mantissas of all lengths up to the source's, with the extremes and zeros among them.
template <class Source>
std::vector<Source> random_source(random_sequence& draw, std::int64_t n, int longest) {
    std::vector<Source> x(static_cast<std::size_t>(n));
    for (Source& value : x) {
        const int length = draw.between(0, longest);
        std::int32_t magnitude = length == 0 ? 0 : static_cast<std::int32_t>(draw.next() >> (32 - length));
        if (draw.below(50) == 0) magnitude = largest_mantissa(longest + 1);
        value = static_cast<Source>(draw.next() % 2 == 0 ? magnitude : -magnitude);
    }
    return x;
}

// The definition, one element at a time.
template <class Source>
clip_counts by_definition(const basic_quantise_job<Source>& job, std::vector<std::int16_t>& out) {
    clip_counts counts;
    out.resize(static_cast<std::size_t>(job.samples * job.elements));
    for (std::int64_t s = 0; s < job.samples; ++s)
        for (std::int64_t e = 0; e < job.elements; ++e) {
            const std::size_t i = static_cast<std::size_t>(s * job.elements + e);
            const std::int64_t x = job.wide[i];
            const std::uint32_t position = job.first_position + static_cast<std::uint32_t>(s);
            const std::int64_t rounded =
                job.mode == rounding::stochastic
                    ? round_stochastic(x, job.dropped, random_16(job.site, position, static_cast<std::uint64_t>(e)))
                    : round_nearest(x, job.dropped);
            const std::int64_t kept = clip(rounded, job.width);
            out[i] = static_cast<std::int16_t>(kept);
            counts.nonzeros += x != 0;
            counts.overflows += kept != rounded;
            counts.underflows += x != 0 && kept == 0;
        }
    return counts;
}

template <class Source>
void check_job(const basic_quantise_job<Source>& job) {
    std::vector<std::int16_t> expected;
    const clip_counts expected_counts = by_definition(job, expected);
    const std::size_t n = expected.size();
    const bool bytes = job.width <= byte_width;
    for (const path isa : paths())
        for (const int threads : {1, 3}) {
            std::vector<std::int8_t> raw(2 * n + 2, 0x55);
            const clip_counts counts = quantise(job, raw.data(), isa, threads);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < n; ++i) {
                std::int16_t found = raw[i];
                if (!bytes) std::memcpy(&found, raw.data() + 2 * i, 2);
                wrong += found != expected[i];
            }
            CAPTURE(name_of(isa));
            CAPTURE(threads);
            CAPTURE(job.samples);
            CAPTURE(job.elements);
            CAPTURE(job.width);
            CAPTURE(job.dropped);
            CAPTURE((job.mode == rounding::stochastic));
            REQUIRE(wrong == 0);
            REQUIRE(counts == expected_counts);
            REQUIRE(raw[bytes ? n : 2 * n] == 0x55);  // nothing written past the end
        }
}

template <class Source>
void check_widths_and_shifts(int longest) {
    random_sequence draw({11, 0, 0, stream::shuffle});
    for (int width = min_width; width <= max_width; ++width)
        for (int dropped = -31; dropped <= 40; dropped += dropped < -9 ? 5 : 1)
            for (const rounding mode : {rounding::stochastic, rounding::nearest}) {
                const std::int64_t samples = draw.between(1, 4), elements = draw.between(1, 150);
                const std::vector<Source> x = random_source<Source>(draw, samples * elements, longest);
                check_job<Source>({x.data(),
                                   samples,
                                   elements,
                                   dropped,
                                   width,
                                   mode,
                                   {draw.next(), draw.next(), 9, stream::error},
                                   draw.next()});
            }
}

}  // namespace

TEST_CASE("every path rounds int32 as the definition says, at all widths and shifts") {
    check_widths_and_shifts<std::int32_t>(31);
}

TEST_CASE("every path rounds int16 as the definition says, at all widths and shifts") {
    check_widths_and_shifts<std::int16_t>(15);
}

TEST_CASE("shapes around the chunk, its groups and the vectors give the definition's bits") {
    random_sequence draw({12, 0, 0, stream::shuffle});
    const std::int64_t shapes[][2] = {{1, 1},    {7, 1},    {3, 8},    {300, 10}, {5, 84},    {33, 63},
                                      {33, 64},  {33, 65},  {2, 1023}, {2, 1024}, {3, 1025},  {1, 2047},
                                      {2, 2048}, {2, 2049}, {3, 4096}, {2, 5003}, {1, 40001}, {40, 1600}};
    for (const auto& shape : shapes)
        for (const int width : {5, 8, 12, 16}) {
            std::vector<std::int32_t> x = random_source<std::int32_t>(draw, shape[0] * shape[1], 31);
            const auto zeros = static_cast<std::ptrdiff_t>(draw.below(static_cast<std::uint32_t>(x.size())));
            std::fill(x.begin() + zeros / 2, x.begin() + zeros, 0);  // whole samples and chunks among them
            for (const rounding mode : {rounding::stochastic, rounding::nearest})
                check_job<std::int32_t>({x.data(),
                                         shape[0],
                                         shape[1],
                                         28 - width,
                                         width,
                                         mode,
                                         {draw.next(), 1, 2, stream::activation},
                                         draw.next()});
        }
}

TEST_CASE("a batch spread over ranks rounds as one batch") {
    random_sequence draw({13, 0, 0, stream::shuffle});
    const std::int64_t samples = 12, elements = 77;
    const std::vector<std::int32_t> x = random_source<std::int32_t>(draw, samples * elements, 25);
    const random_site site{1, 2, 3, stream::activation};
    std::vector<std::int8_t> whole(x.size()), parts(x.size());
    const clip_counts all =
        quantise({x.data(), samples, elements, 15, 8, rounding::stochastic, site, 100}, whole.data(), best_path(), 1);
    clip_counts sum;
    for (std::int64_t rank = 0; rank < 3; ++rank)
        sum.add(quantise({x.data() + rank * 4 * elements, 4, elements, 15, 8, rounding::stochastic, site,
                          static_cast<std::uint32_t>(100 + 4 * rank)},
                         parts.data() + rank * 4 * elements, best_path(), 1));
    CHECK(whole == parts);
    CHECK(sum == all);
}

TEST_CASE("the largest magnitudes are clipped on both sides and counted, the rounding carry included") {
    // 16 dropped bits: 0x7fff8000 is 32767.5, which a carry takes out of 16 bits
    const std::vector<std::int32_t> x{0x7fff8000, -0x7fff8000, 0x7fff0000, -0x7fff0000, 0x7fffffff, -0x7fffffff, 1, 0};
    std::vector<std::int16_t> out(x.size());
    for (const path isa : paths()) {
        const clip_counts counts = quantise({x.data(), 1, 8, 16, 16, rounding::nearest, {}, 0}, out.data(), isa, 1);
        CHECK(out == std::vector<std::int16_t>{32767, -32767, 32767, -32767, 32767, -32767, 0, 0});
        CHECK(counts == clip_counts{7, 4, 1});  // the halves tie to the even 32768
    }
}

TEST_CASE("an empty tensor gives nothing, and ranges are checked") {
    std::int32_t x = 1;
    std::int8_t out = 42;
    CHECK(quantise({&x, 0, 5, 1, 8, rounding::nearest, {}, 0}, &out, best_path(), 1) == clip_counts{});
    CHECK(quantise({&x, 5, 0, 1, 8, rounding::nearest, {}, 0}, &out, best_path(), 1) == clip_counts{});
    CHECK(out == 42);
    CHECK_THROWS_AS(quantise({&x, 1, 1, 1, 1, rounding::nearest, {}, 0}, &out, best_path(), 1), argument_error);
    CHECK_THROWS_AS(quantise({&x, 1, 1, 1, 17, rounding::nearest, {}, 0}, &out, best_path(), 1), argument_error);
    CHECK_THROWS_AS(quantise({&x, 1, 1, -32, 8, rounding::nearest, {}, 0}, &out, best_path(), 1), argument_error);
    CHECK_THROWS_AS(quantise({&x, 1, 1, 63, 8, rounding::nearest, {}, 0}, &out, best_path(), 1), argument_error);
}
