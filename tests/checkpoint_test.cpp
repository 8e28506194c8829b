#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <lamella/io/checkpoint.hpp>
#include <lamella/io/hashes.hpp>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "scratch.hpp"

namespace {

namespace fs = std::filesystem;
using lamella::io::checkpoint;
using lamella::io::write_checkpoint;

enum class phase : std::uint8_t { first, second };

// A state with every element type, with and without exponents.
struct small_run {
    std::vector<std::int16_t> weight{1, -2, 32767, -32767, 5, 6};
    int weight_exponent = -17;
    std::vector<std::int32_t> momentum{7, -8, 2147483647};
    int momentum_exponent = 40;
    std::vector<std::int8_t> signs{-127, 0, 127};
    std::vector<std::uint8_t> bytes{0, 255};
    std::vector<std::int64_t> sums{std::numeric_limits<std::int64_t>::min(), 3};
    std::vector<std::uint64_t> counts{std::numeric_limits<std::uint64_t>::max(), 4};
    phase now = phase::second;
    bool flag = true;
    std::int16_t level = -300;
    std::uint64_t seed = 0xfedcba9876543210u;

    std::size_t rows = 2;
    int weight_width = 16;

    void visit(lamella::state_visitor& visitor) {
        {
            const lamella::state_visitor::scope layer(visitor, "layer0");
            const std::array<std::size_t, 2> shape{rows, 3};
            visitor.tensor("weight", lamella::state_kind::parameter, shape, std::span<std::int16_t>(weight),
                           weight_width, &weight_exponent);
            const std::array<std::size_t, 1> flat{momentum.size()};
            visitor.tensor("momentum", lamella::state_kind::state, flat, std::span<std::int32_t>(momentum), 32,
                           &momentum_exponent);
        }
        const lamella::state_visitor::scope rest(visitor, "run");
        visitor.integers("signs", std::span<std::int8_t>(signs));
        visitor.integers("bytes", std::span<std::uint8_t>(bytes));
        visitor.integers("sums", std::span<std::int64_t>(sums));
        visitor.integers("counts", std::span<std::uint64_t>(counts));
        visitor.integer("now", now);
        visitor.integer("flag", flag);
        visitor.integer("level", level);
        visitor.integer("seed", seed);
    }
    friend bool operator==(const small_run&, const small_run&) = default;
};

small_run other_run() {
    small_run run;
    run.weight = {9, 9, 9, 9, 9, 9};
    run.weight_exponent = 1;
    run.momentum = {1, 1, 1};
    run.momentum_exponent = 2;
    run.signs = {1, 1, 1};
    run.bytes = {1, 1};
    run.sums = {1, 1};
    run.counts = {1, 1};
    run.now = phase::first;
    run.flag = false;
    run.level = 1;
    run.seed = 1;
    return run;
}

// What loading says about a file, after its name; "" when it loads. The state must not change on an error.
std::string load_error(const std::string& path, small_run wanted = other_run()) {
    small_run run = wanted;
    try {
        checkpoint file(path);
        file.load(run);
        return "";
    } catch (const lamella::file_error& e) {
        REQUIRE(run == wanted);
        const std::string text = e.what();
        REQUIRE(text.starts_with(path + ": "));
        return text.substr(path.size() + 2);
    }
}

std::string file_of(std::string header, std::string_view data = {}) {
    std::string file;
    for (int shift = 0; shift < 64; shift += 8) file.push_back(static_cast<char>(header.size() >> shift & 255));
    return file + header + std::string(data);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}

// The file with one text in its header replaced by another and the header's length put right.
std::string edited(const std::string& file, const std::string& from, const std::string& to) {
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < 8; ++i) length |= std::uint64_t{static_cast<unsigned char>(file[i])} << (8 * i);
    return file_of(replaced(file.substr(8, length), from, to), file.substr(8 + length));
}

}  // namespace

TEST_CASE("a state comes back as it was, with what the writer said about it") {
    const scratch directory;
    small_run run, back = other_run();
    const std::string hash =
        write_checkpoint(directory / "c.safetensors", run, {{"seed", "7"}, {"näme", "Größe \"x\""}});
    checkpoint file(directory / "c.safetensors");
    file.load(back);
    CHECK(back == run);
    CHECK(file.value("seed") == "7");
    CHECK(file.value("näme") == "Größe \"x\"");
    CHECK(file.state_sha256() == hash);
    CHECK(hash == lamella::io::state_sha256(back));
    back = other_run();
    file.load(back);  // a second time from the same object
    CHECK(back == run);
    CHECK(directory.names() == std::vector<std::string>{"c.safetensors"});
}

TEST_CASE("equal states give equal files") {
    const scratch directory;
    small_run one, two;
    write_checkpoint(directory / "1", one, {{"a", "b"}});
    write_checkpoint(directory / "2", two, {{"a", "b"}});
    CHECK(get(directory / "1") == get(directory / "2"));
}

TEST_CASE("the file is safetensors: padded JSON header, aligned little-endian tensors without gaps") {
    const scratch directory;
    small_run run;
    write_checkpoint(directory / "c", run, {{"step", "12"}});
    const std::string file = get(directory / "c");
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < 8; ++i) length |= std::uint64_t{static_cast<unsigned char>(file[i])} << (8 * i);
    CHECK(length % 8 == 0);
    CHECK(file[8] == '{');
    const auto header = nlohmann::json::parse(file.substr(8, length));
    CHECK(header["__metadata__"]["step"] == "12");
    CHECK(header["__metadata__"]["lamella.width/layer0.weight"] == "16");
    CHECK(header["__metadata__"]["lamella.exponent/layer0.weight"] == "-17");
    CHECK(header["__metadata__"]["lamella.width/run.sums"] == "0");
    CHECK(!header["__metadata__"].contains("lamella.exponent/run.sums"));
    CHECK(header["layer0.weight"]["dtype"] == "I16");
    CHECK(header["layer0.weight"]["shape"] == nlohmann::json({2, 3}));
    CHECK(header["layer0.momentum"]["dtype"] == "I32");
    CHECK(header["run.signs"]["dtype"] == "I8");
    CHECK(header["run.bytes"]["dtype"] == "U8");
    CHECK(header["run.sums"]["dtype"] == "I64");
    CHECK(header["run.counts"]["dtype"] == "U64");
    std::size_t total = 0;
    for (const auto& item : header.items()) {
        const std::string& name = item.key();
        const nlohmann::json& tensor = item.value();
        if (name == "__metadata__") continue;
        const std::size_t begin = tensor["data_offsets"][0], end = tensor["data_offsets"][1];
        std::size_t count = 1;
        for (const std::size_t extent : tensor["shape"]) count *= extent;
        CAPTURE(name);
        CHECK(begin % ((end - begin) / count) == 0);
        total += end - begin;
    }
    CHECK(file.size() == 8 + length + total);
    const std::size_t weight = 8 + length + header["layer0.weight"]["data_offsets"][0].get<std::size_t>();
    CHECK(file.substr(weight, 12) == std::string("\x01\0\xfe\xff\xff\x7f\x01\x80\x05\0\x06\0", 12));
}

TEST_CASE("the hashes of weights and state are published constants") {
    small_run run;
    CHECK(lamella::io::weights_sha256(run) == "dd148272fb18a0071be31d80c4186d72666efa4ff4e4239a8a3c362c3c62d3b9");
    CHECK(lamella::io::state_sha256(run) == "10c3595ada4008009f9111761d9797993f63753535d72c608e0e921bef5f1e21");
}

TEST_CASE("the weight hash sees parameters alone, the state hash everything") {
    small_run run;
    const std::string weights = lamella::io::weights_sha256(run), state = lamella::io::state_sha256(run);
    run.momentum[0] = 8;
    CHECK(lamella::io::weights_sha256(run) == weights);
    CHECK(lamella::io::state_sha256(run) != state);
    run = {};
    run.level = 4;
    CHECK(lamella::io::weights_sha256(run) == weights);
    CHECK(lamella::io::state_sha256(run) != state);
    for (const auto& change : std::vector<void (*)(small_run&)>{
             [](small_run& r) { r.weight[2] = 3; }, [](small_run& r) { r.weight_exponent = -16; },
             [](small_run& r) { r.weight_width = 15; }, [](small_run& r) { r.rows = 1, r.weight.resize(3); }}) {
        run = {};
        change(run);
        CHECK(lamella::io::weights_sha256(run) != weights);
        CHECK(lamella::io::state_sha256(run) != state);
    }
}

TEST_CASE("a checkpoint cut short at any byte, or with a byte more, is refused and changes nothing") {
    const scratch directory;
    small_run run;
    write_checkpoint(directory / "c", run);
    const std::string file = get(directory / "c");
    for (std::size_t length = 0; length < file.size(); ++length) {
        put(directory / "cut", file.substr(0, length));
        CAPTURE(length);
        REQUIRE(load_error(directory / "cut") != "");
    }
    put(directory / "long", file + "x");
    CHECK(load_error(directory / "long").starts_with("size: expected "));
}

TEST_CASE("a checkpoint with any byte changed is refused, or loads the same state") {
    const scratch directory;
    small_run run;
    write_checkpoint(directory / "c", run, {{"note", "free text"}});
    const std::string file = get(directory / "c");
    std::size_t refused = 0;
    for (std::size_t at = 0; at < file.size(); ++at)
        for (const int flip : {0x01, 0x10, 0x80}) {
            std::string damaged = file;
            damaged[at] = static_cast<char>(damaged[at] ^ flip);
            put(directory / "d", damaged);
            CAPTURE(at);
            CAPTURE(flip);
            if (load_error(directory / "d") != "") {
                ++refused;
                continue;
            }
            small_run back = other_run();
            checkpoint(directory / "d").load(back);
            REQUIRE(back == run);
        }
    CHECK(refused > file.size() * 3 - 60);  // all but bits of the free text and of the padding
}

TEST_CASE("a file that is no checkpoint is refused with place, expectation and finding") {
    const scratch directory;
    CHECK(load_error(directory / "absent") == "file: expected a readable file, found No such file or directory");
    const auto error_of = [&](const std::string& content) {
        put(directory / "f", content);
        return load_error(directory / "f");
    };
    const auto header_error = [&](const std::string& header, std::size_t data = 0) {
        return error_of(file_of(header, std::string(data, '\0')));
    };
    CHECK(error_of("") == "header length: expected 8 bytes, found 0 bytes, then the end of the file");
    CHECK(error_of(std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)) ==
          "header length: expected at most 2 bytes, found 18446744073709551615 bytes");
    CHECK(error_of(std::string("\0\0\0\x02\0\0\0\0", 8) + std::string(1 << 25, ' ')) ==
          "header length: expected at most 16777216 bytes, found 33554432 bytes");
    CHECK(header_error("") == "header: expected a JSON object, found another beginning");
    CHECK(header_error("[]") == "header: expected a JSON object, found another beginning");
    CHECK(header_error("{").starts_with("header: expected valid JSON, found "));
    CHECK(header_error("{} x").starts_with("header: expected valid JSON, found "));
    CHECK(header_error("{\"\xff\": 1}").starts_with("header: expected valid JSON, found "));
    CHECK(header_error("{}") == "lamella.checkpoint: expected this key in __metadata__, found none");
    CHECK(header_error(R"({"__metadata__": 3})") == "__metadata__: expected an object of strings, found number");
    CHECK(header_error(R"({"__metadata__": {"a": 3}})") == "__metadata__.a: expected a string, found number");
    CHECK(header_error(R"({"__metadata__": {"lamella.checkpoint": "2"}})") ==
          "lamella.checkpoint: expected 1, found 2");
    CHECK(header_error(R"({"__metadata__": {"a": "1", "a": "2"}})") ==
          "header: expected different keys, found \"a\" twice");
    const std::string tensor = R"({"dtype": "I16", "shape": [2], "data_offsets": [0, 4]})";
    CHECK(header_error(R"({"t": )" + tensor + R"(, "t": )" + tensor + "}", 4) ==
          "header: expected different keys, found \"t\" twice");
    CHECK(header_error(R"({"t": {"dtype": "I16", "dtype": "I8"}})") ==
          "header: expected different keys, found \"dtype\" twice");
    CHECK(header_error(R"({"t": {"a": [[1]]}})") ==
          "header: expected JSON of at most three levels, found a deeper one");
    CHECK(header_error("{\"t\": " + std::string(1'000'000, '[')) ==
          "header: expected JSON of at most three levels, found a deeper one");
    CHECK(header_error(R"({"t": 1})") == "t: expected an object {dtype, shape, data_offsets}, found number");
    CHECK(header_error(R"({"t": {"dtype": "I16"}})") ==
          "t: expected the keys dtype, shape and data_offsets, found 1 keys");
    CHECK(header_error(R"({"t": {"dtype": "I16", "shape": [], "x": 1}})") ==
          "t.data_offsets: expected this key, found none");
    CHECK(header_error("{\"t\": " + replaced(tensor, "I16", "F64") + "}", 8) ==
          "t.dtype: expected I8, U8, I16, I32, I64, U64, F16, BF16 or F32, found \"F64\"");
    CHECK(header_error("{\"t\": " + replaced(tensor, "[2]", "2") + "}", 4) ==
          "t.shape: expected an array of at most 16 extents, found number");
    CHECK(header_error("{\"t\": " + replaced(tensor, "[2]", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]") + "}", 4) ==
          "t.shape: expected an array of at most 16 extents, found 17 extents");
    for (const std::string wrong : {"-2", "2.0", "\"2\"", "null", "true"})
        CHECK(header_error("{\"t\": " + replaced(tensor, "[2]", "[" + wrong + "]") + "}", 4) ==
              "t.shape: expected an integer from 0, found " + wrong);
    CHECK(header_error("{\"t\": " + replaced(tensor, "[2]", "[18446744073709551616]") + "}", 4)
              .starts_with("t.shape: expected an integer from 0, found "));
    CHECK(header_error("{\"t\": " + replaced(tensor, "[2]", "[4294967296, 4294967296]") + "}", 4) ==
          "t.shape: expected a size that fits 64 bits, found an overflow");
    CHECK(header_error("{\"t\": " + replaced(tensor, "[0, 4]", "[0]") + "}", 4) ==
          "t.data_offsets: expected [begin, end], found 1 numbers");
    CHECK(header_error("{\"t\": " + replaced(tensor, "[0, 4]", "[0, 3]") + "}", 3) ==
          "t.data_offsets: expected two offsets 4 bytes apart, found 0 and 3");
    CHECK(header_error("{\"t\": " + replaced(tensor, "[0, 4]", "[4, 0]") + "}", 4) ==
          "t.data_offsets: expected two offsets 4 bytes apart, found 4 and 0");
    CHECK(header_error("{\"t\": " + replaced(tensor, "[0, 4]", "[2, 6]") + "}", 6) ==
          "t.data_offsets: expected begin 0, without gap or overlap, found 2");
    CHECK(header_error("{\"t\": " + tensor + ", \"u\": " + tensor + "}", 4) ==
          "u.data_offsets: expected begin 4, without gap or overlap, found 0");
    CHECK(header_error("{\"t\": " + tensor + "}", 3) ==
          "size: expected 4 bytes after the header, as it says, found 3 bytes");
    CHECK(header_error("{\"t\": " + tensor + "}", 5) ==
          "size: expected 4 bytes after the header, as it says, found 5 bytes");
}

TEST_CASE("a checkpoint of another state is refused and changes nothing") {
    const scratch directory;
    small_run run;
    write_checkpoint(directory / "c", run);
    const std::string file = get(directory / "c");
    small_run reshaped = other_run();
    reshaped.rows = 3;
    reshaped.weight.resize(9);
    CHECK(load_error(directory / "c", reshaped) == "layer0.weight.shape: expected [3, 3], found [2, 3]");
    small_run narrower = other_run();
    narrower.weight_width = 12;
    CHECK(load_error(directory / "c", narrower) == "lamella.width/layer0.weight: expected 12, found 16");

    const auto edited_error = [&](const std::string& from, const std::string& to) {
        put(directory / "e", edited(file, from, to));
        return load_error(directory / "e");
    };
    CHECK(edited_error("\"run.seed\":", "\"run.seat\":") == "run.seed: expected this tensor, found none");
    CHECK(edited_error("\"dtype\":\"I8\"", "\"dtype\":\"U8\"") == "run.signs.dtype: expected I8, found U8");
    CHECK(edited_error("lamella.width/run.level", "lamella.width/run.lever") ==
          "lamella.width/run.level: expected this key in __metadata__, found none");
    CHECK(edited_error("\"lamella.exponent/layer0.weight\":\"-17\",", "") ==
          "lamella.exponent/layer0.weight: expected this key in __metadata__, found none");
    CHECK(edited_error("\"lamella.width/run.level\"",
                       "\"lamella.exponent/run.level\":\"3\",\"lamella.width/run.level\"") ==
          "lamella.exponent/run.level: expected no such key, found one");
    for (const std::string wrong : {"-32768", "32768", "", "1x", " 1", "+1", "1.0", "99999999999999999999"})
        CHECK(edited_error("\"-17\"", "\"" + wrong + "\"") ==
              "lamella.exponent/layer0.weight: expected an integer -32767..32767, found \"" + wrong + "\"");
    CHECK(edited_error("\"16\"", "\"65\"") == "lamella.width/layer0.weight: expected an integer 0..64, found \"65\"");
    CHECK(edited_error("\"-17\"", "\"-16\"").starts_with("lamella.state_sha256: expected "));

    struct larger_run : small_run {
        void visit(lamella::state_visitor& visitor) {
            small_run::visit(visitor);
            visitor.integer("extra", more);
        }
        int more = 5;
    } larger;
    write_checkpoint(directory / "l", larger);
    CHECK(load_error(directory / "l") == "extra: expected no such tensor, found one");
    CHECK(message_of<lamella::file_error>([&] {
              checkpoint(directory / "c").load(larger);
          }).ends_with("extra: expected this tensor, found none"));
}

TEST_CASE("values that a type or width cannot hold are refused before anything changes") {
    const scratch directory;
    struct loose_visit {
        small_run run;
        std::int64_t now = 1, flag = 1, level = -300;
        void visit(lamella::state_visitor& visitor) {
            {
                const lamella::state_visitor::scope layer(visitor, "layer0");
                const std::array<std::size_t, 2> shape{2, 3};
                const std::array<std::size_t, 1> flat{3};
                visitor.tensor("weight", lamella::state_kind::parameter, shape, std::span<std::int16_t>(run.weight), 16,
                               &run.weight_exponent);
                visitor.tensor("momentum", lamella::state_kind::state, flat, std::span<std::int32_t>(run.momentum), 32,
                               &run.momentum_exponent);
            }
            const lamella::state_visitor::scope rest(visitor, "run");
            visitor.integers("signs", std::span<std::int8_t>(run.signs));
            visitor.integers("bytes", std::span<std::uint8_t>(run.bytes));
            visitor.integers("sums", std::span<std::int64_t>(run.sums));
            visitor.integers("counts", std::span<std::uint64_t>(run.counts));
            visitor.integer("now", now);
            visitor.integer("flag", flag);
            visitor.integer("level", level);
            visitor.integer("seed", run.seed);
        }
    };
    loose_visit loose;
    write_checkpoint(directory / "c", loose);
    CHECK(load_error(directory / "c") == "");
    loose.now = 256;
    write_checkpoint(directory / "c", loose);
    CHECK(load_error(directory / "c") == "run.now: expected 0..255, found 256");
    loose = {};
    loose.flag = 2;
    write_checkpoint(directory / "c", loose);
    CHECK(load_error(directory / "c") == "run.flag: expected 0..1, found 2");
    loose = {};
    loose.level = -32769;
    write_checkpoint(directory / "c", loose);
    CHECK(load_error(directory / "c") == "run.level: expected -32768..32767, found -32769");

    small_run run;
    write_checkpoint(directory / "c", run);
    std::string file = get(directory / "c");
    const std::string lowest("\x01\x80\x05\0", 4);  // -32767, 5 of the weight
    put(directory / "d", replaced(file, lowest, std::string("\0\x80\x05\0", 4)));
    CHECK(load_error(directory / "d") == "layer0.weight: expected mantissas of 16 bits, found -32768");
}

TEST_CASE("a state that could not be read back is not written") {
    const scratch directory;
    const auto error_of = [&](const small_run& changed, const lamella::io::metadata& about = {}) {
        small_run run = changed;
        return message_of<lamella::argument_error>([&] { write_checkpoint(directory / "c", run, about); });
    };
    small_run run;
    run.weight[0] = -32768;
    CHECK(error_of(run) == "layer0.weight: expected mantissas of 16 bits, found -32768");
    run.weight[0] = 5;
    run.weight_width = 12;
    CHECK(error_of(run) == "layer0.weight: expected mantissas of 12 bits, found 32767");
    run = {};
    run.weight_exponent = 32768;
    CHECK(error_of(run) == "layer0.weight exponent: expected -32767..32767, found 32768");
    run = {};
    run.rows = 1;
    CHECK(error_of(run) == "layer0.weight: expected 3 elements, as its shape says, found 6");
    CHECK(error_of({}, {{"lamella.x", "y"}}) ==
          "metadata key: expected one that does not start with lamella., found lamella.x");
    CHECK(error_of({}, {{"x", "\xff"}}).starts_with("names and metadata: expected UTF-8, found "));
    struct twice {
        int value = 0;
        void visit(lamella::state_visitor& visitor) {
            visitor.integer("x", value);
            visitor.integer("x", value);
        }
    } same;
    CHECK(message_of<lamella::argument_error>([&] { write_checkpoint(directory / "c", same); }) ==
          "tensor name: expected one not used yet, found x");
    CHECK(directory.names().empty());
}

TEST_CASE("a write that fails leaves the earlier checkpoint and no temporary file") {
    const scratch directory;
    small_run run;
    write_checkpoint(directory / "c", run);
    const std::string before = get(directory / "c");
    CHECK(message_of<lamella::file_error>([&] { write_checkpoint(directory / "absent/c", run); }) ==
          (directory / "absent/c") +
              ": creating a temporary file beside it: expected success, found No such file or directory");
    fs::create_directory(directory / "d");
    CHECK(message_of<lamella::file_error>([&] { write_checkpoint(directory / "d", run); }) ==
          (directory / "d") + ": renaming: expected success, found Is a directory");

    rlimit old_limit{};
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small_limit{before.size() / 2, old_limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small_limit) == 0);
    run.weight[0] = 77;
    const std::string text = message_of<lamella::file_error>([&] { write_checkpoint(directory / "c", run); });
    setrlimit(RLIMIT_FSIZE, &old_limit);
    std::signal(SIGXFSZ, old_handler);
    CHECK(text == (directory / "c") + ": writing: expected success, found File too large");
    CHECK(get(directory / "c") == before);
    CHECK(directory.names() == std::vector<std::string>{"c", "d"});
}

TEST_CASE("an opened checkpoint loads what was checked even when another file takes its name") {
    const scratch directory;
    small_run run, later = other_run(), back;
    write_checkpoint(directory / "c", run);
    checkpoint file(directory / "c");
    write_checkpoint(directory / "c", later);
    back = other_run();
    file.load(back);
    CHECK(back == run);
    checkpoint(directory / "c").load(back);
    CHECK(back == later);
}

TEST_CASE("settings that a resumed run must share are compared") {
    const scratch directory;
    small_run run;
    write_checkpoint(directory / "c", run, {{"batch", "64"}});
    const checkpoint file(directory / "c");
    CHECK_NOTHROW(file.require_equal("batch", "64"));
    CHECK(message_of<lamella::file_error>([&] { file.require_equal("batch", "32"); }) ==
          (directory / "c") + ": batch: expected 32, found 64");
    CHECK(message_of<lamella::file_error>([&] { file.require_equal("seed", "1"); }) ==
          (directory / "c") + ": seed: expected this key in __metadata__, found none");
}
