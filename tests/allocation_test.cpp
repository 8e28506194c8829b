// After the first step a training step takes no memory, so it cannot run out of it half way: every form of operator new
// is counted while steps run whose widths, probes and stages all change.
#include <lamella/data/digits.hpp>
#include <lamella/nn/network.hpp>
#include <lamella/optim/optimizer.hpp>
#include <lamella/train/fit.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "training.hpp"

namespace {

std::atomic<std::uint64_t> allocations{0};

void* take(std::size_t bytes, std::size_t alignment) noexcept {
    allocations.fetch_add(1, std::memory_order_relaxed);
    return std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
}
void* take_or_throw(std::size_t bytes, std::size_t alignment) {
    if (void* memory = take(bytes, alignment)) return memory;
    throw std::bad_alloc();
}
// Out of line: where g++ inlines one of new and delete alone, it takes them for a mismatch.
__attribute__((noinline)) void give_back(void* memory) noexcept { std::free(memory); }
constexpr std::size_t usual = alignof(std::max_align_t);

}  // namespace

void* operator new(std::size_t n) { return take_or_throw(n, usual); }
void* operator new[](std::size_t n) { return take_or_throw(n, usual); }
void* operator new(std::size_t n, std::align_val_t a) { return take_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return take_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return take(n, usual); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return take(n, usual); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
    return take(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
    return take(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { give_back(p); }
void operator delete[](void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }

namespace {

using namespace lamella;
using namespace testing;

// Narrow in the first step, another width each step and layer after it, and a probe each step but the first.
class restless final : public precision::controller {
  public:
    void attach(int layers) override { layers_ = layers; }
    precision::layer_widths widths(int layer) const override {
        if (step_ == 0) return {4, 4, 4};
        const int n = static_cast<int>(step_) + 5 * layer;
        return {2 + n * 7 % 15, 2 + n * 7 % 15, 2 + (n * 11 + 3) % 15};  // all of 2..16 in 15 steps
    }
    std::optional<precision::probe_request> begin_step(std::uint64_t step) override {
        step_ = step;
        if (step == 0) return std::nullopt;
        const auto n = static_cast<int>(step);
        return precision::probe_request{n / 2 % layers_, n % 2 == 0 ? stage::feed_forward : stage::error_propagation,
                                        n % 3 == 0 ? 12 : 5, n % 3 == 0 ? 16 : 8};
    }
    void on_probe(const precision::probe_result&) override { ++probes; }
    std::string description() const override { return "restless"; }
    void visit(state_visitor&) override {}
    std::unique_ptr<controller> clone() const override { return std::make_unique<restless>(*this); }
    int probes = 0;

  private:
    int layers_ = 0;
    std::uint64_t step_ = 0;
};

struct counting_observer : gemm::observer {
    std::int64_t macs = 0;
    void on_gemm(const gemm::gemm_event& e) override { macs += e.macs; }
};

constexpr auto model = nn::sequential(nn::conv2d{6, 5, 1, 2}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{7, 3, 2, 1},
                                      nn::relu{}, nn::avg_pool2d{3}, nn::flatten{}, nn::linear{12}, nn::relu{},
                                      nn::linear{10});
using model_type = std::remove_const_t<decltype(model)>;

constexpr auto residual_model = nn::sequential(
    nn::conv2d{4, 3, 1, 1, false}, nn::batch_norm{}, nn::relu{}, nn::depthwise_conv2d{3, 1, 1}, nn::dropout{20},
    nn::residual(nn::sequential(nn::conv2d{4, 3, 1, 1, false}, nn::batch_norm{})), nn::relu{},
    nn::residual(nn::sequential(nn::conv2d{6, 3, 2, 1, false}, nn::batch_norm{}, nn::relu{}), nn::subsample{2, 6}),
    nn::global_avg_pool{}, nn::linear{10});

template <class Model = model_type>
std::uint64_t taken_by_later_steps(const nn::fixed::settings& options, const optim::optimizer_settings& rule,
                                   std::size_t batch, std::uint64_t steps, int& probes, const Model& of = model) {
    const data::dataset set = noisy_images(1, 40, {14, 14, 2}, 10);
    auto owned = std::make_unique<restless>();
    const restless& controller = *owned;
    nn::network<nn::fixed, Model> net(of, {14, 14, 2}, options, 1, std::move(owned));
    counting_observer observer;
    net.observe(observer);
    training_run run(std::move(net), rule, set, batch, steps);
    run.step(0);
    const std::uint64_t before = allocations.load();
    run.steps(1, steps - 1);
    const std::uint64_t taken = allocations.load() - before;
    probes = controller.probes;
    CHECK(observer.macs > 0);
    return taken;
}

}  // namespace

TEST_CASE("the counter sees what a buffer takes") {
    const std::uint64_t before = allocations.load();
    const buffer<int> taken(3);
    const std::string text(100, 'x');
    CHECK(allocations.load() - before == 2);
}

TEST_CASE("no step after the first takes memory, whatever widths and probes come") {
    for (const path isa : all_paths) {
        if (!available(isa)) continue;
        for (const gemm::execution how : {gemm::execution::fused, gemm::execution::sliced, gemm::execution::reference})
            for (const int threads : {1, 3}) {
                const bool slow = how == gemm::execution::reference;
                if (how != gemm::execution::fused && (threads > 1 || isa != best_path())) continue;
                CAPTURE(name_of(isa));
                CAPTURE(name_of(how));
                CAPTURE(threads);
                nn::fixed::settings options;
                options.kernels = {how, isa, slice::encoding::sign_magnitude, threads};
                int probes = 0;
                CHECK(taken_by_later_steps(options, {}, slow ? 1 : 24, slow ? 4 : 17, probes) == 0);
                CHECK(probes > 0);
            }
    }
}

TEST_CASE("no step of a residual network with batch normalisation takes memory after the first") {
    for (const int threads : {1, 3}) {
        CAPTURE(threads);
        nn::fixed::settings options;
        options.kernels.threads = threads;
        int probes = 0;
        CHECK(taken_by_later_steps(options, {}, 24, 17, probes, residual_model) == 0);
        CHECK(probes > 0);
    }
}

TEST_CASE("no optimizer takes memory after the first step") {
    for (const optim::rule rule :
         {optim::rule::momentum, optim::rule::sgd, optim::rule::adam, optim::rule::adamw, optim::rule::sign}) {
        CAPTURE(name_of(rule));
        optim::optimizer_settings settings;
        settings.rule = rule;
        int probes = 0;
        CHECK(taken_by_later_steps({}, settings, 4, 4, probes) == 0);
    }
}

TEST_CASE("the training loop takes no memory from one step of an epoch to the next, its last partial batch included") {
    struct watch {
        std::uint64_t previous = 0, taken = 0, epochs = 0;
        void on_step(const train::step_info& info) {
            const std::uint64_t now = allocations.load();
            if (info.in_epoch != 0) taken += now - previous;
            previous = now;
        }
        void on_epoch(const train::epoch_info&) { ++epochs; }
    } seen;
    const data::dataset set = noisy_images(1, 38, {14, 14, 2}, 10);
    nn::network<nn::fixed, model_type> net(model, {14, 14, 2}, {}, 1, std::make_unique<restless>());
    optim::optimizer optimizer;
    train::fit(net, optimizer, set, {.epochs = 3, .batch = 8}, seen);
    CHECK(seen.epochs == 3);
    CHECK(seen.taken == 0);
}
