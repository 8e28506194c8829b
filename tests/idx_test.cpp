#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <lamella/core/sha256.hpp>
#include <lamella/data/file.hpp>
#include <lamella/data/idx.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gzip.hpp"
#include "scratch.hpp"

#ifndef LAMELLA_SOURCE_DIR
#define LAMELLA_SOURCE_DIR "."
#endif

namespace {

namespace fs = std::filesystem;
bytes numbers(std::initializer_list<std::uint32_t> values) {
    bytes out;
    for (const std::uint32_t v : values)
        for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(v >> shift));
    return out;
}

bytes joined(bytes head, std::size_t extra, unsigned first = 0, unsigned modulus = 256) {
    for (std::size_t i = 0; i < extra; ++i) head.push_back(static_cast<std::uint8_t>((first + i) % modulus));
    return head;
}

const bytes good_images = joined(numbers({2051, 3, 2, 4}), 24, 100);
const bytes good_labels = joined(numbers({2049, 3}), 3, 4);

std::string idx_error(const bytes& images, const bytes& labels, int classes = 10) {
    const scratch directory;
    put(directory / "i", images);
    put(directory / "l", labels);
    const std::string text =
        message_of<lamella::file_error>([&] { lamella::data::read_idx(directory / "i", directory / "l", classes); });
    const std::size_t at = text.find(directory / "");  // the second path in "one a picture of ..." stays
    return at == 0 ? text.substr((directory / "").size()) : text;
}

}  // namespace

TEST_CASE("a raw IDX pair is read as samples x rows x columns x 1") {
    const scratch directory;
    put(directory / "i", good_images);
    put(directory / "l", good_labels);
    const lamella::data::dataset set = lamella::data::read_idx(directory / "i", directory / "l", 10);
    REQUIRE(set.size() == 3);
    CHECK(set.height() == 2);
    CHECK(set.width() == 4);
    CHECK(set.channels() == 1);
    CHECK(set.classes == 10);
    CHECK(set.exponent == -8);
    CHECK(set.images(0, 0, 0, 0) == 100);
    CHECK(set.images(2, 1, 3, 0) == 123);
    CHECK(set.labels(0) == 4);
    CHECK(set.labels(2) == 6);
}

TEST_CASE("an IDX file that is wrong is refused with place, expectation and finding") {
    bytes images = good_images, labels = good_labels;
    CHECK(idx_error(numbers({2049, 3, 2, 4}), labels) == "i: magic number: expected 2051 (IDX images), found 2049");
    CHECK(idx_error(images, numbers({2051, 3, 2, 4})) == "l: magic number: expected 2049 (IDX labels), found 2051");
    CHECK(idx_error(images, joined(numbers({2049, 4}), 4)).starts_with("l: count: expected 3 (one a picture of "));
    CHECK(idx_error(images, joined(numbers({2049, 4}), 4)).ends_with(", found 4"));
    CHECK(idx_error({}, labels) == "i: magic number: expected 4 bytes, found 0 bytes, then the end of the file");
    CHECK(idx_error(numbers({2051, 3, 0, 4}), labels) == "i: rows: expected 1..16384, found 0");
    CHECK(idx_error(numbers({2051, 3, 2, 16385}), labels) == "i: columns: expected 1..16384, found 16385");
    CHECK(idx_error(joined(images, 1), labels) == "i: size: expected 40 bytes of content, found more bytes after them");
    CHECK(idx_error(images, joined(labels, 1)) == "l: size: expected 11 bytes of content, found more bytes after them");
    images.pop_back();
    CHECK(idx_error(images, labels) == "i: pixels: expected 24 bytes, found 23 bytes, then the end of the file");
    labels[9] = 10;
    CHECK(idx_error(good_images, labels) == "l: label 1: expected 0..9, found 10");
    CHECK(idx_error(good_images, good_labels, 6) == "l: label 2: expected 0..5, found 6");
    CHECK_THROWS_AS(lamella::data::read_idx("x", "y", 0), lamella::argument_error);
    CHECK_THROWS_AS(lamella::data::read_idx("x", "y", 257), lamella::argument_error);
}

TEST_CASE("an IDX header that announces more than the file can hold is refused before memory is taken") {
    CHECK(idx_error(numbers({2051, 0xffffffffu, 16384, 16384}), good_labels)
              .starts_with("i: header: expected at most 4294967296 bytes of content"));
    CHECK(idx_error(numbers({2051, 3, 16384, 16384}), good_labels) ==
          "i: size: expected 805306368 bytes after the header, as it says, found a file that holds at most 16 bytes");
    CHECK(idx_error(joined(numbers({2051, 4'000'000, 1, 1}), 4'000'000), numbers({2049, 4'000'000})) ==
          "l: size: expected 4000000 bytes after the header, as it says, found a file that holds at most 8 bytes");
}

TEST_CASE("an IDX file cut short at any byte is refused") {
    for (std::size_t length = 0; length < good_images.size(); ++length) {
        CAPTURE(length);
        CHECK(idx_error(bytes(good_images.begin(), good_images.begin() + static_cast<std::ptrdiff_t>(length)),
                        good_labels)
                  .starts_with("i: "));
    }
    for (std::size_t length = 0; length < good_labels.size(); ++length) {
        CAPTURE(length);
        CHECK(idx_error(good_images,
                        bytes(good_labels.begin(), good_labels.begin() + static_cast<std::ptrdiff_t>(length)))
                  .starts_with("l: "));
    }
}

TEST_CASE("a file is read whole up to the caller's limit") {
    const scratch directory;
    for (const std::size_t size : std::initializer_list<std::size_t>{0, 1, 65535, 65536, 65537, 200'000}) {
        const bytes content = joined({}, size, 1, 251);
        put(directory / "f", content);
        CAPTURE(size);
        CHECK(lamella::data::read_file(directory / "f", size) == content);
        CHECK(lamella::data::read_file(directory / "f", size + 1) == content);
        CHECK(lamella::data::read_file(directory / "f", std::size_t{1} << 60) == content);
        if (size > 0)
            CHECK(message_of<lamella::file_error>([&] {
                      lamella::data::read_file(directory / "f", size - 1);
                  }).starts_with((directory / "f") + ": size: expected at most " + std::to_string(size - 1) + " byte"));
    }
}

TEST_CASE("a file that is missing or no file is an error that names it") {
    const scratch directory;
    CHECK(message_of<lamella::file_error>([&] { lamella::data::read_file(directory / "absent", 10); }) ==
          (directory / "absent") + ": file: expected a readable file, found No such file or directory");
    CHECK(message_of<lamella::file_error>([&] { lamella::data::read_file(directory / "", 10); }) ==
          (directory / "") + ": file: expected a regular file, found something else");
    CHECK(message_of<lamella::file_error>([&] { lamella::data::read_file("/dev/zero", 10); }) ==
          "/dev/zero: file: expected a regular file, found something else");
    put(directory / "f", good_labels);
    CHECK(message_of<lamella::file_error>([&] {
              lamella::data::read_idx(directory / "absent", directory / "f", 10);
          }).starts_with((directory / "absent") + ": file: "));
}

#if LAMELLA_ZLIB
TEST_CASE("a .gz file gives the content that was packed, in one member or several") {
    const scratch directory;
    for (const std::size_t size : std::initializer_list<std::size_t>{0, 1, 65536, 65537, 300'000}) {
        const bytes content = joined({}, size, 1, 251);
        const bytes packed = gzip(content);
        put(directory / "f.gz", packed);
        CAPTURE(size);
        CHECK(lamella::data::read_file(directory / "f.gz", size) == content);
        CHECK(lamella::data::read_file(directory / "f.gz", size + 1) == content);
        bytes twice = packed, content_twice = content;
        twice.insert(twice.end(), packed.begin(), packed.end());
        content_twice.insert(content_twice.end(), content.begin(), content.end());
        put(directory / "f.gz", twice);
        CHECK(lamella::data::read_file(directory / "f.gz", 2 * size) == content_twice);
    }
}

TEST_CASE("a gzip IDX pair is read like a raw one") {
    const scratch directory;
    put(directory / "i.gz", gzip(good_images));
    put(directory / "l.gz", gzip(good_labels));
    put(directory / "i", good_images);
    put(directory / "l", good_labels);
    const auto packed = lamella::data::read_idx(directory / "i.gz", directory / "l.gz", 10);
    const auto raw = lamella::data::read_idx(directory / "i", directory / "l", 10);
    CHECK(packed.images == raw.images);
    CHECK(packed.labels == raw.labels);
}

TEST_CASE("a damaged .gz file is refused, whatever its damage") {
    const scratch directory;
    const std::string path = directory / "f.gz";
    const auto error_of = [&](const bytes& content, std::size_t largest = 1000) {
        put(path, content);
        const std::string text = message_of<lamella::file_error>([&] { lamella::data::read_file(path, largest); });
        return text.starts_with(path + ": ") ? text.substr(path.size() + 2) : text;
    };
    const bytes content = joined({}, 500, 1, 251), packed = gzip(content);
    CHECK(error_of(content) == "gzip: expected a gzip file (it starts with 1f 8b), found another beginning");
    CHECK(error_of(joined(packed, 2)) ==
          "gzip: expected the end of the file after the packed data, found trailing garbage");
    CHECK(error_of(joined(packed, 1, 0x1f)) ==
          "gzip: expected the end of the file after the packed data, found trailing garbage");
    bytes bad_sum = packed, bad_length = packed;
    bad_sum[packed.size() - 8] ^= 1;
    bad_length[packed.size() - 1] ^= 1;
    CHECK(error_of(bad_sum) == "gzip: expected undamaged packed data, found incorrect data check");
    CHECK(error_of(bad_sum, 500) == "gzip: expected undamaged packed data, found incorrect data check");
    CHECK(error_of(bad_length) == "gzip: expected undamaged packed data, found incorrect length check");
    for (std::size_t length = 0; length < packed.size(); ++length) {
        CAPTURE(length);
        CHECK(error_of(bytes(packed.begin(), packed.begin() + static_cast<std::ptrdiff_t>(length)))
                  .starts_with("gzip: "));
        CHECK(error_of(bytes(packed.begin(), packed.begin() + static_cast<std::ptrdiff_t>(length)), 500)
                  .starts_with("gzip: "));
    }
}

TEST_CASE("a .gz file that unpacks to more than the limit is refused") {
    const scratch directory;
    const bytes bomb = gzip(bytes(20'000'000, 0));
    REQUIRE(bomb.size() < 30'000);
    put(directory / "bomb.gz", bomb);
    CHECK(message_of<lamella::file_error>([&] { lamella::data::read_file(directory / "bomb.gz", 1'000'000); }) ==
          (directory / "bomb.gz") + ": size: expected at most 1000000 bytes, found more");
    put(directory / "i.gz", gzip(numbers({2051, 1000, 1000, 1000})));
    CHECK(message_of<lamella::file_error>([&] {
              lamella::data::read_idx(directory / "i.gz", directory / "l.gz", 10);
          }).find("size: expected 1000000000 bytes after the header, as it says") != std::string::npos);
    bytes long_images = good_images;
    long_images.resize(1'000'000);
    put(directory / "i.gz", gzip(long_images));
    put(directory / "l.gz", gzip(good_labels));
    CHECK(message_of<lamella::file_error>([&] {
              lamella::data::read_idx(directory / "i.gz", directory / "l.gz", 10);
          }) == (directory / "i.gz") + ": size: expected 40 bytes of content, found more bytes after them");
}
#else
TEST_CASE("without zlib a .gz file is refused with the reason") {
    const scratch directory;
    put(directory / "f.gz", good_labels);
    CHECK(message_of<lamella::file_error>([&] { lamella::data::read_file(directory / "f.gz", 100); }) ==
          (directory / "f.gz") +
              ": gzip: expected an unpacked file, since this program was built without zlib "
              "(lamella::zlib), found a .gz file");
}
#endif

TEST_CASE("an MNIST directory with missing files or of another shape is refused") {
    const scratch directory;
    CHECK(message_of<lamella::file_error>([&] { lamella::data::read_mnist(directory / "absent"); }) ==
          (directory / "absent/train-images-idx3-ubyte") +
              ": file: expected this file, raw or .gz (examples/get-data.sh fetches it), found neither");
    put(directory / "train-images-idx3-ubyte", good_images);
    CHECK(message_of<lamella::file_error>([&] {
              lamella::data::read_mnist(directory / "");
          }).find("train-labels-idx1-ubyte: file: ") != std::string::npos);
    put(directory / "train-labels-idx1-ubyte", good_labels);
    CHECK(message_of<lamella::file_error>([&] {
              lamella::data::read_mnist(directory / "");
          }).ends_with("train-images-idx3-ubyte: shape: expected 60000 x 28 x 28, found 3 x 2 x 4"));
}

TEST_CASE("the real MNIST has its published counts, labels and pixels") {
    const char* given = std::getenv("LAMELLA_DATA");
    const fs::path directory =
        (given != nullptr ? fs::path(given) : fs::path(LAMELLA_SOURCE_DIR) / "../shared/data") / "mnist";
    const bool raw = fs::exists(directory / "train-images-idx3-ubyte");
    const bool packed = fs::exists(directory / "train-images-idx3-ubyte.gz");
    if (!raw && !(packed && LAMELLA_ZLIB)) {
        MESSAGE("skipped: no MNIST that this build can read (set LAMELLA_DATA to the directory above mnist/)");
        return;
    }
    const auto [train, test] = lamella::data::read_mnist(directory.string());
    const auto histogram = [](const lamella::data::dataset& set) {
        std::array<int, 10> counts{};
        for (const std::uint8_t label : set.labels) ++counts[label];
        return counts;
    };
    CHECK(train.size() == 60'000);
    CHECK(test.size() == 10'000);
    CHECK(histogram(train) == std::array<int, 10>{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949});
    CHECK(histogram(test) == std::array<int, 10>{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009});
    // SHA-256 of the unpacked test images, header included.
    lamella::sha256 hash;
    hash.update(numbers({2051, 10'000, 28, 28}));
    hash.update(std::span<const std::uint8_t>(test.images.data(), test.images.size()));
    CHECK(hash.finish_hex() == "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7");
}
