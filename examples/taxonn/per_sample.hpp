// Stochastic gradient descent one sample at a time, in integers under a table of fixed-point formats and as the float32
// twin, and the search of the table: what the TaxoNN program does with a network.
//
// The search starts from the ranges that the twin's operands take over its training, and bounds the loss on held-back
// images. Formats of A and W: the trained twin's weights, rounded to nearest, evaluated. Formats of E: short trainings
// from the start, since what a trained network still stands may be far too coarse for one that has everything to learn
// (tried: 2-bit errors passed when the twin's weights were trained on, and learned nothing from the start). Two of
// them, of other seeds, since one more or less scatters. So a call costs a look at the held-back images, or two short
// trainings.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <lamella/precision/table_search.hpp>
#include <memory>
#include <numeric>
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
        table formats;
        if (!o_.table.empty()) {
            formats = lamella::precision::parse_table(o_.table);
            make_fixed(formats, 1);  // of another number of layers: known before hours have passed
        }
        std::vector<double> wrong_fixed, wrong_twin;
        for (std::uint64_t seed = 1; seed <= o_.seeds; ++seed) {
            twin_network twin = make_twin(seed);
            std::vector<std::array<float, 3>> largest(static_cast<std::size_t>(twin.products()));
            if (formats.empty()) twin.engine().largest = &largest;
            train(twin, data_.train, o_.run.epochs);
            twin.engine().largest = nullptr;
            wrong_twin.push_back(test_error(twin));
            if (formats.empty()) formats = search(twin, largest);
            if (seed == 1) print(formats);
            fixed_network net = make_fixed(formats, seed);
            train(net, data_.train, o_.run.epochs);
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
    twin_network make_twin(std::uint64_t seed) const {
        lamella::nn::float32::settings settings;
        settings.kernels = {instruction_path(o_.run), thread_count(o_.run)};
        return {model_, input_, settings, seed};
    }

    // The GEMMs of a sample: those of the first.
    lamella::accelerator::taxonn_sample one_sample(const table& formats) const {
        fixed_network net = make_fixed(formats, 1);
        lamella::accelerator::taxonn_shapes shapes;
        net.observe(shapes);
        const std::uint32_t first[1] = {0};
        net.train_step(lamella::train::view_of(data_.train, first), {data_.train.labels.data(), 1}, 0);
        return shapes.sample();
    }

    // Plain descent, batch 1, learning rates that are powers of two at every step: the update's product is a shift.
    template <class Network>
    void train(Network& net, const lamella::data::dataset& set, std::uint64_t epochs) const {
        lamella::optim::optimizer_settings s;
        s.rule = lamella::optim::rule::sgd;
        s.lr = {1 << 30, -30 - o_.rate};
        s.schedule.shape = lamella::optim::schedule_shape::step;
        s.schedule.drops = static_cast<std::uint32_t>(o_.halvings);
        s.schedule.gamma = {1 << 30, -31};
        lamella::optim::optimizer optimizer(s);
        lamella::train::fit(net, optimizer, set, {.epochs = epochs, .batch = 1});
    }

    template <class Network>
    static std::uint64_t wrong(Network& net, const lamella::data::dataset& set) {
        const lamella::train::evaluation seen = lamella::train::evaluate(net, set);
        return seen.samples - seen.correct;
    }
    template <class Network>
    double test_error(Network& net) const {
        return 100 * static_cast<double>(wrong(net, data_.test)) / static_cast<double>(data_.test.size());
    }

    // --- the search ------------------------------------------------------------------------------------------------

    // A network at `formats` with the twin's weights, rounded to its 16-bit masters.
    fixed_network imported(twin_network& twin, const table& formats) const {
        fixed_network net = make_fixed(formats, 1);
        std::vector<const lamella::nn::real_parameter<float>*> from;
        twin.parameters([&](const auto& p) { from.push_back(&p); });
        std::size_t next = 0;
        net.parameters([&](auto& p) {
            const auto& values = from[next++]->value;
            const std::array<std::size_t, 1> shape{values.size()};
            const auto masters = lamella::quantise_tensor<1, std::int16_t>(
                xt::adapt(values.data(), values.size(), xt::no_ownership(), shape), 16);
            std::copy(masters.mantissas().begin(), masters.mantissas().end(), p.mantissa.begin());
            p.exponent = masters.exponent();
        });
        std::vector<std::uint32_t> first(std::min<std::size_t>(64, data_.train.size()));
        std::iota(first.begin(), first.end(), 0u);
        net.calibrate(lamella::train::view_of(data_.train, first));
        return net;
    }

    table search(twin_network& twin, const std::vector<std::array<float, 3>>& largest) const {
        using lamella::role;
        std::vector<lamella::precision::operand_tops> tops;
        for (const auto& layer : largest) {
            auto& top = tops.emplace_back();
            for (std::size_t i = 0; i < 3; ++i) top[i] = lamella::precision::top_of(layer[i]);
        }
        table formats = lamella::precision::starting_table(tops);
        const lamella::data::dataset few =
            lamella::data::take(data_.train, 0, std::min(o_.search_images, data_.train.size()));
        const auto loss = [&](fixed_network& net) {  // in a thousandth of the mean image's, for all images
            return static_cast<std::uint64_t>(1000 * lamella::train::evaluate(net, *data_.valid).loss *
                                              static_cast<double>(data_.valid->size()));
        };
        const auto evaluated = [&](const table& rows) {
            fixed_network net = imported(twin, rows);
            return loss(net);
        };
        const auto trained = [&](const table& rows) {
            std::uint64_t sum = 0;
            for (std::uint64_t seed = 1; seed <= trainings; ++seed) {
                fixed_network net = make_fixed(rows, seed);
                train(net, few, 1);
                sum += loss(net);
            }
            return sum;
        };
        std::printf("search: loss of each role's formats before and after");
        const auto lower = [&](role what, double percent, const auto& error) {
            const std::uint64_t before = error(formats);
            const auto tolerance = static_cast<std::uint64_t>(percent / 100 * static_cast<double>(before));
            const int calls = lower_fractions(formats, what, before, tolerance, error);
            std::printf("; %s %.3f, %.3f in %d calls", std::string(name_of(what)).c_str(), mean(before, what),
                        mean(error(formats), what), calls + 2);
            std::fflush(stdout);
        };
        lower(role::activation, o_.tolerance, evaluated);
        lower(role::weight, o_.tolerance, evaluated);
        lower(role::error, o_.error_tolerance, trained);
        std::printf("\n");
        return formats;
    }
    // Of an image, from a sum in thousandths.
    double mean(std::uint64_t sum, lamella::role what) const {
        const double runs = what == lamella::role::error ? static_cast<double>(trainings) : 1.0;
        return static_cast<double>(sum) / 1000 / runs / static_cast<double>(data_.valid->size());
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

    static constexpr std::uint64_t trainings = 2;  // a call of E's search

    const Model& model_;
    const taxonn_options& o_;
    const sets& data_;
    lamella::nn::image_shape input_;
};

}  // namespace example
