// Ready-made callbacks of fit: progress on a terminal or in plain lines, a log in JSON Lines, periodic actions such as
// checkpoints. They read what fit tells everybody; write your own next to them.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "../core/errors.hpp"
#include "fit.hpp"

namespace lamella::train {

// A text file that is written line by line; every failure is a file_error that names the path.
class text_file {
  public:
    text_file(std::string path, bool append)
        : path_(std::move(path)), file_(std::fopen(path_.c_str(), append ? "a+" : "w")) {
        if (file_ == nullptr) fail();
    }
    // Of a file that is appended to: drops all from the first line on that keeps(line) refuses or that was cut short.
    // Returns how many lines stay.
    template <class Keeps>
    std::size_t keep_lines(Keeps&& keeps) {
        std::rewind(file_.get());
        std::string line;
        std::size_t lines = 0;
        off_t length = 0;
        for (int c; (c = std::fgetc(file_.get())) != EOF;) {
            line.push_back(static_cast<char>(c));
            if (c != '\n') continue;
            if (!keeps(std::string_view(line))) break;
            ++lines;
            length += static_cast<off_t>(line.size());
            line.clear();
        }
        if (std::ferror(file_.get()) || ::ftruncate(fileno(file_.get()), length) != 0) fail();
        if (std::fseek(file_.get(), 0, SEEK_END) != 0) fail();  // between reading and writing
        return lines;
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
                                    static_cast<double>(info.run.samples) /
                                    static_cast<double>(info.run.steps_per_epoch);
        const double left = samples_left / std::max(rate, 1e-9);
        std::fprintf(out_,
                     "\repoch %" PRIu64 "/%" PRIu64 " [%s] %6.0f images/s  loss %.4f  accuracy %6.2f %%  left %d:%02d ",
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

// One JSON object a line: {"step", "epoch", "loss", "accuracy"} for every `every`-th step, {"epoch", "loss",
// "accuracy", "seconds"} for every epoch. Losses in nats, means over the batch or the epoch; null when a twin has
// diverged. A resumed run goes on in the same file: what that tells of steps that will be run again goes.
class json_lines {
  public:
    json_lines(const std::string& path, bool resumed, std::uint64_t every = 1)
        : file_(path, resumed), every_(every), resumed_(resumed) {}

    void on_start(const run_info& run) {
        if (!resumed_) return;
        file_.keep_lines([&](std::string_view line) {
            std::uint64_t n = 0;
            if (number_after(line, "{\"step\":", n)) return n < run.first_step;
            return number_after(line, "{\"epoch\":", n) && (n + 1) * run.steps_per_epoch <= run.first_step;
        });
    }
    void on_step(const step_info& info) {
        if (info.step % every_ != 0) return;
        char line[160];
        std::snprintf(line, sizeof line, "{\"step\":%" PRIu64 ",\"epoch\":%" PRIu64 ",\"loss\":%s,\"accuracy\":%.6f}\n",
                      info.step, info.epoch, finite(info.loss).c_str(),
                      static_cast<double>(info.score.correct) / static_cast<double>(info.score.samples));
        file_.write(line);
    }
    void on_epoch(const epoch_info& info) {
        char line[160];
        std::snprintf(line, sizeof line, "{\"epoch\":%" PRIu64 ",\"loss\":%s,\"accuracy\":%.6f,\"seconds\":%.3f}\n",
                      info.epoch, finite(info.loss).c_str(), info.accuracy, info.seconds);
        file_.write(line);
        flush();
    }
    void on_finish(const run_info&) { flush(); }
    void flush() { file_.flush(); }

  private:
    static std::string finite(double x) {
        if (!std::isfinite(x)) return "null";  // JSON has no other word for it
        char digits[40];
        std::snprintf(digits, sizeof digits, std::abs(x) < 1e20 ? "%.6f" : "%.6e", x);
        return digits;
    }
    static bool number_after(std::string_view line, std::string_view start, std::uint64_t& number) {
        return line.starts_with(start) &&
               std::from_chars(line.data() + start.size(), line.data() + line.size(), number).ec == std::errc{};
    }
    text_file file_;
    std::uint64_t every_;
    bool resumed_;
};

// Calls save(next step) after every `every` steps (0: never) and at the end of the run.
class checkpointing {
  public:
    checkpointing(std::uint64_t every, std::function<void(std::uint64_t)> save)
        : every_(every), save_(std::move(save)) {}

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
