// Part of fixed_product_definition.hpp. How the GEMMs read their operands, and what observers are told of each.
#pragma once

#include <cstdint>
#include <utility>

#include "../gemm/event.hpp"
#include "../gemm/operation.hpp"
#include "fixed_product.hpp"

namespace lamella::nn {

// A group's patches of the stored activation: (samples, OH, OW) x (KH, KW x IC).
LAMELLA_ONCE gemm::operand_view fixed::product::patches(const operand& o, std::int64_t samples,
                                                        std::int64_t group) const {
    const geometry& g = geometry_;
    const std::int64_t row = (g.in.width + 2 * g.padding) * g.in.channels;
    const std::int64_t image = (g.in.height + 2 * g.padding) * row;
    return {o.at(group * g.in_part()), o.width, o.exponent,
            gemm::axis::nested({samples, g.out.height, g.out.width}, {image, g.stride * row, g.stride * g.in.channels}),
            gemm::axis::nested({g.kernel_height, g.kernel_width, g.in_part()}, {row, g.in.channels, 1})};
}

LAMELLA_ONCE gemm::problem fixed::product::forward_problem(const operand& a, const operand& w, std::int64_t samples,
                                                           std::int64_t group) const {
    const std::int64_t depth = geometry_.depth(), rows = geometry_.out_part();
    return {patches(a, samples, group),
            {w.at(group * rows * depth), w.width, w.exponent, gemm::axis::linear(rows, depth),
             gemm::axis::linear(depth, 1)}};
}

// OC x (samples, OH, OW) errors times the patches read the other way: (KH, KW x IC) x (samples, OH, OW).
LAMELLA_ONCE gemm::problem fixed::product::gradient_problem(const operand& err, const operand& a, std::int64_t samples,
                                                            std::int64_t group) const {
    const geometry& g = geometry_;
    const std::int64_t row = (g.out.width + ep_.left + ep_.right) * g.out.channels;
    const std::int64_t image = (g.out.height + ep_.top + ep_.bottom) * row;
    gemm::operand_view p = patches(a, samples, group);
    std::swap(p.rows, p.depth);
    return {{err.at(ep_.top * row + ep_.left * g.out.channels + group * g.out_part()), err.width, err.exponent,
             gemm::axis::linear(g.out_part(), 1),
             gemm::axis::nested({samples, g.out.height, g.out.width}, {image, row, g.out.channels})},
            p};
}

LAMELLA_ONCE gemm::gemm_event fixed::product::describe(const engine& e, stage where, const gemm::problem& p,
                                                       std::int64_t samples, bool probe, const tensor* from) const {
    const bool forward = where == stage::feed_forward, gradient = where == stage::weight_gradient;
    const histogram* seen_a = from == nullptr || !from->counted ? nullptr : &from->seen;
    const operand& a = probe ? probe_a_ : forward ? activation_ : error_;
    const operand& b = gradient ? activation_ : probe ? probe_w_ : weight_;
    gemm::gemm_event event;
    event.step = e.step;
    event.layer = layer_;
    event.where = where;
    event.probe = probe;
    event.samples = samples;
    event.macs = samples * geometry_.macs() / geometry_.groups;
    if (!forward && !probe) event.active = &active_.index();
    event.a = {p.a,
               forward ? images(a, samples, geometry_.in, input_border()) : images(a, samples, geometry_.out, ep_),
               forward ? role::activation : role::error,
               seen_a,
               a.clips,
               {},
               a.clips.left()};
    event.b = {p.b,
               gradient ? images(b, samples, geometry_.in, input_border())
                        : gemm::stored_images{b.data, 1, 1, 1, geometry_.weights()},
               gradient ? role::activation : role::weight,
               gradient ? nullptr : &weight_seen_,
               b.clips,
               {},
               b.clips.left()};
    if (from != nullptr) event.a.source = {from->data.data(), nullptr, from->size(), from->exponent};
    if (forward && !probe) event.b.source = weight_source_;
    return event;
}

}  // namespace lamella::nn
