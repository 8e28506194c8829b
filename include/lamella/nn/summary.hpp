// A network as a table: what each layer gives, how many parameters and multiply-accumulates it has, and the widths that
// its controller wants at this moment.
//
//   std::printf("%s", nn::summary(net).c_str());   // after a step, so that all memory is taken
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <type_traits>

#include "../core/memory.hpp"
#include "network.hpp"

namespace lamella::nn {

// Lines of text: layer, output (height x width x channels), parameters, MACs of one sample in FF, bits of A and W and
// of E; then the sums, and the bytes that all tensors of the process hold (core/memory.hpp).
template <class Network>
std::string summary(Network& net) {
    std::string text;
    char line[160];
    const auto row = [&](const char* name, const std::string& out, std::int64_t parameters, std::int64_t macs,
                         const std::string& bits) {
        const auto number = [](std::int64_t n) { return n == 0 ? std::string() : std::to_string(n); };
        std::snprintf(line, sizeof line, "%-34s %12s %12s %14s  %s", name, out.c_str(), number(parameters).c_str(),
                      number(macs).c_str(), bits.c_str());
        text += line;
        text.erase(text.find_last_not_of(' ') + 1);
        text += '\n';
    };
    constexpr bool fixed_widths = std::is_same_v<typename Network::arithmetic, fixed>;
    std::snprintf(line, sizeof line, "%-34s %12s %12s %14s  %s\n", "layer", "output", "parameters", "MACs",
                  fixed_widths ? "bits FF, EP" : "");
    text += line;
    std::int64_t parameters = 0, macs = 0;
    for (const layer_record& r : net.records()) {
        std::string bits;
        if constexpr (fixed_widths)
            if (r.product >= 0) {
                const precision::layer_widths w = net.engine().controller->widths(r.product);
                bits = std::to_string(std::max(w.activation, w.weight)) + ", " + std::to_string(w.error);
            }
        const std::string name = std::string(static_cast<std::size_t>(2 * r.depth), ' ') + r.name;
        row(name.c_str(), to_string(r.out), r.parameters, r.macs, bits);
        parameters += r.parameters;
        macs += r.macs;
    }
    row("total", "", parameters, macs, "");
    std::snprintf(line, sizeof line, "%.1f MB in tensors\n", static_cast<double>(tensor_bytes()) / 1e6);
    return text + line;
}

}  // namespace lamella::nn
