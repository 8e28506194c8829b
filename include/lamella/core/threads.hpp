// Threads. Work is handed out by fixed rules, and sums are integers, so results never depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "config.hpp"

#if LAMELLA_OPENMP
#include <omp.h>
#endif

namespace lamella::detail {

// Threads to use for `work` units: no more than asked for, than the work is worth, and one inside a caller's parallel
// region.
inline int threads_worth(int asked, std::int64_t work, std::int64_t work_a_thread) noexcept {
#if LAMELLA_OPENMP
    if (asked <= 1 || omp_in_parallel() != 0) return 1;
    return static_cast<int>(std::clamp<std::int64_t>(work / work_a_thread, 1, asked));
#else
    static_cast<void>(asked);
    static_cast<void>(work);
    static_cast<void>(work_a_thread);
    return 1;
#endif
}

// Calls run(i, threads) for every i < threads, each on its own thread as far as the system grants them.
template <class F>
void parallel(int threads, F&& run) {
#if LAMELLA_OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        for (std::int64_t i = omp_get_thread_num(); i < threads; i += omp_get_num_threads())
            run(i, std::int64_t{threads});
        return;
    }
#endif
    static_cast<void>(threads);
    run(std::int64_t{0}, std::int64_t{1});
}

// What belongs to thread i's result is added under this; additions are of integers, so their order does not matter.
template <class F>
void one_at_a_time(F&& add) {
#if LAMELLA_OPENMP
#pragma omp critical(lamella_one_at_a_time)
#endif
    add();
}

}  // namespace lamella::detail
