// The options that the example programs share, in one definition: names, defaults, units, checks. The first choice
// named is the default. `make_...` turn them into the library's settings; a value out of range is an argument_error
// that names the option.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdlib>
#include <lamella/lamella.hpp>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace example {

struct options {
    std::string data, model, arithmetic = "fixed", feedback = "propagated";
    std::string precision = "laps", laps = "0.20:0.12:10:2:1";
    int first_width = 8;
    std::string radix = "least-error", allowance = "0", rounding = "stochastic", encoding = "sign-magnitude";
    std::string optimizer = "momentum", lr, momentum = "0.9", weight_decay = "0", schedule = "cosine";
    std::string loss = "cross-entropy", label_smoothing = "0", clip_norm = "0";
    std::uint64_t epochs = 5, seed = 1, save_every = 0, stop_after = 0;
    std::uint32_t batch = 64;
    std::size_t valid = 0, images = 0;
    int threads = 0;
    bool small = false;  // steps too short for threads: one, where neither --threads nor LAMELLA_THREADS says more
    std::string path = "auto", execution = "fused";
    std::string log, trace, checkpoint, resume, eval;
    std::string interrupted;  // checkpoint that Ctrl-C leaves when --checkpoint names none; empty: none
    bool json = false, augment = false;
    std::string accelerator = "hnpu", report;
    std::vector<std::string> energy;
    std::uint64_t report_every = 200;
};

inline CLI::Option* declare_data(CLI::App& app, options& o) {
    return app.add_option("--data", o.data,
                          "folder with the data set, or `generated`; without it LAMELLA_DATA, or else data in the\n"
                          "sources, is looked at, and digits are generated when it is in neither");
}

// `models`: names that --model takes.
inline void declare(CLI::App& app, options& o, const std::vector<std::string>& models) {
    o.model = models.front();
    const auto choice = [](std::vector<std::string> names) { return CLI::IsMember(std::move(names)); };
    declare_data(app, o)->group("Data");
    app.add_option("--images", o.images, "training images used, the first ones; 0: all")
        ->capture_default_str()
        ->group("Data");
    app.add_option("--valid", o.valid, "training samples kept back for validation")
        ->capture_default_str()
        ->group("Data");

    app.add_option("--model", o.model, "network")->check(choice(models))->capture_default_str()->group("Network");
    app.add_option("--arithmetic", o.arithmetic, "integers, or the float32 twin of the same network")
        ->check(choice({"fixed", "float32"}))->capture_default_str()->group("Network");
    app.add_option("--feedback", o.feedback,
                   "how errors reach hidden layers: back-propagation, or direct feedback alignment")
        ->check(choice({"propagated", "direct"}))
        ->capture_default_str()
        ->group("Network");

    app.add_option(
           "--precision", o.precision,
           "controller: laps, fixed:W or fixed:FF,EP (widths 2..16 bits), cyclic:LOWEST:HIGHEST:PERIOD,\n"
           "progressive:WIDTHS:EVERY:EPS, gradient-diversity:WIDTHS:EVERY, quantisation-error:THRESHOLD:EVERY,\n"
           "table:I.F,I.F,I.F (of A, W, E; rows of layers joined by +); A/B: A for feed-forward, B for error\n"
           "propagation; @LAYER=LOWEST..HIGHEST bounds a layer (a number, first, last or all)")
        ->capture_default_str()
        ->group("Precision");
    app.add_option("--laps", o.laps, "laps' hi:lo:every:patience:cooldown (shares, shares, steps, probes, probes)")
        ->capture_default_str()->group("Precision");
    app.add_option("--first-width", o.first_width, "bits that laps starts at")
        ->capture_default_str()
        ->group("Precision");
    app.add_option(
           "--radix", o.radix,
           "exponent of A and E: least-error, no-overflow, overflow-rate:R (share clipped); of A/E, A/E/W apart")
        ->capture_default_str()
        ->group("Precision");
    app.add_option("--allowance", o.allowance, "probability that an exponent of A or E moves by one step")
        ->capture_default_str()->group("Precision");
    app.add_option("--rounding", o.rounding, "of A and E")
        ->check(choice({"stochastic", "nearest"}))->capture_default_str()->group("Precision");
    app.add_option("--encoding", o.encoding, "slices of a mantissa; changes counts and laps' ladder, never a product")
        ->check(choice({"sign-magnitude", "twos-complement", "signed-slice"}))
        ->capture_default_str()
        ->group("Precision");

    app.add_option("--optimizer", o.optimizer, "update rule")
        ->check(choice({"momentum", "sgd", "adam", "adamw", "sign"}))->capture_default_str()->group("Training");
    app.add_option("--lr", o.lr, "learning rate (default 0.03; adam, adamw 0.001; sign 0.0001)")->group("Training");
    app.add_option("--momentum", o.momentum, "momentum, or Adam's first decay")
        ->capture_default_str()
        ->group("Training");
    app.add_option("--weight-decay", o.weight_decay, "weight decay")->capture_default_str()->group("Training");
    app.add_option("--schedule", o.schedule, "learning rate over the run")
        ->check(choice({"cosine", "step", "onecycle", "constant"}))->capture_default_str()->group("Training");
    app.add_option("--loss", o.loss, "what is made small")
        ->check(choice({"cross-entropy", "mean-square"}))->capture_default_str()->group("Training");
    app.add_option("--label-smoothing", o.label_smoothing,
                   "share of a label given to all classes alike, of cross-entropy")
        ->capture_default_str()
        ->group("Training");
    app.add_option("--clip-norm", o.clip_norm, "longest mean gradient of a step, a 2-norm; 0: any")
        ->capture_default_str()->group("Training");
    app.add_option("--epochs", o.epochs, "epochs")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->group("Training");
    app.add_option("--batch", o.batch, "samples a step")
        ->check(CLI::PositiveNumber)
        ->capture_default_str()
        ->group("Training");
    app.add_option("--seed", o.seed, "seed of weights, order and rounding")->capture_default_str()->group("Training");
    app.add_option("--stop-after", o.stop_after, "stop after so many steps of the run; 0: run to the end")
        ->capture_default_str()->group("Training");

    app.add_option("--threads", o.threads,
                   o.small ? "threads; 0: LAMELLA_THREADS, else one" : "threads; 0: LAMELLA_THREADS, else one a core")
        ->check(CLI::NonNegativeNumber)->capture_default_str()->group("Machine");
    app.add_option("--path", o.path, "instruction set: auto (LAMELLA_PATH, else the fastest), or a path's name")
        ->check(choice({"auto", "scalar", "avx2", "avx_vnni", "avx512", "neon", "neon_dot"}))
        ->capture_default_str()
        ->group("Machine");
    app.add_option("--execution", o.execution, "of the products")
        ->check(choice({"fused", "sliced", "reference"}))->capture_default_str()->group("Machine");

    app.add_option("--log", o.log, "write a JSON Lines log of steps and epochs")->group("Output");
    app.add_option("--trace", o.trace, "write the precision trace as CSV")->group("Output");
    app.add_option("--checkpoint", o.checkpoint, "write a checkpoint at the end, and as --save-every says")
        ->group("Output");
    app.add_option("--save-every", o.save_every, "steps from one checkpoint to the next; 0: only at the end")
        ->capture_default_str()->group("Output");
    app.add_option("--resume", o.resume, "continue the run of this checkpoint")
        ->check(CLI::ExistingFile)
        ->group("Output");
    app.add_option("--eval", o.eval, "only evaluate this checkpoint")->check(CLI::ExistingFile)->group("Output");
    CLI::Option* const report =
        app.add_option("--report", o.report,
                       "folder for report.json, .txt and .html: what the run costs on an accelerator")
            ->group("Output");
    app.add_option("--accelerator", o.accelerator,
                   "of the report: hnpu, or a JSON file (fields: accelerator/configuration.hpp)")
        ->needs(report)->capture_default_str()->group("Output");
    app.add_option("--report-every", o.report_every, "steps from one step that the report looks at to the next")
        ->needs(report)->check(CLI::PositiveNumber)->capture_default_str()->group("Output");
    app.add_option("--energy", o.energy,
                   "another table of energies for the report, a JSON file (accelerator/energy_json.hpp)")
        ->needs(report)->check(CLI::ExistingFile)->group("Output");
    app.add_flag("--json", o.json, "print one JSON object as the last line")->group("Output");
    app.footer(
        "Environment: LAMELLA_DATA (folder with mnist/ and cifar-10/), LAMELLA_PATH, LAMELLA_THREADS.\n"
        "Ctrl-C ends a run after its step and leaves a checkpoint. Results go to standard output, all else to\n"
        "standard error; nothing is coloured. Exit status: 0; 1 for a wrong value, file or setting; 100 and more\n"
        "for options that are not understood; 130 after Ctrl-C, 143 after SIGTERM.");
}

inline std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
}

inline int thread_count(const options& o) {
    if (o.threads > 0) return o.threads;
    const std::string text = environment("LAMELLA_THREADS");
    if (!text.empty()) {
        if (text.size() > 4 || text.find_first_not_of("0123456789") != std::string::npos || std::stoi(text) < 1)
            throw lamella::argument_error("LAMELLA_THREADS", "a number from 1 to 9999", text);
        return std::stoi(text);
    }
    return LAMELLA_OPENMP && !o.small ? static_cast<int>(std::max(1u, std::thread::hardware_concurrency())) : 1;
}

inline lamella::path instruction_path(const options& o) {
    const std::string wish = environment("LAMELLA_PATH");
    return lamella::parse_path(o.path == "auto" && !wish.empty() ? wish : o.path);
}

inline lamella::gemm::settings make_kernels(const options& o) {
    lamella::gemm::settings s;
    for (std::size_t i = 0; i < lamella::gemm::execution_names.size(); ++i)
        if (lamella::gemm::execution_names[i] == o.execution) s.how = static_cast<lamella::gemm::execution>(i);
    s.isa = instruction_path(o);
    s.digits = lamella::slice::parse_encoding(o.encoding);
    s.threads = thread_count(o);
    return s;
}

inline lamella::nn::feedback make_feedback(const options& o) {
    return o.feedback == "direct" ? lamella::nn::feedback::direct : lamella::nn::feedback::propagated;
}

inline lamella::nn::fixed::settings make_fixed(const options& o) {
    lamella::nn::fixed::settings s;
    s.kernels = make_kernels(o);
    s.feedback = make_feedback(o);
    const auto radix = lamella::precision::detail::fields(o.radix, '/');
    if (radix.size() > 3) throw lamella::argument_error("--radix", "one policy, A/E or A/E/W", o.radix);
    s.activation = lamella::parse_radix(radix.front());
    s.error = lamella::parse_radix(radix[radix.size() == 1 ? 0 : 1]);
    if (radix.size() == 3) s.weight = lamella::parse_radix(radix[2]);
    const std::uint64_t allowance = lamella::parse_fraction(o.allowance, 16, "--allowance");
    s.activation.allowance = s.error.allowance = static_cast<std::uint16_t>(std::min<std::uint64_t>(allowance, 65535));
    s.activation_rounding = s.error_rounding =
        o.rounding == "nearest" ? lamella::rounding::nearest : lamella::rounding::stochastic;
    return s;
}

// Of the float32 twin. OpenBLAS takes as many threads as the integers do: one of its own that waits for a busy core
// holds up every small product.
inline lamella::nn::float32::settings make_float32(const options& o) {
    lamella::nn::float32::settings s;
    s.kernels = {instruction_path(o), thread_count(o)};
    s.feedback = make_feedback(o);
#ifdef OPENBLAS_VERSION
    openblas_set_num_threads(s.kernels.threads);
#endif
    return s;
}

inline lamella::nn::loss_settings make_loss(const options& o) {
    lamella::nn::loss_settings s;
    if (o.loss == "mean-square") s.kind = lamella::nn::loss_kind::mean_square;
    s.smoothing = lamella::parse_fraction(o.label_smoothing, 16, "--label-smoothing");
    return s;
}

inline std::unique_ptr<lamella::precision::controller> make_controller(const options& o) {
    lamella::precision::laps_settings s;
    s.first_width = lamella::checked_width(o.first_width, "--first-width");
    s.digits = lamella::slice::parse_encoding(o.encoding);
    return lamella::precision::parse_controller(o.precision, lamella::precision::parse_laps(o.laps, s));
}

}  // namespace example
