// Energy of a run: counts are ours, tables are data. A table says what one action costs; each of its parts names its
// source and its process, and parts of two processes are never added up. energy_tables.hpp has the published ones,
// energy_json.hpp reads yours.
//
//   arithmetic   by products: of 4 x 4-bit slices, or 16 x 16 bits (native machine, optimizer core)
//   registers, buffer  by bits read and written, at the table's memory that is just large enough; a memory larger than
//   the
//                largest is made of banks of that size, and wires between banks cost nothing
//   network      by bits, where the source has a figure; otherwise counted and not charged
//   dram         by bits. Off the chip, so without a process: a stated sensitivity, not a part of the node
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "memory.hpp"

namespace lamella::accelerator {

// What one product of bits x bits costs, in its table's unit.
struct product_energy {
    int bits = 0;
    double each = 0;
};
// What a memory of a size costs a bit that is read or written, in its table's unit.
struct memory_energy {
    std::uint64_t bytes = 0;
    double read = 0, write = 0;
};

// Energies of one process, each group with the source that it was taken from.
struct energy_table {
    std::string name;
    std::string unit = "pJ";  // of every figure

    struct origin {
        std::string process, source;
    };
    origin arithmetic_from;
    std::vector<product_energy> products;  // empty: the law below
    double product_bit2 = 0;               // a product costs this x bits x bits ...
    double sum_bit = 0;                    // ... and this x bits of its accumulator
    bool whole_chip = false;               // products include every memory on the chip: nothing else on it is charged

    origin memory_from;
    std::vector<memory_energy> memories;  // by size, the smallest first; empty: not charged

    origin network_from;
    double network_bit = 0;
    bool has_network = false;

    std::string dram_source;
    double dram_bit = 0;
    std::vector<double> dram_sensitivity;  // other values a bit to print totals for
};

// The one process of all parts on the chip. Throws argument_error when there are two, or nothing to charge products
// with.
inline const std::string& process_of(const energy_table& t) {
    const std::string& process = t.arithmetic_from.process;
    const auto same = [&](std::string_view part, const std::string& own) {
        if (own != process)
            throw argument_error(t.name + " " + std::string(part), "the process of its arithmetic, " + process, own);
    };
    if (!t.memories.empty()) same("memory", t.memory_from.process);
    if (t.has_network) same("network", t.network_from.process);
    if (t.products.empty() && t.product_bit2 <= 0)
        throw argument_error(t.name + " arithmetic", "energies of products", "none");
    return process;
}

// Energies in the table's unit. Sums are of one table only.
struct energy_split {
    std::string table, unit, process;
    double arithmetic = 0, registers = 0, network = 0, buffer = 0, dram = 0;

    double on_chip() const noexcept { return arithmetic + registers + network + buffer; }
    double total() const noexcept { return on_chip() + dram; }
    // Throws argument_error for an energy of another table, process or unit.
    energy_split& operator+=(const energy_split& o) {
        if (table.empty() && unit.empty()) {
            *this = o;
            return *this;
        }
        if (o.process != process) throw argument_error("energy", "one process in a total, " + process, o.process);
        if (o.table != table || o.unit != unit)
            throw argument_error("energy", "one table in a total, " + table + " in " + unit, o.table + " in " + o.unit);
        for (const auto part : {&energy_split::arithmetic, &energy_split::registers, &energy_split::network,
                                &energy_split::buffer, &energy_split::dram})
            this->*part += o.*part;
        return *this;
    }
};

// What is charged of a stage.
struct action_counts {
    std::uint64_t products = 0;         // of slices, or of 16 bits on a native machine
    std::uint64_t summed_bits = 0;      // over products, bits of the accumulator
    std::uint64_t update_products = 0;  // of 16 x 16 bits, in the optimizer core
    memory_counts memory;

    friend bool operator==(const action_counts&, const action_counts&) = default;
    action_counts& operator+=(const action_counts& o) noexcept {
        products += o.products;
        summed_bits += o.summed_bits;
        update_products += o.update_products;
        memory += o.memory;
        return *this;
    }
};

// 16 x 16-bit products of an element's update: its coefficients and moments have up to 32 bits, four products each.
// Decay, b1, c1 and the rate; with a second moment also b2, c2, the square, two of a Newton step and the product with
// the root.
constexpr std::uint64_t update_products(int moments) noexcept { return 4 * (moments == 2 ? 10 : 4); }

// Throws argument_error when the table has no product of `bits` bits.
inline double product_energy_of(const energy_table& t, int bits) {
    if (t.products.empty()) return t.product_bit2 * bits * bits;
    std::string known;
    for (const product_energy& p : t.products) {
        if (p.bits == bits) return p.each;
        known += (known.empty() ? "" : ", ") + std::to_string(p.bits);
    }
    throw argument_error(t.name + " products", "one of " + std::to_string(bits) + " bits", known);
}

// The smallest of the table's memories that holds so many bytes, else the largest.
inline const memory_energy& memory_energy_of(const energy_table& t, std::uint64_t bytes) {
    for (const memory_energy& m : t.memories)
        if (m.bytes >= bytes) return m;
    return t.memories.back();
}

// Throws as process_of and product_energy_of do.
inline energy_split energy_of(const energy_table& t, const configuration& c, const action_counts& n) {
    energy_split e{t.name, t.unit, process_of(t)};
    const auto count = [](std::uint64_t x) { return static_cast<double>(x); };
    e.arithmetic = count(n.products) * product_energy_of(t, c.products == product_kind::native ? 16 : 4) +
                   count(n.summed_bits) * t.sum_bit + count(n.update_products) * product_energy_of(t, 16);
    if (!t.memories.empty()) {
        const auto charge = [&](memory_level l, std::uint64_t bytes) {
            const memory_energy& m = memory_energy_of(t, bytes);
            const traffic all = n.memory.total(l);
            return count(all.read_bits) * m.read + count(all.write_bits) * m.write;
        };
        e.registers = charge(memory_level::registers, static_cast<std::uint64_t>(c.register_bytes));
        e.buffer = charge(memory_level::buffer, static_cast<std::uint64_t>(c.buffer_kbytes) * 1024);
    }
    // A sum that leaves for the buffer, or comes back, and an operand on its way to a PE: one transfer each.
    if (t.has_network) e.network = count(n.memory.total(memory_level::network).bits()) * t.network_bit;
    e.dram = count(n.memory.total(memory_level::dram).bits()) * t.dram_bit;
    return e;
}

}  // namespace lamella::accelerator
