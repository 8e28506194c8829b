// The training loop. What else should happen while it runs is a callback: any object with one or more of
//
//   void on_start(const train::run_info&)
//   void on_step(const train::step_info&)      after each update; bool instead of void: false ends the run
//   void on_epoch(const train::epoch_info&)    after each epoch; bool instead of void: false ends the run
//   void on_finish(const train::run_info&)
//
// found by their signature. Progress display, log, trace and checkpoints (callbacks.hpp) are ordinary users of this.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "../data/augment.hpp"
#include "../data/dataset.hpp"
#include "../optim/optimizer.hpp"
#include "evaluate.hpp"

namespace lamella::train {

// How long and on what batches a network is trained.
struct fit_settings {
    std::uint64_t epochs = 5;
    std::uint32_t batch = 64;      // samples; the last batch of an epoch may be smaller
    std::uint64_t first_step = 0;  // of the whole run; a resumed run continues here
    std::uint64_t last_step =
        ~std::uint64_t{0};  // steps past this one are not run (the schedule still spans all epochs)
    data::augmentation augment{};                 // of training images; none unless set
};

// A run as it was planned.
struct run_info {
    std::uint64_t epochs = 0, steps_per_epoch = 0, first_step = 0;
    std::size_t samples = 0;
    std::uint64_t total_steps() const noexcept { return epochs * steps_per_epoch; }
};

// A step that was just done.
struct step_info {
    const run_info& run;
    std::uint64_t step = 0;   // of the whole run, from 0
    std::uint64_t epoch = 0;  // from 0
    std::uint64_t in_epoch = 0;
    nn::batch_score score;
    double loss = 0;              // mean over the batch, nats
    double epoch_loss = 0;        // mean over the epoch so far
    double epoch_accuracy = 0;    // of the epoch's training batches so far
    double epoch_seconds = 0;     // training only, callbacks left out
    std::uint64_t epoch_samples = 0;
};

// An epoch that was just done.
struct epoch_info {
    const run_info& run;
    std::uint64_t epoch = 0, next_step = 0;
    double loss = 0, accuracy = 0;  // over the epoch's training batches
    double seconds = 0;             // training only
    std::uint64_t samples = 0;
};

// How a run ended.
struct fit_result {
    std::uint64_t next_step = 0;  // first step that was not run
    bool finished = false;        // all epochs ran
    std::vector<double> epoch_seconds;
    std::vector<double> epoch_loss;
};

namespace detail {

// A callback whose signatures are all misspelt would never be called.
template <class Callback>
concept callback = requires(Callback& c, const run_info& run) { c.on_start(run); } ||
                   requires(Callback& c, const step_info& step) { c.on_step(step); } ||
                   requires(Callback& c, const epoch_info& epoch) { c.on_epoch(epoch); } ||
                   requires(Callback& c, const run_info& run) { c.on_finish(run); };

template <class Callback, class Info>
bool call_step(Callback& callback, const Info& info) {
    if constexpr (requires { { callback.on_step(info) } -> std::same_as<bool>; })
        return callback.on_step(info);
    else if constexpr (requires { callback.on_step(info); })
        callback.on_step(info);
    return true;
}
template <class Callback, class Info>
bool call_epoch(Callback& callback, const Info& info) {
    if constexpr (requires { { callback.on_epoch(info) } -> std::same_as<bool>; })
        return callback.on_epoch(info);
    else if constexpr (requires { callback.on_epoch(info); })
        callback.on_epoch(info);
    return true;
}

}  // namespace detail

// Trains `net` on `set`. The order of samples in an epoch depends on the network's seed and the epoch alone, their
// augmentation on the seed, the step and the place in its batch. Throws argument_error, before anything happens, for an
// empty set, a batch of 0, images of another shape, more classes than the network has outputs, a first step past the
// end of the run, or padding that is not smaller than an image.
template <class Network, class Pixel, detail::callback... Callbacks>
fit_result fit(Network& net, optim::optimizer& optimizer, const data::basic_dataset<Pixel>& set,
               const fit_settings& settings, Callbacks&... callbacks) {
    using clock = std::chrono::steady_clock;
    if (set.size() == 0) throw argument_error("training set", "at least one sample", "none");
    if (settings.batch == 0) throw argument_error("batch", "at least 1", "0");
    data::require_valid(set);

    auto& engine = net.engine();
    const std::uint64_t samples = set.size();
    run_info run{settings.epochs, (samples + settings.batch - 1) / settings.batch, settings.first_step, set.size()};
    if (const nn::image_shape shape = view_of(set, {}).shape; shape != net.input())
        throw argument_error("image shape", to_string(net.input()), to_string(shape));
    if (set.classes > net.output().size())
        throw argument_error("classes of " + set.name,
                             "at most the network's outputs, " + std::to_string(net.output().size()),
                             std::to_string(set.classes));
    if (settings.first_step > run.total_steps())
        throw argument_error("first step", "0.." + std::to_string(run.total_steps()),
                             std::to_string(settings.first_step));
    std::optional<data::augmenter<Pixel>> augmenter;
    if (settings.augment.any())
        augmenter.emplace(set, settings.augment, engine.seed, std::min<std::uint64_t>(settings.batch, samples));
    [[maybe_unused]] const auto start = [&](auto& callback) {
        if constexpr (requires { callback.on_start(run); }) callback.on_start(run);
    };
    (start(callbacks), ...);

    fit_result result;
    result.next_step = settings.first_step;
    std::vector<std::uint32_t> order(samples);
    std::vector<std::uint8_t> labels;
    bool going = true;
    for (std::uint64_t epoch = settings.first_step / run.steps_per_epoch; epoch < settings.epochs && going; ++epoch) {
        data::epoch_order(engine.seed, static_cast<std::uint32_t>(epoch), std::span<std::uint32_t>(order));
        clock::duration spent{};
        double loss = 0;
        std::uint64_t correct = 0, seen = 0;
        std::uint64_t in_epoch = epoch == settings.first_step / run.steps_per_epoch
                                     ? settings.first_step % run.steps_per_epoch
                                     : 0;
        for (; in_epoch < run.steps_per_epoch && going; ++in_epoch) {
            const std::uint64_t step = epoch * run.steps_per_epoch + in_epoch;
            if (step > settings.last_step) {
                going = false;
                break;
            }
            const clock::time_point before = clock::now();
            const std::uint64_t first = in_epoch * settings.batch;
            const auto index = std::span<const std::uint32_t>(order).subspan(
                first, std::min<std::uint64_t>(settings.batch, samples - first));
            labels.resize(index.size());
            for (std::size_t i = 0; i < index.size(); ++i) labels[i] = set.labels.data()[index[i]];
            nn::batch_view<Pixel> batch = view_of(set, index);
            if (augmenter) {
                augmenter->prepare(index, static_cast<std::uint32_t>(step));
                batch = view_of(augmenter->images(), augmenter->index());
            }
            const nn::batch_score& score = net.train_step(batch, labels, step);
            optimizer.begin_step(step, run.total_steps(), static_cast<std::uint32_t>(index.size()));
            optimizer.clip([&](auto&& visit) { net.parameters(visit); });
            net.parameters([&](auto& p) {
                optimizer.update(p, engine.seed, static_cast<std::uint32_t>(step), engine.isa(), engine.threads());
            });
            spent += clock::now() - before;

            const double mean = net.loss().mean_loss();
            loss += mean * static_cast<double>(index.size());
            correct += static_cast<std::uint64_t>(score.correct);
            seen += index.size();
            result.next_step = step + 1;
            const auto n = static_cast<double>(seen);
            [[maybe_unused]] const step_info info{run,
                                                  step,
                                                  epoch,
                                                  in_epoch,
                                                  score,
                                                  mean,
                                                  loss / n,
                                                  static_cast<double>(correct) / n,
                                                  std::chrono::duration<double>(spent).count(),
                                                  seen};
            ((going = detail::call_step(callbacks, info) && going), ...);
        }
        result.epoch_seconds.push_back(std::chrono::duration<double>(spent).count());
        if (seen == 0) break;
        const auto n = static_cast<double>(seen);
        result.epoch_loss.push_back(loss / n);
        if (in_epoch < run.steps_per_epoch) break;
        [[maybe_unused]] const epoch_info info{
            run, epoch, result.next_step, loss / n, static_cast<double>(correct) / n, result.epoch_seconds.back(),
            seen};
        ((going = detail::call_epoch(callbacks, info) && going), ...);
    }
    result.finished = result.next_step == run.total_steps();
    [[maybe_unused]] const auto finish = [&](auto& callback) {
        if constexpr (requires { callback.on_finish(run); }) callback.on_finish(run);
    };
    (finish(callbacks), ...);
    return result;
}

}  // namespace lamella::train
