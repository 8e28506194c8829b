#include "gemmlowp.hpp"

#include <gemmlowp/public/gemmlowp.h>

#include <tuple>

namespace lamella::bench {

bool gemmlowp_available() {
#ifdef GEMMLOWP_ENABLE_AVX2
    return __builtin_cpu_supports("avx2");
#else
    return true;
#endif
}

// gemmlowp likes its result by columns: C^T = B x A^T, where A by rows is A^T by columns.
void multiply_gemmlowp(const std::uint8_t* a, const std::uint8_t* b, std::int32_t* c, int m, int n, int k,
                       int threads) {
    using gemmlowp::MapOrder;
    static gemmlowp::GemmContext context;
    context.set_max_num_threads(threads);
    const gemmlowp::MatrixMap<const std::uint8_t, MapOrder::RowMajor> left(b, n, k);
    const gemmlowp::MatrixMap<const std::uint8_t, MapOrder::ColMajor> right(a, k, m);
    gemmlowp::MatrixMap<std::int32_t, MapOrder::ColMajor> result(c, n, m);
    gemmlowp::GemmWithOutputPipeline<std::uint8_t, std::int32_t, gemmlowp::DefaultL8R8BitDepthParams>(
        &context, left, right, &result, -128, -128, std::tuple<>());
}

}  // namespace lamella::bench
