// The CIFAR-10 reader: layout, sizes, labels, packed files, directories as people have them.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <lamella/core/sha256.hpp>
#include <lamella/data/cifar.hpp>
#include <span>
#include <string>
#include <vector>

#include "gzip.hpp"
#include "scratch.hpp"

#ifndef LAMELLA_SOURCE_DIR
#define LAMELLA_SOURCE_DIR "."
#endif

namespace {

namespace fs = std::filesystem;
using lamella::data::dataset;
using lamella::data::read_cifar10;
using lamella::data::read_cifar10_files;

constexpr std::size_t record_bytes = 3073;

// The value of a pixel, different for each record, channel and place in turn.
std::uint8_t value_at(std::size_t record, std::size_t c, std::size_t y, std::size_t x) {
    return static_cast<std::uint8_t>(31 * record + 85 * c + 7 * y + x);
}

// Records first .. first + count - 1; record i has label i % 10.
bytes batch(std::size_t first, std::size_t count) {
    bytes content;
    for (std::size_t i = first; i < first + count; ++i) {
        content.push_back(static_cast<std::uint8_t>(i % 10));
        for (std::size_t c = 0; c < 3; ++c)
            for (std::size_t y = 0; y < 32; ++y)
                for (std::size_t x = 0; x < 32; ++x) content.push_back(value_at(i, c, y, x));
    }
    return content;
}

bool holds_record(const dataset& set, std::size_t sample, std::size_t record) {
    for (std::size_t y = 0; y < 32; ++y)
        for (std::size_t x = 0; x < 32; ++x)
            for (std::size_t c = 0; c < 3; ++c)
                if (set.images(sample, y, x, c) != value_at(record, c, y, x)) return false;
    return set.labels(sample) == record % 10;
}

// Six files of two records each; record i is the i-th of the training set, the last two are the test set.
void put_directory(const std::string& directory) {
    fs::create_directories(directory);
    for (std::size_t i = 0; i < 5; ++i)
        put(directory + "/data_batch_" + std::to_string(i + 1) + ".bin", batch(2 * i, 2));
    put(directory + "/test_batch.bin", batch(10, 2));
}

void check_directory(const std::string& directory) {
    const auto [train, test] = read_cifar10(directory, 2);
    REQUIRE(train.size() == 10);
    REQUIRE(test.size() == 2);
    for (std::size_t i = 0; i < 10; ++i) CHECK(holds_record(train, i, i));
    for (std::size_t i = 0; i < 2; ++i) CHECK(holds_record(test, i, 10 + i));
    CHECK(train.name == "cifar-10-train");
    CHECK(test.name == "cifar-10-test");
}

std::string error_of(const bytes& content, std::size_t records, const char* name = "b") {
    const scratch directory;
    put(directory / name, content);
    const std::array<std::string, 1> path{directory / name};
    const std::string text = message_of<lamella::file_error>([&] { read_cifar10_files(path, records); });
    return text.starts_with(path[0] + ": ") ? text.substr(path[0].size() + 2) : text;
}

bytes cut(const bytes& content, std::size_t length) {
    return bytes(content.begin(), content.begin() + static_cast<std::ptrdiff_t>(length));
}

}  // namespace

TEST_CASE("planes of a record become an image with its channels innermost") {
    const scratch directory;
    put(directory / "a", batch(0, 3));
    put(directory / "b", batch(3, 3));
    const std::array<std::string, 2> paths{directory / "a", directory / "b"};
    const dataset set = read_cifar10_files(paths, 3);
    REQUIRE(set.size() == 6);
    CHECK(set.height() == 32);
    CHECK(set.width() == 32);
    CHECK(set.channels() == 3);
    CHECK(set.classes == 10);
    CHECK(set.exponent == -8);
    for (std::size_t i = 0; i < 6; ++i) CHECK(holds_record(set, i, i));
}

TEST_CASE("a CIFAR-10 file of another size is refused with both sizes") {
    const bytes good = batch(0, 2);
    for (const std::size_t length : std::initializer_list<std::size_t>{0, 1, 2, record_bytes - 1, record_bytes,
                                                                       record_bytes + 1, 2 * record_bytes - 1}) {
        CAPTURE(length);
        CHECK(error_of(cut(good, length), 2) ==
              "size: expected 6146 bytes (2 records), found " + lamella::data::bytes_text(length));
    }
    CHECK(error_of(batch(0, 3), 2) == "size: expected 6146 bytes (2 records), found 9219 bytes");
    bytes longer = good;
    longer.push_back(0);
    CHECK(error_of(longer, 2) == "size: expected 6146 bytes (2 records), found 6147 bytes");
    CHECK(error_of(good, 10'000) == "size: expected 30730000 bytes (10000 records), found 6146 bytes");
    CHECK_THROWS_AS(read_cifar10_files({}, 0), lamella::argument_error);
    CHECK_THROWS_AS(read_cifar10_files({}, std::size_t{1} << 32), lamella::argument_error);
}

TEST_CASE("a label that is no class is refused with its record") {
    bytes content = batch(0, 3);
    content[2 * record_bytes] = 10;
    CHECK(error_of(content, 3) == "label of record 2: expected 0..9, found 10");
    content[0] = 255;
    CHECK(error_of(content, 3) == "label of record 0: expected 0..9, found 255");
    content = batch(9, 1);
    CHECK(error_of(content, 1) == "nothing was thrown");
}

#if LAMELLA_ZLIB
TEST_CASE("a packed CIFAR-10 file is read like a raw one, and cut short at any byte it is refused") {
    const scratch directory;
    const bytes good = batch(0, 2), packed = gzip(good);
    put(directory / "b.gz", packed);
    const std::array<std::string, 1> path{directory / "b.gz"};
    const dataset set = read_cifar10_files(path, 2);
    for (std::size_t i = 0; i < 2; ++i) CHECK(holds_record(set, i, i));
    for (std::size_t length = 0; length < packed.size(); ++length) {
        CAPTURE(length);
        CHECK(error_of(cut(packed, length), 2, "b.gz").starts_with("gzip: "));
    }
    // Whole as gzip, but not as a batch.
    for (const std::size_t length : std::initializer_list<std::size_t>{0, 1, record_bytes - 1, record_bytes,
                                                                       record_bytes + 1, 2 * record_bytes - 1}) {
        CAPTURE(length);
        const std::size_t record = length / record_bytes;
        CHECK(error_of(gzip(cut(good, length)), 2, "b.gz") ==
              "record " + std::to_string(record) + ": expected 3073 bytes, found " +
                  lamella::data::bytes_text(length - record * record_bytes) + ", then the end of the file");
    }
    CHECK(error_of(gzip(batch(0, 3)), 2, "b.gz") ==
          "size: expected 6146 bytes of content, found more bytes after them");
}
#endif

TEST_CASE("a directory with the six files is read, itself or as the archive's folder in it, raw before packed") {
    const scratch directory;
    put_directory(directory / "flat");
    check_directory(directory / "flat");
    put_directory(directory / "above/cifar-10-batches-bin");
    check_directory(directory / "above");
    put(directory / "flat/data_batch_3.bin.gz", std::string_view("not gzip, and not looked at"));
    check_directory(directory / "flat");
#if LAMELLA_ZLIB
    fs::remove(directory / "flat/data_batch_3.bin");
    put(directory / "flat/data_batch_3.bin.gz", gzip(batch(4, 2)));
    check_directory(directory / "flat");
#endif
}

TEST_CASE("a directory in which one of the six files is missing or wrong is refused with that file's name") {
    for (const std::string name : {"data_batch_1.bin", "data_batch_5.bin", "test_batch.bin"}) {
        const scratch directory;
        put_directory(directory / "d");
        const std::string path = directory / ("d/" + name);
        put(path, batch(0, 1));
        CHECK(message_of<lamella::file_error>([&] { read_cifar10(directory / "d", 2); }) ==
              path + ": size: expected 6146 bytes (2 records), found 3073 bytes");
        fs::remove(path);
        CHECK(message_of<lamella::file_error>([&] { read_cifar10(directory / "d", 2); }) ==
              path + ": file: expected this file, raw or .gz (examples/get-data.sh fetches it), found neither");
    }
    const scratch empty;
    CHECK(message_of<lamella::file_error>([&] {
              read_cifar10(empty / "absent");
          }).starts_with(empty / "absent/data_batch_1.bin"));
}

TEST_CASE("the real CIFAR-10 has its published counts, classes and mean colours") {
    const char* given = std::getenv("LAMELLA_DATA");
    const fs::path directory =
        (given != nullptr ? fs::path(given) : fs::path(LAMELLA_SOURCE_DIR) / "../shared/data") / "cifar-10";
    const bool raw = fs::exists(directory / "test_batch.bin");
    if (!raw && !(fs::exists(directory / "test_batch.bin.gz") && LAMELLA_ZLIB)) {
        MESSAGE("skipped: no CIFAR-10 that this build can read (set LAMELLA_DATA to the directory above cifar-10/)");
        return;
    }
    const auto [train, test] = read_cifar10(directory.string());
    CHECK(train.size() == 50'000);
    CHECK(test.size() == 10'000);
    for (const dataset* set : {&train, &test}) {
        std::array<std::size_t, 10> counts{};
        for (const std::uint8_t label : set->labels) ++counts[label];
        for (const std::size_t count : counts) CHECK(count == set->size() / 10);
    }
    // Published as shares of 255: 0.4914 0.4822 0.4465.
    std::array<std::uint64_t, 3> sum{};
    for (std::size_t i = 0; i < train.images.size(); ++i) sum[i % 3] += train.images.data()[i];
    const std::uint64_t pixels = std::uint64_t{50'000} * 1024;
    const std::array<std::uint64_t, 3> mean{4914, 4822, 4465};
    for (std::size_t c = 0; c < 3; ++c) CHECK((sum[c] * 10'000 + pixels * 255 / 2) / (pixels * 255) == mean[c]);
}
