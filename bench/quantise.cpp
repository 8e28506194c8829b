// The operand quantiser, a million elements, one thread: time an element (last column), next to a memcpy of as many
// bytes as the wide tensor has. Rows: operand/<width>/<encoding>/<path> (everything), and its parts:
// quantise/<width>/<rounding>/<path>, histogram/<path>, draws/<path>, radix/<rule>; memcpy.
#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <vector>

#include "lamella/core/quantise.hpp"
#include "lamella/core/sdfxp.hpp"
#include "lamella/slice/sliced_matrix.hpp"

namespace {

using namespace lamella;

constexpr std::int64_t elements = 1 << 20;

// Roughly bell-shaped, 27 bits, like an accumulator drained to a wide tensor.
const std::vector<std::int32_t>& wide() {
    static const std::vector<std::int32_t> data = [] {
        std::vector<std::int32_t> v(static_cast<std::size_t>(elements));
        random_sequence draw({1, 0, 0, stream::digits});
        for (std::int32_t& x : v) {
            x = 0;
            for (int i = 0; i < 4; ++i) x += draw.between(-(1 << 24), 1 << 24);
        }
        return v;
    }();
    return data;
}

void per_element(benchmark::State& state) {
    state.counters["element"] =
        benchmark::Counter(static_cast<double>(elements) * static_cast<double>(state.iterations()),
                           benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void quantise_row(benchmark::State& state, int width, rounding mode, path isa) {
    const std::vector<std::int32_t>& x = wide();
    std::vector<std::int16_t> out(x.size());
    const quantise_job job{x.data(), 1, elements, 27 - width, width, mode, {1, 2, 3, stream::activation}, 0};
    for (auto _ : state) {
        benchmark::DoNotOptimize(quantise(job, out.data(), isa, 1));
        benchmark::ClobberMemory();
    }
    per_element(state);
}

// All that becomes of a wide tensor of 1024 rows: histogram, exponent, stochastic rounding, planes of digits, bitmaps
// of digits and of groups of four that are not zero, counts.
void operand_row(benchmark::State& state, int width, slice::encoding digits, path isa) {
    constexpr std::int64_t rows = 1024, depth = elements / rows;
    const std::vector<std::int32_t>& x = wide();
    std::vector<std::int16_t> out(x.size());
    slice::sliced_matrix planes;
    for (auto _ : state) {
        histogram seen;
        count_magnitudes(x.data(), elements, seen, isa, 1);
        const int dropped = dropped_bits({}, seen, width, rounding::stochastic, 0);
        quantise({x.data(), 1, elements, dropped, width, rounding::stochastic, {1, 2, 3, stream::activation}, 0},
                 out.data(), isa, 1);
        planes.reset(digits, width, rows, depth);
        for (std::int64_t r = 0; r < rows; ++r) {
            if (width <= byte_width)
                planes.set_row(r, reinterpret_cast<const std::int8_t*>(out.data()) + r * depth, isa);
            else
                planes.set_row(r, out.data() + r * depth, isa);
        }
        benchmark::DoNotOptimize(planes.nonzeros());
    }
    per_element(state);
}

void histogram_row(benchmark::State& state, path isa) {
    for (auto _ : state) {
        histogram seen;
        count_magnitudes(wide().data(), elements, seen, isa, 1);
        benchmark::DoNotOptimize(seen);
    }
    per_element(state);
}

void draws_row(benchmark::State& state, path isa) {
    std::vector<std::uint16_t> draws(static_cast<std::size_t>(elements));
    for (auto _ : state) {
        fill_random_16(isa, {1, 2, 3, stream::activation}, 0, 0, draws);
        benchmark::ClobberMemory();
    }
    per_element(state);
}

void memcpy_row(benchmark::State& state) {
    std::vector<std::int32_t> copy(wide().size());
    for (auto _ : state) {
        std::memcpy(copy.data(), wide().data(), copy.size() * sizeof(std::int32_t));
        benchmark::ClobberMemory();
    }
    per_element(state);
}

void radix_row(benchmark::State& state, radix_rule rule) {
    histogram seen;
    count_magnitudes(wide().data(), elements, seen, best_path(), 1);
    const radix_policy policy{rule, 1u << 22, 0};
    for (auto _ : state) benchmark::DoNotOptimize(dropped_bits(policy, seen, 8, rounding::stochastic, 0));
}

}  // namespace

int main(int argc, char** argv) {
    for (const path isa : all_paths) {
        if (!available(isa)) continue;
        const std::string name(name_of(isa));
        for (const int width : {8, 16}) {
            const std::string row = "quantise/" + std::to_string(width);
            benchmark::RegisterBenchmark((row + "/stochastic/" + name).c_str(), quantise_row, width,
                                         rounding::stochastic, isa);
            benchmark::RegisterBenchmark((row + "/nearest/" + name).c_str(), quantise_row, width, rounding::nearest,
                                         isa);
        }
        for (const int width : {8, 16})
            for (const slice::encoding digits : {slice::encoding::sign_magnitude, slice::encoding::signed_slice})
                benchmark::RegisterBenchmark(
                    ("operand/" + std::to_string(width) + "/" + std::string(name_of(digits)) + "/" + name).c_str(),
                    operand_row, width, digits, isa);
        benchmark::RegisterBenchmark(("histogram/" + name).c_str(), histogram_row, isa);
        benchmark::RegisterBenchmark(("draws/" + name).c_str(), draws_row, isa);
    }
    benchmark::RegisterBenchmark("memcpy", memcpy_row);
    for (const radix_rule rule : {radix_rule::least_error, radix_rule::no_overflow, radix_rule::overflow_rate})
        benchmark::RegisterBenchmark(("radix/" + std::string(name_of(rule))).c_str(), radix_row, rule);
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
