// Ready-made callbacks of fit: progress on a terminal or in plain lines, a log in JSON Lines, periodic actions such as
// checkpoints. They read what fit tells everybody; write your own next to them.
#pragma once

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "../core/errors.hpp"
#include "fit.hpp"

namespace lamella::train {

// A text file that is written line by line; every failure is a file_error that names the path.
class text_file {
  public:
    text_file(std::string path, bool append) : path_(std::move(path)), file_(std::fopen(path_.c_str(), append ? "a" : "w")) {
        if (file_ == nullptr) fail();
    }
    void write(const std::string& text) {
        if (std::fwrite(text.data(), 1, text.size(), file_.get()) != text.size()) fail();
    }
    void flush() {
        if (std::fflush(file_.get()) != 0) fail();
    }

  private:
    [[noreturn]] void fail() const { throw file_error(path_, "writing", "success", std::strerror(errno)); }
    struct closer {
        void operator()(std::FILE* f) const noexcept { std::fclose(f); }
    };
    std::string path_;
    std::unique_ptr<std::FILE, closer> file_;
};

// Epoch, rate, loss, accuracy and time left: a bar that redraws itself on a terminal, otherwise a line an epoch.
class progress {
  public:
    explicit progress(bool terminal, std::FILE* out = stderr) : terminal_(terminal), out_(out) {}

    void on_start(const run_info&) { last_ = std::chrono::steady_clock::now(); }
    void on_step(const step_info& info) {
        if (!terminal_) return;
        const auto now = std::chrono::steady_clock::now();
        const bool end = info.in_epoch + 1 == info.run.steps_per_epoch;
        if (now - last_ < std::chrono::milliseconds(100) && !end) return;
        last_ = now;
        constexpr std::size_t width = 24;
        const std::size_t done = width * static_cast<std::size_t>(info.in_epoch + 1) /
                                 static_cast<std::size_t>(info.run.steps_per_epoch);
        const std::string bar = std::string(done, '=') + std::string(width - done, ' ');
        const double rate = static_cast<double>(info.epoch_samples) / std::max(info.epoch_seconds, 1e-9);
        const double samples_left = static_cast<double>(info.run.total_steps() - info.step - 1) *
                                    static_cast<double>(info.run.samples) / static_cast<double>(info.run.steps_per_epoch);
        const double left = samples_left / std::max(rate, 1e-9);
        std::fprintf(out_, "\repoch %" PRIu64 "/%" PRIu64 " [%s] %6.0f images/s  loss %.4f  accuracy %6.2f %%  left %d:%02d ",
                     info.epoch + 1, info.run.epochs, bar.c_str(), rate, info.epoch_loss, 100 * info.epoch_accuracy,
                     static_cast<int>(left) / 60, static_cast<int>(left) % 60);
        std::fflush(out_);
    }
    void on_epoch(const epoch_info& info) {
        if (terminal_)
            std::fputc('\n', out_);
        else
            std::fprintf(out_, "epoch %" PRIu64 "/%" PRIu64 "  loss %.4f  accuracy %.2f %%  %.2f s  %.0f images/s\n",
                         info.epoch + 1, info.run.epochs, info.loss, 100 * info.accuracy, info.seconds,
                         static_cast<double>(info.samples) / std::max(info.seconds, 1e-9));
        std::fflush(out_);
    }

  private:
    bool terminal_;
    std::FILE* out_;
    std::chrono::steady_clock::time_point last_;
};

// One JSON object a line: {"step", "epoch", "loss", "accuracy"} for every `every`-th step, {"epoch", "loss", "accuracy",
// "seconds"} for every epoch. Losses in nats, means over the batch or the epoch.
class json_lines {
  public:
    json_lines(const std::string& path, bool append, std::uint64_t every = 1) : file_(path, append), every_(every) {}

    void on_step(const step_info& info) {
        if (info.step % every_ != 0) return;
        char line[160];
        std::snprintf(line, sizeof line, "{\"step\":%" PRIu64 ",\"epoch\":%" PRIu64 ",\"loss\":%.6f,\"accuracy\":%.6f}\n",
                      info.step, info.epoch, info.loss,
                      static_cast<double>(info.score.correct) / static_cast<double>(info.score.samples));
        file_.write(line);
    }
    void on_epoch(const epoch_info& info) {
        char line[160];
        std::snprintf(line, sizeof line, "{\"epoch\":%" PRIu64 ",\"loss\":%.6f,\"accuracy\":%.6f,\"seconds\":%.3f}\n",
                      info.epoch, info.loss, info.accuracy, info.seconds);
        file_.write(line);
        file_.flush();
    }
    void on_finish(const run_info&) { file_.flush(); }

  private:
    text_file file_;
    std::uint64_t every_;
};

// Calls save(next step) after every `every` steps (0: never) and at the end of the run.
class checkpointing {
  public:
    checkpointing(std::uint64_t every, std::function<void(std::uint64_t)> save) : every_(every), save_(std::move(save)) {}

    void on_start(const run_info& run) { next_ = saved_ = run.first_step; }
    void on_step(const step_info& info) {
        next_ = info.step + 1;
        if (every_ != 0 && next_ % every_ == 0) save();
    }
    void on_finish(const run_info&) {
        if (saved_ != next_) save();
    }

  private:
    void save() {
        save_(next_);
        saved_ = next_;
    }
    std::uint64_t every_;
    std::function<void(std::uint64_t)> save_;
    std::uint64_t next_ = 0, saved_ = 0;
};

}  // namespace lamella::train
