// Published energies of actions, as data: what each source says, and nothing else. "Derived" is arithmetic on its
// figures. Chips and multipliers at reduced precision are reported as points, so tables without a memory charge none
// (energy.hpp).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "energy.hpp"

namespace lamella::accelerator {

namespace detail {

// Bit Fusion's repository: CACTI, 45 nm, a 32-bit word read / written, pJ: 128 B 0.68 / 0.93, 1 KB 1.13 / 3.30, 8 KB
// 6.39 / 5.56, 16 KB 9.98 / 8.42.
inline void add_cacti_45nm(energy_table& t) {
    t.memory_from = {"45 nm", "CACTI points of Bit Fusion's simulator (GitHub hsharma35/bitfusion), 32-bit words"};
    t.memories = {{128, 0.68 / 32, 0.93 / 32},
                  {1024, 1.13 / 32, 3.30 / 32},
                  {8192, 6.39 / 32, 5.56 / 32},
                  {16384, 9.98 / 32, 8.42 / 32}};
}
inline constexpr std::string_view bit_fusion =
    "Bit Fusion's repository (GitHub hsharma35/bitfusion): TSMC 45 nm, 500 MHz, dynamic power over frequency (derived)";

}  // namespace detail

// 45 nm: multiply-accumulate units of one width each, as Bit Fusion's authors have them; memories of CACTI.
inline energy_table bit_fusion_fixed() {
    energy_table t;
    t.name = "bitfusion-fixed";
    t.arithmetic_from = {"45 nm", std::string(detail::bit_fusion) + ", multiply-accumulate units of one width"};
    t.products = {{2, 0.057}, {4, 0.120}, {8, 0.298}, {16, 0.947}};
    detail::add_cacti_45nm(t);
    t.dram_source = "Bit Fusion's simulator, its default; a comment beside it says 6";
    t.dram_bit = 15;
    t.dram_sensitivity = {6, 10, 15, 20, 40};
    return t;
}

// The same with Bit Fusion's own unit, 16 to 2 bits.
inline energy_table bit_fusion_fusible() {
    energy_table t = bit_fusion_fixed();
    t.name = "bitfusion-fusible";
    t.arithmetic_from.source =
        std::string(detail::bit_fusion) + ", fusible unit 16 to 2 bits, equal power in every mode";
    t.products = {{2, 0.036}, {4, 0.146}, {8, 0.583}, {16, 2.33}};
    return t;
}

// 45 nm: Horowitz' keynote of ISSCC 2014, memories of CACTI.
inline energy_table horowitz() {
    energy_table t;
    t.name = "horowitz";
    t.arithmetic_from = {
        "45 nm",
        "Horowitz, ISSCC 2014, Fig. 1.1.9, 45 nm 0.9 V: int8 multiply 0.2 pJ, int32 add 0.1 pJ; the law "
        "0.2 x bits^2 / 64 + 0.1 x accumulator bits / 32 (derived)"};
    t.product_bit2 = 0.2 / 64;
    t.sum_bit = 0.1 / 32;
    detail::add_cacti_45nm(t);
    t.dram_source = "Horowitz, ISSCC 2014: 640 pJ for 32 bits (derived, 20 pJ a bit)";
    t.dram_bit = 20;
    t.dram_sensitivity = {6, 10, 15, 20, 40};
    return t;
}

// Relative to a 16-bit multiply-accumulate: Chen et al., ISCA 2016.
inline energy_table eyeriss_normalised() {
    energy_table t;
    t.name = "eyeriss-normalised";
    t.unit = "16-bit MAC";
    t.arithmetic_from = {
        "65 nm",
        "Chen et al., ISCA 2016, Table IV (Sze et al. 2017, Fig. 22): MAC 1, register file 1, network 2, "
        "buffer 6, DRAM 200; times bits / 16 an operand, the law of public re-implementations"};
    t.product_bit2 = 1.0 / 256;
    t.memory_from = t.network_from = t.arithmetic_from;
    t.memories = {{1024, 1.0 / 16, 1.0 / 16}, {100 * 1024, 6.0 / 16, 6.0 / 16}};
    t.has_network = true;
    t.network_bit = 2.0 / 16;
    t.dram_source = "the same table";
    t.dram_bit = 200.0 / 16;
    return t;
}

// 40 nm, a multiplier of 4, 8 or 16 bits at run time: Moons et al., DATE 2017.
inline energy_table dvafs_multiplier() {
    energy_table t;
    t.name = "dvafs-multiplier";
    t.arithmetic_from = {"40 nm",
                         "Moons et al., DATE 2017, reading notes: 16 bits 2.63 pJ a word at 1.1 V, 500 MHz; 4 x 4 bits "
                         "at 0.75 V, 125 MHz more "
                         "than 95 % below a fixed 16-bit one's 2.16 (derived, an upper bound of 0.11)"};
    t.products = {{4, 0.11}, {16, 2.63}};
    t.dram_source = "not in the source; 20 pJ a bit as in Horowitz, ISSCC 2014";
    t.dram_bit = 20;
    t.dram_sensitivity = {6, 10, 15, 20, 40};
    return t;
}

// 28 nm, a whole chip: Envision.
inline energy_table envision() {
    energy_table t;
    t.name = "envision";
    t.arithmetic_from = {
        "28 nm",
        "Moons et al., DATE 2017 and Envision, reading notes, whole chip: 16 bits 0.3 TOPS/W (3.3 pJ an operation, "
        "derived), 4 x 4 bits at 50 MHz 4.2 TOPS/W (0.24, derived); two operations a product"};
    t.products = {{4, 2 * 0.24}, {16, 2 * 3.3}};
    t.whole_chip = true;
    t.dram_source = "not in the source; 20 pJ a bit as in Horowitz, ISSCC 2014";
    t.dram_bit = 20;
    t.dram_sensitivity = {6, 10, 15, 20, 40};
    return t;
}

// All of the above, in the order in which reports show them.
inline std::vector<energy_table> energy_tables() {
    return {bit_fusion_fixed(), bit_fusion_fusible(), horowitz(), eyeriss_normalised(), dvafs_multiplier(), envision()};
}

}  // namespace lamella::accelerator
