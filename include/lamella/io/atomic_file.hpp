// Writing a file so that its name holds the old content or the new, never a part of it, whatever fails or is cut short.
//
// A temporary in the same directory is written, flushed to the device and renamed; then the directory is flushed.
// On any failure the temporary is removed and what the name held before stays.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "../core/errors.hpp"

namespace lamella::io {

namespace detail {

// An open file descriptor.
class descriptor {
  public:
    explicit descriptor(int number) noexcept : number_(number) {}
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;
    ~descriptor() {
        if (number_ >= 0) ::close(number_);
    }
    int number() const noexcept { return number_; }
    // Closes now, because network file systems report lost writes here.
    bool close() noexcept { return ::close(std::exchange(number_, -1)) == 0; }

  private:
    int number_;
};

// A temporary's name; removes the file unless it was renamed.
class temporary_name {
  public:
    explicit temporary_name(std::string name) : name_(std::move(name)) {}
    temporary_name(const temporary_name&) = delete;
    temporary_name& operator=(const temporary_name&) = delete;
    ~temporary_name() {
        if (!renamed_) ::unlink(name_.c_str());
    }
    const std::string& name() const noexcept { return name_; }
    bool rename_to(const std::string& path) noexcept {
        return renamed_ = std::rename(name_.c_str(), path.c_str()) == 0;
    }

  private:
    std::string name_;
    bool renamed_ = false;
};

[[noreturn]] inline void throw_unwritable(const std::string& path, std::string_view step) {
    const int code = errno;
    throw file_error(path, step, "success", std::generic_category().message(code));
}

inline void write_all(int file, std::span<const std::uint8_t> bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t count = ::write(file, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) throw_unwritable(path, "writing");
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
}

inline void flush_directory_of(const std::string& path) {
    std::filesystem::path directory = std::filesystem::path(path).parent_path();
    if (directory.empty()) directory = ".";
    const descriptor opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (opened.number() < 0) throw_unwritable(path, "flushing the directory");
    // Some file systems cannot flush a directory and say EINVAL; they have nothing to flush.
    if (::fsync(opened.number()) != 0 && errno != EINVAL) throw_unwritable(path, "flushing the directory");
}

}  // namespace detail

// Makes `path` hold the pieces, one after the other. Throws file_error naming the step that failed.
inline void write_file_atomically(const std::string& path, std::span<const std::span<const std::uint8_t>> pieces) {
    static std::atomic<unsigned> counter{0};  // threads of one process never share a temporary
    detail::temporary_name temporary(path + ".tmp-" + std::to_string(::getpid()) + "-" +
                                     std::to_string(counter.fetch_add(1)));
    detail::descriptor file(::open(temporary.name().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (file.number() < 0) detail::throw_unwritable(path, "creating a temporary file beside it");
    for (const std::span<const std::uint8_t> piece : pieces) detail::write_all(file.number(), piece, path);
    if (::fsync(file.number()) != 0) detail::throw_unwritable(path, "flushing");
    if (!file.close()) detail::throw_unwritable(path, "closing");
    if (!temporary.rename_to(path)) detail::throw_unwritable(path, "renaming");
    detail::flush_directory_of(path);
}

}  // namespace lamella::io
