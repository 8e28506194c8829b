// Threads of a GEMM, on core/threads.hpp.
#pragma once

#include <cstdint>

#include "../core/threads.hpp"

namespace lamella::gemm::detail {

using lamella::detail::parallel;

inline constexpr std::int64_t products_a_thread = 1 << 19;  // below, starting a thread costs more than it saves

inline int threads_worth(int asked, std::int64_t products) noexcept {
    return lamella::detail::threads_worth(asked, products, products_a_thread);
}

}  // namespace lamella::gemm::detail
