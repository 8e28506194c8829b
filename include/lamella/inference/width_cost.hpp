// What an image's inference costs on an accelerator at one width: energy and cycles, memory included, from the real
// operands of a few batches. Counts and energies are those of training's feed-forward (accelerator/run_costs.hpp), less
// what only training stores:
//
//   operands in DRAM   FF keeps its activations there for WG. In inference they are written only where the dataflow's
//                      tiles ask for them again.
//   weights            16-bit masters, read from DRAM once a batch at every width, since rounding to nearest looks
//                      at the bits that are dropped. With `weights_stay` they wait in the buffer.
//
// Tensors between layers go through DRAM at the width of their sums, as in training. Logits' way out, softmax and the
// comparison of margins are not counted: a few dozen numbers an image. Reconstruction, as the models are.
#pragma once

#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "../accelerator/run_costs.hpp"
#include "../train/evaluate.hpp"
#include "width_view.hpp"

namespace lamella::inference {

// The accelerator, and how much of the calibration set it is shown.
struct cost_settings {
    accelerator::configuration machine = accelerator::hnpu();
    std::size_t batch = 64;     // images of a pass; inputs that escalate wait until there are as many
    std::size_t images = 128;   // looked at, the first ones of the calibration set, whole batches
    bool weights_stay = false;  // on the chip, from one pass to the next
};

// Of one image, mean over those looked at. `energy` and `dense16`: one a table, in thousandths of its unit (pJ: fJ),
// rounded, so that what is decided by them is decided in integers.
struct width_cost {
    std::vector<std::uint64_t> energy;
    std::vector<std::uint64_t> dense16;  // of a native 16-bit machine that skips nothing
    std::uint64_t cycles = 0;            // of the array, without waiting for memory
};

namespace detail {

// Tells observers of inference as long as it lives.
class inference_observation {
  public:
    inference_observation(nn::fixed::engine& e, std::vector<gemm::observer*> observers) : engine_(e), step_(e.step) {
        own_ = std::exchange(engine_.inference_observers, std::move(observers));
    }
    inference_observation(const inference_observation&) = delete;
    inference_observation& operator=(const inference_observation&) = delete;
    ~inference_observation() {
        engine_.inference_observers = std::move(own_);
        engine_.step = step_;
    }

  private:
    nn::fixed::engine& engine_;
    std::vector<gemm::observer*> own_;
    std::uint32_t step_;
};

// A feed-forward's actions without what it did for a backward pass.
inline accelerator::action_counts inference_actions(accelerator::action_counts n, bool weights_stay) {
    using accelerator::memory_level;
    using accelerator::tensor_kind;
    if (n.memory.at(tensor_kind::activation, memory_level::dram).reads == 0)
        n.memory.at(tensor_kind::stored_activation, memory_level::dram) = {};
    if (weights_stay) {
        accelerator::traffic& fetched = n.memory.at(tensor_kind::weight, memory_level::dram);
        n.memory.at(tensor_kind::weight, memory_level::buffer) += fetched;
        fetched = {};
    }
    return n;
}

}  // namespace detail

// Measures `net` as it is, or as a width_view shows it. Throws argument_error when the settings ask for no image, for
// more than there are, or for weights on the chip that do not fit its buffer; and as energy_of does.
template <integer_network Network, class Pixel>
width_cost measure_cost(Network& net, const data::basic_dataset<Pixel>& set,
                        std::span<const accelerator::energy_table> tables, const cost_settings& settings) {
    if (settings.batch == 0 || settings.images < settings.batch || settings.images > set.size())
        throw argument_error("images looked at for their cost",
                             "a batch (at least 1) up to " + std::to_string(set.size()),
                             std::to_string(settings.images) + " in batches of " + std::to_string(settings.batch));
    std::uint64_t master_bits = 0;
    net.parameters([&](const auto& p) { master_bits += p.mantissa.size() * accelerator::memory_model::master_bits; });
    const std::uint64_t room = static_cast<std::uint64_t>(settings.machine.buffer_kbytes) * 8192;
    if (settings.weights_stay && master_bits > room)
        throw argument_error("weights that stay", "at most the buffer's " + std::to_string(room) + " bits",
                             std::to_string(master_bits));

    accelerator::slice_counts products(settings.machine.encoding, net.engine().isa(), net.products());
    accelerator::run_costs costs(settings.machine, products,
                                 std::vector<std::uint64_t>(static_cast<std::size_t>(net.products())), 0, 1,
                                 net.engine().isa());
    const std::size_t batches = settings.images / settings.batch;
    {
        const detail::inference_observation told(net.engine(), {&products, &costs});
        std::vector<std::uint32_t> index(settings.batch);
        for (std::size_t b = 0; b < batches; ++b) {
            std::iota(index.begin(), index.end(), static_cast<std::uint32_t>(b * settings.batch));
            net.engine().step = static_cast<std::uint32_t>(b);
            net.predict(train::view_of(set, index));
        }
    }

    const std::uint64_t images = batches * settings.batch;
    const auto an_image = [&](double energy) {
        return static_cast<std::uint64_t>(energy * 1000 / static_cast<double>(images) + 0.5);
    };
    const std::size_t native = 0, own = costs.machines().size() - 1;
    width_cost cost;
    for (const accelerator::energy_table& t : tables)
        for (const std::size_t machine : {own, native}) {
            double energy = 0;
            for (int layer = 0; layer < costs.layers(); ++layer)
                energy += accelerator::energy_of(
                              t, costs.machines()[machine].how,
                              detail::inference_actions(costs.at(machine, layer, stage::feed_forward).actions,
                                                        settings.weights_stay))
                              .total();
            (machine == own ? cost.energy : cost.dense16).push_back(an_image(energy));
        }
    for (int layer = 0; layer < costs.layers(); ++layer)
        cost.cycles += costs.at(own, layer, stage::feed_forward).datapath.cycles;
    cost.cycles = (cost.cycles + images / 2) / images;
    return cost;
}

}  // namespace lamella::inference
