// What the program does with a network: train or load it, characterise it or load that, choose, measure, print.
#pragma once

#include <cmath>
#include <lamella/accelerator/energy_tables.hpp>
#include <lamella/inference/characterisation_json.hpp>
#include <lamella/inference/dynamic_width.hpp>
#include <string>
#include <vector>

#include "../shared/session.hpp"
#include "tables.hpp"

namespace example {

struct dynamic_options {
    std::vector<int> widths{3, 4, 5, 6, 7, 8, 9, 12, 16};
    std::vector<double> bounds{1.0, 0.5, 0.2, 0.1};
    std::size_t pass = 64;
    bool weights_stay = false;
    std::string save, load;
};

inline void declare(CLI::App& app, dynamic_options& d) {
    const char* group = "Dynamic width";
    app.add_option("--widths", d.widths, "widths to characterise, ascending")
        ->delimiter(',')
        ->capture_default_str()
        ->group(group);
    app.add_option("--bounds", d.bounds,
                   "percentage points that may be lost against the widest width; a choice for each")
        ->delimiter(',')
        ->check(CLI::Range(0.0, 100.0))
        ->capture_default_str()
        ->group(group);
    app.add_option("--pass", d.pass, "images that the accelerator runs at once; weights are fetched once a pass")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->group(group);
    app.add_flag("--weights-stay", d.weights_stay, "weights wait in the accelerator's buffer and not in DRAM")
        ->group(group);
    CLI::Option* const save = app.add_option("--save", d.save, "write the characterisation")->group(group);
    app.add_option("--load", d.load, "read the characterisation and not make one")
        ->check(CLI::ExistingFile)
        ->excludes(save)
        ->group(group);
}

template <class Model>
void run_dynamic(const Model& model, const options& o, const dynamic_options& d, const sets& data) {
    using namespace lamella;
    if (o.arithmetic != "fixed") throw argument_error("--arithmetic", "fixed", o.arithmetic);
    if (!data.valid) throw argument_error("--valid", "images to calibrate with, at least one", "0");
    inference::require_ascending(d.widths);
    // A checkpoint's network must not have been trained on what is now kept back.
    if (!o.eval.empty()) io::checkpoint(o.eval).require_equal("samples", std::to_string(data.train.size()));
    std::optional<inference::characterisation> known;
    if (!d.load.empty()) known = inference::read_characterisation(d.load);

    const nn::image_shape input{static_cast<std::int64_t>(data.train.height()),
                                static_cast<std::int64_t>(data.train.width()),
                                static_cast<std::int64_t>(data.train.channels())};
    nn::network<nn::fixed, Model> net(model, input, make_fixed(o), o.seed, make_controller(o));
    json result = train(net, o, data);
    if (known) inference::require_network(*known, net);

    const std::vector<accelerator::energy_table> energies{accelerator::bit_fusion_fixed(), accelerator::horowitz()};
    inference::cost_settings cost;
    cost.batch = d.pass;
    cost.images = std::max<std::size_t>(d.pass, 64) / d.pass * d.pass;
    cost.weights_stay = d.weights_stay;
    if (!known) known = inference::characterize(net, *data.valid, d.widths, energies, cost);
    if (!d.save.empty()) inference::write_characterisation(d.save, *known);

    std::vector<int> widths;
    for (const inference::width_record& r : known->widths) widths.push_back(r.width);
    inference::characterisation test = inference::characterize(net, data.test, widths, energies, cost);
    // The choice's energies: those of the calibration set's images, which are all that is known when it is made.
    test.tables = known->tables;
    for (std::size_t i = 0; i < widths.size(); ++i) test.widths[i].energy = known->widths[i].energy;

    std::printf(
        "%s on %s, weights %s\ncalibrated on %llu training images that were kept back, measured on %llu test "
        "images; %zu images a pass, weights %s\n",
        o.model.c_str(), data.train.name.c_str(), known->weights_sha256.substr(0, 8).c_str(),
        static_cast<unsigned long long>(known->samples()), static_cast<unsigned long long>(test.samples()), d.pass,
        d.weights_stay ? "on the chip" : "from DRAM once a pass");
    print_widths(*known, test);
    for (std::size_t t = 0; t < known->tables.size(); ++t) {
        print_front(*known, test, t);
        print_choices_head(*known, t);
        for (const double bound : d.bounds) {
            const auto hundredths = static_cast<std::uint64_t>(std::llround(100 * bound));
            const inference::choice chosen = inference::choose(*known, t, hundredths);
            // What runs is the program's own answer; the tables come of the records, and must agree with it.
            inference::dynamic_width dynamic(net, *known, chosen.chosen.run);
            const inference::answers said = dynamic.predict(data.test);
            const inference::outcome expected = inference::apply(test, t, chosen.chosen.run);
            if (said.correct(test.labels) != expected.correct ||
                said.reached(chosen.chosen.run.widths.size()) != expected.reached)
                throw error("dynamic prediction differs from the records it was chosen from");
            result["dynamic"].push_back(print_choice(*known, test, t, bound, chosen));
        }
    }
    if (o.json) std::printf("%s\n", result.dump().c_str());
}

}  // namespace example
