// Reading files that nobody vouches for: raw ones, and .gz ones where zlib is there (LAMELLA_ZLIB, `lamella::zlib`).
//
// Memory is taken only after a size was checked: against the caller's limit, and against what a file of that length can
// hold at all (deflate never expands more than 1032 times). Every failure is a file_error that names the file.
// Readers of formats stand on this: idx.hpp, ../io/safetensors.hpp.
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../core/errors.hpp"

#if LAMELLA_ZLIB
#include <zlib.h>
#endif

namespace lamella::data {

// "3 bytes", for messages.
inline std::string bytes_text(std::uint64_t count) { return std::to_string(count) + (count == 1 ? " byte" : " bytes"); }

namespace detail {

inline std::string system_message(int code) { return std::generic_category().message(code); }

struct file_closer {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
};
using file_handle = std::unique_ptr<std::FILE, file_closer>;

#if LAMELLA_ZLIB
struct inflate_closer {
    void operator()(z_stream* stream) const noexcept {
        inflateEnd(stream);
        delete stream;
    }
};
#endif

}  // namespace detail

// by_name: a file whose name ends in ".gz" is unpacked on the way. never: the bytes as they are.
enum class unpacking : std::uint8_t { by_name, never };

// The content of a file from its beginning to its end.
class file_reader {
  public:
    // Throws file_error when the file is missing, unreadable, not a regular file, or named .gz without being gzip.
    explicit file_reader(std::string path, unpacking rule = unpacking::by_name) : path_(std::move(path)) {
        errno = 0;
        file_.reset(std::fopen(path_.c_str(), "rb"));
        if (!file_) throw file_error(path_, "file", "a readable file", detail::system_message(errno));
        struct stat status {};
        if (fstat(fileno(file_.get()), &status) != 0)
            throw file_error(path_, "file", "a readable file", detail::system_message(errno));
        if (!S_ISREG(status.st_mode)) throw file_error(path_, "file", "a regular file", "something else");
        stored_ = static_cast<std::uint64_t>(status.st_size);
        if (rule == unpacking::by_name && path_.ends_with(".gz")) start_gzip();
    }

    const std::string& path() const noexcept { return path_; }
    // Bytes of content handed out so far.
    std::uint64_t position() const noexcept { return position_; }
    bool compressed() const noexcept { return compressed_; }
    // No file of this length holds more content than this (bytes).
    std::uint64_t most_content() const noexcept {
        constexpr std::uint64_t most_expansion = 1032;  // of deflate, zlib's technical details
        return compressed_ ? stored_ * most_expansion : stored_;
    }

    // Reads up to into.size() bytes, fewer only at the end of the content. At the end of .gz content the checksum has
    // been compared. Throws file_error on read errors and damaged gzip.
    std::size_t read_some(std::span<std::uint8_t> into) {
        const std::size_t count = compressed_ ? read_unpacked(into) : read_stored(into);
        position_ += count;
        return count;
    }
    // Fills `into`; throws file_error, naming `field`, when the content ends before.
    void read(std::span<std::uint8_t> into, std::string_view field) {
        const std::size_t count = read_some(into);
        if (count != into.size())
            throw file_error(path_, field, bytes_text(into.size()), bytes_text(count) + ", then the end of the file");
    }
    // Throws file_error unless all content has been read (and, for .gz, its checksum is right).
    void require_end() {
        std::array<std::uint8_t, 1> extra{};
        if (read_some(extra) != 0)
            throw file_error(path_, "size", bytes_text(position_ - 1) + " of content", "more bytes after them");
    }

  private:
    std::size_t read_stored(std::span<std::uint8_t> into) {
        if (into.empty()) return 0;
        errno = 0;
        const std::size_t count = std::fread(into.data(), 1, into.size(), file_.get());
        if (count != into.size() && std::ferror(file_.get()) != 0)
            throw file_error(path_, "file", "a readable file", detail::system_message(errno));
        return count;
    }

#if LAMELLA_ZLIB
    static constexpr std::array<std::uint8_t, 2> gzip_magic{0x1f, 0x8b};

    void start_gzip() {
        compressed_ = true;
        packed_.resize(std::size_t{1} << 16);
        auto fresh = std::make_unique<z_stream>();
        constexpr int gzip_only = 16 + MAX_WBITS;
        if (inflateInit2(fresh.get(), gzip_only) != Z_OK) throw file_error(path_, "gzip", "memory to unpack", "none");
        stream_.reset(fresh.release());
        fill_packed(gzip_magic.size());
        if (!at_gzip_magic())
            throw file_error(path_, "gzip", "a gzip file (it starts with 1f 8b)", "another beginning");
    }
    bool at_gzip_magic() const noexcept {
        return stream_->avail_in >= gzip_magic.size() &&
               std::equal(gzip_magic.begin(), gzip_magic.end(), stream_->next_in);
    }
    // Makes at least `wanted` packed bytes available, fewer only at the end of the file.
    void fill_packed(std::size_t wanted) {
        if (stream_->avail_in >= wanted) return;
        const std::size_t kept = stream_->avail_in;
        if (kept != 0) std::copy_n(stream_->next_in, kept, packed_.data());
        const std::size_t fresh = read_stored(std::span(packed_).subspan(kept));
        stream_->next_in = packed_.data();
        stream_->avail_in = static_cast<uInt>(kept + fresh);
    }
    std::size_t read_unpacked(std::span<std::uint8_t> into) {
        std::size_t done = 0;
        while (done < into.size() && !ended_) {
            fill_packed(1);
            if (stream_->avail_in == 0)
                throw file_error(
                    path_, "gzip", "a complete file",
                    "its end inside the packed data, after " + bytes_text(position_ + done) + " of content");
            const std::size_t piece = std::min(into.size() - done, std::size_t{1} << 30);
            stream_->next_out = into.data() + done;
            stream_->avail_out = static_cast<uInt>(piece);
            const int result = inflate(stream_.get(), Z_NO_FLUSH);
            done += piece - stream_->avail_out;
            if (result == Z_STREAM_END)
                end_member();
            else if (result != Z_OK)
                throw file_error(path_, "gzip", "undamaged packed data",
                                 stream_->msg != nullptr ? stream_->msg : "damage");
        }
        return done;
    }
    // A gzip file may hold several members one after the other, and nothing else.
    void end_member() {
        fill_packed(gzip_magic.size());
        if (stream_->avail_in == 0)
            ended_ = true;
        else if (!at_gzip_magic() || inflateReset(stream_.get()) != Z_OK)
            throw file_error(path_, "gzip", "the end of the file after the packed data", "trailing garbage");
    }
#else
    [[noreturn]] void start_gzip() const {
        throw file_error(path_, "gzip", "an unpacked file, since this program was built without zlib (lamella::zlib)",
                         "a .gz file");
    }
    std::size_t read_unpacked(std::span<std::uint8_t>) { return 0; }
#endif

    std::string path_;
    detail::file_handle file_;
    std::uint64_t stored_ = 0;  // length of the file on disk
    std::uint64_t position_ = 0;
    bool compressed_ = false;
#if LAMELLA_ZLIB
    std::vector<std::uint8_t> packed_;
    std::unique_ptr<z_stream, detail::inflate_closer> stream_;
    bool ended_ = false;
#endif
};

// The file of this name, or the one with .gz after it where that alone is there. Throws file_error when neither is.
inline std::string raw_or_packed(const std::string& path) {
    std::error_code ignored;
    for (const std::string& candidate : {path, path + ".gz"})
        if (std::filesystem::exists(candidate, ignored)) return candidate;
    throw file_error(path, "file", "this file, raw or .gz (examples/get-data.sh fetches it)", "neither");
}

// The whole content of a raw or .gz file of at most `largest` bytes of content. Throws file_error when there is more.
inline std::vector<std::uint8_t> read_file(const std::string& path, std::size_t largest) {
    file_reader reader(path);
    if (!reader.compressed() && reader.most_content() > largest)
        throw file_error(path, "size", "at most " + bytes_text(largest), bytes_text(reader.most_content()));
    std::vector<std::uint8_t> content;
    constexpr std::size_t first_step = std::size_t{1} << 16;
    try {
        // Doubling, so that a .gz file takes at most twice the memory of the content that really arrived.
        for (std::size_t done = 0, step = first_step;; step = done) {
            content.resize(done + std::min(step, largest - done));
            const std::size_t count = reader.read_some(std::span(content).subspan(done));
            done += count;
            if (done == content.size() && done < largest) continue;
            content.resize(done);
            break;
        }
    } catch (const std::bad_alloc&) {
        throw file_error(path, "size", "content that fits the memory", "more than that");
    }
    std::array<std::uint8_t, 1> extra{};
    if (content.size() == largest && reader.read_some(extra) != 0)
        throw file_error(path, "size", "at most " + bytes_text(largest), "more");
    return content;
}

}  // namespace lamella::data
