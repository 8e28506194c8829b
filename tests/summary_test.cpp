// The table of a network: its numbers against counts by hand, and the memory that it reports.
#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>

#include "lamella/nn/models.hpp"
#include "lamella/nn/summary.hpp"
#include "lamella/precision/fixed.hpp"
#include "lamella/precision/parse.hpp"

using namespace lamella;

TEST_CASE("LeNet-5's records have the parameters and multiply-accumulates that one counts by hand") {
    const auto lenet5 = nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{2}, nn::conv2d{16, 5}, nn::relu{},
                                       nn::max_pool2d{2}, nn::flatten{}, nn::linear{120}, nn::relu{}, nn::linear{84},
                                       nn::relu{}, nn::linear{10});
    auto net = nn::make_network<nn::fixed>(lenet5, nn::image_shape{28, 28, 1}, nn::fixed::settings{}, 1,
                                           precision::parse_controller("fixed:8,5", {}));
    REQUIRE(net.records().size() == 12);
    const nn::layer_record &conv = net.records()[3], &last = net.records()[11];
    CHECK(conv.name == "conv2d(16,5,1,0)");
    CHECK(conv.out == nn::image_shape{8, 8, 16});
    CHECK(conv.parameters == 16 * (5 * 5 * 6 + 1));
    CHECK(conv.macs == 8 * 8 * 16 * 5 * 5 * 6);
    CHECK(conv.product == 1);
    CHECK(last.parameters == 85 * 10);
    CHECK(last.product == 4);
    CHECK(net.records()[1].product == -1);
    const std::string table = nn::summary(net);
    CHECK(table.find("  44426 ") != std::string::npos);    // 156 + 2416 + 30840 + 10164 + 850
    CHECK(table.find("  281640\n") != std::string::npos);  // 86400 + 153600 + 30720 + 10080 + 840
    CHECK(table.find("8, 5\n") != std::string::npos);
}

TEST_CASE("layers inside residual blocks have records of their own, and nothing is counted twice") {
    auto net = nn::make_network<nn::float32>(nn::resnet20(), nn::image_shape{32, 32, 3}, nn::float32::settings{}, 1);
    std::int64_t recorded = 0, macs = 0, there = 0;
    int products = 0;
    for (const nn::layer_record& r : net.records()) {
        recorded += r.parameters;
        macs += r.macs;
        products += r.product >= 0;
    }
    net.parameters([&](auto& p) { there += static_cast<std::int64_t>(p.value.size()); });
    CHECK(recorded == there);
    CHECK(products == net.products());
    // Without padding an axis of n pixels has 3 n - 2 taps, and 3 n / 2 - 1 with stride 2.
    CHECK(macs == 94 * 94 * (3 * 16 + 6 * 16 * 16) + 47 * 47 * 16 * 32 + 46 * 46 * 5 * 32 * 32 + 23 * 23 * 32 * 64 +
                      22 * 22 * 5 * 64 * 64 + 640);
    CHECK(there > 268000);  // He et al., 2015: 0.27 million
    CHECK(there < 273000);
}

TEST_CASE("memory in tensors grows with a buffer and falls when it goes") {
    const std::int64_t before = tensor_bytes();
    {
        buffer<std::int32_t> a(1000);
        CHECK(tensor_bytes() >= before + 4000);
        const std::int64_t with = tensor_bytes();
        a.resize(10);
        CHECK(tensor_bytes() == with);
        buffer<std::int32_t> b(a);
        a = std::move(b);
        a.resize(5000);
        CHECK(tensor_bytes() >= before + 20000);
    }
    CHECK(tensor_bytes() == before);
}
