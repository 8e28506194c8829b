// Grow-only, 64-byte aligned storage. A training step reuses what the first step took, so it cannot run out half way.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "errors.hpp"

namespace lamella {

namespace detail {

// True when n elements, at least one, are zero in all bytes. Stops at the first that isn't.
template <class T>
inline bool all_zero(const T* x, std::int64_t n) noexcept {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* bytes = reinterpret_cast<const unsigned char*>(x);  // the first is zero, and each equals the next
    return bytes[0] == 0 && std::memcmp(bytes, bytes + 1, static_cast<std::size_t>(n) * sizeof(T) - 1) == 0;
}

inline std::atomic<std::int64_t> buffer_bytes{0};

}  // namespace detail

// Bytes that all buffers of the process hold now. They never shrink, so after a step it is the most that training took.
inline std::int64_t tensor_bytes() noexcept { return detail::buffer_bytes; }

// Elements keep their value only while the capacity suffices. 64 bytes past the last element may be read and written
// by vector kernels; they hold no data.
template <class T>
class buffer {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    static constexpr std::size_t alignment = 64;

    buffer() = default;
    explicit buffer(std::size_t count) { resize(count); }
    buffer(buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          capacity_(std::exchange(other.capacity_, 0)) {}
    buffer& operator=(buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
        return *this;
    }
    buffer(const buffer& other) {
        resize(other.size_);
        if (size_ != 0) std::memcpy(data_, other.data_, size_ * sizeof(T));
    }
    buffer& operator=(const buffer& other) {
        if (this != &other) {
            resize(other.size_);
            if (size_ != 0) std::memcpy(data_, other.data_, size_ * sizeof(T));
        }
        return *this;
    }
    ~buffer() { release(); }

    // Sets the size. Takes memory only when the size passes all earlier ones; new elements are zero then, and the old
    // content is lost. Throws lamella::error when there is no memory.
    void resize(std::size_t count) {
        if (count > capacity_) {
            if (count > (std::size_t{1} << 60) / sizeof(T)) throw error("out of memory: size overflows");
            const std::size_t bytes = bytes_of(count);
            void* fresh = ::operator new (bytes, std::align_val_t{alignment}, std::nothrow);
            if (fresh == nullptr) throw error("out of memory: " + std::to_string(bytes) + " bytes wanted");
            std::memset(fresh, 0, bytes);
            release();
            data_ = static_cast<T*>(fresh);
            capacity_ = count;
            detail::buffer_bytes += static_cast<std::int64_t>(bytes);
        }
        size_ = count;
    }
    void fill_zero() noexcept {
        if (size_ != 0) std::memset(static_cast<void*>(data_), 0, size_ * sizeof(T));
    }

    T* data() noexcept { return data_; }
    const T* data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }
    T& operator[](std::size_t i) noexcept { return data_[i]; }
    const T& operator[](std::size_t i) const noexcept { return data_[i]; }
    T* begin() noexcept { return data_; }
    T* end() noexcept { return data_ + size_; }
    const T* begin() const noexcept { return data_; }
    const T* end() const noexcept { return data_ + size_; }
    std::span<T> span() noexcept { return {data_, size_}; }
    std::span<const T> span() const noexcept { return {data_, size_}; }

  private:
    static constexpr std::size_t bytes_of(std::size_t count) noexcept {
        return (count * sizeof(T) + 2 * alignment - 1) / alignment * alignment;
    }
    void release() noexcept {
        if (data_ == nullptr) return;
        ::operator delete (static_cast<void*>(data_), std::align_val_t{alignment});
        detail::buffer_bytes -= static_cast<std::int64_t>(bytes_of(capacity_));
        data_ = nullptr;
    }
    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
};

}  // namespace lamella
