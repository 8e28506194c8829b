// Accelerator configurations: what validation and the JSON reader accept and refuse.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <lamella/accelerator/configuration_json.hpp>
#include <lamella/accelerator/taxonn_json.hpp>

using namespace lamella;
using namespace lamella::accelerator;

namespace {

// The message that reading fails with, or nothing.
std::string refused(const std::string& text) {
    try {
        configuration_from_json(text, "machine.json");
    } catch (const file_error& e) {
        return e.what();
    }
    return {};
}

bool refuses(const std::string& text, const std::vector<std::string>& words) {
    const std::string message = refused(text);
    INFO(text << " -> " << message);
    bool all = message.starts_with("machine.json: ");
    for (const std::string& word : words) all = all && message.find(word) != std::string::npos;
    CHECK(all);
    return all;
}

}  // namespace

TEST_CASE("a configuration survives JSON") {
    configuration c = hnpu();
    CHECK(configuration_from_json(to_json(c), "x") == c);
    c.name = "other \"one\"";
    c.cores = 4;
    c.window = 64;
    c.index = index_format::run_length;
    c.balance = lane_balance::none;
    c.input_skip = false;
    c.overflow = overflow::wrap;
    c.products = product_kind::sixteen_bit_slices;
    c.encoding = slice::encoding::signed_slice;
    c.order = {dimension::input_channels, dimension::plane_pairs, dimension::output_channels, dimension::batch};
    CHECK(configuration_from_json(to_json(c), "x") == c);
    CHECK(configuration_from_json("{}", "x") == hnpu());
    CHECK(configuration_from_json(R"({"lanes": 3})", "x").lanes == 3);
}

TEST_CASE("what is no configuration is refused by name") {
    refuses("", {"JSON"});
    refuses("{", {"JSON"});
    refuses("[]", {"an object"});
    refuses("7", {"an object"});
    refuses(R"({"lane": 4})", {"lane", "unknown key"});
    refuses(R"({"lanes": 4, "lanes": 4})", {"lanes", "twice"});
    refuses(R"({"lanes": "4"})", {"lanes", "1 to 256", "\"4\""});
    refuses(R"({"lanes": 4.0})", {"lanes", "integer"});
    refuses(R"({"lanes": 0})", {"lanes", "found 0"});
    refuses(R"({"lanes": -1})", {"lanes", "found -1"});
    refuses(R"({"lanes": 18446744073709551615})", {"lanes", "18446744073709551615"});
    refuses(R"({"lanes": 1e999})", {"JSON"});
    refuses(R"({"lanes": {"a": 1}})", {"flat"});
    refuses(R"({"cores": 12})", {"cores", "power of two", "12"});
    refuses(R"({"window": 24})", {"window", "power of two"});
    refuses(R"({"balance": "best"})", {"balance", "iterative", "best"});
    refuses(R"({"balance": 1})", {"balance", "iterative"});
    refuses(R"({"input_skip": 1})", {"input_skip", "true or false"});
    refuses(R"({"name": 1})", {"name", "a string"});
    refuses(R"({"order": ["batch"]})", {"order", "4 names"});
    refuses(R"({"order": ["batch", "batch", "plane-pairs", "input-channels"]})", {"order", "output-channels"});
    refuses(R"({"order": [["batch"], 1, 2, 3]})", {"flat"});
    CHECK_THROWS_AS(read_configuration("/nowhere/machine.json"), file_error);
}

TEST_CASE("a directory is no file to read a configuration from") {
    CHECK_THROWS_WITH_AS(read_configuration("."),
                         ".: file: expected one that can be read, found an error while reading", file_error);
}

TEST_CASE("validation names the field") {
    configuration c = hnpu();
    CHECK(&validated(c) == &c);
    const auto message = [](const configuration& bad) {
        try {
            validated(bad);
        } catch (const argument_error& e) {
            return std::string(e.what());
        }
        return std::string();
    };
    c.banks = 9;
    CHECK(message(c) == "banks: expected 1..8, found 9");
    c = hnpu();
    c.accumulator_bits = 65;
    CHECK(message(c).starts_with("accumulator_bits: "));
    c = hnpu();
    c.order[0] = c.order[1];
    CHECK(message(c).starts_with("order: "));
    each_number(
        c, [](std::string_view, int value, int lowest, int highest) { CHECK((lowest <= value && value <= highest)); });
}

TEST_CASE("TaxoNN's array survives JSON, and what is none is refused by name") {
    taxonn_configuration c = taxonn();
    CHECK(taxonn_from_json(to_json(c), "x") == c);
    CHECK(taxonn_from_json("{}", "x") == taxonn());
    c = {"small", 64, 20, 1, 2, 3, 4};
    CHECK(taxonn_from_json(to_json(c), "x") == c);
    const auto message = [](const std::string& text) {
        try {
            taxonn_from_json(text, "machine.json");
        } catch (const file_error& e) {
            return std::string(e.what());
        }
        return std::string();
    };
    CHECK(message("[]") == "machine.json: configuration: expected an object, found array");
    CHECK(message(R"({"lanes": 4})") ==
          "machine.json: lanes: expected a field of a configuration, found an unknown key");
    CHECK(message(R"({"fill": 1001})") == "machine.json: fill: expected an integer from 0 to 1000, found 1001");
    CHECK(message(R"({"name": 4})").starts_with("machine.json: name: expected a string"));
    CHECK(message(R"({"multipliers": 8, "split": 8})") ==
          "machine.json: configuration: expected values that fit together, found split: expected fewer than the "
          "multipliers, 8, found 8");
    CHECK_THROWS_AS(read_taxonn("/nowhere/machine.json"), file_error);
}
