// One training epoch of the same network in libtorch float32 and in lamella, in turn, on one thread: medians and the
// ratio. Batches are assembled in order and only training steps are timed, as CPU time of the process.
//
//   compare_torch [--model lenet5|mlp|cnn3|resnet20] [--arithmetic fixed|float32] [--rounds N] [--images N]
//                 [--precision RULE]
//
// lenet5: conv 6@5x5, pool 2, conv 16@5x5, pool 2, 120, 84, 10; mlp: 784-256-128-10; cnn3 and resnet20: nn/models.hpp.
// ReLU, batch 64 (resnet20: 128), SGD with momentum. Images are generated: digits, and coloured ones for the latter
// two.

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

constexpr std::int64_t classes = 10;
constexpr const char *learning_rate = "0.02", *momentum = "0.9";

// CPU seconds of this process, all its threads.
double cpu_seconds() {
    std::timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

torch::nn::Conv2d torch_same3x3(std::int64_t in, std::int64_t out, std::int64_t stride, bool bias) {
    return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3).stride(stride).padding(1).bias(bias));
}
torch::nn::BatchNorm2d torch_batch_norm(std::int64_t channels) {  // as nn/norm_kernels.hpp has it
    return torch::nn::BatchNorm2d(torch::nn::BatchNorm2dOptions(channels).eps(0x1p-17).momentum(0.125));
}

// A residual block of ResNet-20, with its option A shortcut.
class torch_block final : public torch::nn::Module {
  public:
    torch_block(std::int64_t in, std::int64_t out)
        : added_(out - in),
          main_(torch_same3x3(in, out, in == out ? 1 : 2, false), torch_batch_norm(out), torch::nn::ReLU(),
                torch_same3x3(out, out, 1, false), torch_batch_norm(out)) {
        register_module("main", main_);
    }
    torch::Tensor forward(const torch::Tensor& x) {
        using torch::indexing::Slice;
        torch::Tensor shortcut = x;
        if (added_ != 0)
            shortcut = torch::constant_pad_nd(
                x.index({Slice(), Slice(), Slice(torch::indexing::None, torch::indexing::None, 2),
                         Slice(torch::indexing::None, torch::indexing::None, 2)}),
                {0, 0, 0, 0, 0, added_});
        return torch::relu_(main_->forward(x).add_(shortcut));
    }

  private:
    std::int64_t added_;  // channels of zeros
    torch::nn::Sequential main_;
};

class torch_training {
  public:
    torch_training(const std::string& model, const lamella::data::dataset& data, std::int64_t batch)
        : batch_(batch),
          steps_(static_cast<std::int64_t>(data.size()) / batch),
          net_(make(model)),
          optimizer_(net_->parameters(),
                     torch::optim::SGDOptions(std::stod(learning_rate)).momentum(std::stod(momentum))) {
        // from_blob wants a pointer that may be written through; `contiguous` copies.
        const auto count = static_cast<std::int64_t>(data.size());
        input_ = torch::from_blob(const_cast<std::uint8_t*>(data.images.data()),
                                  {count, static_cast<std::int64_t>(data.height()),
                                   static_cast<std::int64_t>(data.width()), static_cast<std::int64_t>(data.channels())},
                                  torch::kUInt8)
                     .to(torch::kFloat32)
                     .div(256)
                     .permute({0, 3, 1, 2})
                     .contiguous();
        target_ =
            torch::from_blob(const_cast<std::uint8_t*>(data.labels.data()), {count}, torch::kUInt8).to(torch::kInt64);
    }

    // CPU seconds of one epoch.
    double epoch() {
        const double begin = cpu_seconds();
        for (std::int64_t step = 0; step < steps_; ++step) {
            const torch::Tensor x = input_.narrow(0, step * batch_, batch_);
            const torch::Tensor y = target_.narrow(0, step * batch_, batch_);
            optimizer_.zero_grad();
            torch::nn::functional::cross_entropy(net_->forward(x), y).backward();
            optimizer_.step();
        }
        return cpu_seconds() - begin;
    }

  private:
    static torch::nn::Sequential make(const std::string& model) {
        namespace nn = torch::nn;
        if (model == "mlp")
            return nn::Sequential(nn::Flatten(), nn::Linear(784, 256), nn::ReLU(), nn::Linear(256, 128), nn::ReLU(),
                                  nn::Linear(128, classes));
        if (model == "lenet5")
            return nn::Sequential(nn::Conv2d(1, 6, 5), nn::ReLU(), nn::MaxPool2d(2), nn::Conv2d(6, 16, 5), nn::ReLU(),
                                  nn::MaxPool2d(2), nn::Flatten(), nn::Linear(256, 120), nn::ReLU(),
                                  nn::Linear(120, 84), nn::ReLU(), nn::Linear(84, classes));
        nn::Sequential net;
        std::int64_t channels = 3;
        if (model == "cnn3") {
            for (const std::int64_t out : {32, 64, 128}) {
                net->push_back(torch_same3x3(channels, out, 1, true));
                net->push_back(nn::ReLU(nn::ReLUOptions(true)));
                net->push_back(nn::MaxPool2d(2));
                channels = out;
            }
            net->push_back(nn::Flatten());
            net->push_back(nn::Linear(16 * channels, classes));
            return net;
        }
        net->push_back(torch_same3x3(channels, 16, 1, false));
        net->push_back(torch_batch_norm(16));
        net->push_back(nn::ReLU(nn::ReLUOptions(true)));
        channels = 16;
        for (const std::int64_t out : {16, 16, 16, 32, 32, 32, 64, 64, 64}) {
            net->push_back(std::make_shared<torch_block>(channels, out));
            channels = out;
        }
        net->push_back(nn::AdaptiveAvgPool2d(1));
        net->push_back(nn::Flatten());
        net->push_back(nn::Linear(channels, classes));
        return net;
    }

    std::int64_t batch_, steps_;
    torch::nn::Sequential net_;
    torch::optim::SGD optimizer_;
    torch::Tensor input_, target_;
};

template <class A, class Model>
class lamella_training {
  public:
    lamella_training(const Model& model, const lamella::data::dataset& data, std::int64_t batch,
                     const std::string& precision)
        : data_(data),
          batch_(static_cast<std::size_t>(batch)),
          net_(make(model, lamella::train::view_of(data, {}).shape, precision)),
          optimizer_(settings()) {}

    // CPU seconds of one epoch.
    double epoch() {
        const double begin = cpu_seconds();
        std::vector<std::uint32_t> index(batch_);
        auto& engine = net_.engine();
        for (std::size_t first = 0; first + batch_ <= data_.size(); first += batch_, ++step_) {
            std::iota(index.begin(), index.end(), static_cast<std::uint32_t>(first));
            net_.train_step(lamella::train::view_of(data_, index), {data_.labels.data() + first, batch_}, step_);
            optimizer_.begin_step(step_, steps_at_most, static_cast<std::uint32_t>(batch_));
            net_.parameters(
                [&](auto& p) { optimizer_.update(p, engine.seed, static_cast<std::uint32_t>(step_), engine.isa()); });
        }
        return cpu_seconds() - begin;
    }

  private:
    static constexpr std::uint64_t steps_at_most = 1 << 30;  // the schedule is constant: no step depends on it

    static lamella::nn::network<A, Model> make(const Model& model, const lamella::nn::image_shape& shape,
                                               const std::string& precision) {
        if constexpr (std::is_same_v<A, lamella::nn::fixed>)
            return {model, shape, {}, 1, lamella::precision::parse_controller(precision)};
        else
            return {model, shape, {}, 1};
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
    std::size_t batch_;
    lamella::nn::network<A, Model> net_;
    lamella::optim::optimizer optimizer_;
    std::uint64_t step_ = 0;
};

// Runs one epoch, always of the same network, and returns its CPU seconds.
std::function<double()> lamella_epoch(const std::string& model, const std::string& arithmetic,
                                      const lamella::data::dataset& data, std::int64_t batch,
                                      const std::string& precision) {
    using namespace lamella::nn;
    const auto training_in = [&]<class A>(A, const auto& layers) -> std::function<double()> {
        auto run =
            std::make_shared<lamella_training<A, std::decay_t<decltype(layers)>>>(layers, data, batch, precision);
        return [run] { return run->epoch(); };
    };
    const auto training = [&](const auto& layers) {
        return arithmetic == "fixed" ? training_in(fixed{}, layers) : training_in(float32{}, layers);
    };
    if (model == "mlp")
        return training(sequential(flatten{}, linear{256}, relu{}, linear{128}, relu{}, linear{classes}));
    if (model == "cnn3") return training(cnn3(classes));
    if (model == "resnet20") return training(resnet20(classes));
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

    std::string model = "lenet5", arithmetic = "fixed", precision = "fixed:8";
    int rounds = 5, count = 60000;
    CLI::App app("One training epoch in libtorch float32 and in lamella, on one thread");
    app.add_option("--model", model, "lenet5, mlp, cnn3 or resnet20")
        ->check(CLI::IsMember({"lenet5", "mlp", "cnn3", "resnet20"}));
    app.add_option("--arithmetic", arithmetic, "lamella in integers (fixed) or as its float32 twin")
        ->check(CLI::IsMember({"fixed", "float32"}));
    app.add_option("--rounds", rounds, "epochs of each, in turn, after one that is not counted")
        ->check(CLI::Range(1, 1000));
    app.add_option("--images", count, "images of an epoch")->check(CLI::Range(128, 10000000));
    app.add_option("--precision", precision,
                   "lamella's widths: fixed:W, fixed:FF,EP (bits of A and W, of E), laps, or any that examples take");
    CLI11_PARSE(app, argc, argv);

    torch::set_num_threads(1);
    torch::manual_seed(1);
    const bool coloured = model == "cnn3" || model == "resnet20";
    const std::int64_t batch = model == "resnet20" ? 128 : 64;
    const lamella::data::dataset data =
        coloured ? lamella::data::generated_coloured_digits(1, 0, static_cast<std::uint32_t>(count))
                 : lamella::data::generated_digits(1, 0, static_cast<std::uint32_t>(count));
    torch_training torch_side(model, data, batch);

    const std::function<double()> lamella_side = lamella_epoch(model, arithmetic, data, batch, precision);

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
                static_cast<int>(batch), rounds);
    const std::string what = arithmetic == "fixed" ? precision
                             : LAMELLA_CBLAS       ? "float32 through CBLAS"
                                                   : "float32 without CBLAS";
    std::printf("OpenBLAS kernels: %s; lamella path: %s, %s\n", lamella::bench::openblas_core_name().c_str(),
                std::string(lamella::name_of(lamella::best_path())).c_str(), what.c_str());
    line("libtorch float32", median(torch_seconds));
    line("lamella", median(lamella_seconds));
    std::printf("%-18s %8.3f of libtorch's\n", "ratio", median(ratio));
}
