// OpenBLAS' sgemm: C = A x B^T of plain float matrices. It packs inside the call.
#pragma once

#include <benchmark/benchmark.h>
#include <cblas.h>

#include <vector>

#include "../shapes.hpp"
#include "../timed.hpp"

namespace lamella::bench {

// Any values but zeros and subnormals will do.
inline std::vector<float> some_floats(std::int64_t count) {
    std::vector<float> x(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < x.size(); ++i)
        x[i] = static_cast<float>(static_cast<int>(i * 2654435761u % 255) - 127) / 64;
    return x;
}

inline void run_openblas(benchmark::State& state, const shape& s) {
    const std::vector<float> a = some_floats(s.m() * s.k()), b = some_floats(s.n() * s.k());
    std::vector<float> c(static_cast<std::size_t>(s.m() * s.n()));
    const int m = static_cast<int>(s.m()), n = static_cast<int>(s.n()), k = static_cast<int>(s.k());
    run(state, [&] {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0f, a.data(), k, b.data(), k, 0.0f, c.data(),
                    n);
    });
}

}  // namespace lamella::bench
