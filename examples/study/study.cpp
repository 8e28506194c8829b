// Compares precision controllers: trains a network under each of them, and as its float32 twin, for seeds 1..N, and
// reports accuracy against slice products.
//
//   examples/run.sh study results --data data/mnist --threads 1
//   examples/run.sh study results10 --model cnn3 --data data/cifar-10 --epochs 10 --lr 0.02 --seeds 3
//
// Every run leaves one JSON file in the directory, whole or not at all; runs that are there already are not repeated,
// so a study that was stopped goes on. The directory also gets table.md (printed at the end) and pareto.svg.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <lamella/io/atomic_file.hpp>
#include <map>
#include <string>
#include <vector>

#include "../cifar10/models.hpp"
#include "../mnist/mnist.hpp"
#include "networks.hpp"
#include "report.hpp"

namespace {

using example::json;

struct study_options {
    std::string directory;
    std::vector<std::string> controllers{"laps",
                                         "fixed:5",
                                         "fixed:8",
                                         "fixed:12",
                                         "fixed:16",
                                         "cyclic:5:8:134",
                                         "cyclic:5:8:134/fixed:8",
                                         "progressive:5-8-12:134:0.05",
                                         "gradient-diversity:5-8-12-16:67",
                                         "quantisation-error:0.021:100",
                                         "table:4.4,1.7,1.11"};
    std::uint64_t seeds = 5;
};

constexpr const char* twin = "float32";
using trainer = json (*)(const example::options&, const example::sets&);

std::string path_of(const study_options& s, const std::string& controller, std::uint64_t seed) {
    std::string name = controller;
    for (char& c : name)
        if (c == ':' || c == '/' || c == ',' || c == '@' || c == '=') c = '_';
    return s.directory + "/" + name + "-" + std::to_string(seed) + ".json";
}

void write(const std::string& path, const std::string& text) {
    const std::span<const std::uint8_t> bytes(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    lamella::io::write_file_atomically(path, std::span(&bytes, 1));
}

// The result of one run: from its file, or trained now. Throws file_error when the file is of a run with other
// settings.
json result_of(const study_options& s, trainer train, example::options o, const example::sets& data,
               const std::string& controller, std::uint64_t seed) {
    o.seed = seed;
    o.arithmetic = controller == twin ? twin : "fixed";
    if (controller != twin) o.precision = controller;
    json settings;
    for (const auto& [key, value] : example::identity(o, o.model, data.train.size(), controller)) settings[key] = value;

    const std::string path = path_of(s, controller, seed);
    if (std::ifstream file(path); file) {
        const json found = json::parse(file, nullptr, false);
        if (found.is_discarded() || !found.contains("settings"))
            throw lamella::file_error(path, "content", "the result of a run", "something else");
        if (found["settings"] != settings)
            throw lamella::file_error(path, "settings", settings.dump(), found["settings"].dump());
        return found;
    }
    std::fprintf(stderr, "%s, seed %llu\n", controller.c_str(), static_cast<unsigned long long>(seed));
    json result = train(o, data);
    result["settings"] = settings;
    write(path, result.dump(1) + "\n");
    return result;
}

void study(const study_options& s, trainer train, const example::options& o, const example::sets& data) {
    std::filesystem::create_directories(s.directory);
    for (const std::string& controller : s.controllers) {  // a wrong one is known before hours have passed
        example::options given = o;
        given.precision = controller;
        example::make_controller(given);
    }
    const char* measured = data.valid ? "valid_accuracy" : "test_accuracy";
    std::map<std::string, std::vector<json>> runs;
    for (std::uint64_t seed = 1; seed <= s.seeds; ++seed) {
        runs[twin].push_back(result_of(s, train, o, data, twin, seed));
        for (const std::string& controller : s.controllers)
            runs[controller].push_back(result_of(s, train, o, data, controller, seed));
    }

    const auto percent = [&](const json& run) { return 100 * run[measured].get<double>(); };
    std::vector<double> of_twin;
    for (const json& run : runs[twin]) of_twin.push_back(percent(run));
    std::vector<example::outcome> outcomes;
    for (const std::string& controller : s.controllers) {
        example::outcome& sum = outcomes.emplace_back();
        sum.controller = controller;
        for (std::size_t i = 0; i < runs[controller].size(); ++i) {
            const json& run = runs[controller][i];
            sum.seeds.push_back(i + 1);
            sum.accuracy.push_back(percent(run));
            sum.difference.push_back(sum.accuracy.back() - of_twin[i]);
            const double share = 1 / static_cast<double>(s.seeds);
            sum.forward += share * run["mean_width"]["feed_forward"].get<double>();
            sum.error += share * run["mean_width"]["error_propagation"].get<double>();
            sum.weight += share * run["mean_width"]["weight_gradient"].get<double>();
            const double dense16 = run["slice_products"]["dense16"].get<double>();
            sum.dense += share * run["slice_products"]["dense"].get<double>() / dense16;
            sum.issued += share * run["slice_products"]["issued"].get<double>() / dense16;
        }
    }
    example::mark_beaten(outcomes);
    const std::string table = example::markdown(outcomes, of_twin);
    write(s.directory + "/table.md", table);
    write(s.directory + "/pareto.svg",
          example::pareto_picture(outcomes, of_twin,
                                  o.model + " on " + data.train.name + ", " + std::to_string(o.epochs) + " epochs, " +
                                      std::to_string(s.seeds) + (s.seeds == 1 ? " seed" : " seeds")));
    std::printf("%s", table.c_str());
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Compares precision controllers with each other and with the float32 twin."};
    example::options o;
    study_options s;
    example::declare(app, o, {"lenet5", "cnn3"});
    app.add_option("directory", s.directory, "where results are kept; runs that are there are not repeated")
        ->required();
    app.add_option("--controllers", s.controllers, "controllers, as --precision takes them")->capture_default_str();
    app.add_option("--seeds", s.seeds, "runs of each, seeds 1..N")->check(CLI::PositiveNumber)->capture_default_str();
    for (const char* taken : {"--precision", "--seed", "--arithmetic", "--stop-after", "--log", "--trace",
                              "--checkpoint", "--save-every", "--resume", "--eval", "--json"})
        app.remove_option(app.get_option(taken));
    return example::main_of(app, argc, argv, "study", [&] {
        if (o.model == "lenet5")
            study(s, example::train_lenet5, o, example::load_mnist(o));
        else
            study(s, example::train_cnn3, o, example::load_cifar10(o));
    });
}
