// IDX, the format of MNIST and its relatives: big-endian header, then bytes. Raw, or .gz where zlib is there.
//
// Images: u32 magic 2051, count, rows, columns, then count x rows x columns bytes, row-major, 0 background.
// Labels: u32 magic 2049, count, then count bytes. (LeCun, Cortes, Burges: the MNIST database.)
// The header is checked against the file's length before memory is taken for the pixels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "dataset.hpp"
#include "file.hpp"

namespace lamella::data {

namespace detail {

inline constexpr std::uint32_t idx_image_magic = 2051;
inline constexpr std::uint32_t idx_label_magic = 2049;
inline constexpr std::uint64_t idx_largest_side = 1 << 14;                    // pixels
inline constexpr std::uint64_t idx_largest_content = std::uint64_t{1} << 32;  // bytes

inline std::uint32_t read_big_endian(file_reader& reader, std::string_view field) {
    std::array<std::uint8_t, 4> bytes{};
    reader.read(bytes, field);
    return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
}

inline void require_magic(file_reader& reader, std::uint32_t magic, std::string_view what) {
    const std::uint32_t found = read_big_endian(reader, "magic number");
    if (found != magic)
        throw file_error(reader.path(), "magic number", std::to_string(magic) + " (IDX " + std::string(what) + ")",
                         std::to_string(found));
}

// Bytes that the header announces after itself. Throws file_error when the file is too short to hold them.
inline std::size_t announced_bytes(const file_reader& reader, std::uint64_t count, std::uint64_t each) {
    const std::uint64_t content = count * each;  // fits: count < 2^32, each <= 2^28
    if (content > idx_largest_content)
        throw file_error(reader.path(), "header", "at most " + bytes_text(idx_largest_content) + " of content",
                         bytes_text(content));
    if (content > reader.most_content())
        throw file_error(reader.path(), "size", bytes_text(content) + " after the header, as it says",
                         "a file that holds at most " + bytes_text(reader.most_content()));
    return static_cast<std::size_t>(content);
}

}  // namespace detail

// Images and labels of one set, as samples x rows x columns x 1. Throws file_error naming the file for everything that
// is missing, truncated, too long or inconsistent, and for labels not under `classes` (1..256).
inline dataset read_idx(const std::string& images_path, const std::string& labels_path, int classes) {
    if (classes < 1 || classes > 256) throw argument_error("classes", "1..256", std::to_string(classes));
    file_reader images(images_path);
    detail::require_magic(images, detail::idx_image_magic, "images");
    const std::uint32_t count = detail::read_big_endian(images, "count");
    const std::uint32_t rows = detail::read_big_endian(images, "rows");
    const std::uint32_t columns = detail::read_big_endian(images, "columns");
    for (const auto& [side, field] : {std::pair{rows, "rows"}, std::pair{columns, "columns"}})
        if (side < 1 || side > detail::idx_largest_side)
            throw file_error(images_path, field, "1.." + std::to_string(detail::idx_largest_side),
                             std::to_string(side));
    detail::announced_bytes(images, count, std::uint64_t{rows} * columns);

    file_reader labels(labels_path);
    detail::require_magic(labels, detail::idx_label_magic, "labels");
    const std::uint32_t label_count = detail::read_big_endian(labels, "count");
    if (label_count != count)
        throw file_error(labels_path, "count", std::to_string(count) + " (one a picture of " + images_path + ")",
                         std::to_string(label_count));
    detail::announced_bytes(labels, count, 1);

    dataset set =
        make_dataset(count, rows, columns, 1, classes, std::filesystem::path(images_path).filename().string());
    images.read(std::span<std::uint8_t>(set.images.data(), set.images.size()), "pixels");
    images.require_end();
    labels.read(std::span<std::uint8_t>(set.labels.data(), set.labels.size()), "labels");
    labels.require_end();
    for (std::size_t i = 0; i < set.size(); ++i)
        if (set.labels(i) >= classes)
            throw file_error(labels_path, "label " + std::to_string(i), "0.." + std::to_string(classes - 1),
                             std::to_string(set.labels(i)));
    return set;
}

// The four MNIST files of a directory under their usual names, each raw or .gz (raw wins where both are there).
// Throws file_error, also for images that are not 28 x 28 or counts that differ from 60 000 and 10 000.
inline train_and_test read_mnist(const std::string& directory) {
    const auto found = [&](const std::string& name) {
        return raw_or_packed((std::filesystem::path(directory) / name).string());
    };
    const auto read = [&](const std::string& prefix, std::size_t count) {
        const std::string images = found(prefix + "-images-idx3-ubyte");
        dataset set = read_idx(images, found(prefix + "-labels-idx1-ubyte"), 10);
        if (set.size() != count || set.height() != 28 || set.width() != 28)
            throw file_error(images, "shape", std::to_string(count) + " x 28 x 28",
                             std::to_string(set.size()) + " x " + std::to_string(set.height()) + " x " +
                                 std::to_string(set.width()));
        set.name = "mnist-" + prefix;
        return set;
    };
    return {read("train", 60'000), read("t10k", 10'000)};
}

}  // namespace lamella::data
