// What one sample costs on TaxoNN's array.
#include <cinttypes>
#include <cstdio>

#include "networks.hpp"

void example::print_costs(const lamella::accelerator::taxonn_configuration& c,
                          const lamella::accelerator::taxonn_sample& sample) {
    using lamella::accelerator::taxonn_use;
    std::printf(
        "\nOne sample on %s: %d multipliers, fill %d, drain %d, write-back %d cycles; a reconstruction.\n\n"
        "| use | multipliers | multiply-accumulates | cycles | at %d MHz, us | utilisation | second bank, weights |\n"
        "|---|---|---|---|---|---|---|\n",
        c.name.c_str(), c.multipliers, c.fill, c.drain, c.write_back, c.clock_mhz);
    for (std::size_t i = 0; i < lamella::accelerator::taxonn_use_names.size(); ++i) {
        const auto use = static_cast<taxonn_use>(i);
        const auto counts = count(c, sample, use);
        std::printf("| %s | %d | %" PRIu64 " | %" PRIu64 " | %.1f | %.1f %% | %" PRIu64 " |\n",
                    std::string(name_of(use)).c_str(), c.multipliers * taxonn_arrays(use), counts.macs, counts.cycles,
                    static_cast<double>(counts.cycles) / c.clock_mhz,
                    100 * static_cast<double>(counts.macs) / static_cast<double>(counts.capacity), counts.shadow);
    }
}
