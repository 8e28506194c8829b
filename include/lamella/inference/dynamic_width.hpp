// Dynamic width inference: every input begins at a narrow width and goes on to a wider one when the score margin says
// that the answer is not sure. For a trained integer network, without retraining, from its one set of weights
// (width_view.hpp). A reimplementation of the idea of Jahier Pagliari et al., ISLPED 2018: characterisation.hpp says
// what is known of it.
//
//   const auto known = inference::characterize(net, calibration, {3, 4, 5, 6, 8, 16}, accelerator::energy_tables());
//   const auto choice = inference::choose(known, 0, 100);       // table 0, at most one point lost; choice.hpp
//   inference::dynamic_width dynamic(net, known, choice.chosen.run);
//   const inference::answers said = dynamic.predict(test);
//
// Files: characterisation_json.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../io/hashes.hpp"
#include "choice.hpp"
#include "width_cost.hpp"

namespace lamella::inference {

// What a network says to each of several images.
struct answers {
    std::vector<std::uint8_t> predictions;
    std::vector<margin_t> margins;     // of the level that answered
    std::vector<std::uint8_t> levels;  // that answered, from 0

    std::uint64_t correct(std::span<const std::uint8_t> labels) const {
        std::uint64_t n = 0;
        for (std::size_t i = 0; i < predictions.size(); ++i) n += predictions[i] == labels[i];
        return n;
    }
    std::vector<std::uint64_t> reached(std::size_t chain_levels) const {
        std::vector<std::uint64_t> n(chain_levels, 0);
        for (const std::uint8_t last : levels)
            for (std::size_t k = 0; k <= last; ++k) ++n[k];
        return n;
    }
};

namespace detail {

// The class of the largest logit (the first, in a tie) and its margin, of each sample.
class classifier {
  public:
    // Calls visit(sample, class, margin).
    template <class Visit>
    void operator()(const nn::fixed::tensor& logits, Visit&& visit) {
        const std::int64_t classes = logits.shape.size();
        probability_.resize(static_cast<std::size_t>(classes));
        power_.resize(probability_.size());
        for (std::int64_t s = 0; s < logits.samples; ++s) {
            const std::int32_t* row = logits.data.data() + s * classes;
            nn::detail::softmax(row, classes, logits.exponent, probability_.data(), power_.data());
            const auto best = std::max_element(row, row + classes) - row;
            std::int32_t second = 0;
            for (std::int64_t k = 0; k < classes; ++k)
                if (k != best) second = std::max(second, probability_[static_cast<std::size_t>(k)]);
            visit(static_cast<std::size_t>(s), static_cast<std::uint8_t>(best),
                  margin_t{probability_[static_cast<std::size_t>(best)] - second});
        }
    }

  private:
    std::vector<std::int32_t> probability_;
    std::vector<std::uint32_t> power_;
};

template <class Network>
void require_classes(const Network& net) {
    if (net.output().size() > 256)
        throw argument_error("network outputs", "at most 256 classes", std::to_string(net.output().size()));
}

}  // namespace detail

// Runs the calibration set once at each width, and a few batches of it through the accelerator's models. The network
// is left as it was. Throws argument_error for an empty set, widths that do not ascend within 2..16, no table, images
// that do not fit the network, and as measure_cost does.
template <integer_network Network, class Pixel>
characterisation characterize(Network& net, const data::basic_dataset<Pixel>& set, const std::vector<int>& widths,
                              const std::vector<accelerator::energy_table>& tables,
                              const cost_settings& settings = {}) {
    require_ascending(widths);
    data::require_valid(set);
    if (set.size() == 0) throw argument_error("calibration set", "at least one image", "none");
    if (tables.empty()) throw argument_error("energy tables", "at least one", "none");
    detail::require_classes(net);
    if (set.classes > net.output().size())
        throw argument_error("classes of " + set.name,
                             "at most the network's outputs, " + std::to_string(net.output().size()),
                             std::to_string(set.classes));
    cost_settings cost = settings;
    cost.batch = std::min(cost.batch, set.size());
    cost.images = std::min(cost.images, set.size());

    characterisation c;
    c.weights_sha256 = io::weights_sha256(net);
    c.network = net.description();
    c.data = set.name;
    c.classes = static_cast<int>(net.output().size());
    c.labels.assign(set.labels.begin(), set.labels.end());
    for (const accelerator::energy_table& t : tables) c.tables.push_back({t.name, t.unit, 0});
    detail::classifier classify;
    for (const int width : widths) {
        const width_view<Network> view(net, width);
        width_record r;
        r.width = width;
        r.predictions.resize(set.size());
        r.margins.resize(set.size());
        train::detail::each_batch(set, [&](std::size_t first, const auto& batch) {
            classify(net.predict(batch), [&](std::size_t s, std::uint8_t said, margin_t margin) {
                r.predictions[first + s] = said;
                r.margins[first + s] = margin;
                r.correct += said == c.labels[first + s];
            });
        });
        width_cost costs = measure_cost(net, set, tables, cost);
        for (std::size_t t = 0; t < tables.size(); ++t) {
            c.tables[t].static16 = costs.dense16[t];
            if (width == max_width) c.tables[t].static16 = std::min(costs.dense16[t], costs.energy[t]);
        }
        r.energy = std::move(costs.energy);
        r.cycles = costs.cycles;
        c.widths.push_back(std::move(r));
    }
    return c;
}

// Throws argument_error when `known` is about another network.
template <integer_network Network>
void require_network(const characterisation& known, Network& net) {
    if (const std::string own = io::weights_sha256(net); own != known.weights_sha256)
        throw argument_error("characterisation", "that of this network, weights_sha256 " + own, known.weights_sha256);
}

// A network that answers by a chain of widths. The network must outlive it, and not be trained meanwhile.
template <integer_network Network>
class dynamic_width {
  public:
    // Throws argument_error when `known` is about another network, and for a chain that it does not allow.
    dynamic_width(Network& net, const characterisation& known, chain run) : net_(net), run_(std::move(run)) {
        detail::require_classes(net);
        require_network(known, net);
        validated(run_, static_cast<int>(net.output().size()));
        for (const int width : run_.widths) detail::place_of(known, width);
    }

    // Labels are not looked at. Throws argument_error when the images do not fit the network.
    template <class Pixel>
    answers predict(const data::basic_dataset<Pixel>& set) {
        answers all;
        all.predictions.resize(set.size());
        all.margins.resize(set.size());
        all.levels.resize(set.size());
        std::vector<std::uint32_t> waiting(set.size()), unsure;
        std::iota(waiting.begin(), waiting.end(), std::uint32_t{0});
        for (std::size_t level = 0; level < run_.widths.size() && !waiting.empty(); ++level) {
            const width_view<Network> view(net_, run_.widths[level]);
            unsure.clear();
            for (std::size_t first = 0; first < waiting.size(); first += train::detail::evaluation_batch) {
                const auto index = std::span<const std::uint32_t>(waiting).subspan(
                    first, std::min(train::detail::evaluation_batch, waiting.size() - first));
                classify_(net_.predict(train::view_of(set, index)),
                          [&](std::size_t s, std::uint8_t said, margin_t margin) {
                              const std::uint32_t image = index[s];
                              all.predictions[image] = said;
                              all.margins[image] = margin;
                              all.levels[image] = static_cast<std::uint8_t>(level);
                              if (!run_.answers(level, said, margin)) unsure.push_back(image);
                          });
            }
            waiting.swap(unsure);
        }
        return all;
    }

    const chain& run() const noexcept { return run_; }

  private:
    Network& net_;
    chain run_;
    detail::classifier classify_;
};

}  // namespace lamella::inference
