// The accelerator model's own speed: slice products a second of the cycle-by-cycle emulator, and what counting costs as a
// share of a LeNet-5 training step (batch 64, generated digits, LAPS).
//
//   emulate/<stage>        items: slice products; every GEMM of that stage of a step in mid-training
//   step_with/<observers>  a training step; `share`: time in the observers over time in the rest of the step
#include <benchmark/benchmark.h>

#include <chrono>
#include <memory>
#include <numeric>
#include <vector>

#include "lamella/accelerator/counters.hpp"
#include "lamella/accelerator/emulator.hpp"
#include "lamella/accelerator/recording.hpp"
#include "lamella/lamella.hpp"

namespace {

using namespace lamella;
using accelerator::configuration;
using clock_type = std::chrono::steady_clock;

constexpr std::uint32_t batch = 64;
constexpr std::uint64_t warm_up = 96;  // steps

const data::dataset& digits() {
    static const data::dataset set = data::generated_digits(1, 0, 6400);
    return set;
}

auto make_net() {
    const auto lenet5 = nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{16, 5}, nn::relu{},
                                       nn::max_pool2d{2}, nn::flatten{}, nn::linear{120}, nn::relu{}, nn::linear{84},
                                       nn::relu{}, nn::linear{10});
    return nn::make_network<nn::fixed>(lenet5, nn::image_shape{28, 28, 1}, nn::fixed::settings{}, 1,
                                       std::make_unique<precision::laps>(precision::laps_settings{}));
}

// Trains and can be asked for one step more.
class run {
  public:
    run() : net(make_net()) {
        net.parameters([&](auto& p) { optimizer_.prepare(p); });
    }
    void step() {
        std::array<std::uint32_t, batch> index;
        std::array<std::uint8_t, batch> labels;
        for (std::uint32_t i = 0; i < batch; ++i) {
            index[i] = static_cast<std::uint32_t>((step_ * batch + i) % digits().size());
            labels[i] = digits().labels(index[i]);
        }
        nn::batch_view<std::uint8_t> view{digits().images.data(), index, nn::image_shape{28, 28, 1}, digits().exponent};
        net.train_step(view, labels, step_);
        optimizer_.begin_step(step_, 10000, batch);
        net.parameters([&](auto& p) { optimizer_.update(p, 1, static_cast<std::uint32_t>(step_), best_path()); });
        ++step_;
    }
    decltype(make_net()) net;

  private:
    optim::optimizer optimizer_;
    std::uint64_t step_ = 0;
};

// Passes events on and takes the time that this takes.
class stopwatch final : public gemm::observer {
  public:
    explicit stopwatch(std::vector<gemm::observer*> inner) : inner_(std::move(inner)) {}
    void on_gemm(const gemm::gemm_event& event) override {
        const auto start = clock_type::now();
        for (gemm::observer* o : inner_) o->on_gemm(event);
        spent += std::chrono::duration<double>(clock_type::now() - start).count();
    }
    double spent = 0;  // seconds

  private:
    std::vector<gemm::observer*> inner_;
};

void step_with(benchmark::State& state, std::uint64_t every, accelerator::lane_balance balance) {
    run training;
    configuration c = accelerator::hnpu();
    c.balance = balance;
    accelerator::slice_counts products(c.encoding, best_path(), training.net.products());
    accelerator::counters cycles(c, products, every == 0 ? 1 : every);
    std::vector<gemm::observer*> observers{&products};
    if (every != 0) observers.push_back(&cycles);
    stopwatch watch(observers);
    training.net.observe(watch);
    for (std::uint64_t i = 0; i < warm_up; ++i) training.step();
    watch.spent = 0;
    double all = 0;
    for (auto _ : state) {
        const auto start = clock_type::now();
        training.step();
        all += std::chrono::duration<double>(clock_type::now() - start).count();
    }
    state.counters["share"] = watch.spent / (all - watch.spent);
}

void emulate(benchmark::State& state, stage where) {
    static const auto recorded = [] {
        run training;
        accelerator::slice_counts products(slice::encoding::sign_magnitude, best_path(), training.net.products());
        accelerator::recording steps(products, warm_up);
        training.net.observe(products);
        for (std::uint64_t i = 0; i < warm_up; ++i) training.step();
        training.net.observe(steps);
        training.step();
        return steps.gemms();
    }();
    accelerator::emulator machine(accelerator::hnpu());
    std::uint64_t products = 0;
    for (auto _ : state)
        for (const accelerator::recorded_gemm& g : recorded)
            g.replay([&](const gemm::gemm_event& event) {
                if (event.where == where && !event.probe) products += machine.run(event, g.a_streams).products();
            });
    state.SetItemsProcessed(static_cast<std::int64_t>(products));
}

BENCHMARK_CAPTURE(emulate, feed_forward, stage::feed_forward)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(emulate, error_propagation, stage::error_propagation)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(emulate, weight_gradient, stage::weight_gradient)->Unit(benchmark::kMillisecond);
constexpr auto greedy = accelerator::lane_balance::greedy, iterative = accelerator::lane_balance::iterative;
BENCHMARK_CAPTURE(step_with, products, 0, greedy)->Iterations(640)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step_with, cycles_every_16, 16, greedy)->Iterations(640)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step_with, cycles_every_128, 128, greedy)->Iterations(640)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step_with, cycles_every_16_iterative, 16, iterative)->Iterations(640)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
