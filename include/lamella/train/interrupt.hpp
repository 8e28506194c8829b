// Ctrl-C ends a run after the step that it is in, with everything that a normal end does.
//
//   train::interrupt interrupt;                     // from here on SIGINT and SIGTERM only set a flag
//   train::fit(net, optimizer, set, settings, interrupt, checkpoints);
//   if (interrupt.requested()) ...                  // the checkpoint is written
//
// A second signal ends the process as if this object were not there: a step may take long.
#pragma once

#include <csignal>

#include "fit.hpp"

namespace lamella::train {

// A callback of fit. One may exist at a time; it gives the signals their former handlers back.
class interrupt {
  public:
    interrupt() noexcept {
        number() = 0;
        for (int i = 0; i < 2; ++i) {
            former_[i] = std::signal(signals[i], &receive);
            if (former_[i] == SIG_IGN) std::signal(signals[i], SIG_IGN);  // a run in the background stays deaf
        }
    }
    ~interrupt() {
        for (int i = 0; i < 2; ++i)
            if (former_[i] != SIG_ERR) std::signal(signals[i], former_[i]);
    }
    interrupt(const interrupt&) = delete;
    interrupt& operator=(const interrupt&) = delete;

    bool on_step(const step_info&) const noexcept { return !requested(); }
    bool requested() const noexcept { return number() != 0; }
    // The signal that came, 0 when none did; 128 more is the shell's exit status.
    int signal() const noexcept { return number(); }

  private:
    static constexpr int signals[2]{SIGINT, SIGTERM};
    static volatile std::sig_atomic_t& number() noexcept {
        static volatile std::sig_atomic_t received = 0;
        return received;
    }
    static void receive(int which) noexcept {
        number() = which;
        for (const int each : signals) std::signal(each, SIG_DFL);
    }
    void (*former_[2])(int) = {};
};

}  // namespace lamella::train
