// Nothing that a run depends on uses floating point: 20 steps give one weight hash under every rounding mode and with
// denormals flushed, set-up included, and no step leaves a floating-point exception flag on any thread.
#include <lamella/data/digits.hpp>
#include <lamella/io/hashes.hpp>
#include <lamella/nn/network.hpp>
#include <lamella/optim/optimizer.hpp>
#include <lamella/precision/laps.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#if LAMELLA_X86
#include <pmmintrin.h>
#include <xmmintrin.h>
#endif

#include "training.hpp"

using namespace lamella;
using namespace testing;

namespace {

constexpr int threads = 2;

// On every thread that a parallel region of the library may use. Last on the calling thread itself: clang's OpenMP
// hands its control word to the others as a region begins, and puts back what it was when the region ends.
void on_all_threads(const auto& body) {
#if LAMELLA_OPENMP
#pragma omp parallel num_threads(threads)
    body();
#endif
    body();
}

// Denormal results become zero, denormal operands count as zero.
void flush_denormals([[maybe_unused]] bool on) {
#if LAMELLA_X86
    _MM_SET_FLUSH_ZERO_MODE(on ? _MM_FLUSH_ZERO_ON : _MM_FLUSH_ZERO_OFF);
    _MM_SET_DENORMALS_ZERO_MODE(on ? _MM_DENORMALS_ZERO_ON : _MM_DENORMALS_ZERO_OFF);
#elif LAMELLA_NEON
    std::uint64_t control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    control = on ? control | (std::uint64_t{1} << 24) : control & ~(std::uint64_t{1} << 24);
    asm volatile("msr fpcr, %0" : : "r"(control));
#endif
}

struct environment {
    int mode;
    bool flush;
    const char* name;
};
constexpr environment environments[] = {
    {FE_TONEAREST, false, "nearest"},        {FE_UPWARD, false, "upward"},
    {FE_DOWNWARD, false, "downward"},        {FE_TOWARDZERO, false, "toward zero"},
    {FE_TONEAREST, true, "nearest, flushed"}, {FE_DOWNWARD, true, "downward, flushed"},
};

// Puts the environment back, since the test's own reports use floats.
class inside {
  public:
    explicit inside(const environment& e) {
        on_all_threads([&] {
            std::fesetround(e.mode);
            flush_denormals(e.flush);
        });
    }
    inside(const inside&) = delete;
    inside& operator=(const inside&) = delete;
    ~inside() {
        on_all_threads([] {
            std::fesetround(FE_TONEAREST);
            flush_denormals(false);
        });
    }
};

struct outcome {
    std::string hash;
    int flags = 0;  // of all threads, after all steps
    std::int64_t width_changes = 0;
};

outcome train_in(const environment& e, const optim::optimizer_settings& settings, const nn::fixed::settings& options,
                 std::size_t batch, std::uint64_t steps) {
    outcome result;
    const inside scope(e);
    const data::dataset set = data::generated_digits(3, 0, static_cast<std::uint32_t>(2 * batch));
    const auto model = nn::sequential(nn::conv2d{4, 5}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{8, 5, 1, 1, false},
                                      nn::batch_norm{}, nn::leaky_relu{}, nn::residual(nn::depthwise_conv2d{3, 1, 1}),
                                      nn::relu{}, nn::avg_pool2d{3}, nn::flatten{}, nn::dropout{30}, nn::linear{20},
                                      nn::relu{}, nn::linear{10});
    precision::laps_settings laps = precision::parse_laps("0.1:0.05:1:1:0");
    laps.first_width = 5;
    auto owned = std::make_unique<precision::laps>(laps);
    const precision::laps& controller = *owned;
    training_run run(nn::network<nn::fixed, std::remove_const_t<decltype(model)>>(model, {28, 28, 1}, options, 4,
                                                                                  std::move(owned)),
                     settings, set, batch, steps);
    std::atomic<int> flags{0};
    for (std::uint64_t step = 0; step < steps; ++step) {
        on_all_threads([] { std::feclearexcept(FE_ALL_EXCEPT); });
        run.step(step);
        on_all_threads([&] { flags |= std::fetestexcept(FE_ALL_EXCEPT); });
    }
    result.flags = flags;
    for (int layer = 0; layer < run.net.products(); ++layer)
        result.width_changes += controller.changes(layer, 0) + controller.changes(layer, 1);
    result.hash = io::weights_sha256(run);
    return result;
}

}  // namespace

TEST_CASE("the rounding modes of this test do change floating point") {
    // Volatile results too: a compiler may move a division, but not a volatile store, past the change of mode.
    volatile double one = 1, three = 3, up = 0, down = 0;
    {
        const inside scope(environments[1]);
        up = one / three;
    }
    {
        const inside scope(environments[2]);
        down = one / three;
    }
    CHECK(double{up} > double{down});
    std::feclearexcept(FE_ALL_EXCEPT);
    volatile double third = one / three;
    CHECK(third < 1);
    CHECK((std::fetestexcept(FE_ALL_EXCEPT) & FE_INEXACT) != 0);
}

TEST_CASE("20 steps under LAPS give one weight hash in every floating-point environment, and raise no flag") {
    nn::fixed::settings options;
    options.kernels.threads = threads;
    std::string hash;
    for (const environment& e : environments) {
        CAPTURE(e.name);
        const outcome o = train_in(e, {}, options, 64, 20);
        if (hash.empty()) hash = o.hash;
        CHECK(o.hash == hash);
        CHECK(o.flags == 0);
        CHECK(o.width_changes > 0);
    }
}

TEST_CASE("no path or execution touches floating point") {
    const auto check = [](const nn::fixed::settings& options) {
        CAPTURE(name_of(options.kernels.isa));
        CAPTURE(name_of(options.kernels.how));
        const outcome expected = train_in(environments[0], {}, options, 16, 3);
        const outcome found = train_in(environments[5], {}, options, 16, 3);
        CHECK(found.hash == expected.hash);
        CHECK(found.flags == 0);
        CHECK(expected.flags == 0);
    };
    nn::fixed::settings options;
    for (const path isa : {path::scalar, path::avx2, path::avx512, path::neon}) {
        options.kernels.isa = isa;
        if (available(isa)) check(options);
    }
    options.kernels.isa = best_path();
    options.kernels.how = gemm::execution::sliced;
    check(options);
}

TEST_CASE("no optimizer, schedule or radix policy touches floating point") {
    const environment& awkward = environments[5];
    for (const optim::rule rule : {optim::rule::sgd, optim::rule::adam, optim::rule::adamw, optim::rule::sign})
        for (const optim::schedule_shape shape :
             {optim::schedule_shape::constant, optim::schedule_shape::step, optim::schedule_shape::onecycle}) {
            CAPTURE(name_of(rule));
            CAPTURE(name_of(shape));
            const auto run_in = [&](const environment& e) {
                const inside scope(e);
                optim::optimizer_settings settings;
                settings.rule = rule;
                settings.lr = parse_scaled("0.003", "lr");
                settings.weight_decay = parse_scaled("1e-3", "weight decay");
                settings.schedule.shape = shape;
                return train_in(e, settings, {}, 8, 3);
            };
            const outcome expected = run_in(environments[0]), found = run_in(awkward);
            CHECK(found.hash == expected.hash);
            CHECK(found.flags == 0);
            CHECK(expected.flags == 0);
        }
    for (const char* policy : {"no-overflow", "overflow-rate:0.001"}) {
        CAPTURE(policy);
        const auto run_in = [&](const environment& e) {
            const inside scope(e);
            nn::fixed::settings options;
            options.activation = options.error = parse_radix(policy);
            options.activation.allowance = 6554;
            return train_in(e, {}, options, 8, 3);
        };
        const outcome expected = run_in(environments[0]), found = run_in(awkward);
        CHECK(found.hash == expected.hash);
        CHECK(found.flags == 0);
    }
}
