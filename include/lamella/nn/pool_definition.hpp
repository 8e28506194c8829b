// The maxima of max_pool2d (pool.hpp).
#pragma once

#include <cstdint>

#include "../core/config.hpp"
#include "../core/path.hpp"
#include "pool.hpp"

namespace lamella::nn::detail {

// Keeps in (best, where) the larger of itself and a row further down, whose place is `step`. First: of `from`, whose
// place is 0, instead of itself.
template <bool First, class T>
LAMELLA_ALWAYS_INLINE void merge_row(T* LAMELLA_RESTRICT best, place_of<T>* LAMELLA_RESTRICT where,
                                     const T* LAMELLA_RESTRICT from, const T* LAMELLA_RESTRICT other, place_of<T> step,
                                     std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
        const T old = First ? from[i] : best[i];
        const place_of<T> old_where = First ? 0 : where[i];
        best[i] = other[i] > old ? other[i] : old;
        where[i] = other[i] > old ? step : old_where;
    }
}
// The same of columns, which have their places within a column already: a tie goes to the smaller place.
template <bool First, class T>
LAMELLA_ALWAYS_INLINE void merge_column(T* LAMELLA_RESTRICT best, place_of<T>* LAMELLA_RESTRICT where,
                                        const T* LAMELLA_RESTRICT from, const place_of<T>* LAMELLA_RESTRICT from_where,
                                        std::int64_t distance, place_of<T> step, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) {
        const T old = First ? from[i] : best[i], value = from[i + distance];
        const place_of<T> old_where = First ? from_where[i] : where[i], place = from_where[i + distance] + step;
        const bool better = (value > old) | ((value == old) & (place < old_where));
        best[i] = better ? value : old;
        where[i] = better ? place : old_where;
    }
}

// Rows are merged first and then columns, each over the whole contiguous input row (windows that nobody wants
// included), which vectorises whatever the channel count.
template <class T>
LAMELLA_ALWAYS_INLINE void max_pool_row_body(const T* in, std::int64_t in_row, std::int64_t channels,
                                             std::int64_t width, std::int64_t kernel, std::int64_t stride, T* best,
                                             place_of<T>* where, T* out, std::uint8_t* place) {
    const std::int64_t used = ((width - 1) * stride + kernel) * channels, windows = used - (kernel - 1) * channels;
    T* merged = best + in_row;
    place_of<T>* merged_where = where + in_row;
    if (kernel == 1) {  // nothing is larger than itself
        merge_row<true>(best, where, in, in, place_of<T>{0}, used);
        merge_column<true>(merged, merged_where, best, where, 0, place_of<T>{0}, windows);
    } else {
        merge_row<true>(best, where, in, in + in_row, static_cast<place_of<T>>(kernel), used);
        for (std::int64_t k = 2; k < kernel; ++k)
            merge_row<false>(best, where, in, in + k * in_row, static_cast<place_of<T>>(k * kernel), used);
        merge_column<true>(merged, merged_where, best, where, channels, place_of<T>{1}, windows);
        for (std::int64_t k = 2; k < kernel; ++k)
            merge_column<false>(merged, merged_where, best, where, k * channels, static_cast<place_of<T>>(k), windows);
    }
    for (std::int64_t w = 0; w < width; ++w)
        for (std::int64_t c = 0; c < channels; ++c) {
            out[w * channels + c] = merged[w * stride * channels + c];
            place[w * channels + c] = static_cast<std::uint8_t>(merged_where[w * stride * channels + c]);
        }
}
LAMELLA_MULTIVERSION_TEMPLATE(max_pool_row, (class T),
                              (const T* in, std::int64_t in_row, std::int64_t channels, std::int64_t width,
                               std::int64_t kernel, std::int64_t stride, T* best, place_of<T>* where, T* out,
                               std::uint8_t* place),
                              (in, in_row, channels, width, kernel, stride, best, where, out, place))

#if LAMELLA_SEPARATE
#define LAMELLA_MAX_POOL_ROW(type)                                                                        \
    template void max_pool_row(path, const type*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, \
                               std::int64_t, type*, place_of<type>*, type*, std::uint8_t*);
LAMELLA_MAX_POOL_ROW(std::int32_t)
LAMELLA_MAX_POOL_ROW(float)
LAMELLA_MAX_POOL_ROW(double)
#undef LAMELLA_MAX_POOL_ROW
#endif

}  // namespace lamella::nn::detail
