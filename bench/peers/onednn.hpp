// oneDNN's matmul: C = A x B^T of plain matrices, float32 or 8-bit with an int32 result.
//
// packing outside: both operands lie in the layouts that oneDNN asks for before the clock starts.
// packing inside: they lie as rows along the depth, as lamella and sgemm take them, and are reordered in every call.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <dnnl.hpp>

#include "../shapes.hpp"
#include "../timed.hpp"

namespace lamella::bench {

struct onednn_types {
    dnnl::memory::data_type left, right, result;
};
inline constexpr onednn_types onednn_f32{dnnl::memory::data_type::f32, dnnl::memory::data_type::f32,
                                         dnnl::memory::data_type::f32};
inline constexpr onednn_types onednn_s8s8{dnnl::memory::data_type::s8, dnnl::memory::data_type::s8,
                                          dnnl::memory::data_type::s32};
inline constexpr onednn_types onednn_u8s8{dnnl::memory::data_type::u8, dnnl::memory::data_type::s8,
                                          dnnl::memory::data_type::s32};

// Memory that was never written is one page of zeros, which would be too good a cache.
inline void fill(dnnl::memory& m, dnnl::memory::data_type type) {
    const std::size_t bytes = m.get_desc().get_size();
    if (type == dnnl::memory::data_type::f32)
        std::fill_n(static_cast<float*>(m.get_data_handle()), bytes / sizeof(float), 0.5f);
    else
        std::fill_n(static_cast<std::int8_t*>(m.get_data_handle()), bytes, std::int8_t{3});
}

inline void run_onednn(benchmark::State& state, const shape& s, const onednn_types& types, bool packing) {
    using dnnl::memory;
    static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    static dnnl::stream stream(engine);
    const memory::desc c({s.m(), s.n()}, types.result, memory::format_tag::ab);
    const dnnl::matmul::primitive_desc chosen(
        dnnl::matmul::desc({{s.m(), s.k()}, types.left, memory::format_tag::any},
                           {{s.k(), s.n()}, types.right, memory::format_tag::any}, c),
        engine);
    const memory::desc plain_a({s.m(), s.k()}, types.left, memory::format_tag::ab);
    const memory::desc plain_b({s.k(), s.n()}, types.right, memory::format_tag::ba);
    memory a(plain_a, engine), b(plain_b, engine), result(c, engine);
    memory packed_a(chosen.src_desc(), engine), packed_b(chosen.weights_desc(), engine);
    fill(a, types.left);
    fill(b, types.right);
    fill(packed_a, types.left);
    const bool pack_a = plain_a != chosen.src_desc(), pack_b = plain_b != chosen.weights_desc();
    const dnnl::reorder reorder_a(a, packed_a), reorder_b(b, packed_b);
    reorder_a.execute(stream, a, packed_a);
    reorder_b.execute(stream, b, packed_b);
    const dnnl::matmul product(chosen);
    run(state, [&] {
        if (packing && pack_a) reorder_a.execute(stream, a, packed_a);
        if (packing && pack_b) reorder_b.execute(stream, b, packed_b);
        product.execute(stream, {{DNNL_ARG_SRC, packed_a}, {DNNL_ARG_WEIGHTS, packed_b}, {DNNL_ARG_DST, result}});
        stream.wait();
    });
}

}  // namespace lamella::bench
