// The samples of a batch that still teach something. Once a sample is learned, its error rounds to zero in every
// element (on MNIST nine samples in ten, after an epoch; bench/operands prints the share of zero rows): it takes no
// part in WG, and its part of EP is zero. Leaving it out is exact, and whole samples are the cheapest thing to leave
// out: the others are laid side by side and multiplied as a smaller batch. Finer zeros are the kernels' matter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "../core/memory.hpp"

namespace lamella::nn::detail {

class active_samples {
  public:
    // Finds the samples with a byte that is not zero among `samples` x `bytes`.
    void find(const std::int8_t* data, std::int64_t samples, std::int64_t bytes) {
        samples_ = samples;
        index_.clear();
        index_.reserve(static_cast<std::size_t>(samples));
        for (std::int64_t s = 0; s < samples; ++s)
            if (!lamella::detail::all_zero(data + s * bytes, bytes)) index_.push_back(s);
    }
    const std::vector<std::int64_t>& index() const noexcept { return index_; }  // ascending
    std::int64_t count() const noexcept { return static_cast<std::int64_t>(index_.size()); }
    std::span<const std::int64_t> places() const noexcept { return index_; }
    // Copying the others together is worth it when at least a quarter stays out.
    bool pays() const noexcept { return 4 * count() <= 3 * samples_; }

    // The active ones of `samples` images of `bytes` bytes, side by side in `to`.
    void gather(const std::int8_t* images, std::int64_t bytes, std::int8_t* to) const noexcept {
        for (std::size_t i = 0; i < index_.size(); ++i)
            std::memcpy(to + static_cast<std::int64_t>(i) * bytes, images + index_[i] * bytes,
                        static_cast<std::size_t>(bytes));
    }
    // Moves image i of the first count() ones to its sample's place, last first, and fills the others with zeros.
    void scatter(std::int32_t* images, std::int64_t size) const {
        const auto bytes = static_cast<std::size_t>(size) * sizeof(std::int32_t);
        std::int64_t end = samples_;
        for (std::size_t i = index_.size(); i-- > 0;) {
            const std::int64_t place = index_[i];
            std::memset(images + (place + 1) * size, 0, static_cast<std::size_t>(end - place - 1) * bytes);
            if (place != static_cast<std::int64_t>(i))
                std::memcpy(images + place * size, images + static_cast<std::int64_t>(i) * size, bytes);
            end = place;
        }
        std::memset(images, 0, static_cast<std::size_t>(end) * bytes);
    }

  private:
    std::int64_t samples_ = 0;
    std::vector<std::int64_t> index_;
};

}  // namespace lamella::nn::detail
