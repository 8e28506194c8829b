// Modelled figures of a run beside what is published of chips, as a Markdown table: every number with its source, and
// "not public" where what could be read of them says nothing. Nothing is scaled from one process to another.
//
//   examples/run.sh mnist --data DIR --report OUT
//   examples/run.sh chips OUT/report.json
//
// The columns are not one measure: a chip's efficiency is measured at its own network, voltage and sparsity; ours is
// arithmetic and memories of a model, with DRAM and without, no clock tree, no control, no leakage.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <lamella/accelerator/json_file.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct published {
    std::string_view name, process, formats, stages, sparsity, optimizer, efficiency, source;
};
constexpr std::string_view unknown = "not public";
constexpr std::string_view all_stages = "FF, EP, WG, WU", inference = "FF";

// As read in the sources named; "abstract" where the paper's body was not to be had.
constexpr published chips[] = {
    {"HNPU", "28 nm", "stochastic dynamic fixed point, precision searched a layer; widths not public", all_stages,
     "zero slices in and out", "momentum, Adam",
     ">= 5.9x energy, >= 2.5x area efficiency of earlier training chips; TOPS/W not public",
     "Han et al., COOL CHIPS 2021 and JSSC 56(9) 2021, abstracts"},
    {"HNPU's sequel", unknown, "dynamic fixed point, stochastic rounding, run-time precision search", "training",
     "input slices, channels reordered", unknown, ">= 4.4x; TOPS/W not public",
     "Han et al., IEEE Micro 42(2) 2022, abstract"},
    {"TaxoNN", unknown, "fixed point of a layer; widths not public", all_stages, unknown, "SGD",
     "2.1x less power, 1.65x less area than an unnamed trainer", "Hojabr et al., ISCAS 2020, abstract"},
    {"LNPU", unknown, "FP8, FP16 an element", "training", "inputs, 37-61 % zero", unknown, "25.3 TFLOPS/W",
     "ISSCC 2019 7.7, title and abstract"},
    {"DF-LNPU", "65 nm", unknown, "FF, EP (direct feedback), WG, WU", unknown, unknown,
     "80.94 OP/KB; TOPS/W not public", "abstract"},
    {"Trainer", "28 nm", "FP8, FP16", "training", "90 % / 90 % at these figures", unknown,
     "173.28 (FP16), 276.55 (FP8) TFLOPS/W", "abstract"},
    {"Dynamic-execution NN processor", unknown, "block floating point, mixed by sensitivity", unknown, unknown, unknown,
     "13.2 TFLOPS/W, 1.07 TFLOPS/mm2", "JSSC 2024, abstract"},
    {"MX NPU (KU Leuven)", "22 nm", "MXINT8 / MXFP8-6 / MXFP4", "training and inference", unknown, unknown,
     "0.657 / 1.438-1.675 / 4.065 TOPS/W", "Cuyckens et al., text copy"},
    {"Envision", "28 nm", "1 x 16 to 4 x 4 bits", inference, "> 10 TOPS/W in sparse 4 x 4-bit layers", "-",
     "0.3 (16 bits), 4.2 (4 x 4 bits), 3 (LeNet-5) TOPS/W", "Moons et al., DATE 2017, reading notes"},
    {"UNPU", "65 nm", "weights 1-16 bits", inference, unknown, "-", "3.08 (16 bits), 50.6 (1 bit) TOPS/W",
     "JSSC 54(1), abstract"},
    {"Sibia", unknown, "signed slices", inference, "zero slices in, speculated slices out", "-",
     "3.88x energy efficiency of Bit Fusion; TOPS/W not public", "HPCA 2023, abstract"},
    {"BrainTTA", unknown, "1 bit / ternary / 8 bits", inference, unknown, "-", "35 / 67 / 405 fJ an operation",
     "arXiv 2211.11331, abstract"},
};

void print_row(std::initializer_list<std::string> cells) {
    for (const std::string& cell : cells) std::printf("| %s ", cell.c_str());
    std::printf("|\n");
}

// Rows of a report, one a table of energies in pJ.
void print_report(const std::string& path) {
    using namespace lamella;
    try {
        const nlohmann::json r = accelerator::detail::parse_json(
            accelerator::detail::read_text(path, std::size_t{1} << 26), path, "report", 16);
        const nlohmann::json& run = r.at("run");
        char widths[96], accuracy[64], skips[64];
        const auto width = [&](const char* stage) { return run.at("mean_width").at(stage).at("value").get<double>(); };
        std::snprintf(widths, sizeof widths, "fixed point, mean %.2f FF, %.2f EP, %.2f WG bits", width("feed_forward"),
                      width("error_propagation"), width("weight_gradient"));
        std::snprintf(accuracy, sizeof accuracy, "%.2f %%", 100 * run.at("test_accuracy").at("value").get<double>());
        const nlohmann::json& products = run.at("slice_products");
        std::snprintf(
            skips, sizeof skips, "zero slices in, dead outputs; %.1f %% issued",
            100 * products.at("issued").at("value").get<double>() / products.at("dense").at("value").get<double>());
        for (const nlohmann::json& e : r.at("energy")) {
            if (!e.contains("efficiency")) continue;
            const nlohmann::json& own = e.at("efficiency").at("machine");
            char efficiency[160];
            std::snprintf(efficiency, sizeof efficiency,
                          "%.3g TOPS/W effective, %.3g with DRAM at %g pJ a bit; %.1fx less energy than dense 16 bit",
                          own.at("on_chip").get<double>(), own.at("with_dram").get<double>(),
                          e.at("source").at("dram").at("bit").get<double>(), e.at("gain").at("cheaper").get<double>());
            print_row({"**model**, " + r.at("machine").at("name").get<std::string>() + ", " +
                           run.at("network").get<std::string>() + " on " + run.at("data").get<std::string>() + ", " +
                           accuracy,
                       e.at("process").get<std::string>() + " (" + e.at("table").get<std::string>() + ")", widths,
                       std::string(all_stages), skips, run.at("optimizer").get<std::string>(), efficiency,
                       "modelled, " + path + "; " + e.at("charged").get<std::string>()});
        }
    } catch (const nlohmann::json::exception& failure) {
        throw file_error(path, "report", "one that --report has written", failure.what());
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Prints modelled figures of reports (mnist --report and others) beside the published ones of chips."};
    std::vector<std::string> reports;
    app.add_option("reports", reports, "report.json files")->check(CLI::ExistingFile);
    CLI11_PARSE(app, argc, argv);
    try {
        print_row({"what", "process", "formats", "stages", "sparsity", "optimizer", "efficiency", "source"});
        print_row({"---", "---", "---", "---", "---", "---", "---", "---"});
        for (const std::string& path : reports) print_report(path);
        for (const published& c : chips)
            print_row({std::string(c.name), std::string(c.process), std::string(c.formats), std::string(c.stages),
                       std::string(c.sparsity), std::string(c.optimizer), std::string(c.efficiency),
                       std::string(c.source)});
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "chips: %s\n", failure.what());
        return 1;
    }
    return 0;
}
