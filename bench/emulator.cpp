// The accelerator model's own speed: slice products a second of the cycle-by-cycle emulator, and what counting costs as
// a share of a LeNet-5 training step (batch 64, generated digits, LAPS).
//
//   emulate/<stage>        items: slice products; every GEMM of that stage of a step in mid-training
//   count/<stage>          the same numbers from the counters: time of a counted step, operands in the caches
//   step_with/<observers>  a training step; `share`: how much longer steps with observers take than those without,
//                          both in turn in one run, so that what observers do to caches is in it
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <bit>
#include <ctime>
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

// Of this thread's CPU, so that the machine's other work does not count.
double seconds() {
    std::timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
constexpr std::uint32_t batch = 64;
constexpr std::uint64_t warm_up = 96;  // steps

const data::dataset& digits() {
    static const data::dataset set = data::generated_digits(1, 0, 100 * batch);
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

// Passes events on while it is told to.
class valve final : public gemm::observer {
  public:
    explicit valve(std::vector<gemm::observer*> inner) : inner_(std::move(inner)) {}
    void on_gemm(const gemm::gemm_event& event) override {
        if (open)
            for (gemm::observer* o : inner_) o->on_gemm(event);
    }
    bool open = true;

  private:
    std::vector<gemm::observer*> inner_;
};

// The mean of the middle three fifths: interrupts of the machine's other work fall away.
double middle(std::vector<double> times) {
    std::sort(times.begin(), times.end());
    const auto first = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 5);
    const auto last = times.end() - static_cast<std::ptrdiff_t>(times.size() / 5);
    return std::accumulate(first, last, 0.0) / static_cast<double>(last - first);
}

// `every`: of the counters; 0 for slice products alone. Blocks of as many steps, or 16, have observers or not, in the
// order of the Thue-Morse sequence, which has no period that probes or batches could share. A block begins a step
// before the counted one, for what iterative balance remembers.
void step_with(benchmark::State& state, std::uint64_t every, accelerator::lane_balance balance) {
    run training;
    configuration c = accelerator::hnpu();
    c.balance = balance;
    accelerator::slice_counts products(c.encoding, best_path(), training.net.products());
    accelerator::counters cycles(c, products, std::max<std::uint64_t>(every, 1));
    std::vector<gemm::observer*> observers{&products};
    if (every != 0) observers.push_back(&cycles);
    valve observed(observers);
    training.net.observe(observed);
    const std::uint64_t block = std::max<std::uint64_t>(every, 16);
    std::uint64_t step = 0;
    for (; step < warm_up || (step + 1) % (2 * block) != 0; ++step) training.step();
    std::array<std::vector<double>, 2> times;  // of a block with, and without
    double spent = 0;
    for (auto _ : state) {
        observed.open = std::popcount((step + 1) / block) % 2 == 0;
        const double start = seconds();
        training.step();
        spent += seconds() - start;
        if (++step; (step + 1) % block != 0) continue;
        times[observed.open ? 0 : 1].push_back(spent);
        spent = 0;
    }
    state.counters["share"] = middle(times[0]) / middle(times[1]) - 1;
}

const std::vector<accelerator::recorded_gemm>& recorded_step() {
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
    return recorded;
}
// Runs action(event, a_streams), which returns counts, on the GEMMs of a stage of the recorded step.
template <class Action>
void with_stage(benchmark::State& state, stage where, Action&& action) {
    std::uint64_t products = 0;
    for (auto _ : state)
        for (const accelerator::recorded_gemm& g : recorded_step())
            g.replay([&](const gemm::gemm_event& event) {
                if (event.where == where && !event.probe) products += action(event, g.a_streams).products();
            });
    state.SetItemsProcessed(static_cast<std::int64_t>(products));
}
void emulate(benchmark::State& state, stage where) {
    accelerator::emulator machine(accelerator::hnpu());
    with_stage(state, where,
               [&](const gemm::gemm_event& event, bool a_streams) { return machine.run(event, a_streams); });
}
void count(benchmark::State& state, stage where) {
    accelerator::datapath_counter counter(accelerator::hnpu());
    with_stage(state, where, [&](const gemm::gemm_event& event, bool a_streams) -> const accelerator::datapath_counts& {
        return counter.count(event, a_streams);
    });
}

BENCHMARK_CAPTURE(emulate, feed_forward, stage::feed_forward)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(emulate, error_propagation, stage::error_propagation)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(emulate, weight_gradient, stage::weight_gradient)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(count, feed_forward, stage::feed_forward)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(count, error_propagation, stage::error_propagation)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(count, weight_gradient, stage::weight_gradient)->Unit(benchmark::kMicrosecond);
constexpr auto greedy = accelerator::lane_balance::greedy, iterative = accelerator::lane_balance::iterative;
BENCHMARK_CAPTURE(step_with, products, 0, greedy)->Iterations(2560)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step_with, cycles_every_16, 16, greedy)->Iterations(2560)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step_with, cycles_every_64, 64, greedy)->Iterations(2560)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(step_with, cycles_every_16_iterative, 16, iterative)->Iterations(2560)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
