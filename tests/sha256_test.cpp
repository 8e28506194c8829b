#include <doctest/doctest.h>

#include <cstdint>
#include <lamella/core/sha256.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

std::string hash_of(std::string_view text) {
    lamella::sha256 hash;
    hash.update(text);
    return hash.finish_hex();
}

}  // namespace

TEST_CASE("SHA-256 gives the published answers of FIPS 180-4") {
    CHECK(hash_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(hash_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(hash_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK(hash_of("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
                  "mnopqrstnopqrstu") == "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    CHECK(hash_of(std::string(1'000'000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("bytes may come in any pieces") {
    std::vector<std::uint8_t> bytes(300);
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 7 + 3);
    for (std::size_t length = 0; length <= bytes.size(); ++length) {
        const std::string whole = lamella::sha256_hex(std::span(bytes).first(length));
        for (const std::size_t piece :
             {std::size_t{1}, std::size_t{55}, std::size_t{63}, std::size_t{64}, std::size_t{65}}) {
            lamella::sha256 hash;
            for (std::size_t at = 0; at < length; at += piece)
                hash.update(
                    std::span<const std::uint8_t>(bytes).subspan(at, piece < length - at ? piece : length - at));
            CAPTURE(length);
            CAPTURE(piece);
            REQUIRE(hash.finish_hex() == whole);
        }
    }
}

TEST_CASE("integers are hashed with the low byte first") {
    lamella::sha256 number;
    number.update_integer(0x636261u, 3);
    CHECK(number.finish_hex() == hash_of("abc"));
}
