// Stochastic gradient descent one sample at a time, in integers under a table of fixed-point formats and as the float32
// twin, and the search of the table: what the TaxoNN program does with a network.
//
// The search trains a twin of a seed of its own. The ranges that its operands take give the integer bits, one more for
// the weights: what a sample clips is gone with the sample, but a weight at its bound stays there, and another seed's
// weights go further. Fraction bits: bisection under a bound on what rounding does to the gradients of single samples
// (train/gradient_error.hpp), at the twin's weights at moments of its training from the first step to the last, on
// images kept back.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <lamella/precision/table_search.hpp>
#include <lamella/train/gradient_error.hpp>
#include <memory>
#include <utility>
#include <vector>

#include "networks.hpp"

namespace example {

template <class Model>
class per_sample {
    using table = std::vector<lamella::precision::table_row>;
    using fixed_network = lamella::nn::network<lamella::nn::fixed, Model>;
    using twin_network = lamella::nn::network<lamella::nn::float32, Model>;

  public:
    per_sample(const Model& model, const taxonn_options& o, const sets& data)
        : model_(model),
          o_(o),
          data_(data),
          input_{size(data.train.height()), size(data.train.width()), size(data.train.channels())} {}

    void report() {
        std::printf(
            "%s on %s: %zu training images one at a time, %llu epochs, %zu held back; learning rate 2^-%d, halved %d "
            "times\n",
            o_.run.model.c_str(), data_.train.name.c_str(), data_.train.size(),
            static_cast<unsigned long long>(o_.run.epochs), data_.valid->size(), o_.rate, o_.halvings);
        const table formats = o_.table.empty() ? search() : lamella::precision::parse_table(o_.table);
        make_fixed(formats, 1);  // of another number of layers: known before hours have passed
        print(formats);
        std::vector<double> wrong_fixed, wrong_twin;
        for (std::uint64_t seed = 1; seed <= o_.seeds; ++seed) {
            twin_network twin = make_twin(seed);
            train(twin, 0, steps());
            wrong_twin.push_back(test_error(twin));
            fixed_network net = make_fixed(formats, seed);
            train(net, 0, steps());
            wrong_fixed.push_back(test_error(net));
            print(seed, wrong_fixed.back(), wrong_twin.back());
        }
        print_mean(wrong_fixed, wrong_twin);
        print_costs(o_.array, one_sample(formats));
    }

  private:
    static std::int64_t size(std::size_t x) { return static_cast<std::int64_t>(x); }

    fixed_network make_fixed(const table& formats, std::uint64_t seed) const {
        lamella::nn::fixed::settings settings;
        settings.kernels = make_kernels(o_.run);
        return {model_, input_, settings, seed, std::make_unique<lamella::precision::table>(formats)};
    }
    twin_network make_twin(std::uint64_t seed) const { return {model_, input_, make_float32(o_.run), seed}; }

    // The GEMMs of a sample: those of the first.
    lamella::accelerator::taxonn_sample one_sample(const table& formats) const {
        fixed_network net = make_fixed(formats, 1);
        lamella::accelerator::taxonn_shapes shapes;
        net.observe(shapes);
        const std::uint32_t first[1] = {0};
        net.train_step(lamella::train::view_of(data_.train, first), {data_.train.labels.data(), 1}, 0);
        return shapes.sample();
    }

    std::uint64_t steps() const { return o_.run.epochs * data_.train.size(); }

    // Plain descent, batch 1, learning rates that are powers of two at every step: the update's product is a shift.
    template <class Network>
    void train(Network& net, std::uint64_t first, std::uint64_t end) const {
        if (first == end) return;
        lamella::optim::optimizer_settings s;
        s.rule = lamella::optim::rule::sgd;
        s.lr = {1 << 30, -30 - o_.rate};
        s.schedule.shape = lamella::optim::schedule_shape::step;
        s.schedule.drops = static_cast<std::uint32_t>(o_.halvings);
        s.schedule.gamma = {1 << 30, -31};
        lamella::optim::optimizer optimizer(s);
        lamella::train::fit(net, optimizer, data_.train,
                            {.epochs = o_.run.epochs, .batch = 1, .first_step = first, .last_step = end - 1});
    }

    template <class Network>
    double test_error(Network& net) const {
        return 100 * (1 - lamella::train::evaluate(net, data_.test).accuracy());
    }

    // --- the search ------------------------------------------------------------------------------------------------

    // What the training of a twin shows.
    struct observations {
        std::vector<std::array<float, 3>> largest;            // magnitudes of A, W, E of each layer
        std::vector<lamella::train::gradient_error> moments;  // each on images of its own
    };
    observations observe_twin() const {
        twin_network twin = make_twin(search_seed);
        observations seen;
        seen.largest.resize(static_cast<std::size_t>(twin.products()));
        for (std::size_t moment = 0; moment < moments; ++moment) {
            twin.engine().largest = &seen.largest;
            if (moment > 0) train(twin, steps() * (moment - 1) / (moments - 1), steps() * moment / (moments - 1));
            twin.engine().largest = nullptr;
            const std::size_t first = moment * data_.valid->size() / moments;
            const std::size_t end = (moment + 1) * data_.valid->size() / moments;
            seen.moments.emplace_back(twin, lamella::data::take(*data_.valid, first, end - first));
        }
        return seen;
    }

    table search() const {
        using lamella::role;
        const observations seen = observe_twin();
        std::vector<lamella::precision::operand_tops> tops;
        for (const auto& layer : seen.largest) {
            auto& top = tops.emplace_back();
            for (std::size_t i = 0; i < top.size(); ++i) top[i] = lamella::precision::top_of(layer[i]);
            ++top[static_cast<std::size_t>(role::weight)];
        }
        table formats = lamella::precision::starting_table(tops);
        const auto error = [&](const table& rows) {  // in millionths
            double sum = 0;
            for (const auto& moment : seen.moments) {
                fixed_network net = make_fixed(rows, search_seed);
                sum += moment(net);
            }
            return static_cast<std::uint64_t>(1e6 * sum / moments);
        };
        const auto tolerance = static_cast<std::uint64_t>(1e4 * o_.tolerance);
        std::uint64_t before = error(formats);
        std::printf("search: error of the gradients, %%: %.4f at 16 bits", static_cast<double>(before) / 1e4);
        for (const role what : {role::activation, role::weight, role::error}) {
            const int calls = lower_fractions(formats, what, before, tolerance, error);
            before = error(formats);
            std::printf("; %s %.4f in %d calls", std::string(name_of(what)).c_str(), static_cast<double>(before) / 1e4,
                        calls + 1);
            std::fflush(stdout);
        }
        std::printf("\n");
        return formats;
    }

    // --- what is printed -------------------------------------------------------------------------------------------

    void print(const table& formats) const {
        std::printf("\n--table %s\n\n| layer | A | W | E |\n|---|---|---|---|\n", text_of(formats).c_str());
        for (std::size_t layer = 0; layer < formats.size(); ++layer) {
            std::printf("| %zu |", layer);
            for (const auto& f : formats[layer]) std::printf(" %d.%d: %d bits |", f.integer, f.fraction, f.width());
            std::printf("\n");
        }
        std::printf(
            "\nMisclassification on %zu test images, %%:\n\n| seed | integers | float32 twin | difference "
            "|\n|---|---|---|---|\n",
            data_.test.size());
    }
    static void print(std::uint64_t seed, double fixed, double twin) {
        std::printf("| %llu | %.2f | %.2f | %+.2f |\n", static_cast<unsigned long long>(seed), fixed, twin,
                    fixed - twin);
        std::fflush(stdout);
    }
    static void print_mean(const std::vector<double>& fixed, const std::vector<double>& twin) {
        double a = 0, b = 0;
        for (std::size_t i = 0; i < fixed.size(); ++i) {
            a += fixed[i] / static_cast<double>(fixed.size());
            b += twin[i] / static_cast<double>(fixed.size());
        }
        std::printf("| mean | %.3f | %.3f | %+.3f |\n", a, b, a - b);
    }

    static constexpr std::uint64_t search_seed = 1001;  // none of those that are reported
    static constexpr std::size_t moments = 4;           // of the twin's training: its start, thirds and end

    const Model& model_;
    const taxonn_options& o_;
    const sets& data_;
    lamella::nn::image_shape input_;
};

}  // namespace example
