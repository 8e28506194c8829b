// One training epoch of the same network in libtorch float32 and in lamella, in turn, on one thread: medians and the
// ratio. Batches are assembled in order and only training steps are timed, as CPU time of the process.
//
//   compare_torch [--model lenet5|mlp] [--arithmetic fixed|float32] [--rounds N] [--images N] [--bits N]
//
// lenet5: conv 6@5x5, pool 2, conv 16@5x5, pool 2, 120, 84, 10; mlp: 784-256-128-10. ReLU, batch 64, SGD with momentum.

// Before libtorch, whose headers include the compiler's intrinsics without core/intrinsics.hpp's care for g++ 12.
#include <lamella/lamella.hpp>

#include <torch/torch.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include <CLI/CLI.hpp>

#include "pinned_openblas.hpp"

namespace {

constexpr std::int64_t batch = 64, side = 28, pixels = side * side, classes = 10;
constexpr const char *learning_rate = "0.02", *momentum = "0.9";

// CPU seconds of this process, all its threads.
double cpu_seconds() {
    std::timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

class torch_training {
  public:
    torch_training(const std::string& model, const lamella::data::dataset& data)
        : steps_(static_cast<std::int64_t>(data.size()) / batch),
          net_(model == "mlp" ? mlp() : lenet5()),
          optimizer_(net_->parameters(),
                     torch::optim::SGDOptions(std::stod(learning_rate)).momentum(std::stod(momentum))) {
        // from_blob wants a pointer that may be written through; `to` copies.
        const auto count = static_cast<std::int64_t>(data.size());
        input_ = torch::from_blob(const_cast<std::uint8_t*>(data.images.data()), {count, 1, side, side}, torch::kUInt8)
                     .to(torch::kFloat32)
                     .div(256);
        target_ =
            torch::from_blob(const_cast<std::uint8_t*>(data.labels.data()), {count}, torch::kUInt8).to(torch::kInt64);
    }

    // CPU seconds of one epoch.
    double epoch() {
        const double begin = cpu_seconds();
        for (std::int64_t step = 0; step < steps_; ++step) {
            const torch::Tensor x = input_.narrow(0, step * batch, batch), y = target_.narrow(0, step * batch, batch);
            optimizer_.zero_grad();
            torch::nn::functional::cross_entropy(net_->forward(x), y).backward();
            optimizer_.step();
        }
        return cpu_seconds() - begin;
    }

  private:
    static torch::nn::Sequential lenet5() {
        namespace nn = torch::nn;
        return nn::Sequential(nn::Conv2d(1, 6, 5), nn::ReLU(), nn::MaxPool2d(2), nn::Conv2d(6, 16, 5), nn::ReLU(),
                              nn::MaxPool2d(2), nn::Flatten(), nn::Linear(256, 120), nn::ReLU(), nn::Linear(120, 84),
                              nn::ReLU(), nn::Linear(84, classes));
    }
    static torch::nn::Sequential mlp() {
        namespace nn = torch::nn;
        return nn::Sequential(nn::Flatten(), nn::Linear(pixels, 256), nn::ReLU(), nn::Linear(256, 128), nn::ReLU(),
                              nn::Linear(128, classes));
    }

    std::int64_t steps_;
    torch::nn::Sequential net_;
    torch::optim::SGD optimizer_;
    torch::Tensor input_, target_;
};

template <class A, class Model>
class lamella_training {
  public:
    lamella_training(const Model& model, const lamella::data::dataset& data, int bits)
        : data_(data), net_(make(model, bits)), optimizer_(settings()) {}

    // CPU seconds of one epoch.
    double epoch() {
        const double begin = cpu_seconds();
        std::vector<std::uint32_t> index(batch);
        auto& engine = net_.engine();
        for (std::size_t first = 0; first + batch <= data_.size(); first += batch, ++step_) {
            std::iota(index.begin(), index.end(), static_cast<std::uint32_t>(first));
            net_.train_step(lamella::train::view_of(data_, index), {data_.labels.data() + first, batch}, step_);
            optimizer_.begin_step(step_, steps_at_most, batch);
            net_.parameters(
                [&](auto& p) { optimizer_.update(p, engine.seed, static_cast<std::uint32_t>(step_), engine.isa()); });
        }
        return cpu_seconds() - begin;
    }

  private:
    static constexpr std::uint64_t steps_at_most = 1 << 30;  // the schedule is constant: no step depends on it

    static lamella::nn::network<A, Model> make(const Model& model, int bits) {
        if constexpr (std::is_same_v<A, lamella::nn::fixed>)
            return {model, {side, side, 1}, {}, 1, std::make_unique<lamella::precision::fixed>(bits)};
        else
            return {model, {side, side, 1}, {}, 1};
    }
    static lamella::optim::optimizer_settings settings() {
        lamella::optim::optimizer_settings s;
        s.rule = lamella::optim::parse_rule("momentum");
        s.lr = lamella::parse_scaled(learning_rate, "lr");
        s.momentum = lamella::parse_scaled(momentum, "momentum");
        s.schedule.shape = lamella::optim::parse_schedule("constant");
        return s;
    }

    const lamella::data::dataset& data_;
    lamella::nn::network<A, Model> net_;
    lamella::optim::optimizer optimizer_;
    std::uint64_t step_ = 0;
};

// Runs one epoch, always of the same network, and returns its CPU seconds.
std::function<double()> lamella_epoch(const std::string& model, const std::string& arithmetic,
                                      const lamella::data::dataset& data, int bits) {
    using namespace lamella::nn;
    const auto training_in = [&]<class A>(A, const auto& layers) -> std::function<double()> {
        auto run = std::make_shared<lamella_training<A, std::decay_t<decltype(layers)>>>(layers, data, bits);
        return [run] { return run->epoch(); };
    };
    const auto training = [&](const auto& layers) {
        return arithmetic == "fixed" ? training_in(fixed{}, layers) : training_in(float32{}, layers);
    };
    if (model == "mlp")
        return training(sequential(flatten{}, linear{256}, relu{}, linear{128}, relu{}, linear{classes}));
    return training(sequential(conv2d{6, 5}, relu{}, max_pool2d{2}, conv2d{16, 5}, relu{}, max_pool2d{2}, flatten{},
                               linear{120}, relu{}, linear{84}, relu{}, linear{classes}));
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

int main(int argc, char** argv) {
    lamella::bench::pin_openblas(argv, 1);

    std::string model = "lenet5", arithmetic = "fixed";
    int rounds = 5, count = 60000, bits = 8;
    CLI::App app("One training epoch in libtorch float32 and in lamella, on one thread");
    app.add_option("--model", model, "lenet5 or mlp")->check(CLI::IsMember({"lenet5", "mlp"}));
    app.add_option("--arithmetic", arithmetic, "lamella in integers (fixed) or as its float32 twin")
        ->check(CLI::IsMember({"fixed", "float32"}));
    app.add_option("--rounds", rounds, "epochs of each, in turn, after one that is not counted")
        ->check(CLI::Range(1, 1000));
    app.add_option("--images", count, "images of an epoch")->check(CLI::Range(int{batch}, 10000000));
    app.add_option("--bits", bits, "width of every operand in lamella")->check(CLI::Range(2, 16));
    CLI11_PARSE(app, argc, argv);

    torch::set_num_threads(1);
    torch::manual_seed(1);
    const lamella::data::dataset data = lamella::data::generated_digits(1, 0, static_cast<std::uint32_t>(count));
    torch_training torch_side(model, data);

    const std::function<double()> lamella_side = lamella_epoch(model, arithmetic, data, bits);

    std::vector<double> torch_seconds, lamella_seconds, ratio;
    for (int round = 0; round <= rounds; ++round) {
        const double t = torch_side.epoch(), l = lamella_side();
        if (round == 0) continue;  // first calls allocate and compile kernels
        torch_seconds.push_back(t);
        lamella_seconds.push_back(l);
        ratio.push_back(l / t);
    }
    const auto line = [&](const char* name, double seconds) {
        std::printf("%-18s %8.3f s/epoch %8.3f ms/step\n", name, seconds,
                    1e3 * seconds / static_cast<double>(count / batch));
    };
    std::printf("%s, %d images, batch %d, one thread, CPU time, medians of %d rounds\n", model.c_str(), count,
                int{batch}, rounds);
    const std::string what = arithmetic == "fixed" ? std::to_string(bits) + " bits"
                             : LAMELLA_CBLAS       ? "float32 through CBLAS"
                                                   : "float32 without CBLAS";
    std::printf("OpenBLAS kernels: %s; lamella path: %s, %s\n", lamella::bench::openblas_core_name().c_str(),
                std::string(lamella::name_of(lamella::best_path())).c_str(), what.c_str());
    line("libtorch float32", median(torch_seconds));
    line("lamella", median(lamella_seconds));
    std::printf("%-18s %8.3f of libtorch's\n", "ratio", median(ratio));
}
