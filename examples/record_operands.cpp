// An observer that records operands: what the products of one training step multiplied, as .npy files for NumPy.
//
//   examples/run.sh record_operands FOLDER
//
// Every product of a step is told to the observers of a network: stage, layer, shapes, and the mantissas as the kernel
// read them. Their value is mantissa x 2^exponent.
#include <cstdio>
#include <exception>
#include <lamella/lamella.hpp>
#if __has_include(<xtensor/io/xnpy.hpp>)
#include <xtensor/io/xnpy.hpp>
#else
#include <xtensor/xnpy.hpp>
#endif

using namespace lamella;

class recorder final : public gemm::observer {
  public:
    recorder(std::string folder, std::uint64_t step) : folder_(std::move(folder)), step_(step) {}

    void on_gemm(const gemm::gemm_event& event) override {
        if (event.step != step_ || event.probe || event.where == stage::error_propagation) return;
        if (event.where == stage::feed_forward) {
            write(event, event.a);
            write(event, event.b);
        } else {
            write(event, event.a);  // E; its A is that of feed-forward
        }
    }

  private:
    void write(const gemm::gemm_event& event, const gemm::event_operand& operand) {
        const gemm::stored_images& s = operand.stored;
        const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
        xt::xtensor<std::int16_t, 4> values(
            std::array<std::size_t, 4>{size(s.samples), size(s.height), size(s.width), size(s.channels)});
        for (std::int64_t i = 0; i < s.samples; ++i)
            for (std::int64_t y = 0; y < s.height; ++y)
                for (std::int64_t x = 0; x < s.width; ++x)
                    for (std::int64_t c = 0; c < s.channels; ++c) {
                        const std::int64_t at = i * s.image() + (s.top + y) * s.row() + (s.left + x) * s.channels + c;
                        values(size(i), size(y), size(x), size(c)) = operand.view.in_bytes()
                                                                         ? static_cast<const std::int8_t*>(s.data)[at]
                                                                         : static_cast<const std::int16_t*>(s.data)[at];
                    }
        const std::string name = "layer" + std::to_string(event.layer) + "-" + std::string(name_of(operand.what));
        xt::dump_npy(folder_ + "/" + name + ".npy", values);
        std::printf("%-18s %lld x %lld x %lld x %lld, %d bits, exponent %d\n", name.c_str(),
                    static_cast<long long>(s.samples), static_cast<long long>(s.height),
                    static_cast<long long>(s.width), static_cast<long long>(s.channels), operand.view.width,
                    operand.view.exponent);
    }
    std::string folder_;
    std::uint64_t step_;
};

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: record_operands FOLDER\n");
        return 2;
    }
    try {
        const data::dataset digits = data::generated_digits(1, 0, 1000);
        const auto model =
            nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{4}, nn::flatten{}, nn::linear{10});
        auto net = nn::make_network<nn::fixed>(model, nn::image_shape{28, 28, 1}, nn::fixed::settings{}, 1,
                                               std::make_unique<precision::laps>(precision::laps_settings{}));
        recorder last(argv[1], 24);
        net.observe(last);
        optim::optimizer optimizer;
        train::fit(net, optimizer, digits, {.epochs = 1, .batch = 40});
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "record_operands: %s\n", failure.what());
        return 1;
    }
}
