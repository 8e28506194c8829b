// CIFAR-10 in its binary version: records of 3 073 bytes, no header. Raw, or .gz where zlib is there.
//
// A record is a label (0..9), then 1 024 bytes red, 1 024 green, 1 024 blue, each plane 32 x 32 row-major. Five files
// of 10 000 records are the training set, one the test set. (Krizhevsky, Learning Multiple Layers of Features from Tiny
// Images, 2009; the binary version's page.) In memory the channels are innermost, as everywhere here.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "dataset.hpp"
#include "file.hpp"

namespace lamella::data {

inline constexpr std::size_t cifar_side = 32;       // pixels
inline constexpr std::size_t cifar_batch = 10'000;  // records of a published file
inline constexpr std::array<std::string_view, 10> cifar10_names{"airplane", "automobile", "bird",  "cat",  "deer",
                                                                "dog",      "frog",       "horse", "ship", "truck"};

// Files of `records` records each, one after the other. Throws file_error naming the file when one is missing,
// truncated or too long, or has a label that is no class.
inline dataset read_cifar10_files(std::span<const std::string> paths, std::size_t records = cifar_batch) {
    constexpr std::size_t plane = cifar_side * cifar_side, channels = 3;
    if (records < 1 || records > std::numeric_limits<std::uint32_t>::max() / std::max<std::size_t>(1, paths.size()))
        throw argument_error("records", "at least 1, and fewer than 2^32 in all", std::to_string(records));
    dataset set = make_dataset(paths.size() * records, cifar_side, cifar_side, channels, 10, "cifar-10");
    std::array<std::uint8_t, 1 + channels * plane> record{};
    std::size_t at = 0;
    for (const std::string& path : paths) {
        file_reader file(path);
        const std::uint64_t content = std::uint64_t{records} * record.size();
        if (!file.compressed() && file.most_content() != content)
            throw file_error(path, "size", bytes_text(content) + " (" + std::to_string(records) + " records)",
                             bytes_text(file.most_content()));
        for (std::size_t i = 0; i < records; ++i, ++at) {
            file.read(record, "record " + std::to_string(i));
            if (record[0] >= cifar10_names.size())
                throw file_error(path, "label of record " + std::to_string(i), "0..9", std::to_string(record[0]));
            set.labels(at) = record[0];
            const std::span<std::uint8_t> image = set.image(at);
            for (std::size_t p = 0; p < plane; ++p)
                for (std::size_t c = 0; c < channels; ++c) image[p * channels + c] = record[1 + c * plane + p];
        }
        file.require_end();
    }
    return set;
}

// Training and test set of a directory with data_batch_1.bin .. data_batch_5.bin and test_batch.bin, each raw or .gz
// (raw wins where both are there), or of the published archive's folder cifar-10-batches-bin in it. Throws file_error.
inline train_and_test read_cifar10(const std::string& directory, std::size_t records = cifar_batch) {
    std::error_code ignored;
    const std::filesystem::path archive = std::filesystem::path(directory) / "cifar-10-batches-bin";
    const std::filesystem::path folder =
        std::filesystem::is_directory(archive, ignored) ? archive : std::filesystem::path(directory);
    const auto found = [&](const std::string& name) { return raw_or_packed((folder / (name + ".bin")).string()); };
    std::array<std::string, 5> batches;
    for (std::size_t i = 0; i < batches.size(); ++i) batches[i] = found("data_batch_" + std::to_string(i + 1));
    const std::array<std::string, 1> test{found("test_batch")};
    train_and_test sets{read_cifar10_files(batches, records), read_cifar10_files(test, records)};
    sets.train.name = "cifar-10-train";
    sets.test.name = "cifar-10-test";
    return sets;
}

}  // namespace lamella::data
