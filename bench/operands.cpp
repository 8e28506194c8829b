// What the operands of real training look like to a kernel that skips zeros, and what skipping them is worth.
//
//   operands --data DIR                          LeNet-5 on MNIST as examples/run.sh mnist trains it; else made digits
//   operands --model cnn3 --lr 0.02 --data DIR   cnn3 on CIFAR-10 as examples/run.sh cifar10 does; else coloured digits
//   operands --model mlp --at 900 --at 1800      steps whose operands are captured (a quarter, half and three quarters
//                                                of the run unless given); training stops after the last one
//
// Prints Markdown, shares over all captured steps:
//
//   mantissas   of each layer, stage and operand: zero values, zero groups of four along K, zero 6 x 4 tiles,
//               6 x 256 panels, rows, and columns (positions along K, zero in every row) of the matrix that the product
//               reads, padding included
//   slices      the same of every plane, lowest order first, in every encoding
//   times       of each product on its captured operands, and on the same with ones in place of zeros; medians of
//               interleaved rounds
#include <time.h>

#include <array>
#include <cinttypes>
#include <map>
#include <tuple>

#include "../examples/cifar10/models.hpp"
#include "../examples/mnist/mnist.hpp"
#include "captured.hpp"

namespace {

using namespace lamella;
using bench::captured_product;
using bench::zero_counts;

struct operand_options {
    example::options run;  // of the training
    std::vector<std::uint64_t> at;
    int rounds = 15;
    bool times = true;
};

// ---- statistics -----------------------------------------------------------------------------------------------------

// An operand of a layer's product, over the captured steps.
using place = std::tuple<int, stage, role>;

struct operand_zeros {
    std::string size;
    int least_width = max_width, most_width = min_width;
    zero_counts mantissas;
    std::array<std::vector<zero_counts>, slice::encoding_names.size()> planes;  // of the steps that have them
};

std::string share(std::uint64_t zero, std::uint64_t all) {
    char text[16];
    std::snprintf(text, sizeof text, "%.3f", all == 0 ? 0.0 : static_cast<double>(zero) / static_cast<double>(all));
    return text;
}

std::map<place, operand_zeros> statistics(const std::vector<captured_product>& products) {
    std::map<place, operand_zeros> all;
    slice::sliced_matrix matrix;
    for (const captured_product& p : products)
        for (const bench::captured_operand* o : {&p.a, &p.b}) {
            const gemm::operand_view view = o->view();
            operand_zeros& z = all[{p.layer, p.where, o->what()}];
            z.size = std::to_string(view.rows.size()) + " x " + std::to_string(view.depth.size());
            z.least_width = std::min(z.least_width, view.width);
            z.most_width = std::max(z.most_width, view.width);
            for (std::size_t e = 0; e < z.planes.size(); ++e) {
                bench::take_apart(view, static_cast<slice::encoding>(e), matrix);
                if (e == 0) z.mantissas += bench::count_zeros(matrix, 0, matrix.planes());
                z.planes[e].resize(std::max(z.planes[e].size(), static_cast<std::size_t>(matrix.planes())));
                for (int s = 0; s < matrix.planes(); ++s)
                    z.planes[e][static_cast<std::size_t>(s)] += bench::count_zeros(matrix, s, s + 1);
            }
        }
    return all;
}

std::string label(const place& where) {
    const auto& [layer, at, what] = where;
    return std::to_string(layer) + " | " + std::string(name_of(at)) + " | " + std::string(name_of(what));
}

void print_statistics(const std::map<place, operand_zeros>& all) {
    std::printf(
        "Mantissas: shares of zeros.\n\n"
        "| layer | stage | operand | rows x K | bits | values | groups of 4 | 6 x 4 tiles | 6 x 256 panels | rows | "
        "columns |\n"
        "| ---: | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (const auto& [where, z] : all) {
        const zero_counts& m = z.mantissas;
        const std::string bits =
            std::to_string(z.least_width) + (z.least_width == z.most_width ? "" : ".." + std::to_string(z.most_width));
        std::printf("| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", label(where).c_str(), z.size.c_str(),
                    bits.c_str(), share(m.zero_values, m.values).c_str(), share(m.zero_groups, m.groups).c_str(),
                    share(m.zero_tiles, m.tiles).c_str(), share(m.zero_panels, m.panels).c_str(),
                    share(m.zero_rows, m.rows).c_str(), share(m.zero_columns, m.columns).c_str());
    }
    std::printf(
        "\nSlices: shares of zeros in each plane, lowest order first.\n\n"
        "| encoding | layer | stage | operand | slices | groups of 4 | 6 x 4 tiles | 6 x 256 panels |\n"
        "| --- | ---: | --- | --- | --- | --- | --- | --- |\n");
    for (std::size_t e = 0; e < slice::encoding_names.size(); ++e)
        for (const auto& [where, z] : all) {
            const auto each = [&planes = z.planes[e]](auto zero, auto count) {
                std::string text;
                for (const zero_counts& plane : planes)
                    text += (text.empty() ? "" : " ") + share(plane.*zero, plane.*count);
                return text;
            };
            std::printf("| %s | %s | %s | %s | %s | %s |\n", std::string(slice::encoding_names[e]).c_str(),
                        label(where).c_str(), each(&zero_counts::zero_values, &zero_counts::values).c_str(),
                        each(&zero_counts::zero_groups, &zero_counts::groups).c_str(),
                        each(&zero_counts::zero_tiles, &zero_counts::tiles).c_str(),
                        each(&zero_counts::zero_panels, &zero_counts::panels).c_str());
        }
    std::printf("\n");
}

// ---- times ----------------------------------------------------------------------------------------------------------

// Seconds: of this thread's CPU with one thread, so that neighbours on the machine matter less.
double now(int threads) {
    timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double median(std::vector<double> x) {
    std::sort(x.begin(), x.end());
    const std::size_t half = x.size() / 2;
    return x.size() % 2 == 1 ? x[half] : (x[half - 1] + x[half]) / 2;
}

// A product with the kind of output that its stage has in training.
class timed_product {
  public:
    timed_product(const gemm::problem& p, stage where, const gemm::settings& how) : problem_(p), how_(how) {
        out_.rows = gemm::axis::linear(p.m(), p.n());
        const auto count = static_cast<std::size_t>(p.m() * p.n());
        if (where == stage::weight_gradient) {
            exact_.resize(count);
            out_.exact = exact_.data();
            return;
        }
        wide_.resize(count);
        out_.wide = wide_.data();
        const std::int64_t bound = gemm::accumulator_bound(p.a.width, p.b.width, p.k());
        out_.shift = std::max(0, bit_length(static_cast<std::uint64_t>(bound)) - 31);
        if (round_nearest(bound, out_.shift) >> 31 != 0) ++out_.shift;
        if (where == stage::feed_forward) {
            bias_.resize(static_cast<std::size_t>(p.n()));
            out_.bias = bias_.data();
            out_.seen = &seen_;
        }
    }
    void run() { gemm::multiply(problem_, out_, how_, memory_); }
    double seconds(int repeats) {
        const double begin = now(how_.threads);
        for (int i = 0; i < repeats; ++i) run();
        return (now(how_.threads) - begin) / repeats;
    }

  private:
    gemm::problem problem_;
    gemm::settings how_;
    gemm::output out_;
    buffer<std::int32_t> wide_;
    buffer<std::int64_t> exact_, bias_;
    histogram seen_;
    gemm::workspace memory_;
};

enum variant : std::size_t { fused, fused_filled, sliced, sliced_filled, variants };
using medians = std::array<double, variants>;

medians time_product(const captured_product& p, const gemm::settings& kernels, int rounds) {
    const bench::captured_operand a = p.a.filled(), b = p.b.filled();
    const gemm::problem real = p.problem(), full{a.view(), b.view()};
    gemm::settings slices = kernels;
    slices.how = gemm::execution::sliced;
    timed_product each[variants] = {
        {real, p.where, kernels}, {full, p.where, kernels}, {real, p.where, slices}, {full, p.where, slices}};
    std::array<int, variants> repeats;
    for (std::size_t v = 0; v < variants; ++v) {
        each[v].run();  // takes memory
        repeats[v] = 1 + static_cast<int>(3e-4 / std::max(1e-7, each[v].seconds(2)));
    }
    std::array<std::vector<double>, variants> seen;
    for (int round = 0; round < rounds; ++round)
        for (std::size_t v = 0; v < variants; ++v) seen[v].push_back(each[v].seconds(repeats[v]));
    medians m;
    for (std::size_t v = 0; v < variants; ++v) m[v] = median(seen[v]);
    return m;
}

void print_times(const std::vector<captured_product>& products, const gemm::settings& kernels, int rounds) {
    std::printf(
        "Times in microseconds, medians of %d interleaved rounds; speed-up: the time with ones in place of zeros over\n"
        "the time with the zeros.\n\n"
        "| step | layer | stage | M x N x K | bits | fused | speed-up | sliced | speed-up | sliced / fused |\n"
        "| ---: | ---: | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
        rounds);
    std::map<stage, medians> totals;
    for (const captured_product& p : products) {
        const medians t = time_product(p, kernels, rounds);
        for (std::size_t v = 0; v < variants; ++v) totals[p.where][v] += t[v];
        const gemm::problem x = p.problem();
        std::printf("| %" PRIu64 " | %d | %s | %" PRId64 " x %" PRId64 " x %" PRId64
                    " | %d x %d | %.1f | %.2f | %.1f | %.2f | %.2f |\n",
                    p.step, p.layer, std::string(name_of(p.where)).c_str(), x.m(), x.n(), x.k(), x.a.width, x.b.width,
                    1e6 * t[fused], t[fused_filled] / t[fused], 1e6 * t[sliced], t[sliced_filled] / t[sliced],
                    t[sliced] / t[fused]);
    }
    for (const auto& [where, t] : totals)
        std::printf("| all | all | %s | | | %.1f | %.2f | %.1f | %.2f | %.2f |\n", std::string(name_of(where)).c_str(),
                    1e6 * t[fused], t[fused_filled] / t[fused], 1e6 * t[sliced], t[sliced_filled] / t[sliced],
                    t[sliced] / t[fused]);
}

// ---- training -------------------------------------------------------------------------------------------------------

template <class Model>
void run(const Model& model, operand_options o, const data::dataset& train) {
    const nn::image_shape input{static_cast<std::int64_t>(train.height()), static_cast<std::int64_t>(train.width()),
                                static_cast<std::int64_t>(train.channels())};
    nn::network<nn::fixed, Model> net(model, input, example::make_fixed(o.run), o.run.seed,
                                      example::make_controller(o.run));
    auto optimizer = example::make_optimizer(o.run);
    net.parameters([&](auto& p) { optimizer.prepare(p); });

    const std::uint64_t total = o.run.epochs * ((train.size() + o.run.batch - 1) / o.run.batch);
    if (o.at.empty()) o.at = {total / 4, total / 2, total * 3 / 4};
    for (const std::uint64_t step : o.at)
        if (step >= total) throw argument_error("--at", "a step below " + std::to_string(total), std::to_string(step));
    bench::capture seen(o.at);
    net.observe(seen);
    train::fit_settings settings;
    settings.epochs = o.run.epochs;
    settings.batch = o.run.batch;
    settings.last_step = *std::max_element(o.at.begin(), o.at.end());
    train::fit(net, optimizer, train, settings);

    std::printf("%s on %s, %s, seed %" PRIu64 ", batch %u; operands of steps", o.run.model.c_str(), train.name.c_str(),
                net.engine().controller->description().c_str(), o.run.seed, o.run.batch);
    for (const std::uint64_t step : o.at) std::printf(" %" PRIu64, step);
    std::printf(" of %" PRIu64 "; path %s, threads %d.\n\n", total, std::string(name_of(net.engine().isa())).c_str(),
                net.engine().threads());
    print_statistics(statistics(seen.products()));
    if (o.times) print_times(seen.products(), net.engine().options.kernels, o.rounds);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Zeros in the operands of real training steps, and what skipping them is worth."};
    operand_options o;
    o.run.threads = 1;
    o.run.model = "lenet5";
    example::declare_data(app, o.run);
    app.add_option("--model", o.run.model, "network")
        ->check(CLI::IsMember({"lenet5", "mlp", "cnn3"}))
        ->capture_default_str();
    app.add_option("--lr", o.run.lr, "learning rate (default 0.03)");
    app.add_option("--at", o.at, "step whose operands are captured; may be repeated");
    app.add_option("--precision", o.run.precision, "controller (default: as examples/run.sh mnist or cifar10)");
    app.add_option("--encoding", o.run.encoding, "of laps' ladder and of sliced times")->capture_default_str();
    app.add_option("--epochs", o.run.epochs, "of the whole run")->capture_default_str();
    app.add_option("--batch", o.run.batch, "samples a step")->capture_default_str();
    app.add_option("--seed", o.run.seed, "seed of weights, order and rounding")->capture_default_str();
    app.add_option("--threads", o.run.threads, "threads")->capture_default_str();
    app.add_option("--rounds", o.rounds, "rounds of the times; 0: statistics alone")->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    o.times = o.rounds > 0;
    if (o.run.model == "cnn3" && app.count("--precision") == 0) o.run.precision = example::cifar10_precision;
    try {
        if (o.run.model == "lenet5")
            run(example::lenet5, o, example::load_mnist(o.run).train);
        else if (o.run.model == "mlp")
            run(example::mlp(256, 128), o, example::load_mnist(o.run).train);
        else
            run(nn::cnn3(), o, example::load_cifar10(o.run).train);
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "operands: %s\n", failure.what());
        return 1;
    }
    return 0;
}
