// Which kernels a path stands for: forcing one must not quietly run another.
#include <doctest/doctest.h>

#include <lamella/gemm/multiply.hpp>
#include <lamella/gemm/plan.hpp>
#include <lamella/gemm/sliced.hpp>
#include <set>
#include <string>

using namespace lamella;
namespace kernels = lamella::gemm::detail;

namespace {

std::string refusal(const char* name) {
    try {
        static_cast<void>(parse_path(name));
    } catch (const argument_error& e) {
        return e.what();
    }
    return "";
}

}  // namespace

TEST_CASE("each path that this machine has runs kernels of its own") {
    std::set<kernels::tile_function> fused;
    std::set<decltype(kernels::sliced_kernels::dense)> sliced;
    std::size_t paths = 0, vector_paths = 0;
    for (const path p : all_paths) {
        if (!available(p)) continue;
        ++paths;
        const auto kind = kernels::multiplies_bytes(p) ? kernels::group_kind::bytes : kernels::group_kind::words;
        fused.insert(kernels::kernel_of(p, kind, 1, 1, false, 100).run);
        // `sliced` leaves its vectors to the compiler on Arm, and has no dot products but those of AVX-512.
        if (p == path::neon || p == path::neon_dot || p == path::avx_vnni) continue;
        ++vector_paths;
        sliced.insert(kernels::sliced_kernels_of(p, 1).dense);
    }
    CHECK(fused.size() == paths);
    CHECK(sliced.size() == vector_paths);
}

#if LAMELLA_X86
TEST_CASE("the kernel of a forced path is the one written for it") {
    CHECK((kernels::kernel_of(path::avx2, kernels::group_kind::words, 1, 1, false, 100).run ==
           kernels::tile_avx2<kernels::add_pairs_avx2, 6, 1>));
    CHECK((kernels::kernel_of(path::scalar, kernels::group_kind::words, 1, 1, false, 100).run ==
           kernels::tile_scalar<4, 1>));
    CHECK((kernels::kernel_of(path::avx512, kernels::group_kind::bytes, 1, 1, false, 100).run ==
           kernels::kernel_avx512(kernels::group_kind::bytes, 1, 1, false, 100).run));
}
#endif

TEST_CASE("a path that this machine lacks is refused by name and by value") {
    for (const path p : all_paths) {
        const std::string name(name_of(p));
        CAPTURE(name);
        CHECK(refusal(name.c_str()).empty() == available(p));
        if (available(p)) continue;
        CHECK(refusal(name.c_str()).find("found " + name) != std::string::npos);
        gemm::settings how;
        how.isa = p;
        gemm::workspace memory;
        CHECK_THROWS_AS(gemm::multiply({}, {}, how, memory), argument_error);
    }
    CHECK(refusal("sse9").find("expected auto, scalar") != std::string::npos);
    CHECK(available(parse_path("auto")));
}
