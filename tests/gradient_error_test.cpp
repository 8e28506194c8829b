// What rounding does to single samples' gradients, on networks where it is known.
#include <doctest/doctest.h>

#include <cmath>
#include <lamella/data/digits.hpp>
#include <lamella/precision/table.hpp>
#include <lamella/train/gradient_error.hpp>
#include <memory>
#include <string>
#include <vector>

#include "message_of.hpp"

using namespace lamella;

namespace {

constexpr nn::image_shape digit{28, 28, 1};

template <class Model>
auto twin_of(const Model& model) {
    return nn::make_network<nn::float32>(model, digit, nn::float32::settings{}, 7);
}
template <class Model>
auto integers_of(const Model& model, const std::string& formats, std::uint64_t seed = 7) {
    return nn::make_network<nn::fixed>(model, digit, nn::fixed::settings{}, seed,
                                       std::make_unique<precision::table>(precision::parse_table(formats)));
}
const auto linear = nn::sequential(nn::flatten{}, nn::linear{10});

}  // namespace

TEST_CASE("errors rounded at random to whole numbers add |e| (1 - |e|) each") {
    // Without weights, every class has a tenth: e is 0.1 nine times and -0.9. Their squares sum to 0.9, and so do the
    // variances of rounding to -1, 0 or 1: the share is 1. Pixels have 8 bits and are exact.
    auto twin = twin_of(linear);
    twin.parameters([](auto& p) { p.value.fill_zero(); });
    const train::gradient_error error(twin, data::generated_digits(3, 0, 2000));
    auto net = integers_of(linear, "1.8,1.15,2.0");
    const double share = error(net);
    CHECK(std::abs(share - 1) < 0.1);  // over four deviations of a mean of 2000 images
    auto again = integers_of(linear, "1.8,1.15,2.0");
    CHECK(error(again) == share);
    auto other = integers_of(linear, "1.8,1.15,2.0", 8);
    CHECK(error(other) != share);
}

TEST_CASE("no errors at all are a share of 1") {
    auto twin = twin_of(linear);
    const train::gradient_error error(twin, data::generated_digits(3, 0, 50));
    auto net = integers_of(linear, "1.8,1.15,20.-16");
    net.engine().options.error_rounding = rounding::nearest;
    CHECK(error(net) == 1);
}

TEST_CASE("the share falls with every second fraction bit of each role, and both networks have the twin's weights") {
    const auto model = nn::sequential(nn::conv2d{4, 5}, nn::relu{}, nn::max_pool2d{2}, nn::flatten{}, nn::linear{10});
    auto twin = twin_of(model);
    twin.parameters([](auto& p) {  // as after some training: nothing is left as it was drawn
        for (std::size_t i = 0; i < p.value.size(); ++i) p.value[i] = 0.9f * p.value[i] + 0.001f;
    });
    std::vector<std::vector<float>> before;
    twin.parameters([&](const auto& p) { before.emplace_back(p.value.begin(), p.value.end()); });
    const train::gradient_error error(twin, data::generated_digits(4, 0, 100));
    std::size_t at = 0;
    twin.parameters([&](const auto& p) { CHECK(std::equal(p.value.begin(), p.value.end(), before[at++].begin())); });

    constexpr int integer[] = {3, 1, 2};
    for (std::size_t role = 0; role < 3; ++role) {
        CAPTURE(role);
        double last = 1e9;
        for (int fraction = 1; fraction <= 11; fraction += 2) {
            CAPTURE(fraction);
            std::string formats;
            for (std::size_t i = 0; i < 3; ++i)
                formats += (i == 0 ? "" : ",") + std::to_string(integer[i]) + "." +
                           std::to_string(i == role ? fraction : 16 - integer[i]);
            auto net = integers_of(model, formats, 11);  // other initial weights, which do not matter
            const double share = error(net);
            CHECK(share < last);
            last = share;
            at = 0;
            net.parameters([&](const auto& p) {
                const std::vector<float>& twins = before[at++];
                float most = 0, off = 0;
                for (std::size_t i = 0; i < twins.size(); ++i) {
                    most = std::max(most, std::abs(twins[i]));
                    off = std::max(off, std::abs(twins[i] - std::ldexp(static_cast<float>(p.mantissa[i]), p.exponent)));
                }
                CHECK(off <= std::ldexp(most, -14));
            });
        }
        CHECK(last < 0.001);
    }
}

TEST_CASE("without images there is nothing to compare") {
    auto twin = twin_of(linear);
    CHECK(message_of<argument_error>([&] {
              train::gradient_error(twin, data::make_dataset(0, 28, 28, 1, 10, "none"));
          }) == "images: expected at least one, found none");
}
