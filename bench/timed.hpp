// The loop that Google Benchmark times.
#pragma once

#include <benchmark/benchmark.h>

namespace lamella::bench {

// One call before the clock starts takes memory, touches its pages and warms the caches.
template <class Action>
void run(benchmark::State& state, Action&& action) {
    action();
    for (auto _ : state) {
        action();
        benchmark::ClobberMemory();
    }
}

}  // namespace lamella::bench
