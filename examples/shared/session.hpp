// One training run of an example program: network, callbacks, evaluation, result. The programs choose data and model,
// this does the rest.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <lamella/io/checkpoint.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "reporting.hpp"

namespace example {

using json = nlohmann::ordered_json;

struct sets {
    lamella::data::dataset train, test;
    std::optional<lamella::data::dataset> valid;
};

// Where data sets are looked for without --data: LAMELLA_DATA, or else data in the sources, which get-data.sh fills,
// and shared/data beside them.
inline std::vector<std::string> data_roots() {
    const std::string given = environment("LAMELLA_DATA");
    if (!given.empty()) return {given};
    return {LAMELLA_SOURCE_DIR "/data", LAMELLA_SOURCE_DIR "/../shared/data"};
}

// The set called `name`, which read(folder) takes from --data or from the first of data_roots() with a folder of that
// name; otherwise what generated() gives. Cut to --images, with --valid of them kept back.
template <class Read, class Generated>
sets load_sets(const options& o, const std::string& name, Read&& read, Generated&& generated) {
    using namespace lamella;
    std::string folder = o.data;
    if (folder.empty()) {
        const std::vector<std::string> roots = data_roots();
        for (const std::string& root : roots)
            if (folder.empty() && std::filesystem::is_directory(root + "/" + name)) folder = root + "/" + name;
        if (folder.empty())
            std::fprintf(stderr,
                         "no --data, and no %s in %s: training on generated digits (examples/get-data.sh fetches it)\n",
                         name.c_str(), roots.front().c_str());
    }
    data::train_and_test read_in = folder.empty() || folder == "generated" ? generated() : read(folder);
    sets loaded{std::move(read_in.train), std::move(read_in.test), std::nullopt};
    if (o.images != 0) loaded.train = data::take(loaded.train, 0, o.images);
    if (o.valid != 0) {
        auto parts = data::split(loaded.train, o.valid);
        loaded.train = std::move(parts.train);
        loaded.valid = std::move(parts.valid);
    }
    return loaded;
}

inline std::string learning_rate(const options& o) {
    const bool adam = o.optimizer == "adam" || o.optimizer == "adamw";
    return !o.lr.empty() ? o.lr : adam ? "0.001" : o.optimizer == "sign" ? "0.0001" : "0.03";
}

inline lamella::optim::optimizer make_optimizer(const options& o) {
    lamella::optim::optimizer_settings s;
    s.rule = lamella::optim::parse_rule(o.optimizer);
    s.lr = lamella::parse_scaled(learning_rate(o), "--lr");
    s.momentum = lamella::parse_scaled(o.momentum, "--momentum");
    s.weight_decay = lamella::parse_scaled(o.weight_decay, "--weight-decay");
    s.clip_norm = lamella::parse_scaled(o.clip_norm, "--clip-norm");
    s.schedule.shape = lamella::optim::parse_schedule(o.schedule);
    return lamella::optim::optimizer(s);
}

// What a resumed run must share with the one that it continues.
inline lamella::io::metadata identity(const options& o, const std::string& model, std::size_t samples,
                                      const std::string& precision) {
    std::string learns = o.optimizer + " lr " + o.lr + " momentum " + o.momentum + " decay " + o.weight_decay;
    const options usual;
    if (o.clip_norm != usual.clip_norm) learns += " clip " + o.clip_norm;
    if (o.loss != usual.loss || o.label_smoothing != usual.label_smoothing)
        learns += " loss " + o.loss + " smoothing " + o.label_smoothing;
    if (o.feedback != usual.feedback) learns += " feedback " + o.feedback;
    return {{"model", model},
            {"arithmetic", o.arithmetic},
            {"seed", std::to_string(o.seed)},
            {"batch", std::to_string(o.batch)},
            {"samples", std::to_string(samples)},
            {"epochs", std::to_string(o.epochs)},
            {"optimizer", learns},
            {"schedule", o.schedule},
            {"encoding", o.encoding},
            {"precision", precision},
            {"augmentation", o.augment ? "crop and flip" : "none"},
            {"radix", o.radix + " allowance " + o.allowance + " " + o.rounding}};
}

// How often the widths of each layer moved from one step to the next: of A and W, of E. A callback of fit.
struct width_changes {
    explicit width_changes(const lamella::precision::controller* of, int layers)
        : forward(static_cast<std::size_t>(layers)), backward(forward.size()), decides(of), last(forward.size()) {}

    void on_start(const lamella::train::run_info&) { look(0); }
    void on_step(const lamella::train::step_info&) { look(1); }
    void visit(lamella::state_visitor& visitor) {
        visitor.integers("forward", std::span<std::int64_t>(forward));
        visitor.integers("backward", std::span<std::int64_t>(backward));
    }

    std::vector<std::int64_t> forward, backward;

  private:
    void look(std::int64_t count) {
        for (std::size_t l = 0; decides != nullptr && l < last.size(); ++l) {
            const auto now = decides->widths(static_cast<int>(l));
            if (now.activation != last[l].activation || now.weight != last[l].weight) forward[l] += count;
            if (now.error != last[l].error) backward[l] += count;
            last[l] = now;
        }
    }
    const lamella::precision::controller* decides;
    std::vector<lamella::precision::layer_widths> last;
};

// Ctrl-C came: what was done and saved until then.
struct interrupted : std::runtime_error {
    interrupted(int signal, std::uint64_t steps, const std::string& checkpoint)
        : std::runtime_error("interrupted after " + std::to_string(steps) + " steps" +
                             (checkpoint.empty() ? "" : "; to go on: --resume " + checkpoint)),
          status(128 + signal) {}
    int status;
};

// Before training, not after it. Throws file_error for a file whose folder is not there or takes none.
inline void require_writable(const std::string& file) {
    if (file.empty()) return;
    const std::filesystem::path folder = std::filesystem::absolute(file).parent_path();
    if (::access(folder.c_str(), W_OK | X_OK) != 0)
        throw lamella::file_error(file, "folder", "one that can be written in", std::strerror(errno));
}

// Trains, as the options say, and returns what a run has to tell.
template <class Network>
json train(Network& net, const options& o, const sets& data) {
    using namespace lamella;
    constexpr bool fixed = std::is_same_v<typename Network::arithmetic, nn::fixed>;
    require_writable(o.checkpoint);
    auto optimizer = make_optimizer(o);
    net.set_loss(make_loss(o));
    net.parameters([&](auto& p) { optimizer.prepare(p); });
    accelerator::slice_counts counts(slice::parse_encoding(o.encoding), instruction_path(o), net.products());
    std::optional<train::text_file> trace_file;
    std::optional<precision::trace> trace;
    std::optional<reporting> report;
    std::string precision = "-";
    const precision::controller* decides = nullptr;
    if constexpr (fixed) {
        decides = net.engine().controller.get();
        precision = decides->description();
        net.observe(counts);
        if (!o.trace.empty()) {
            trace_file.emplace(o.trace, !o.resume.empty());
            trace.emplace(
                counts, [&](std::string_view rows) { trace_file->write(std::string(rows)); }, 1, decides);
            net.observe(*trace);
        }
        if (!o.report.empty()) report.emplace(net, o, counts);
    }

    width_changes changes(decides, net.products());
    std::uint64_t next_step = 0;
    const auto parts = [&](state_visitor& visitor) {
        net.visit(visitor);
        {
            const state_visitor::scope scope(visitor, "optimizer");
            optimizer.visit(visitor);
        }
        {
            const state_visitor::scope scope(visitor, "counts");
            counts.visit(visitor);
        }
        {
            const state_visitor::scope scope(visitor, "changes");
            changes.visit(visitor);
        }
        visitor.integer("next_step", next_step);
    };
    struct run_state {
        const decltype(parts)& all;
        void visit(state_visitor& visitor) { all(visitor); }
    } state{parts};
    const auto must_equal = identity(o, net.description(), data.train.size(), precision);
    const std::string& from = o.eval.empty() ? o.resume : o.eval;
    if (!from.empty()) {
        io::checkpoint checkpoint(from);
        for (const auto& [key, value] : must_equal)
            if (o.eval.empty() || key == "model" || key == "arithmetic") checkpoint.require_equal(key, value);
        checkpoint.load(state);
    }
    if (trace_file) {  // a run that was cut short has traced steps that are run again
        const bool begun = !o.resume.empty() && trace_file->keep_lines([&](std::string_view line) {
            return line == precision::trace::header || precision::trace::step_of(line) < next_step;
        }) != 0;
        if (!begun) trace_file->write(std::string(precision::trace::header));
    }

    train::fit_settings settings;
    settings.epochs = o.epochs;
    settings.batch = o.batch;
    settings.first_step = next_step;
    if (o.augment) settings.augment = {.padding = 4, .flip = true};
    if (o.stop_after != 0) settings.last_step = o.stop_after - 1;
    train::progress progress(isatty(STDERR_FILENO) != 0);
    std::optional<train::json_lines> log;
    if (!o.log.empty()) log.emplace(o.log, !o.resume.empty());
    struct forward_log {
        std::optional<train::json_lines>& log;
        std::optional<reporting>& report;
        void on_start(const train::run_info& i) {
            if (log) log->on_start(i);
        }
        void on_step(const train::step_info& i) {
            if (log) log->on_step(i);
        }
        void on_epoch(const train::epoch_info& i) {
            if (log) log->on_epoch(i);
            if (report) report->on_epoch(i);
        }
        void on_finish(const train::run_info& i) {
            if (log) log->on_finish(i);
        }
    } logging{log, report};
    train::interrupt interrupt;
    std::string saved;
    train::checkpointing checkpoints(o.save_every, [&](std::uint64_t step) {
        const std::string& to = o.checkpoint.empty() && interrupt.requested() ? o.interrupted : o.checkpoint;
        if (to.empty()) return;
        next_step = step;
        if (trace) trace->flush();  // what is on disk reaches at least as far as the checkpoint
        if (trace_file) trace_file->flush();
        if (log) log->flush();
        io::metadata about = must_equal;
        if (decides != nullptr) about.emplace("widths", precision::widths_text(*decides, net.products()));
        io::write_checkpoint(to, state, about);
        saved = to;
    });

    train::fit_result fitted;
    if (o.eval.empty())
        fitted = train::fit(net, optimizer, data.train, settings, progress, logging, changes, interrupt, checkpoints);
    if (trace) trace->flush();
    if (trace_file) trace_file->flush();
    if (interrupt.requested()) throw interrupted(interrupt.signal(), fitted.next_step, saved);

    const train::evaluation test = train::evaluate(net, data.test);
    std::optional<train::evaluation> valid;
    if (data.valid) valid = train::evaluate(net, *data.valid);

    double seconds = 0;
    for (const double s : fitted.epoch_seconds) seconds += s;
    const double trained = static_cast<double>(fitted.next_step - std::min(fitted.next_step, settings.first_step)) *
                           static_cast<double>(o.batch);
    json result;
    result["test_accuracy"] = test.accuracy();
    result["test_loss"] = test.loss;
    result["test_samples"] = test.samples;
    if (valid) result["valid_accuracy"] = valid->accuracy();
    result["epoch_seconds"] = fitted.epoch_seconds;
    result["epoch_loss"] = fitted.epoch_loss;
    result["samples_per_second"] = seconds > 0 ? trained / seconds : 0.0;
    if constexpr (fixed) {
        for (const stage s : {stage::feed_forward, stage::error_propagation, stage::weight_gradient})
            result["mean_width"][std::string(name_of(s))] = static_cast<double>(counts.total(s).mean_width_256()) / 256;
        const auto total = counts.total();
        result["slice_products"] = {
            {"dense16", total.dense16}, {"dense", total.dense}, {"issued", total.issued}, {"probe", total.probe}};
        const accelerator::optc_saturations& saturated = optimizer.saturations();
        result["saturated"] = {{"gradients", saturated.gradients},
                               {"updates", saturated.updates},
                               {"first_moments", saturated.first_moments},
                               {"second_moments", saturated.second_moments},
                               {"weights", saturated.weights}};
        result["width_changes"] = {{"feed_forward", changes.forward}, {"error_propagation", changes.backward}};
        for (int l = 0; l < net.products(); ++l) {
            const auto w = decides->widths(l);
            result["widths"]["feed_forward"].push_back(w.activation);
            result["widths"]["error_propagation"].push_back(w.error);
        }
        result["execution"] = o.execution;
    }
    result["weights_sha256"] = io::weights_sha256(net);
    if constexpr (fixed)
        if (report)
            report->write(net, o, data, test, fitted.next_step, learning_rate(o),
                          result["weights_sha256"].template get<std::string>());
    result["seed"] = o.seed;
    result["model"] = o.model;
    result["arithmetic"] = o.arithmetic;
    result["data"] = data.train.name;
    result["path"] = std::string(name_of(net.engine().isa()));
    result["threads"] = net.engine().threads();

    return result;
}

// What a run has to tell, for people, and as one JSON object on the last line when the options say so.
inline void print(const json& result, const options& o) {
    const auto text = [&](const char* key) { return result[key].get<std::string>(); };
    const auto number = [&](const json& of) { return of.get<double>(); };
    std::printf("data       %s\nmodel      %s, %s\n", text("data").c_str(), o.model.c_str(), o.arithmetic.c_str());
    std::printf("test       %.2f %% of %llu images, loss %.4f\n", 100 * number(result["test_accuracy"]),
                result["test_samples"].get<unsigned long long>(), number(result["test_loss"]));
    if (result.contains("valid_accuracy"))
        std::printf("validation %.2f %% of %zu images\n", 100 * number(result["valid_accuracy"]), o.valid);
    if (result.contains("slice_products")) {
        const json &widths = result["widths"], &mean = result["mean_width"], &products = result["slice_products"];
        std::printf("widths     FF");
        for (const json& w : widths["feed_forward"]) std::printf(" %d", w.get<int>());
        std::printf(", EP");
        for (const json& w : widths["error_propagation"]) std::printf(" %d", w.get<int>());
        std::printf(" bits at the end; mean FF %.2f, EP %.2f, WG %.2f\n", number(mean["feed_forward"]),
                    number(mean["error_propagation"]), number(mean["weight_gradient"]));
        const double dense16 = std::max(1.0, number(products["dense16"]));
        std::printf("slices     %.4f of dense 16 bit at these widths, %.4f issued after skipping (probes %.4f)\n",
                    number(products["dense"]) / dense16, number(products["issued"]) / dense16,
                    number(products["probe"]) / dense16);
        std::uint64_t saturated = 0;
        for (const json& count : result["saturated"]) saturated += count.get<std::uint64_t>();
        if (saturated != 0)
            std::printf("saturated  %llu values in the optimizer: a smaller --lr, or --clip-norm, helps\n",
                        static_cast<unsigned long long>(saturated));
    }
    std::printf("weights    sha256 %s\n", text("weights_sha256").c_str());
    if (o.json) std::printf("%s\n", result.dump().c_str());
}

// What a program's main does once its options are declared: parses them, then body(); errors go to standard error.
// Returns the exit status.
template <class Body>
int main_of(CLI::App& app, int argc, char** argv, const char* name, Body&& body) {
    CLI11_PARSE(app, argc, argv);
    try {
        body();
    } catch (const interrupted& end) {
        std::fprintf(stderr, "%s%s: %s\n", isatty(STDERR_FILENO) != 0 ? "\n" : "", name, end.what());
        return end.status;
    } catch (const std::bad_alloc&) {
        std::fprintf(stderr, "%s: out of memory\n", name);
        return 1;
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "%s: %s\n", name, failure.what());
        return 1;
    }
    return 0;
}

// Builds the network in the arithmetic asked for and trains it.
template <class Model>
json build_and_train(const Model& model, const options& o, const sets& data) {
    using namespace lamella;
    if (!o.report.empty()) make_accelerator(o);
    const nn::image_shape input{static_cast<std::int64_t>(data.train.height()),
                                static_cast<std::int64_t>(data.train.width()),
                                static_cast<std::int64_t>(data.train.channels())};
    if (o.arithmetic == "fixed") {
        nn::network<nn::fixed, Model> net(model, input, make_fixed(o), o.seed, make_controller(o));
        return train(net, o, data);
    }
    nn::network<nn::float32, Model> net(model, input, make_float32(o), o.seed);
    return train(net, o, data);
}
template <class Model>
void run(const Model& model, const options& o, const sets& data) {
    print(build_and_train(model, o, data), o);
}

}  // namespace example
