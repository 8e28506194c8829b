// Integer products against float32 and 8-bit peers, in one run:
//
//   fused/<bits>x<bits>/<shape>/<zeros>             lamella's default execution, exact 32-bit or 64-bit results
//   fused_layer/<bits>x<bits>/<shape>/<zeros>       with what a layer adds: bias, shift and histogram of the result, or
//                                                   the 64-bit sums of a weight gradient
//   sliced/<encoding>/<bits>x<bits>/<shape>/<zeros> plane pair by plane pair, as the accelerator does
//   scaling/8x8/<shape>/threads:2                    wall-clock time on two threads; counter: times as fast as on one,
//   best
//                                                   deciles of single calls. Skipped on a machine that is loaded
//   openblas_sgemm/<shape>, gemmlowp/<shape>, onednn_<f32, s8s8 or u8s8>/<shape>/packing:<inside or outside>
//
// <shape> is MxNxK. <zeros>: dense, groups:<share> (of groups of four along K of one row of the left operand),
// tiles:<share> (of 6 x 4 tiles), right_... (of the right operand); behind it, the layer and stage when operands are
// read through a layer's views (the peers get plain matrices of that size, their gathering left out). Packing, row sums
// and the search for zeros are inside the measured time of lamella, sgemm and gemmlowp. Counters: GOP/s, two operations
// a logical multiply-add; bytes of operands and result.
//
// Options: --threads=N (1); --rows=short (a few minutes, the default), all; and those of Google Benchmark. table.sh
// makes tables and a plot of the JSON.
#include <benchmark/benchmark.h>

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lamella/gemm/multiply.hpp"
#include "pinned_openblas.hpp"
#include "shapes.hpp"
#include "timed.hpp"

#if LAMELLA_BENCH_CBLAS
#include "peers/openblas.hpp"
#endif
#if LAMELLA_BENCH_DNNL
#include "peers/onednn.hpp"
#endif
#if LAMELLA_BENCH_GEMMLOWP
#include "peers/gemmlowp.hpp"
#endif

namespace {

using namespace lamella;
using bench::shape;
using bench::zeros;

struct widths {
    int a, b;
    std::string name() const { return std::to_string(a) + "x" + std::to_string(b); }
};
constexpr widths byte{8, 8};
constexpr widths all_widths[] = {byte, {12, 12}, {16, 8}, {16, 16}};

void report(benchmark::State& state, const shape& s, std::int64_t bytes, const char* packing) {
    state.counters["GOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(s.m() * s.n() * s.k()),
                                                 benchmark::Counter::kIsIterationInvariantRate);
    state.counters["bytes"] = benchmark::Counter(static_cast<double>(bytes));
    state.SetLabel(std::string("packing ") + packing);
}

struct product {
    shape s;
    widths w = byte;
    zeros pattern;
    gemm::settings how;
    bool layer = false;  // bias, shift and histogram
};

void run_lamella(benchmark::State& state, const product& x) {
    const shape& s = x.s;
    // Activations have no negative mantissas: they are images or come from a ReLU.
    const bench::operand a(s.a_rows, s.a_depth, x.w.a, s.has_stage("_ff"), x.pattern.right ? zeros{} : x.pattern);
    const bench::operand b(s.b_rows, s.b_depth, x.w.b, s.has_stage("_wg"), x.pattern.right ? x.pattern : zeros{});
    const gemm::problem p{a.view, b.view};
    const std::int64_t bound = gemm::accumulator_bound(x.w.a, x.w.b, s.k());
    const auto count = static_cast<std::size_t>(s.m() * s.n());
    buffer<std::int32_t> narrow;
    buffer<std::int64_t> exact, bias(static_cast<std::size_t>(s.n()));
    histogram seen;
    gemm::output out;
    out.rows = gemm::axis::linear(s.m(), s.n());
    const bool wide = x.layer && !s.has_stage("_wg");
    if (wide || (!x.layer && bound < gemm::narrow_bound)) {
        narrow.resize(count);
        (wide ? out.wide : out.narrow) = narrow.data();
    } else {
        exact.resize(count);
        out.exact = exact.data();
    }
    if (wide) {
        out.bias = bias.data();
        out.largest_bias = bound / 2;
        out.shift = std::max(0, bit_length(static_cast<std::uint64_t>(bound + out.largest_bias)) - 31);
        out.seen = &seen;
    }
    gemm::workspace memory;
    bench::run(state, [&] { gemm::multiply(p, out, x.how, memory); });
    const auto result = static_cast<std::int64_t>(4 * narrow.size() + 8 * exact.size());
    report(state, s, a.size() + b.size() + result, "inside");
}

// Seconds of a clock.
double seconds(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// The share of its time that each of some threads gets from the machine, over a twentieth of a second.
double share_of_time(int threads) {
    const double wall = seconds(CLOCK_MONOTONIC), used = seconds(CLOCK_PROCESS_CPUTIME_ID);
    lamella::detail::parallel(threads, [&](std::int64_t, std::int64_t) {
        while (seconds(CLOCK_MONOTONIC) < wall + 0.05) {
        }
    });
    return (seconds(CLOCK_PROCESS_CPUTIME_ID) - used) / (threads * (seconds(CLOCK_MONOTONIC) - wall));
}

void run_scaling(benchmark::State& state, const shape& s, int threads) {
    if (const double share = share_of_time(threads); share < 0.95) {
        char message[80];
        std::snprintf(message, sizeof message, "the machine is loaded: %d threads get %.2f of their time", threads,
                      share);
        return state.SkipWithError(message);
    }
    const bench::operand a(s.a_rows, s.a_depth, 8, false), b(s.b_rows, s.b_depth, 8, false);
    const gemm::problem p{a.view, b.view};
    buffer<std::int32_t> result(static_cast<std::size_t>(s.m() * s.n()));
    gemm::output out;
    out.rows = gemm::axis::linear(s.m(), s.n());
    out.narrow = result.data();
    gemm::workspace memory;
    std::vector<double> one, many;
    for (auto _ : state)
        for (int round = 0; round < 60; ++round)
            for (const bool all : {false, true}) {
                gemm::settings how;
                how.threads = all ? threads : 1;
                const double begin = seconds(CLOCK_MONOTONIC);
                gemm::multiply(p, out, how, memory);
                (all ? many : one).push_back(seconds(CLOCK_MONOTONIC) - begin);
            }
    const auto decile = [](std::vector<double>& times) {
        std::sort(times.begin(), times.end());
        return times[times.size() / 10];
    };
    state.SetIterationTime(decile(many));
    state.counters["scaling"] = decile(one) / decile(many);
}

#if LAMELLA_BENCH_GEMMLOWP
void run_gemmlowp(benchmark::State& state, const shape& s, int threads) {
    const std::vector<std::uint8_t> a(static_cast<std::size_t>(s.m() * s.k()), 3),
        b(static_cast<std::size_t>(s.n() * s.k()), 5);
    std::vector<std::int32_t> c(static_cast<std::size_t>(s.m() * s.n()));
    bench::run(state, [&] {
        bench::multiply_gemmlowp(a.data(), b.data(), c.data(), static_cast<int>(s.m()), static_cast<int>(s.n()),
                                 static_cast<int>(s.k()), threads);
    });
}
#endif

// The rows of a run. One thread is timed by its CPU time, so that neighbours on the machine matter less.
class rows {
  public:
    explicit rows(int threads) : threads_(threads) {}

    void lamella(product x) {
        x.how.threads = threads_;
        const bool sliced = x.how.how == gemm::execution::sliced;
        std::string name = sliced    ? "sliced/" + std::string(name_of(x.how.digits)) + "/"
                           : x.layer ? "fused_layer/"
                                     : "fused/";
        name += x.w.name() + "/" + x.s.size() + "/" + x.pattern.name();
        if (!x.s.layer.empty()) name += "/" + x.s.layer;
        add(name, [x = std::move(x)](benchmark::State& state) { run_lamella(state, x); });
    }
    void fused(const shape& s, widths w, const zeros& pattern = {}) { lamella({s, w, pattern, {}, false}); }
    void sliced(const shape& s, widths w, slice::encoding digits, const zeros& pattern = {}) {
        product x{s, w, pattern, {}, false};
        x.how.how = gemm::execution::sliced;
        x.how.digits = digits;
        lamella(x);
    }

    void scaling(const shape& s, int threads) {
        benchmark::RegisterBenchmark(("scaling/8x8/" + s.size() + "/threads:" + std::to_string(threads)).c_str(),
                                     [=](benchmark::State& state) { run_scaling(state, s, threads); })
            ->UseManualTime()
            ->Iterations(1);
    }

    // Each size once, whatever layers have it.
    void peers(const shape& s) {
        if (!seen_.insert(s.size()).second) return;
        const std::int64_t elements = s.m() * s.k() + s.n() * s.k() + s.m() * s.n(), result = 3 * s.m() * s.n();
#if LAMELLA_BENCH_CBLAS
        add("openblas_sgemm/" + s.size(), [=](benchmark::State& state) {
            bench::run_openblas(state, s);
            report(state, s, 4 * elements, "inside");
        });
#endif
#if LAMELLA_BENCH_DNNL
        const std::pair<const char*, bench::onednn_types> kinds[] = {{"onednn_f32/", bench::onednn_f32},
                                                                     {"onednn_s8s8/", bench::onednn_s8s8},
                                                                     {"onednn_u8s8/", bench::onednn_u8s8}};
        for (const auto& [kind, types] : kinds)
            for (const bool inside : {false, true}) {
                const std::int64_t bytes = types.left == bench::onednn_f32.left ? 4 * elements : elements + result;
                const char* const packing = inside ? "inside" : "outside";
                add(kind + s.size() + "/packing:" + packing, [=, types = types](benchmark::State& state) {
                    bench::run_onednn(state, s, types, inside);
                    report(state, s, bytes, packing);
                });
            }
#endif
#if LAMELLA_BENCH_GEMMLOWP
        if (bench::gemmlowp_available())
            add("gemmlowp/" + s.size(), [=, threads = threads_](benchmark::State& state) {
                run_gemmlowp(state, s, threads);
                report(state, s, elements + result, "inside");
            });
#endif
        static_cast<void>(elements);
        static_cast<void>(result);
    }

  private:
    void add(const std::string& name, const std::function<void(benchmark::State&)>& body) {
        auto* row = benchmark::RegisterBenchmark(name.c_str(), body);
        if (threads_ > 1) row->UseRealTime();
    }
    int threads_;
    std::set<std::string> seen_;
};

std::vector<zeros> zero_shares() {
    std::vector<zeros> list;
    for (const int percent : {50, 80, 90, 95, 98}) list.push_back({zeros::unit::groups, percent});
    for (const int percent : {50, 70, 90, 95}) list.push_back({zeros::unit::tiles, percent});
    list.push_back({zeros::unit::groups, 90, true});
    return list;
}

void declare(rows& to, bool all) {
    constexpr auto sign_magnitude = slice::encoding::sign_magnitude;
    // Squares, and the larger layers of other networks.
    std::vector<shape> plain;
    for (const std::int64_t n : {256, 512, 1024, 2048})
        if (all || n <= 1024) plain.push_back(bench::plain(n, n, n));
    plain.push_back(bench::plain(16384, 128, 1152));
    plain.push_back(bench::plain(512, 768, 768));
    for (const shape& s : plain) {
        for (const widths w : all_widths)
            if (all || w.a == 8 || s.m() == s.n()) to.fused(s, w);
        to.peers(s);
    }
    // Layers, as they are read in training.
    std::vector<shape> layers = bench::lenet_and_mlp();
    for (const shape& s : bench::resnet20())
        if (all || s.layer.starts_with("resnet20_stage")) layers.push_back(s);
    for (const shape& s : layers)
        for (const widths w : all_widths) {
            if (!all && w.a != 8) continue;
            to.fused(s, w);
            if (all) to.lamella({s, w, {}, {}, true});
        }
    for (const shape& s : layers) to.peers(s);
    // Zeros, where one operand fills the cache and the other is read over and over.
    const shape square = bench::plain(1024, 1024, 1024);
    to.scaling(square, 2);
    for (const widths w : all_widths)
        for (const zeros& pattern : zero_shares())
            if (all || w.a == 8) to.fused(square, w, pattern);
    // Slices.
    for (const slice::encoding digits :
         {sign_magnitude, slice::encoding::twos_complement, slice::encoding::signed_slice})
        for (const widths w : all_widths) {
            const bool short_row = digits == sign_magnitude && w.a == w.b && w.a != 12;
            if (all || short_row) to.sliced(square, w, digits);
            for (const zeros& pattern : zero_shares())
                if (all || (short_row && w.a == 8)) to.sliced(square, w, digits, pattern);
        }
}

}  // namespace

int main(int argc, char** argv) {
    int threads = 1;
    bool all = false;
    char short_time[] = "--benchmark_min_time=0.05";  // Google Benchmark's 0.5 s would take too long; yours counts
    std::vector<char*> left{argv[0], short_time};
    for (int i = 1; i < argc; ++i) {
        const std::string_view option(argv[i]);
        if (option.starts_with("--threads="))
            threads = std::atoi(argv[i] + 10);
        else if (option == "--rows=all" || option == "--rows=short")
            all = option == "--rows=all";
        else
            left.push_back(argv[i]);
    }
    lamella::bench::pin_openblas(argv, threads);
    const std::string core = lamella::bench::openblas_core_name(), path(name_of(best_path()));
    std::printf("OpenBLAS kernels: %s, lamella path: %s, threads: %d\n", core.c_str(), path.c_str(), threads);
    benchmark::AddCustomContext("openblas_core", core);
    benchmark::AddCustomContext("lamella_path", path);
    benchmark::AddCustomContext("threads", std::to_string(threads));

    rows to(threads);
    declare(to, all);
    int count = static_cast<int>(left.size());
    benchmark::Initialize(&count, left.data());
    if (benchmark::ReportUnrecognizedArguments(count, left.data())) return 1;
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
