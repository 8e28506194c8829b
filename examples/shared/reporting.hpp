// --report: what the run costs on an accelerator, while it trains (accelerator/run_costs.hpp), written as report.json,
// report.txt and report.html.
#pragma once

#include <array>
#include <filesystem>
#include <lamella/accelerator/energy_tables.hpp>
#include <lamella/accelerator/report_page.hpp>
#include <lamella/accelerator/report_text.hpp>
#include <lamella/io/atomic_file.hpp>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "options.hpp"

namespace example {

// Throws argument_error and file_error for what cannot be reported, before anything is trained.
inline lamella::accelerator::configuration make_accelerator(const options& o) {
    using namespace lamella;
    if (o.arithmetic != "fixed") throw argument_error("--report", "--arithmetic fixed", o.arithmetic);
    if (!o.resume.empty() || !o.eval.empty())
        throw argument_error("--report", "a run from its first step", !o.resume.empty() ? "--resume" : "--eval");
    accelerator::configuration c = accelerator::hnpu();
    c.encoding = slice::parse_encoding(o.encoding);
    if (o.accelerator == "hnpu") return c;
    c = accelerator::read_configuration(o.accelerator);
    if (slice::name_of(c.encoding) != o.encoding)
        throw argument_error("encoding of " + o.accelerator, "that of --encoding, " + o.encoding,
                             std::string(slice::name_of(c.encoding)));
    return c;
}

class reporting {
  public:
    template <class Network>
    reporting(Network& net, const options& o, const lamella::accelerator::slice_counts& products)
        : products_(products), folder_(o.report), tables_(lamella::accelerator::energy_tables()) {
        for (const std::string& file : o.energy) {  // in front; in place of a published one of the same name
            lamella::accelerator::energy_table own = lamella::accelerator::read_energy_table(file);
            std::erase_if(tables_, [&](const auto& t) { return t.name == own.name; });
            tables_.insert(tables_.begin(), std::move(own));
        }
        std::vector<std::uint64_t> weights;
        int moments = 0;
        each_layer(net, [&](std::size_t layer, const auto& p) {
            weights.resize(layer + 1);
            weights[layer] += p.mantissa.size();
            moments = p.state.first_moment.empty() ? 0 : p.state.second_moment.empty() ? 1 : 2;
        });
        costs_ = std::make_unique<lamella::accelerator::run_costs>(make_accelerator(o), products, std::move(weights),
                                                                   moments, o.report_every, instruction_path(o));
        net.observe(*costs_);
        std::error_code failure;
        std::filesystem::create_directories(folder_, failure);
        if (failure) throw lamella::file_error(folder_, "creating the folder", "success", failure.message());
    }

    void on_epoch(const lamella::train::epoch_info& e) { facts_.epochs.push_back({e.loss, e.accuracy}); }

    template <class Network, class Sets>
    void write(Network& net, const options& o, const Sets& data, const lamella::train::evaluation& test,
               std::uint64_t steps, const std::string& rate, const std::string& weights_sha256) {
        facts_.network = o.model;
        facts_.layers_described = net.description();
        facts_.data = data.train.name;
        facts_.controller = net.engine().controller->description();
        facts_.optimizer = o.optimizer + ", rate " + rate + " " + o.schedule + ", momentum " + o.momentum + ", decay " +
                           o.weight_decay;
        facts_.weights_sha256 = weights_sha256;
        facts_.train_samples = data.train.size();
        facts_.valid_samples = data.valid ? data.valid->size() : 0;
        facts_.test_samples = test.samples;
        facts_.epochs_asked = o.epochs;
        facts_.batch = o.batch;
        facts_.seed = o.seed;
        facts_.steps = steps;
        facts_.test_accuracy = test.accuracy();
        facts_.test_loss = test.loss;
        facts_.layers.assign(costs_->weights().size(), {});
        each_layer(net, [&](std::size_t layer, const auto& p) {
            facts_.layers[layer].weights += p.mantissa.size();
            for (std::size_t i = 0; i < p.mantissa.size(); ++i) facts_.layers[layer].nonzero += p.mantissa[i] != 0;
        });
        for (std::size_t l = 0; l < facts_.layers.size(); ++l) {
            const auto widths = net.engine().controller->widths(static_cast<int>(l));
            facts_.layers[l].activation = widths.activation;
            facts_.layers[l].weight = widths.weight;
            facts_.layers[l].error = widths.error;
        }
        const lamella::accelerator::json_report report =
            lamella::accelerator::make_report(facts_, *costs_, products_, tables_);
        put("report.json", report.dump(1) + "\n");
        put("report.txt", lamella::accelerator::report_text(report));
        put("report.html", lamella::accelerator::report_page(report));
    }

  private:
    // A layer with a GEMM begins with its weights; what follows, biases and normalisation, goes with it.
    template <class Network, class Visit>
    static void each_layer(Network& net, Visit&& visit) {
        std::size_t layers = 0;
        net.parameters([&](const auto& p) {
            if (p.shape.size() > 1) ++layers;
            visit(layers - 1, p);
        });
    }
    void put(const std::string& name, const std::string& text) const {
        const std::array pieces{std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size())};
        lamella::io::write_file_atomically((std::filesystem::path(folder_) / name).string(), pieces);
    }

    const lamella::accelerator::slice_counts& products_;
    std::string folder_;
    std::vector<lamella::accelerator::energy_table> tables_;
    std::unique_ptr<lamella::accelerator::run_costs> costs_;
    lamella::accelerator::run_facts facts_;
};

}  // namespace example
