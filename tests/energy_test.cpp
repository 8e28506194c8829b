// Energy tables: the published figures, what a stage is charged, and what is refused.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <lamella/accelerator/energy_json.hpp>
#include <lamella/accelerator/energy_tables.hpp>

#include "scratch.hpp"

using namespace lamella;
using namespace lamella::accelerator;

namespace {

action_counts some_actions() {
    action_counts n;
    n.products = 1000;
    n.summed_bits = 24000;
    n.update_products = 16;
    n.memory.at(tensor_kind::partial_sum, memory_level::registers) = {10, 5, 320, 160};
    n.memory.at(tensor_kind::weight, memory_level::network) = {7, 0, 112, 0};
    n.memory.at(tensor_kind::activation, memory_level::buffer) = {4, 2, 64, 32};
    n.memory.at(tensor_kind::gradient, memory_level::dram) = {1, 1, 40, 40};
    return n;
}

}  // namespace

TEST_CASE("a stage is charged what its table says, level by level") {
    const action_counts n = some_actions();
    const energy_split fixed = energy_of(bit_fusion_fixed(), hnpu(), n);
    CHECK(fixed.arithmetic == doctest::Approx(1000 * 0.120 + 16 * 0.947));
    CHECK(fixed.registers == doctest::Approx(10 * 0.68 + 5 * 0.93));  // 128 bytes: 32 bits a word
    CHECK(fixed.network == 0);                                        // no figure in the source
    CHECK(fixed.buffer == doctest::Approx(2 * 9.98 + 1 * 8.42));      // banks of 16 KB
    CHECK(fixed.dram == doctest::Approx(80 * 15));
    CHECK(fixed.total() == fixed.arithmetic + fixed.registers + fixed.network + fixed.buffer + fixed.dram);

    configuration native = dense_16_native(hnpu());
    CHECK(energy_of(bit_fusion_fusible(), native, n).arithmetic == doctest::Approx(1016 * 2.33));
    CHECK(energy_of(horowitz(), hnpu(), n).arithmetic == doctest::Approx(1000 * 0.05 + 24000 * 0.1 / 32 + 16 * 0.8));

    const energy_split eyeriss = energy_of(eyeriss_normalised(), native, n);
    CHECK(eyeriss.unit == "16-bit MAC");
    CHECK(eyeriss.arithmetic == doctest::Approx(1016));
    CHECK(eyeriss.registers == doctest::Approx(480.0 / 16));
    CHECK(eyeriss.network == doctest::Approx(2 * 112.0 / 16));
    CHECK(eyeriss.buffer == doctest::Approx(6 * 96.0 / 16));
    CHECK(eyeriss.dram == doctest::Approx(200 * 80.0 / 16));

    const energy_split chip = energy_of(envision(), hnpu(), n);
    CHECK(chip.on_chip() == doctest::Approx(1000 * 0.48 + 16 * 6.6));
    CHECK(chip.registers == 0);
}

TEST_CASE("every table names its sources, one process, and both products that the machines need") {
    for (const energy_table& t : energy_tables()) {
        CAPTURE(t.name);
        CHECK(!t.arithmetic_from.source.empty());
        CHECK(!process_of(t).empty());
        CHECK((t.memories.empty() || !t.memory_from.source.empty()));
        CHECK(!t.dram_source.empty());
        CHECK(product_energy_of(t, 4) < product_energy_of(t, 16));
        CHECK((t.dram_sensitivity.empty() || t.dram_sensitivity == std::vector<double>{6, 10, 15, 20, 40}));
    }
    CHECK(message_of<argument_error>([] { product_energy_of(envision(), 8); }).find("4, 16") != std::string::npos);
}

TEST_CASE("two nodes never stand in one total") {
    energy_table mixed = bit_fusion_fixed();
    mixed.memory_from.process = "28 nm";
    CHECK(message_of<argument_error>([&] { energy_of(mixed, hnpu(), some_actions()); }) ==
          "bitfusion-fixed memory: expected the process of its arithmetic, 45 nm, found 28 nm");
    energy_split sum;
    sum += energy_of(bit_fusion_fixed(), hnpu(), some_actions());
    sum += energy_of(bit_fusion_fixed(), hnpu(), some_actions());
    CHECK(sum.total() == 2 * energy_of(bit_fusion_fixed(), hnpu(), some_actions()).total());
    CHECK_THROWS_AS(sum += energy_of(envision(), hnpu(), some_actions()), argument_error);
    CHECK_THROWS_AS(sum += energy_of(horowitz(), hnpu(), some_actions()), argument_error);  // one node, another table
    CHECK_THROWS_AS(sum += energy_of(eyeriss_normalised(), hnpu(), some_actions()), argument_error);
}

TEST_CASE("a table is the same after it has been written and read") {
    for (const energy_table& t : energy_tables()) {
        const energy_table read = energy_table_from_json(to_json(t), "file");
        CHECK(to_json(read) == to_json(t));
        const energy_split a = energy_of(read, hnpu(), some_actions()), b = energy_of(t, hnpu(), some_actions());
        CHECK(a.total() == b.total());
        CHECK(a.process == b.process);
    }
}

TEST_CASE("files of tables are refused with the field at fault") {
    const auto refuses = [](const std::string& text, const std::string& part) {
        const std::string message = message_of<file_error>([&] { energy_table_from_json(text, "mine.json"); });
        CAPTURE(text);
        CAPTURE(message);
        CHECK(message.find("mine.json: ") == 0);
        CHECK(message.find(part) != std::string::npos);
    };
    const std::string good =
        R"({"name": "mine", "arithmetic": {"process": "7 nm", "source": "me", "products": {"4": 0.01, "16": 0.1}},)"
        R"( "dram": {"source": "me", "bit": 4}})";
    CHECK(energy_table_from_json(good, "mine.json").products.size() == 2);
    const auto with = [&](const std::string& old, const std::string& fresh) {
        std::string text = good;
        return text.replace(text.find(old), old.size(), fresh);
    };
    refuses("{", "JSON");
    refuses("[]", "object");
    refuses(with("\"name\": \"mine\", ", ""), "name");
    refuses(with("\"me\", \"products\"", "3, \"products\""), "arithmetic.source");
    refuses(with("0.01", "-1"), "arithmetic.products.4");
    refuses(with("\"4\"", "\"x\""), "arithmetic.products");
    refuses(with("\"16\"", "\"04\""), "arithmetic.products");
    refuses(with("\"bit\": 4", "\"bits\": 4"), "dram.bits");
    refuses(with("\"bit\": 4", "\"bit\": 1e999"), "JSON");
    refuses(with("\"name\"", "\"nmae\": 1, \"name\""), "nmae");
    const auto memory = [&](const std::string& process, const std::string& size) {
        return with("\"dram\"", R"("memory": {"process": ")" + process + R"(", "source": "me", "sizes": [)" + size +
                                    R"(]}, "dram")");
    };
    refuses(memory("5 nm", R"({"bytes": 64, "read": 1, "write": 1})"), "7 nm");
    refuses(memory("7 nm", R"({"bytes": 64, "read": 1})"), "memory.sizes[0].write");
    refuses(memory("7 nm", R"({"bytes": 64, "read": 1, "write": 1}, {"bytes": 64, "read": 1, "write": 1})"),
            "memory.sizes[1].bytes");
    CHECK_THROWS_AS(read_energy_table("/nowhere/table.json"), file_error);
}
