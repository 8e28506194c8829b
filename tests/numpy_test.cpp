// The reader in NumPy of io/README.md computes the integers that the library computes, from a checkpoint alone.
#include <lamella/data/digits.hpp>
#include <lamella/io/checkpoint.hpp>
#include <lamella/precision/laps.hpp>

#include "scratch.hpp"
#include "training.hpp"

#include <cstdio>

namespace {

using namespace lamella;

// The one block of Python there.
std::string page_python() {
    const std::string text = get(LAMELLA_SOURCE_DIR "/include/lamella/io/README.md"), fence = "```";
    const std::size_t begin = text.find(fence + "python\n");
    REQUIRE(begin != std::string::npos);
    const std::size_t from = begin + fence.size() + 7;
    return text.substr(from, text.find("\n" + fence, from) + 1 - from);
}

// A Python that has NumPy; empty when there is none.
std::string python_with_numpy() {
    for (const char* candidate : {"python3", "/usr/bin/python3"})
        if (std::system((candidate + std::string(" -c 'import numpy' 2>/dev/null")).c_str()) == 0) return candidate;
    return "";
}

constexpr auto lenet5 =
    nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{16, 5}, nn::relu{}, nn::max_pool2d{2},
                   nn::flatten{}, nn::linear{120}, nn::relu{}, nn::linear{84}, nn::relu{}, nn::linear{10});

TEST_CASE("NumPy recomputes the logits of 1 000 images from a checkpoint, bit for bit") {
    const std::string python = python_with_numpy();
    if (python.empty()) {
        std::printf("skipped: there is no python3 with numpy\n");
        return;
    }
    const scratch directory;
    constexpr std::size_t count = 1000;
    const data::dataset digits = data::generated_digits(4, 0, count);
    put(directory / "images", std::span(digits.images.data(), digits.images.size()));
    put(directory / "run.py", page_python() + R"(
import sys
x, exponent = logits(sys.argv[1] + "/checkpoint", np.fromfile(sys.argv[1] + "/images", "u1").reshape(-1, 28, 28, 1))
expected = np.fromfile(sys.argv[1] + "/logits", "<i4").reshape(-1, 10)
print(f"{(x != expected).sum()} of {x.size} logits differ, exponents {exponent} and {sys.argv[2]}")
sys.exit(0 if (x == expected).all() and exponent == int(sys.argv[2]) else 1)
)");
    const auto agree = [&](std::unique_ptr<precision::controller> controller) {
        testing::training_run run(nn::make_network<nn::fixed>(lenet5, nn::image_shape{28, 28, 1}, nn::fixed::settings{},
                                                              1, std::move(controller)),
                                  {}, digits, 32, 200);
        run.steps(0, 140);
        const precision::controller& decides = *run.net.engine().controller;
        const std::string widths = precision::widths_text(decides, run.net.products());
        INFO("widths " << widths);
        io::write_checkpoint(directory / "checkpoint", run, {{"widths", widths}});
        const auto& logits = run.net.predict(train::view_of(digits, testing::positions(0, count)));
        std::vector<std::uint8_t> bytes;
        for (const std::int32_t x : logits.data)
            for (int b = 0; b < 4; ++b)
                bytes.push_back(static_cast<std::uint8_t>(static_cast<std::uint32_t>(x) >> (8 * b)));
        REQUIRE(bytes.size() == 4 * 10 * count);
        put(directory / "logits", bytes);
        CHECK(std::system(
                  (python + " " + directory / "run.py" + " " + directory / "" + " " + std::to_string(logits.exponent))
                      .c_str()) == 0);
    };
    agree(std::make_unique<precision::laps>(precision::laps_settings{.every = 2}));
    agree(std::make_unique<precision::fixed>(13));
}

}  // namespace
