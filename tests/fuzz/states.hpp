// Fuzz targets: checkpoints. Their hash proves that a file is whole, not that this library wrote it, so a state with a
// right hash is untrusted too: "state" edits the tensors of a good run, writes them as a checkpoint, and trains on.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <lamella/io/checkpoint.hpp>
#include <lamella/io/float_weights.hpp>
#include <lamella/io/hashes.hpp>
#include <lamella/nn/network.hpp>
#include <lamella/nn/pool.hpp>
#include <lamella/precision/parse.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "../training.hpp"
#include "target.hpp"

namespace fuzz {

namespace io = lamella::io;

// checkpoint: the input is the file.

// Every element type, with and without exponent, and single integers of a small range.
struct small_state {
    std::array<std::int16_t, 6> weight{1, -2, 32767, -32767, 5, 6};
    int exponent = -17;
    std::array<std::int8_t, 2> signs{-127, 127};
    std::array<std::uint8_t, 1> flags{255};
    std::array<std::int32_t, 1> moment{1 << 30};
    std::array<std::int64_t, 1> sum{-3};
    std::array<std::uint64_t, 1> count{4};
    bool started = true;
    std::int16_t level = -300;

    void visit(lamella::state_visitor& visitor) {
        const std::array<std::size_t, 2> shape{2, 3};
        visitor.tensor("weight", lamella::state_kind::parameter, shape, std::span<std::int16_t>(weight), 16, &exponent);
        visitor.integers("signs", std::span<std::int8_t>(signs));
        visitor.integers("flags", std::span<std::uint8_t>(flags));
        visitor.integers("moment", std::span<std::int32_t>(moment));
        visitor.integers("sum", std::span<std::int64_t>(sum));
        visitor.integers("count", std::span<std::uint64_t>(count));
        visitor.integer("started", started);
        visitor.integer("level", level);
    }
    friend bool operator==(const small_state&, const small_state&) = default;
};

inline void run_checkpoint(input content) {
    static const scratch_file file("checkpoint"), copy("checkpoint-again");
    small_state state, untouched;
    const auto loaded = accepted([&] {
        io::checkpoint stored(file.holding(content));
        stored.load(state);
        return stored.state_sha256();
    });
    if (!loaded) {
        require(state == untouched, "a checkpoint that is refused changes nothing");
        return;
    }
    require(*loaded == io::state_sha256(state), "a state is what its file's hash says");
    io::write_checkpoint(copy.path(), state);
    small_state again;
    io::checkpoint stored(copy.path());
    stored.load(again);
    require(again == state, "a state survives being written");
}

inline std::vector<bytes> checkpoint_seeds() {
    const scratch_file file("seed");
    small_state state;
    io::write_checkpoint(file.path(), state, {{"model", "none"}});
    bytes damaged = file.content(), cut = damaged;
    damaged.back() ^= 1;
    cut.pop_back();
    return {file.content(), damaged, cut};
}

// state: byte 0 chooses the controller, byte 1 the optimizer's rule; then edits of 13 bytes: tensor (2), element (2),
// what (1: even, the element; odd, the exponent), value (8), all little-endian.

struct raw_tensor {
    std::string name;
    lamella::state_kind kind;
    std::vector<std::size_t> shape;
    std::variant<std::vector<std::int8_t>, std::vector<std::uint8_t>, std::vector<std::int16_t>,
                 std::vector<std::int32_t>, std::vector<std::int64_t>, std::vector<std::uint64_t>>
        values;
    int width;
    std::optional<int> exponent;
};

// A copy of all that a part names, which can be written as a checkpoint whatever its values are.
class raw_state final : public lamella::state_visitor {
  public:
    std::vector<raw_tensor> tensors;

    void visit(lamella::state_visitor& visitor) {
        for (raw_tensor& t : tensors)
            std::visit(
                [&](auto& values) {
                    visitor.tensor(t.name, t.kind, t.shape, std::span(values), t.width,
                                   t.exponent ? &*t.exponent : nullptr);
                },
                t.values);
    }
    void edit(std::uint64_t tensor, std::uint64_t element, bool exponent, std::uint64_t value) {
        raw_tensor& t = tensors[tensor % tensors.size()];
        if (exponent) {
            if (t.exponent) t.exponent = static_cast<int>(static_cast<std::int16_t>(value));
            return;
        }
        std::visit(
            [&](auto& values) {
                using integer = typename std::decay_t<decltype(values)>::value_type;
                if (!values.empty()) values[element % values.size()] = static_cast<integer>(value);
            },
            t.values);
    }

  private:
    void on_tensor(const std::string& name, lamella::state_kind kind, std::span<const std::size_t> shape,
                   lamella::integer_span values, int width, int* exponent) override {
        raw_tensor& t = tensors.emplace_back(raw_tensor{name, kind, std::vector(shape.begin(), shape.end()),
                                                        std::vector<std::int8_t>{}, width, std::nullopt});
        if (exponent != nullptr) t.exponent = *exponent;
        std::visit(
            [&](auto span) {
                t.values =
                    std::vector<std::remove_const_t<typename decltype(span)::element_type>>(span.begin(), span.end());
            },
            values);
    }
};

inline constexpr std::array<const char*, 6> fuzzed_controllers{
    "laps:0.2:0.1:1:1:0",        "cyclic:4:8:6",
    "progressive:4-8-16:2:0.1",  "gradient-diversity:5-8-16:2",
    "quantisation-error:0.05:1", "laps:0.2:0.1:1:2:1/fixed:8"};
inline constexpr std::array<lamella::optim::rule, 3> fuzzed_rules{
    lamella::optim::rule::momentum, lamella::optim::rule::adam, lamella::optim::rule::sign};

inline constexpr auto fuzzed_model = lamella::nn::sequential(
    lamella::nn::conv2d{3, 3, 1, 1, false}, lamella::nn::batch_norm{}, lamella::nn::relu{},
    lamella::nn::residual(lamella::nn::sequential(lamella::nn::conv2d{3, 3, 1, 1})), lamella::nn::max_pool2d{2},
    lamella::nn::flatten{}, lamella::nn::dropout{10}, lamella::nn::linear{3});

inline auto fuzzed_run(std::size_t controller, std::size_t rule) {
    using network = lamella::nn::network<lamella::nn::fixed, std::remove_const_t<decltype(fuzzed_model)>>;
    static const lamella::data::dataset set = testing::noisy_images(5, 8, {6, 6, 1}, 3);
    lamella::optim::optimizer_settings settings;
    settings.rule = fuzzed_rules[rule];
    return testing::training_run<network>(
        {fuzzed_model, {6, 6, 1}, {}, 9, lamella::precision::parse_controller(fuzzed_controllers[controller])},
        settings, set, 4, 6);
}

inline void run_state(input content) {
    static const scratch_file file("state");
    if (content.size() < 2) return;
    const std::size_t controller = content[0] % fuzzed_controllers.size(), rule = content[1] % fuzzed_rules.size();
    static const auto written = [] {
        std::array<std::array<raw_state, fuzzed_rules.size()>, fuzzed_controllers.size()> states;
        for (std::size_t c = 0; c < states.size(); ++c)
            for (std::size_t r = 0; r < states[c].size(); ++r) {
                auto run = fuzzed_run(c, r);
                run.steps(0, 2);
                run.visit(states[c][r]);
            }
        return states;
    }();
    raw_state state = written[controller][rule];
    const auto number = [](input from) {
        std::uint64_t value = 0;
        for (std::size_t i = from.size(); i-- > 0;) value = value << 8 | from[i];
        return value;
    };
    for (std::size_t at = 2; at + 13 <= content.size(); at += 13)
        state.edit(number(content.subspan(at, 2)), number(content.subspan(at + 2, 2)), content[at + 4] % 2 != 0,
                   number(content.subspan(at + 5, 8)));
    try {
        io::write_checkpoint(file.path(), state);
    } catch (const lamella::argument_error&) {
        return;  // the writer refuses what the reader would
    }
    auto run = fuzzed_run(controller, rule);
    const auto loaded = accepted([&] {
        io::checkpoint stored(file.path());
        stored.load(run);
        return true;
    });
    if (!loaded) return;
    run.steps(2, 3);
    lamella::train::evaluate(run.net, run.set);
}

inline std::vector<bytes> state_seeds() {
    std::vector<bytes> seeds;
    for (std::uint8_t controller = 0; controller < fuzzed_controllers.size(); ++controller)
        seeds.push_back({controller, static_cast<std::uint8_t>(controller % fuzzed_rules.size())});
    // Each tensor's first element and its exponent at their ends.
    for (std::uint8_t tensor = 0; tensor < 60; ++tensor)
        for (const std::uint8_t what : {std::uint8_t{0}, std::uint8_t{1}}) {
            bytes lowest{tensor, tensor, tensor, 0, 0, 0, what}, highest = lowest;
            lowest.insert(lowest.end(), {0, 0x80, 0, 0, 0, 0, 0, 0x80});
            highest.insert(highest.end(), {0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f});
            seeds.push_back(lowest);
            seeds.push_back(highest);
        }
    return seeds;
}

// floats: the input is a file of weights for the same network.

inline void run_floats(input content) {
    static const scratch_file file("floats"), copy("floats-again");
    auto run = fuzzed_run(0, 0);
    const std::string before = io::weights_sha256(run.net);
    const auto imported = accepted([&] {
        io::import_float(run.net, file.holding(content));
        return true;
    });
    if (!imported) {
        require(io::weights_sha256(run.net) == before, "a file of weights that is refused changes nothing");
        return;
    }
    try {
        io::export_float(run.net, copy.path());
    } catch (const lamella::argument_error&) {
        return;  // the largest float of F32, rounded up
    }
    const bytes written = copy.content();
    io::import_float(run.net, copy.path());
    io::export_float(run.net, copy.path());
    require(copy.content() == written, "weights survive being written and read");
    run.steps(0, 2);
}

inline std::vector<bytes> floats_seeds() {
    const scratch_file file("seed");
    auto run = fuzzed_run(0, 0);
    run.steps(0, 2);
    io::export_float(run.net, file.path());
    std::vector<bytes> seeds{file.content()};
    // The last value, a weight, becomes a NaN, an infinity, the largest number, the least one above zero.
    for (const std::uint32_t bits : {0x7fc00000u, 0xff800000u, 0x7f7fffffu, 0x00000001u}) {
        bytes& edited = seeds.emplace_back(seeds.front());
        for (std::size_t i = 0; i < 4; ++i) edited[edited.size() - 4 + i] = static_cast<std::uint8_t>(bits >> (8 * i));
    }
    return seeds;
}

inline const std::vector<target>& targets() {
    static const std::vector<target> all{{"checkpoint", run_checkpoint, checkpoint_seeds, 4096},
                                         {"state", run_state, state_seeds, 2 + 13 * 8},
                                         {"floats", run_floats, floats_seeds, 4096}};
    return all;
}

}  // namespace fuzz
