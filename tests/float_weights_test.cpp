// Weights of other tools: their names, layouts and formats, what is refused, and what becomes of the values.
#include <lamella/io/float_weights.hpp>
#include <lamella/io/hashes.hpp>
#include <lamella/nn/models.hpp>

#include "scratch.hpp"
#include "training.hpp"

#include <cmath>

namespace {

using namespace lamella;
using io::element_type;

struct file_tensor {
    std::string name;
    std::vector<std::size_t> shape;
    std::vector<float> values;
    element_type type = element_type::f32;
};

// F32, or the upper halves of the F32 bits: BF16, and F16 as patterns of no meaning here.
void write(const std::string& path, const std::vector<file_tensor>& tensors) {
    io::safetensors_header header;
    std::vector<std::vector<std::uint8_t>> bytes;
    for (const file_tensor& t : tensors) {
        std::vector<std::uint8_t>& to = bytes.emplace_back();
        for (const float value : t.values) {
            const auto bits = std::bit_cast<std::uint32_t>(value);
            for (std::size_t b = 4 - io::bytes_of(t.type); b < 4; ++b)
                to.push_back(static_cast<std::uint8_t>(bits >> (8 * b)));
        }
        const std::size_t begin = header.data_bytes();
        header.tensors.push_back({t.name, t.type, t.shape, begin, begin + to.size()});
    }
    io::write_safetensors(path, header, std::vector<std::span<const std::uint8_t>>(bytes.begin(), bytes.end()));
}

// Small whole numbers, so that sums in float32 are exact in any order.
std::vector<float> whole_numbers(std::size_t count, std::uint64_t seed) {
    random_sequence random = testing::random_of(seed);
    std::vector<float> values(count);
    for (float& v : values) v = static_cast<float>(random.below(9)) - 4;
    return values;
}

constexpr nn::image_shape input{5, 4, 2};
constexpr auto small_net = nn::sequential(nn::conv2d{3, 2}, nn::relu{}, nn::flatten{}, nn::dropout{10}, nn::linear{5},
                                          nn::relu{}, nn::linear{2});

std::vector<file_tensor> small_file(std::uint64_t seed) {
    return {{"conv1.weight", {3, 2, 2, 2}, whole_numbers(24, seed)}, {"conv1.bias", {3}, whole_numbers(3, seed + 1)},
            {"fc.weight", {5, 36}, whole_numbers(180, seed + 2)},    {"fc.bias", {5}, whole_numbers(5, seed + 3)},
            {"head.weight", {2, 5}, whole_numbers(10, seed + 4)},    {"head.bias", {2}, whole_numbers(2, seed + 5)}};
}
const io::import_settings small_names{.modules = {"conv1", "fc", "head"}};

// What PyTorch computes of such a file: channels first, everywhere.
std::vector<float> channels_first_logits(const std::vector<file_tensor>& f, std::span<const std::uint8_t> image) {
    const auto pixel = [&](std::size_t c, std::size_t y, std::size_t x) {
        return std::ldexp(static_cast<float>(image[(y * 4 + x) * 2 + c]), -8);
    };
    std::vector<float> flat;
    for (std::size_t o = 0; o < 3; ++o)
        for (std::size_t y = 0; y < 4; ++y)
            for (std::size_t x = 0; x < 3; ++x) {
                float sum = f[1].values[o];
                for (std::size_t c = 0; c < 2; ++c)
                    for (std::size_t h = 0; h < 2; ++h)
                        for (std::size_t w = 0; w < 2; ++w)
                            sum += f[0].values[((o * 2 + c) * 2 + h) * 2 + w] * pixel(c, y + h, x + w);
                flat.push_back(std::max(sum, 0.0f));
            }
    const auto linear = [](const std::vector<float>& in, const file_tensor& weight, const file_tensor& bias) {
        std::vector<float> out = bias.values;
        for (std::size_t o = 0; o < out.size(); ++o)
            for (std::size_t i = 0; i < in.size(); ++i) out[o] += weight.values[o * in.size() + i] * in[i];
        return out;
    };
    std::vector<float> hidden = linear(flat, f[2], f[3]);
    for (float& h : hidden) h = std::max(h, 0.0f);
    return linear(hidden, f[4], f[5]);
}

auto twin_of(const auto& model, const nn::image_shape& shape, std::uint64_t seed = 1) {
    return nn::make_network<nn::float32>(model, shape, nn::float32::settings{}, seed);
}

TEST_CASE("a file of channels-first weights computes here what it computes there") {
    const scratch directory;
    const std::vector<file_tensor> file = small_file(7);
    write(directory / "w", file);
    auto twin = twin_of(small_net, input);
    io::import_float(twin, directory / "w", small_names);
    const data::dataset images = testing::noisy_images(3, 20, input, 2);
    const auto& logits = twin.predict(train::view_of(images, testing::positions(0, 20)));
    for (std::size_t i = 0; i < 20; ++i) {
        const std::vector<float> expected = channels_first_logits(file, images.image(i));
        for (std::size_t c = 0; c < 2; ++c) CHECK(logits.data[2 * i + c] == expected[c]);
    }
}

TEST_CASE("numbers of Sequential name the layers when no modules are given") {
    const scratch directory;
    std::vector<file_tensor> file = small_file(8);
    write(directory / "named", file);
    const char* numbered[] = {"0.weight", "0.bias", "4.weight", "4.bias", "6.weight", "6.bias"};
    for (std::size_t i = 0; i < file.size(); ++i) file[i].name = numbered[i];
    write(directory / "numbered", file);
    auto a = twin_of(small_net, input), b = twin_of(small_net, input, 2);
    io::import_float(a, directory / "named", small_names);
    io::import_float(b, directory / "numbered");
    CHECK(io::weights_sha256(a) == io::weights_sha256(b));
}

TEST_CASE("every finite F16 and BF16 is read as what its bits say, and infinities and NaN are not") {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        const auto bf16 = io::detail::exact_value_of(bits, 8, 7), f16 = io::detail::exact_value_of(bits, 5, 10);
        const auto real = [](const io::detail::exact_value& x) {
            return std::ldexp(double{1} * x.mantissa, x.exponent);
        };
        const float as_f32 = std::bit_cast<float>(bits << 16);
        REQUIRE(bf16.has_value() == std::isfinite(as_f32));
        if (bf16) REQUIRE(real(*bf16) == as_f32);
        const int field = static_cast<int>(bits >> 10 & 31);
        const double fraction = static_cast<double>(bits & 1023) / 1024;
        const double magnitude = field == 0 ? std::ldexp(fraction, -14) : std::ldexp(1 + fraction, field - 15);
        REQUIRE(f16.has_value() == (field != 31));
        if (f16) REQUIRE(real(*f16) == (bits >> 15 != 0 ? -magnitude : magnitude));
    }
}

TEST_CASE("an imported weight lies at most half a step from its float, and the largest fills 16 bits") {
    const scratch directory;
    random_sequence random = testing::random_of(11);
    for (int round = 0; round < 20; ++round) {
        std::vector<file_tensor> file = small_file(20);
        for (file_tensor& t : file)
            for (float& v : t.values)
                v = std::ldexp(static_cast<float>(random.below(1 << 24)) - (1 << 23),
                               -static_cast<int>(random.below(60)));
        file[3].values.assign(5, 0.0f);
        write(directory / "w", file);
        auto net = testing::fixed_network(small_net, input, 8);
        io::import_float(net, directory / "w", small_names);
        auto twin = twin_of(small_net, input);
        io::import_float(twin, directory / "w", small_names);
        std::vector<std::vector<float>> exact;
        twin.parameters([&](auto& p) { exact.emplace_back(p.value.begin(), p.value.end()); });
        std::size_t t = 0;
        net.parameters([&](auto& p) {
            INFO("round " << round << " tensor " << t);
            int largest = 0;
            for (std::size_t i = 0; i < p.mantissa.size(); ++i) {
                largest = std::max(largest, std::abs(int{p.mantissa[i]}));
                const double value = std::ldexp(double{1} * p.mantissa[i], p.exponent);
                REQUIRE(std::abs(value - double{1} * exact[t][i]) <= std::ldexp(0.5, p.exponent));
            }
            if (t == 3)
                CHECK((largest == 0 && p.exponent == 0));
            else
                CHECK(largest >= 1 << 14);
            ++t;
        });
    }
}

TEST_CASE("exporting and importing again changes no value, in either arithmetic") {
    const scratch directory;
    const nn::image_shape shape{8, 8, 3};
    const data::dataset images = testing::noisy_images(5, 64, shape, 10);
    const auto model = nn::resnet8();
    const auto check = [&](auto trained, auto fresh) {
        testing::training_run run(std::move(trained), {}, images, 16, 4);
        run.steps(0, 4);
        io::export_float(run.net, directory / "a");
        io::import_float(fresh, directory / "a");
        io::export_float(fresh, directory / "b");
        CHECK(get(directory / "a") == get(directory / "b"));
        return std::pair(std::move(run), std::move(fresh));
    };
    auto [fixed_run, fixed_copy] =
        check(testing::fixed_network(model, shape, 8), testing::fixed_network(model, shape, 8, 2));
    auto [twin_run, twin_copy] = check(twin_of(model, shape), twin_of(model, shape, 2));
    const std::vector<std::uint32_t> index = testing::positions(0, 8);
    const auto batch = train::view_of(images, index);

    // The integer network's values are those of the twin that reads the same file.
    io::export_float(fixed_run.net, directory / "c");
    io::import_float(twin_copy, directory / "c");
    io::export_float(twin_copy, directory / "d");
    CHECK(get(directory / "c") == get(directory / "d"));

    // Only ranges of activations are missing from the integer copy.
    CHECK_THROWS_AS(fixed_copy.predict(batch), error);
    train::calibrate(fixed_copy, images);
    const std::string weights = io::weights_sha256(fixed_copy);
    const auto whole = fixed_copy.predict(batch);
    for (std::uint32_t i = 0; i < 8; ++i) {
        const auto& alone = fixed_copy.predict(train::view_of(images, std::span(&index[i], 1)));
        for (std::size_t c = 0; c < 10; ++c) CHECK(alone.data[c] == whole.data[10 * i + c]);
    }
    CHECK(io::weights_sha256(fixed_copy) == weights);
    io::export_float(fixed_copy, directory / "e");
    CHECK(get(directory / "c") == get(directory / "e"));
}

TEST_CASE("a file that does not fit is refused with a reason, and the network stays as it is") {
    const scratch directory;
    const std::string path = directory / "w";
    auto net = testing::fixed_network(small_net, input, 8);
    const std::string before = io::state_sha256(net);
    const auto refused = [&](const std::vector<file_tensor>& file, const io::import_settings& settings = small_names) {
        write(path, file);
        std::string message = message_of<error>([&] { io::import_float(net, path, settings); });
        CHECK(io::state_sha256(net) == before);
        return message.starts_with(path + ": ") ? message.substr(path.size() + 2) : message;
    };
    const auto with = [](auto&& change) {
        std::vector<file_tensor> file = small_file(1);
        change(file);
        return file;
    };
    CHECK(refused(with([](auto& f) { f.pop_back(); })) == "head.bias: expected this tensor, found none");
    CHECK(refused(with([](auto& f) {
              f.push_back({"fc2.bias", {1}, {1}});
          })) == "fc2.bias: expected no such tensor, found one");
    CHECK(refused(with([](auto& f) { f[2].shape = {36, 5}; })) == "fc.weight.shape: expected [5, 36], found [36, 5]");
    CHECK(refused(with([](auto& f) {
              f[0].shape = {3, 8};
          })) == "conv1.weight.shape: expected [3, 2, 2, 2], found [3, 8]");
    CHECK(refused(with([](auto& f) { f[4].type = element_type::i32; })) ==
          "head.weight.dtype: expected F16, BF16 or F32, found I32");
    for (const float wrong : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()})
        for (const element_type type : {element_type::f32, element_type::bf16})
            CHECK(refused(with([&](auto& f) { f[5].values[1] = wrong, f[5].type = type; })) ==
                  "head.bias element 1: expected a finite number, found none");
    CHECK(refused(small_file(1), {.modules = {"conv1", "fc"}}) ==
          "modules: expected 3 names, one a layer with parameters, found 2");
    CHECK(refused(small_file(1), {}) == "0.weight: expected this tensor, found none");
    io::import_float(net, path, small_names);
    CHECK(io::state_sha256(net) != before);

    CHECK(message_of<argument_error>([&] { io::export_float(net, directory / "out", {"a"}); }) ==
          "modules: expected 3 names, one a layer with parameters, found 1");
    CHECK(directory.names() == std::vector<std::string>{"w"});
}

TEST_CASE("statistics of a batch normalisation are read as PyTorch names them, within their range") {
    const scratch directory;
    constexpr auto model =
        nn::sequential(nn::conv2d{2, 1, 1, 0, false}, nn::batch_norm{}, nn::flatten{}, nn::linear{2});
    std::vector<file_tensor> file{{"0.weight", {2, 2, 1, 1}, {1, 0, 0, 1}},
                                  {"1.weight", {2}, {1.5, -2}},
                                  {"1.bias", {2}, {0.25, 0}},
                                  {"1.running_mean", {2}, {-0.5, 3}},
                                  {"1.running_var", {2}, {4, 0.0625}},
                                  {"1.num_batches_tracked", {}, {9}},
                                  {"3.weight", {2, 40}, whole_numbers(80, 3)},
                                  {"3.bias", {2}, {1, 2}}};
    write(directory / "w", file);
    auto net = testing::fixed_network(model, input, 16);
    io::import_float(net, directory / "w");
    const testing::snapshot state = testing::snapshot::of(net);
    CHECK(state.tensors.at("net.1.running_mean").mantissas ==
          std::vector<std::int64_t>{-(std::int64_t{1} << 31), std::int64_t{3} << 32});
    CHECK(state.tensors.at("net.1.running_variance").mantissas ==
          std::vector<std::int64_t>{std::int64_t{4} << 32, std::int64_t{1} << 28});
    CHECK(state.tensors.at("net.1.started").mantissas == std::vector<std::int64_t>{1});
    const auto refused = [&] {
        write(directory / "w", file);
        return message_of<file_error>([&] { io::import_float(net, directory / "w"); })
            .substr((directory / "w").size() + 2);
    };
    file[4].values[1] = -1;
    CHECK(refused() == "1.running_var element 1: expected a variance from 0, found one below it");
    file[4].values[1] = 1;
    file[3].values[0] = 0x1p30f;
    CHECK(refused() == "1.running_mean element 0: expected a magnitude under 2^30, found more");
    CHECK(testing::snapshot::of(net) == state);
}

}  // namespace
