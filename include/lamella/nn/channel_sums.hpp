// The gradient of a bias: the sum of each channel of the error, over pixels and samples.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/config.hpp"
#include "../core/memory.hpp"
#include "../core/path.hpp"

namespace lamella::nn::detail {

// sums[i] += from[row x run + i] over all rows.
template <class Mantissa>
LAMELLA_ALWAYS_INLINE void add_rows_body(const Mantissa* LAMELLA_RESTRICT from, std::int64_t rows, std::int64_t run,
                                         std::int32_t* LAMELLA_RESTRICT sums) {
    for (std::int64_t row = 0; row < rows; ++row, from += run)
        for (std::int64_t i = 0; i < run; ++i) sums[i] += from[i];
}
LAMELLA_MULTIVERSION_TEMPLATE(add_rows, (class Mantissa),
                              (const Mantissa* from, std::int64_t rows, std::int64_t run, std::int32_t* sums),
                              (from, rows, run, sums))

class channel_sums {
  public:
    // Of the images of `size` mantissas (pixels x channels) at the places `samples`. Rows of whole pixels, at least 64
    // elements long, are added in int32, and emptied into int64 before 2^16 additions of 16 bits could overflow.
    template <class Mantissa>
    void operator()(path isa, const Mantissa* images, std::int64_t size, std::span<const std::int64_t> samples,
                    std::span<std::int64_t> sums) {
        const auto channels = static_cast<std::int64_t>(sums.size());
        const std::int64_t run = channels * ((63 + channels) / channels);
        partial_.resize(static_cast<std::size_t>(run));
        partial_.fill_zero();
        for (std::int64_t& sum : sums) sum = 0;
        std::int64_t added = 0;  // rows since the last emptying
        const auto add = [&](const Mantissa* from, std::int64_t rows, std::int64_t length) {
            if (added + rows > most_rows) empty(sums), added = 0;
            add_rows(isa, from, rows, length, partial_.data());
            added += rows;
        };
        for (const std::int64_t sample : samples) {
            const Mantissa* from = images + sample * size;
            std::int64_t rows = size / run;
            for (; rows > most_rows; rows -= most_rows, from += most_rows * run) add(from, most_rows, run);
            add(from, rows, run);
            add(from + rows * run, 1, size % run);
        }
        empty(sums);
    }

  private:
    static constexpr std::int64_t most_rows = 65535;

    void empty(std::span<std::int64_t> sums) noexcept {
        for (std::size_t i = 0; i < partial_.size(); ++i) sums[i % sums.size()] += partial_[i];
        partial_.fill_zero();
    }
    buffer<std::int32_t> partial_;
};

}  // namespace lamella::nn::detail
