// Fuzz targets: everything that reads a file nobody vouches for, but the state of a run (states.hpp).
#pragma once

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <lamella/accelerator/configuration_json.hpp>
#include <lamella/accelerator/energy_json.hpp>
#include <lamella/accelerator/energy_tables.hpp>
#include <lamella/data/cifar.hpp>
#include <lamella/data/file.hpp>
#include <lamella/data/idx.hpp>
#include <lamella/inference/characterisation_json.hpp>
#include <lamella/io/safetensors.hpp>
#include <string>
#include <utility>
#include <vector>

#include "target.hpp"

namespace fuzz {

namespace data = lamella::data;
namespace io = lamella::io;
namespace accelerator = lamella::accelerator;

// IDX: an input is the length of the images' file (16 bits, little-endian), that file, then the labels' file.

inline bytes big_endian(std::initializer_list<std::uint32_t> values) {
    bytes out;
    for (const std::uint32_t v : values)
        for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(v >> shift));
    return out;
}
inline void append(bytes& to, input more) { to.insert(to.end(), more.begin(), more.end()); }
inline bytes idx_images(const data::dataset& set, std::uint32_t samples) {
    bytes file =
        big_endian({2051, samples, static_cast<std::uint32_t>(set.height()), static_cast<std::uint32_t>(set.width())});
    append(file, {set.images.data(), set.images.size()});
    return file;
}
inline bytes idx_labels(const data::dataset& set, std::uint32_t samples) {
    bytes file = big_endian({2049, samples});
    append(file, {set.labels.data(), set.labels.size()});
    return file;
}
inline bytes idx_input(const bytes& images, const bytes& labels) {
    bytes all{static_cast<std::uint8_t>(images.size()), static_cast<std::uint8_t>(images.size() >> 8)};
    append(all, images);
    append(all, labels);
    return all;
}

inline void run_idx(input content) {
    static const scratch_file images("images"), labels("labels");
    if (content.size() < 2) return;
    const std::size_t wanted = content[0] + 256u * content[1], first = std::min(wanted, content.size() - 2);
    const input of_images = content.subspan(2, first), of_labels = content.subspan(2 + first);
    const auto set = accepted([&] { return data::read_idx(images.holding(of_images), labels.holding(of_labels), 10); });
    if (!set) return;
    data::require_valid(*set);
    const auto samples = static_cast<std::uint32_t>(set->size());
    require(std::ranges::equal(idx_images(*set, samples), of_images), "an accepted IDX file is what was read of it");
    require(std::ranges::equal(idx_labels(*set, samples), of_labels), "accepted IDX labels are what was read of them");
}

inline std::vector<bytes> idx_seeds() {
    data::dataset set = data::make_dataset(3, 4, 5, 1, 10, "seed");
    for (std::size_t i = 0; i < set.images.size(); ++i) set.images.data()[i] = static_cast<std::uint8_t>(37 * i);
    for (std::size_t i = 0; i < set.size(); ++i) set.labels(i) = static_cast<std::uint8_t>(4 + i);
    const bytes images = idx_images(set, 3), labels = idx_labels(set, 3);
    const data::dataset none = data::make_dataset(0, 4, 5, 1, 10, "none");
    return {idx_input(images, labels),
            idx_input(idx_images(none, 0), idx_labels(none, 0)),
            idx_input(images, idx_labels(set, 4)),
            idx_input(big_endian({2051, 0xffffffff, 16384, 16384}), big_endian({2049, 0xffffffff})),
            idx_input(big_endian({2051, 0x10000, 0x10000, 0x10000}), labels),
            idx_input(big_endian({2051, 0x100, 0x1000, 0x1000}), big_endian({2049, 0x100}))};
}

// CIFAR-10: the first byte says how many records the file should have, 1 or 2.

inline void run_cifar(input content) {
    static const scratch_file file("records");
    if (content.empty()) return;
    const std::size_t records = 1 + content[0] % 2;
    const input stored = content.subspan(1);
    const std::array<std::string, 1> paths{file.holding(stored)};
    const auto set = accepted([&] { return data::read_cifar10_files(paths, records); });
    if (!set) return;
    data::require_valid(*set);
    constexpr std::size_t plane = data::cifar_side * data::cifar_side;
    bytes again;
    for (std::size_t i = 0; i < set->size(); ++i) {
        again.push_back(set->labels(i));
        for (std::size_t c = 0; c < 3; ++c)
            for (std::size_t p = 0; p < plane; ++p) again.push_back(set->image(i)[3 * p + c]);
    }
    require(std::ranges::equal(again, stored), "an accepted CIFAR-10 file is what was read of it");
}

inline std::vector<bytes> cifar_seeds() {
    bytes one(1 + 3073, 9), two(1 + 2 * 3073, 3);
    one[0] = 0;
    two[0] = 1;
    bytes wrong_label = two;
    wrong_label[1 + 3073] = 10;
    return {one, two, wrong_label, bytes(1 + 3072), bytes{1, 2, 3}};
}

// gzip: the input is the packed file.

inline bytes packed(input content, int level = 6) {
    z_stream stream{};
    require(deflateInit2(&stream, level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK, "zlib packs");
    bytes out(deflateBound(&stream, content.size()) + 64), from(content.begin(), content.end());
    stream.next_in = from.data();
    stream.avail_in = static_cast<uInt>(from.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(out.size());
    const int result = deflate(&stream, Z_FINISH);
    out.resize(out.size() - stream.avail_out);
    deflateEnd(&stream);
    require(result == Z_STREAM_END, "zlib packs");
    return out;
}

inline void run_gzip(input content) {
    static const scratch_file file("packed.gz");
    constexpr std::size_t most = 1 << 20;
    const std::string& path = file.holding(content);
    const auto whole = accepted([&] { return data::read_file(path, most); });
    if (!whole) return;
    require(whole->size() <= most, "a packed file has no more content than its reader allows");
    data::file_reader reader(path);
    bytes pieces(whole->size() + 1);
    std::size_t done = 0;
    for (std::size_t piece = 1; piece != 0 && done < pieces.size(); done += piece)
        piece = reader.read_some(std::span(pieces).subspan(done, std::min(pieces.size() - done, 1 + done % 4099)));
    pieces.resize(done);
    require(pieces == *whole, "content does not depend on the sizes that it is read in");
    require(data::read_file(file.holding(packed(*whole, 1)), most) == *whole, "content packed again is the same");
}

inline std::vector<bytes> gzip_seeds() {
    bytes text = copy_of("a thin layer, a thin slice"), noise;
    for (std::uint32_t i = 0, x = 1; i < 300; ++i)
        noise.push_back(static_cast<std::uint8_t>((x = x * 69069 + 1) >> 24));
    bytes members = packed(text), cut = packed(noise), garbage = packed(text);
    append(members, packed(noise, 0));
    append(members, packed({}));
    cut.resize(cut.size() / 2);
    garbage.push_back(0);
    const bytes bomb(8 << 20);  // eight times what the reader allows, packed a thousandfold
    return {packed(text), packed(noise, 9), packed({}), members, cut, garbage, packed(bomb)};
}

// safetensors: the input is the file.

inline void run_safetensors(input content) {
    static const scratch_file file("tensors"), copy("tensors-again");
    data::file_reader reader(file.holding(content), data::unpacking::never);
    const auto header = accepted([&] { return io::read_safetensors_header(reader); });
    if (!header) return;
    bytes stored(header->data_bytes());
    reader.read(stored, "tensors");
    reader.require_end();
    std::vector<input> pieces;
    for (const io::tensor_entry& tensor : header->tensors) {
        require(tensor.begin <= tensor.end && tensor.end <= stored.size(), "an accepted tensor lies in the file");
        pieces.push_back(input(stored).subspan(tensor.begin, tensor.end - tensor.begin));
    }
    io::write_safetensors(copy.path(), *header, pieces);
    data::file_reader again(copy.path(), data::unpacking::never);
    const io::safetensors_header same = io::read_safetensors_header(again);
    require(same.about == header->about && same.data_bytes() == stored.size(), "metadata survives being written");
    for (const io::tensor_entry& tensor : header->tensors)
        require(std::ranges::find(same.tensors, tensor) != same.tensors.end(), "a tensor survives being written");
}

// A file with this header as it stands, then zeros.
inline bytes safetensors_file(const std::string& header, std::size_t zeros) {
    bytes file;
    for (int shift = 0; shift < 64; shift += 8) file.push_back(static_cast<std::uint8_t>(header.size() >> shift));
    append(file, bytes_of(header));
    file.resize(file.size() + zeros);
    return file;
}

inline std::vector<bytes> safetensors_seeds() {
    const scratch_file file("seed");
    const bytes sums{1, 2, 3, 4, 5, 6, 7, 8}, weights{9, 10, 11, 12, 13, 14};
    const std::array<input, 2> pieces{sums, weights};
    io::write_safetensors(file.path(),
                          {{{"seed", "7"}, {"näme", "\"x\""}},
                           {{"sums", io::element_type::i64, {1}, 0, 8}, {"w", io::element_type::i16, {3, 1}, 8, 14}}},
                          pieces);
    const auto one = [](const std::string& shape, const std::string& offsets, std::size_t zeros) {
        return safetensors_file(R"({"w":{"dtype":"I8","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}",
                                zeros);
    };
    bytes long_header = safetensors_file("{}", 0);
    long_header[5] = 1;
    return {file.content(),
            one("[2,2]", "[0,4]", 4),
            one("[0,18446744073709551615]", "[0,0]", 0),
            one("[4294967296,4294967296]", "[0,0]", 0),
            one("[1e3]", "[0,1000]", 0),
            one("[1099511627776]", "[0,1099511627776]", 0),
            one("[-1]", "[0,-1]", 0),
            long_header,
            safetensors_file(R"({"__metadata__":{"a":"b","a":"c"}})", 0),
            safetensors_file(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4),
            safetensors_file("{\"a\":" + std::string(900, '[') + std::string(900, ']') + "}", 0)};
}

// Accelerator configuration and table of energies: the input is the text.

template <class Read>
void run_json(input content, Read&& read) {
    const auto value = accepted([&] { return read(text_of(content)); });
    if (!value) return;
    const std::string written = to_json(*value);
    require(to_json(read(written)) == written, "what was accepted survives being written and read");
}
inline void run_configuration(input content) {
    run_json(content, [](const std::string& text) { return accelerator::configuration_from_json(text, "machine"); });
}
inline std::vector<bytes> configuration_seeds() {
    return {copy_of(to_json(accelerator::hnpu())),
            copy_of(to_json(accelerator::dense_16_native(accelerator::hnpu()))),
            copy_of("{}"),
            copy_of(R"({"lanes": 4, "lanes": 4})"),
            copy_of(R"({"lanes": 1e999})"),
            copy_of(R"({"lanes": -9223372036854775809, "cores": 18446744073709551615})"),
            copy_of(R"({"order": ["batch", "batch", "batch", "batch"], "window": 3})"),
            copy_of(std::string(2000, '['))};
}
inline void run_energy(input content) {
    run_json(content, [](const std::string& text) { return accelerator::energy_table_from_json(text, "table"); });
}
inline std::vector<bytes> energy_seeds() {
    std::vector<bytes> seeds;
    for (const accelerator::energy_table& table : accelerator::energy_tables())
        seeds.push_back(copy_of(to_json(table)));
    const auto table = [](const std::string& product, const std::string& bit) {
        return copy_of(R"({"name":"n","arithmetic":{"process":"p","source":"s",)" + product +
                       R"(},"dram":{"source":"s","bit":)" + bit + "}}");
    };
    for (const char* const bit : {"1e999", "-1", "NaN", "Infinity", "-0.0", "1e-400", "null", "\"1\""})
        seeds.push_back(table(R"("product_bit2":0.1)", bit));
    seeds.push_back(table(R"("products":{"4":1,"04":2,"16":3})", "4"));
    seeds.push_back(table(R"("products":{"4":1,"4":2})", "4"));
    return seeds;
}

// Characterisation of a network at several widths: the input is the text.

inline void run_characterisation(input content) {
    run_json(content,
             [](const std::string& text) { return lamella::inference::characterisation_from_json(text, "known"); });
}
inline std::vector<bytes> characterisation_seeds() {
    lamella::inference::characterisation c;
    c.weights_sha256 = std::string(64, 'a');
    c.network = "linear(3)";
    c.data = "seed";
    c.classes = 3;
    c.labels = {0, 1, 2, 1};
    c.tables = {{"horowitz", "pJ", 1000}};
    c.widths = {{4, 10, {100}, {0, 1, 1, 1}, {5, 6, 7, 8}, 3}, {16, 40, {900}, {0, 1, 2, 1}, {9, 10, 11, 12}, 4}};
    const std::string good = to_json(c);
    const auto with = [&](const std::string& old, const std::string& fresh) {
        std::string text = good;
        return copy_of(text.replace(text.find(old), old.size(), fresh));
    };
    return {copy_of(good),
            with("[0,1,2,1]", "[]"),
            with("[0,1,2,1]", "[0,1,2,1,1]"),
            with("900", "9e300"),
            with("900", "18446744073709551615"),
            with("16", "4"),
            with(":3,", ":257,"),
            with("horowitz", "\\ud800")};
}

inline const std::vector<target>& targets() {
    static const std::vector<target> all{{"idx", run_idx, idx_seeds, 256},
                                         {"cifar", run_cifar, cifar_seeds, 6200},
                                         {"gzip", run_gzip, gzip_seeds, 1024},
                                         {"safetensors", run_safetensors, safetensors_seeds, 2048},
                                         {"configuration", run_configuration, configuration_seeds, 1024},
                                         {"energy", run_energy, energy_seeds, 2048},
                                         {"characterisation", run_characterisation, characterisation_seeds, 1024}};
    return all;
}

}  // namespace fuzz
