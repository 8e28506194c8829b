// The report of a training run on an accelerator, as one JSON object: what an evaluation must state (Sze et al., Proc.
// IEEE 2017, section 8), for the machine and for the dense ones that it is measured against. report_text.hpp and
// report_page.hpp print and draw this object and compute nothing. Needs nlohmann-json (`lamella::json`).
//
// Each figure is {"value", "unit", "basis"}, each table has a "basis" of its own:
//
//   measured   of the run itself: accuracy, loss
//   counted    exact, from every step of the run
//   sampled    exact for the sampled steps, from their real operands; a mean step
//   modelled   what a block's model makes of sampled counts: cycles, time, traffic, energy
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "configuration_json.hpp"
#include "control.hpp"
#include "energy_json.hpp"
#include "run_costs.hpp"

namespace lamella::accelerator {

// What only the program that trained knows.
struct run_facts {
    struct epoch {
        double loss = 0, accuracy = 0;  // over the epoch's training batches
    };
    struct layer {
        std::uint64_t weights = 0, nonzero = 0;     // master mantissas, biases included
        int activation = 0, weight = 0, error = 0;  // widths at the end, bits
    };
    std::string network, layers_described, data, controller, optimizer, weights_sha256;
    std::uint64_t train_samples = 0, test_samples = 0, valid_samples = 0;
    std::uint64_t epochs_asked = 0, batch = 0, seed = 0, steps = 0;
    double test_accuracy = 0, test_loss = 0;
    std::vector<epoch> epochs;
    std::vector<layer> layers;
};

// A report as JSON, its keys in the order in which they are shown.
using json_report = nlohmann::ordered_json;

namespace detail {

inline json_report figure(const json_report& value, std::string_view unit, std::string_view basis) {
    return {{"value", value}, {"unit", unit}, {"basis", basis}};
}
inline double share_of(std::uint64_t x, std::uint64_t y) {
    return y == 0 ? 0 : static_cast<double>(x) / static_cast<double>(y);
}

inline constexpr std::array all_stages{stage::feed_forward, stage::error_propagation, stage::weight_gradient,
                                       stage::weight_update};

// Makes the parts of a report out of one run's costs.
class report_maker {
  public:
    report_maker(const run_facts& facts, const run_costs& costs, const slice_counts& products,
                 const std::vector<energy_table>& tables)
        : facts_(facts), costs_(costs), products_(products), tables_(tables), last_(costs.machines().size() - 1) {}

    json_report make() const {
        json_report r;
        r["lamella_report"] = 1;
        r["basis"] = {
            {"measured", "of the run itself"},
            {"counted", "exact, from every step of the run"},
            {"sampled",
             "exact for the sampled steps, from their real operands; a mean step, without a controller's probes"},
            {"modelled",
             "what the model of a block makes of sampled counts; sizes and inner workings are reconstructions"}};
        r["run"] = run();
        r["machine"] = nlohmann::ordered_json::parse(to_json(costs_.machines()[last_].how));
        for (std::size_t m = 0; m <= last_; ++m) r["machines"].push_back(machine_of(m));
        for (const energy_table& t : tables_) r["energy"].push_back(energy(t));
        r["traffic"] = traffic_by_tensor();
        for (int layer = 0; layer < costs_.layers(); ++layer) r["layers"].push_back(layer_of(layer));
        r["series"] = series();
        return r;
    }

  private:
    std::uint64_t steps() const { return std::max<std::uint64_t>(1, costs_.steps()); }
    double a_step(std::uint64_t sum) const { return share_of(sum, steps()); }

    json_report run() const {
        json_report r;
        r["network"] = facts_.network;
        r["layers"] = facts_.layers_described;
        r["data"] = facts_.data;
        r["split"] = {{"train", figure(facts_.train_samples, "images", "measured")},
                      {"validation", figure(facts_.valid_samples, "images", "measured")},
                      {"test", figure(facts_.test_samples, "images", "measured")}};
        r["controller"] = facts_.controller;
        r["optimizer"] = facts_.optimizer;
        r["weights_sha256"] = facts_.weights_sha256;
        r["seed"] = facts_.seed;
        r["epochs"] = facts_.epochs_asked;
        r["batch"] = facts_.batch;
        r["steps"] = figure(facts_.steps, "steps", "measured");
        r["sampled_steps"] = figure(costs_.steps(), "steps", "sampled");
        r["test_accuracy"] = figure(facts_.test_accuracy, "share", "measured");
        r["test_loss"] = figure(facts_.test_loss, "nats", "measured");
        for (std::size_t e = 0; e < facts_.epochs.size(); ++e)
            r["training"].push_back({{"epoch", e + 1},
                                     {"accuracy", facts_.epochs[e].accuracy},
                                     {"loss", facts_.epochs[e].loss},
                                     {"basis", "measured"}});
        std::uint64_t weights = 0, nonzero = 0, effective = 0;
        for (const run_facts::layer& l : facts_.layers) {
            weights += l.weights;
            nonzero += l.nonzero;
        }
        for (int layer = 0; layer < costs_.layers(); ++layer)
            for (std::size_t s = 0; s < 3; ++s) effective += costs_.macs(layer, all_stages[s]).effective;
        r["weights"] = figure(weights, "weights", "counted");
        r["nonzero_weights"] = figure(nonzero, "weights", "counted");
        r["macs"] = figure(a_step(all_macs()), "multiply-accumulates a step", "sampled");
        r["effective_macs"] =
            figure(a_step(effective), "multiply-accumulates a step whose streamed operand is not zero", "sampled");
        const stage_counts all = products_.total();
        r["slice_products"] = {{"dense16", figure(all.dense16, "slice products of the run", "counted")},
                               {"dense", figure(all.dense, "slice products of the run", "counted")},
                               {"issued", figure(all.issued, "slice products of the run", "counted")},
                               {"probe", figure(all.probe, "slice products of the run", "counted")}};
        for (std::size_t s = 0; s < 3; ++s)
            r["mean_width"][std::string(name_of(all_stages[s]))] =
                figure(static_cast<double>(products_.total(all_stages[s]).mean_width_256()) / 256, "bits", "counted");
        return r;
    }

    std::uint64_t all_macs() const {
        std::uint64_t sum = 0;
        for (int layer = 0; layer < costs_.layers(); ++layer)
            for (std::size_t s = 0; s < 3; ++s) sum += costs_.macs(layer, all_stages[s]).all;
        return sum;
    }

    // A mean step on one machine.
    json_report machine_of(std::size_t m) const {
        const configuration& how = costs_.machines()[m].how;
        json_report r;
        r["name"] = costs_.machines()[m].name;
        r["basis"] = "modelled";
        stage_cost all;
        for (const stage s : all_stages) {
            stage_cost sum;
            for (int layer = 0; layer < costs_.layers(); ++layer) sum += costs_.at(m, layer, s);
            all += sum;
            json_report& stage_report = r["stages"][std::string(name_of(s))];
            stage_report["cycles"] = a_step(sum.datapath.cycles);
            stage_report["products"] = a_step(sum.actions.products);
            stage_report["utilisation"] = share_of(sum.actions.products, sum.datapath.capacity);
            stage_report["dram_bytes"] = a_step(sum.actions.memory.total(memory_level::dram).bits()) / 8;
        }
        const auto line = schedule(training_step(costs_.layers()), [&](const phase& p) {
            return costs_.at(m, p.layer, p.where).datapath.cycles / steps();
        });
        const auto compute = static_cast<double>(end_of(line));
        const double dram = a_step(all.actions.memory.total(memory_level::dram).bits());
        const double waiting = dram / how.dram_bits_a_cycle;
        const double cycles = std::max(compute, waiting);
        const double seconds = cycles / how.clock_mhz * 1e-6;
        r["compute_cycles"] = figure(compute, "cycles a step, updates beside the array", "modelled");
        r["dram_cycles"] =
            figure(waiting, "cycles a step at " + std::to_string(how.dram_bits_a_cycle) + " bits a cycle", "modelled");
        r["cycles"] = figure(cycles, "cycles a step, the longer of the two", "modelled");
        r["bound_by"] = compute >= waiting ? "array" : "dram";
        r["latency"] = figure(seconds, "s a step at " + std::to_string(how.clock_mhz) + " MHz", "modelled");
        r["throughput"] = figure(seconds == 0 ? 0 : static_cast<double>(facts_.batch) / seconds,
                                 "training samples a second", "modelled");
        r["utilisation"] =
            figure(share_of(all.actions.products, all.datapath.capacity), "share of multiplier cycles", "modelled");
        const datapath_counts& d = all.datapath;
        const std::uint64_t lanes = d.busy + d.scanning + d.waiting;
        r["lanes"] = {{"issuing", share_of(d.busy, lanes)},
                      {"scanning", share_of(d.scanning, lanes)},
                      {"waiting", share_of(d.waiting, lanes)}};
        for (std::size_t l = 0; l < memory_level_names.size(); ++l)
            r["bytes"][std::string(memory_level_names[l])] =
                a_step(all.actions.memory.total(static_cast<memory_level>(l)).bits()) / 8;
        return r;
    }

    // In millions of the table's unit, for pJ that is microjoules.
    static json_report levels_of(const energy_split& e, double scale) {
        return {
            {"arithmetic", e.arithmetic * scale}, {"registers", e.registers * scale}, {"network", e.network * scale},
            {"buffer", e.buffer * scale},         {"dram", e.dram * scale},           {"total", e.total() * scale}};
    }
    json_report energy(const energy_table& t) const {
        json_report r = nlohmann::ordered_json::parse(to_json(t));
        json_report out;
        out["table"] = t.name;
        out["process"] = process_of(t);
        out["unit"] = t.unit == "pJ" ? "\u00b5J a step" : "10^6 " + t.unit + "s a step";
        out["basis"] = "modelled";
        out["charged"] = t.whole_chip         ? "products with the whole chip in them, DRAM"
                         : t.memories.empty() ? "products, DRAM; the source has no memories"
                         : t.has_network      ? "products, registers, network, buffer, DRAM"
                                              : "products, registers, buffer, DRAM; the source has no network";
        out["source"] = std::move(r);
        const double scale = 1e-6 / static_cast<double>(steps());
        std::vector<energy_split> sums;
        for (std::size_t m = 0; m <= last_; ++m) {
            energy_split sum;
            for (int layer = 0; layer < costs_.layers(); ++layer)
                for (const stage s : all_stages)
                    sum += energy_of(t, costs_.machines()[m].how, costs_.at(m, layer, s).actions);
            out["machines"].push_back(levels_of(sum, scale));
            sums.push_back(sum);
        }
        const auto gains = [&](auto&& part) {
            const double own = part(sums[last_]), native = part(sums[0]), slices = part(sums[1]);
            return json_report{{"native", own == 0 ? 0 : native / own},
                               {"slices", own == 0 ? 0 : slices / own},
                               {"cheaper", own == 0 ? 0 : std::min(native, slices) / own}};
        };
        out["gain"] = gains([](const energy_split& e) { return e.total(); });
        out["gain_on_chip"] = gains([](const energy_split& e) { return e.on_chip(); });
        if (t.unit ==
            "pJ") {  // two operations a logical multiply-accumulate, skipped ones as well, as chips are reported
            const double operations = 2 * static_cast<double>(all_macs());
            for (const auto& [name, m] : {std::pair<std::string, std::size_t>{"machine", last_}, {"native", 0}})
                out["efficiency"][name] = {{"on_chip", operations / sums[m].on_chip()},
                                           {"with_dram", operations / sums[m].total()},
                                           {"unit", "TOPS/W, effective"}};
        }
        for (const double bit : t.dram_sensitivity) {
            const auto with = [&](const energy_split& e) {
                return e.on_chip() + (t.dram_bit == 0 ? 0 : e.dram / t.dram_bit * bit);
            };
            out["sensitivity"].push_back(
                {{"dram_bit", bit}, {"total", with(sums[last_]) * scale}, {"gain", gains(with)["cheaper"]}});
        }
        for (const stage s : all_stages) {
            energy_split sum;
            for (int layer = 0; layer < costs_.layers(); ++layer)
                sum += energy_of(t, costs_.machines()[last_].how, costs_.at(last_, layer, s).actions);
            out["stages"][std::string(name_of(s))] = levels_of(sum, scale);
        }
        const json_report own = levels_of(sums[last_], scale);
        std::string_view largest = "arithmetic";
        for (const std::string_view part : {"registers", "network", "buffer", "dram"})
            if (own[std::string(part)].get<double>() > own[std::string(largest)].get<double>()) largest = part;
        const double total = own["total"].get<double>();
        out["limit"] = {{"part", largest}, {"share", total == 0 ? 0 : own[std::string(largest)].get<double>() / total}};
        return out;
    }

    // Bytes a step by tensor and level, of the machine and of the first baseline.
    json_report traffic_by_tensor() const {
        json_report r;
        r["basis"] = "modelled";
        r["unit"] = "bytes a step";
        for (const auto& [key, m] : {std::pair<std::string, std::size_t>{"machine", last_}, {"native", 0}}) {
            const memory_counts all = costs_.total(m).actions.memory;
            for (std::size_t k = 0; k < tensor_kind_names.size(); ++k)
                for (std::size_t l = 0; l < memory_level_names.size(); ++l)
                    r[key][std::string(tensor_kind_names[k])][std::string(memory_level_names[l])] =
                        a_step(all.of[k][l].bits()) / 8;
            r[key + "_transposed"] = a_step(all.transposed);
        }
        return r;
    }

    json_report layer_of(int layer) const {
        const run_facts::layer& facts = facts_.layers.at(static_cast<std::size_t>(layer));
        json_report r;
        r["layer"] = layer;
        r["weights"] = figure(facts.weights, "weights", "counted");
        r["nonzero_weights"] = figure(facts.nonzero, "weights", "counted");
        r["widths_at_the_end"] = {{"activation", facts.activation},
                                  {"weight", facts.weight},
                                  {"error", facts.error},
                                  {"unit", "bits"},
                                  {"basis", "measured"}};
        for (const role what : {role::activation, role::weight, role::error}) {
            const operand_slices& s = products_.share(layer, what);
            r["zero_slices"][std::string(name_of(what))] =
                figure(share_of(s.zero, s.all), "share, mean over the run", "counted");
        }
        for (const stage s : all_stages) {
            const stage_cost& cost = costs_.at(last_, layer, s);
            json_report& out = r["stages"][std::string(name_of(s))];
            out["basis"] = "sampled and modelled";
            if (s != stage::weight_update) {
                const mac_counts& macs = costs_.macs(layer, s);
                out["macs"] = a_step(macs.all);
                out["effective_macs"] = a_step(macs.effective);
                out["products"] = a_step(cost.actions.products);
                out["mean_width"] = static_cast<double>(products_.at(layer, s).mean_width_256()) / 256;
                out["utilisation"] = share_of(cost.actions.products, cost.datapath.capacity);
            }
            out["cycles"] = a_step(cost.datapath.cycles);
            for (std::size_t l = 0; l < memory_level_names.size(); ++l)
                out["bytes"][std::string(memory_level_names[l])] =
                    a_step(cost.actions.memory.total(static_cast<memory_level>(l)).bits()) / 8;
            for (const energy_table& t : tables_)
                out["energy"][t.name] = levels_of(energy_of(t, costs_.machines()[last_].how, cost.actions),
                                                  1e-6 / static_cast<double>(steps()));
        }
        return r;
    }

    json_report series() const {
        json_report r;
        r["basis"] = "sampled";
        r["steps"] = json_report::array();
        for (int layer = 0; layer < costs_.layers(); ++layer) r["layers"].push_back({{"layer", layer}});
        for (const layer_sample& s : costs_.samples()) {
            if (s.layer == 0) r["steps"].push_back(s.step);
            json_report& out = r["layers"][static_cast<std::size_t>(s.layer)];
            for (std::size_t what = 0; what < 3; ++what) {
                const std::string name(role_names[what]);
                out["width"][name].push_back(s.width[what]);
                out["zero_slices"][name].push_back(share_of(s.slices[what].zero, s.slices[what].all));
            }
        }
        return r;
    }

    const run_facts& facts_;
    const run_costs& costs_;
    const slice_counts& products_;
    const std::vector<energy_table>& tables_;
    std::size_t last_;
};

}  // namespace detail

// Throws argument_error when facts and costs are of different numbers of layers, and for tables that energy_of refuses.
inline json_report make_report(const run_facts& facts, const run_costs& costs, const slice_counts& products,
                               const std::vector<energy_table>& tables) {
    if (facts.layers.size() != static_cast<std::size_t>(costs.layers()))
        throw argument_error("report layers", std::to_string(costs.layers()), std::to_string(facts.layers.size()));
    return detail::report_maker(facts, costs, products, tables).make();
}

}  // namespace lamella::accelerator
