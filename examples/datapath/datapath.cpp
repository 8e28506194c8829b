// What training LeNet-5 costs on a zero-skipping bit-slice accelerator: slice products, cycles and utilisation
// of every stage, for each encoding, beside dense machines of 16 bits; or a sweep over the sizes of the blocks.
//
//   examples/run.sh datapath                       MNIST when examples/get-data.sh has fetched it or LAMELLA_DATA names
//                                                  a folder with it, else generated digits
//   examples/run.sh datapath --data DIR            the table
//   examples/run.sh datapath --data DIR --sweep    one encoding, sizes varied over one recorded run
//   examples/run.sh datapath --machine FILE.json   another accelerator (fields: accelerator/configuration.hpp)
#include <cinttypes>
#include <cstdio>
#include <exception>
#include <lamella/accelerator/configuration_json.hpp>
#include <lamella/accelerator/control.hpp>
#include <lamella/accelerator/datapath_counter.hpp>
#include <lamella/accelerator/optc_cycles.hpp>
#include <lamella/accelerator/recording.hpp>

#include "../mnist/mnist.hpp"

namespace {

using namespace lamella;
using accelerator::configuration;
using accelerator::datapath_counts;

constexpr std::array gemm_stages{stage::feed_forward, stage::error_propagation, stage::weight_gradient};

// A trained network's recorded steps.
struct trained {
    trained(const example::options& o, int layers, std::uint64_t every)
        : products(slice::parse_encoding(o.encoding), example::instruction_path(o), layers), steps(products, every) {}
    accelerator::slice_counts products;
    accelerator::recording steps;
    std::vector<std::uint64_t> weights;  // of each layer, biases included
    double accuracy = 0;
};

std::unique_ptr<trained> train_and_record(const example::options& o, const example::sets& data, std::uint64_t every) {
    const nn::image_shape input{static_cast<std::int64_t>(data.train.height()),
                                static_cast<std::int64_t>(data.train.width()),
                                static_cast<std::int64_t>(data.train.channels())};
    auto net = nn::make_network<nn::fixed>(example::lenet5, input, example::make_fixed(o), o.seed,
                                           example::make_controller(o));
    auto run = std::make_unique<trained>(o, net.products(), every);
    net.observe(run->products);
    net.observe(run->steps);
    auto optimizer = example::make_optimizer(o);
    train::fit(net, optimizer, data.train, {.epochs = o.epochs, .batch = o.batch});
    net.parameters([&](const auto& p) {
        if (p.layer >= run->weights.size()) run->weights.resize(static_cast<std::size_t>(p.layer) + 1);
        run->weights[p.layer] += p.mantissa.size();
    });
    std::erase(run->weights, std::uint64_t{0});
    run->accuracy = train::evaluate(net, data.test).accuracy();
    return run;
}

// Sums over the recorded steps, of each layer and stage; without probes, which come at steps of their own.
struct outcome {
    std::vector<std::array<datapath_counts, 3>> layers;
    datapath_counts total(stage where) const {
        datapath_counts sum;
        for (const auto& l : layers) sum += l[static_cast<std::size_t>(where)];
        return sum;
    }
    datapath_counts total() const {
        datapath_counts sum;
        for (const stage s : gemm_stages) sum += total(s);
        return sum;
    }
};

outcome run_on(const configuration& c, const trained& run) {
    accelerator::datapath_counter counter(c);
    outcome result;
    for (const accelerator::recorded_gemm& g : run.steps.gemms())
        g.replay([&](const gemm::gemm_event& event) {
            if (event.probe) return;
            if (!g.sample) return counter.remember(event, g.a_streams);
            const datapath_counts& counts = counter.count(event, g.a_streams);
            result.layers.resize(std::max(result.layers.size(), static_cast<std::size_t>(event.layer) + 1));
            result.layers[static_cast<std::size_t>(event.layer)][static_cast<std::size_t>(event.where)] += counts;
        });
    return result;
}

double ratio(std::uint64_t x, std::uint64_t y) { return y == 0 ? 0 : static_cast<double>(x) / static_cast<double>(y); }

struct variant {
    std::string name;
    configuration how;
    outcome result;
};

std::vector<variant> variants(const configuration& c, const trained& run) {
    std::vector<variant> all;
    for (accelerator::machine& m : accelerator::ladder(c)) {
        outcome result = run_on(m.how, run);
        all.push_back({std::move(m.name), std::move(m.how), std::move(result)});
    }
    return all;
}

void print_rows(const char* title, const std::vector<variant>& all, std::uint64_t steps, auto&& counts_of) {
    const std::uint64_t native = counts_of(all[0].result).cycles, slices = counts_of(all[1].result).cycles;
    const std::uint64_t dense = std::min(native, slices);
    for (const variant& v : all) {
        const datapath_counts counts = counts_of(v.result);
        std::printf("| %s | %s | %.3f | %.0f | %.1f %% | %.2fx |\n", title, v.name.c_str(),
                    ratio(counts.products(), steps) * 1e-6, ratio(counts.cycles, steps),
                    100 * ratio(counts.products(), counts.capacity), ratio(dense, counts.cycles));
    }
}

// The last configuration's training step on the time line, the optimizer core included.
void print_step(const variant& v, const trained& run, bool direct) {
    const std::uint64_t steps = run.steps.steps();
    const auto update = [&](int layer) {
        return accelerator::optc_update(run.weights[static_cast<std::size_t>(layer)], 1, v.how).cycles;
    };
    const auto cycles = [&](const accelerator::phase& p) {
        if (p.where == stage::weight_update) return update(p.layer);
        return v.result.layers[static_cast<std::size_t>(p.layer)][static_cast<std::size_t>(p.where)].cycles / steps;
    };
    const int layers = static_cast<int>(v.result.layers.size());
    const auto line = accelerator::schedule(accelerator::training_step(layers), cycles);
    std::uint64_t updates = 0;
    for (std::size_t l = 0; l < run.weights.size(); ++l) updates += update(static_cast<int>(l));
    const std::uint64_t end = accelerator::end_of(line);
    const datapath_counts all = v.result.total();
    const double lane_cycles = static_cast<double>(all.busy + all.scanning + all.waiting);
    std::printf("\nA mean step (probes left out) takes %" PRIu64 " cycles, %.3f ms at %d MHz, its updates (%" PRIu64
                " cycles on the optimizer core) mostly beside it.\n",
                end, static_cast<double>(end) / v.how.clock_mhz * 1e-3, v.how.clock_mhz, updates);
    std::printf(
        "With an array and an optimizer core for each layer, the longest chain of work that waits for work is %" PRIu64
        " cycles (%s).\n",
        accelerator::critical_path(layers, direct, cycles), direct ? "direct feedback" : "back-propagation");
    std::printf(
        "Lanes: %.1f %% of their cycles issue, %.1f %% scan empty windows, %.1f %% wait for the tile's slowest; "
        "stalled on banks %.1f %%, last drains %.1f %% of cluster cycles.\n",
        100 * static_cast<double>(all.busy) / lane_cycles, 100 * static_cast<double>(all.scanning) / lane_cycles,
        100 * static_cast<double>(all.waiting) / lane_cycles,
        100 * ratio(all.stalled, all.cycles * static_cast<std::uint64_t>(v.how.cores)),
        100 * ratio(all.exposed, all.cycles * static_cast<std::uint64_t>(v.how.cores)));
    std::printf(
        "Traffic a step: streamed digits %.1f kB, their index %.1f kB, held digits %.1f kB, partial sums %.1f thousand "
        "into the tree, %.1f thousand outputs; %" PRIu64 " of %" PRIu64 " GEMMs exceed %d-bit accumulators.\n",
        ratio(all.streamed_bits, steps) / 8e3, ratio(all.index_bits, steps) / 8e3, ratio(all.held_bits, steps) / 8e3,
        ratio(all.partial_sums, steps) * 1e-3, ratio(all.outputs, steps) * 1e-3, all.too_wide, all.gemms,
        v.how.accumulator_bits);
}

void print_table(const configuration& c, const trained& run, bool direct) {
    const std::vector<variant> all = variants(c, run);
    const auto exact = run.products.total();
    std::printf("\n## %s: test accuracy %.2f %%\n\n", std::string(slice::name_of(c.encoding)).c_str(),
                100 * run.accuracy);
    std::printf(
        "Slice products of the whole run, exact: dense at 16 bits 1, at these widths %.4f, issued %.4f (%.1fx fewer; "
        "probes %.4f).\n\n",
        ratio(exact.dense, exact.dense16), ratio(exact.issued, exact.dense16), ratio(exact.dense16, exact.issued),
        ratio(exact.probe, exact.dense16));
    std::printf(
        "| stage | machine | products a step, 10^6 | cycles a step | utilisation | fewer cycles "
        "|\n|---|---|---|---|---|---|\n");
    const std::uint64_t steps = run.steps.steps();
    for (const stage s : gemm_stages)
        print_rows(std::string(name_of(s)).c_str(), all, steps, [&](const outcome& o) { return o.total(s); });
    print_rows("total", all, steps, [](const outcome& o) { return o.total(); });
    print_step(all.back(), run, direct);
}

void print_reading() {
    std::printf(
        "\n\"Fewer cycles\" is against the cheaper of the two dense 16-bit machines, stage by stage, on as much\n"
        "multiplier hardware (sixteen slice multipliers for each 16-bit one; 16 bits are five slices, not four, in\n"
        "signed-slice). HNPU reports 5.9x. The two are not the same measure: 5.9x is measured energy efficiency of a\n"
        "chip against earlier training chips, whose design, process and networks are theirs, with memories and the\n"
        "rest of the chip in it; this is a ratio of cycles of one model against itself without skipping and with\n"
        "16-bit operands, on one small network with many zeros, without external memory. The sizes of the array and\n"
        "how its blocks work inside are our reconstruction, not the authors' design.\n");
}

void print_sweep(const configuration& base, const trained& run) {
    std::printf("\nSweep over one recorded run, %s, test accuracy %.2f %%, %" PRIu64
                " steps; the first row is %s, the others differ in what they "
                "say.\nGain: against a dense native 16-bit machine with a sixteenth as many multipliers.\n\n",
                std::string(slice::name_of(base.encoding)).c_str(), 100 * run.accuracy, run.steps.steps(),
                base.name.c_str());
    std::printf(
        "| machine | slice multipliers | cycles a step | utilisation | lanes waiting | scanning | stalled | gain "
        "|\n|---|---|---|---|---|---|---|---|\n");
    const auto print = [&](const std::string& name, configuration c) {
        c.native_multipliers = std::max(1, c.lanes * c.multipliers / 16);
        const datapath_counts counts = run_on(c, run).total();
        const std::uint64_t dense = run_on(dense_16_native(c), run).total().cycles;
        const auto lanes = counts.busy + counts.scanning + counts.waiting;
        std::printf("| %s | %d | %.0f | %.1f %% | %.1f %% | %.1f %% | %.1f %% | %.2fx |\n", name.c_str(),
                    c.all_multipliers(), ratio(counts.cycles, run.steps.steps()),
                    100 * ratio(counts.products(), counts.capacity), 100 * ratio(counts.waiting, lanes),
                    100 * ratio(counts.scanning, lanes),
                    100 * ratio(counts.stalled, counts.cycles * static_cast<std::uint64_t>(c.cores)),
                    ratio(dense, counts.cycles));
    };
    const auto vary = [&](const char* name, int configuration::*field, std::initializer_list<int> values) {
        for (const int value : values) {
            if (base.*field == value) continue;
            configuration c = base;
            c.*field = value;
            print(std::string(name) + " " + std::to_string(value), c);
        }
    };
    print(base.name, base);
    vary("cores", &configuration::cores, {4, 64});
    vary("lanes", &configuration::lanes, {8, 32, 64});
    vary("multipliers", &configuration::multipliers, {1, 2, 8, 16});
    vary("rows a lane", &configuration::rows_a_lane, {1, 2, 4, 16});
    vary("window", &configuration::window, {4, 8, 32, 64});
    vary("banks", &configuration::banks, {1, 3});
    vary("drain width", &configuration::drain_width, {1, 2, 16});
    for (const auto balance :
         {accelerator::lane_balance::none, accelerator::lane_balance::greedy, accelerator::lane_balance::iterative}) {
        if (balance == base.balance) continue;
        configuration c = base;
        c.balance = balance;
        print("balance " + std::string(name_of(balance)), c);
    }
    for (const auto first : {accelerator::dimension::plane_pairs, accelerator::dimension::output_channels,
                             accelerator::dimension::input_channels}) {
        configuration c = base;
        std::swap(c.order[0], *std::find(c.order.begin(), c.order.end(), first));
        print(std::string(name_of(first)) + " first", c);
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Trains LeNet-5 on MNIST in integers under LAPS and prints what the run costs on a zero-skipping accelerator,\n"
        "beside dense 16-bit machines."};
    example::options o;
    o.model = "lenet5";
    o.small = true;
    std::string machine;
    std::vector<std::string> encodings;
    std::uint64_t every = 200;
    bool sweep = false;
    example::declare_data(app, o);
    app.add_option("--images", o.images, "training images used, the first ones; 0: all")->capture_default_str();
    app.add_option("--epochs", o.epochs, "epochs")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--batch", o.batch, "samples a step")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--seed", o.seed, "seed of weights, order and rounding")->capture_default_str();
    app.add_option("--precision", o.precision, "controller, as for mnist")->capture_default_str();
    app.add_option("--lr", o.lr, "learning rate (default 0.03)");
    app.add_option("--feedback", o.feedback, "how errors reach hidden layers")
        ->check(CLI::IsMember({"propagated", "direct"}))->capture_default_str();
    app.add_option("--threads", o.threads, "threads; 0: LAMELLA_THREADS, else one")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    app.add_option("--machine", machine, "accelerator, a JSON file; without it hnpu, whose sizes are ours")
        ->check(CLI::ExistingFile);
    app.add_option("--encoding", encodings, "encodings; all three, and for --sweep the machine's, without it")
        ->check(CLI::IsMember({"sign-magnitude", "twos-complement", "signed-slice"}));
    app.add_option("--every", every, "steps from one recorded step to the next")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_flag("--sweep", sweep, "vary the sizes of the blocks over one recorded run");
    CLI11_PARSE(app, argc, argv);
    try {
        configuration c = machine.empty() ? accelerator::hnpu() : accelerator::read_configuration(machine);
        const example::sets data = example::load_mnist(o);
        std::printf("LeNet-5 on %s, %" PRIu64
                    " epochs of batch %u, %s; accelerator %s: %d cores x %d lanes x %d slice multipliers, window %d\n",
                    data.train.name.c_str(), o.epochs, o.batch, o.precision.c_str(), c.name.c_str(), c.cores, c.lanes,
                    c.multipliers, c.window);
        if (encodings.empty() && sweep) encodings = {std::string(slice::name_of(c.encoding))};
        if (encodings.empty()) encodings.assign(slice::encoding_names.begin(), slice::encoding_names.end());
        for (const std::string& encoding : encodings) {
            o.encoding = encoding;
            c.encoding = slice::parse_encoding(encoding);
            const auto run = train_and_record(o, data, every);
            if (sweep)
                print_sweep(c, *run);
            else
                print_table(c, *run, o.feedback == "direct");
        }
        if (!sweep) print_reading();
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "datapath: %s\n", failure.what());
        return 1;
    }
    return 0;
}
