#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <lamella/accelerator/slice_counts.hpp>
#include <lamella/nn/network.hpp>
#include <lamella/precision/laps.hpp>
#include <lamella/precision/trace.hpp>

#include "layer_step.hpp"
#include "training.hpp"

using namespace lamella;
using accelerator::slice_counts;
using accelerator::stage_counts;
using gemm::gemm_event;

namespace {
std::size_t allocations = 0;
void* allocated(std::size_t size, std::size_t alignment) noexcept {
    ++allocations;
    return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}
}  // namespace

// Not inlined: g++ would take the pairs for mismatched ones.
[[gnu::noinline]] void* operator new(std::size_t size) {
    void* const memory = allocated(size, alignof(std::max_align_t));
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    return allocated(size, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }

namespace {

using testing::draw;
using testing::generator;
using testing::layer_step;

slice::encoding encoding_of(std::uint64_t i) { return static_cast<slice::encoding>(i % slice::encoding_names.size()); }

std::vector<path> paths() {
    std::vector<path> all;
    for (const path p : {path::scalar, path::avx2, path::avx512, path::neon})
        if (available(p)) all.push_back(p);
    return all;
}

}  // namespace

TEST_CASE("the fast counts equal the definition, event by event") {
    const std::vector<path> isa = paths();
    std::array<std::array<int, 2>, 4> chosen{};  // events by stage (3: gated EP) and by who streamed
    int left_out = 0;  // events that leave out samples of large images
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        generator r(seed);
        layer_step layer(r);
        if (seed % 4 == 3) {  // larger images, some of which are left out
            const std::int64_t stride = draw(r, 1, 2), padding = draw(r, 0, 1);
            layer = layer_step(
                r,
                nn::convolution({draw(r, 7, 9), draw(r, 7, 9), draw(r, 1, 3)}, draw(r, 9, 20), 3, 3, stride, padding),
                5);
        }
        const slice::encoding digits = encoding_of(seed / isa.size());
        slice_counts counts(digits, isa[seed % isa.size()]);
        for (std::uint64_t round = 0; round < 2; ++round, layer.renew(r)) {
            const std::uint64_t step = seed % 2 == 0 ? round : 0;  // a step may be repeated with other data
            const bool gated = (seed + round) % 4 != 0;
            std::vector<gemm_event> events = layer.propagation(step, 0, gated);
            events.insert(events.begin(), layer.gradient(step, 0));
            events.insert(events.begin(), layer.forward(step, 0));
            for (const gemm_event& e : events) {
                CAPTURE(seed);
                CAPTURE(round);
                CAPTURE(layer.describe());
                CAPTURE(name_of(e.where));
                CAPTURE(gated);
                CAPTURE(slice::name_of(digits));
                counts.on_gemm(e);
                const accelerator::event_counts expected = accelerator::count_by_definition(e, digits);
                REQUIRE(counts.last().a == expected.a);
                REQUIRE(counts.last().b == expected.b);
                REQUIRE(counts.last().a_streams == expected.a_streams);
                REQUIRE(counts.last().counts.issued == expected.counts.issued);
                REQUIRE(counts.last().pairs == expected.pairs);
                REQUIRE(counts.last() == expected);
                const bool gate = e.gate != nullptr;
                left_out += e.active != nullptr && !e.active->empty() &&
                            e.active->size() < static_cast<std::size_t>(layer.samples) && e.a.stored.image() >= 256;
                ++chosen[gate ? 3 : static_cast<std::size_t>(e.where)][expected.a_streams ? 0 : 1];
            }
        }
    }
    for (const auto& stage_choices : chosen)
        for (const int events : stage_choices) CHECK(events > 50);
    CHECK(left_out > 50);
}

TEST_CASE("rows whose slices do not fit 16 bits are counted as others are") {
    generator r(9);
    bool errors_streamed = false;
    for (int i = 0; i < 8; ++i) {
        layer_step layer(r, nn::convolution({1, 1, 2}, 70000, 1, 1, 1, 0), 2);
        const gemm_event e = layer.propagation(0, 0, true).front();
        for (const path p : paths()) {
            slice_counts counts(slice::encoding::signed_slice, p);
            counts.on_gemm(e);
            CAPTURE(layer.describe());
            CHECK(counts.last() == accelerator::count_by_definition(e, slice::encoding::signed_slice));
        }
        errors_streamed |= accelerator::count_by_definition(e, slice::encoding::signed_slice).a_streams;
    }
    CHECK(errors_streamed);
}

TEST_CASE("only an event of a new shape takes memory") {
    std::array<int, 2> chosen{};
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        CAPTURE(seed);
        generator r(seed);
        layer_step layer(r);
        slice_counts counts(encoding_of(seed));
        for (std::uint64_t step = 0; step < 4; ++step, layer.renew(r)) {
            std::vector<gemm_event> events = layer.propagation(step, 0, true);
            events.insert(events.begin(), layer.gradient(step, 0));
            events.insert(events.begin(), layer.forward(step, 0));
            const std::size_t before = allocations;
            for (const gemm_event& e : events) counts.on_gemm(e);
            if (step == 0)
                CHECK(allocations > before);
            else
                CHECK(allocations == before);
            ++chosen[counts.left_operand_streams(0, stage::error_propagation) ? 0 : 1];
        }
    }
    CHECK(chosen[0] > 50);
    CHECK(chosen[1] > 50);
}

TEST_CASE("a few products counted by hand") {
    // One sample, one row of a: 3, 0, -17, 16; two columns of b: all ones. 8 bits, two slices.
    buffer<std::int8_t> a(4), b(8);
    for (std::size_t i = 0; i < 4; ++i) a[i] = std::array<std::int8_t, 4>{3, 0, -17, 16}[i];
    for (std::int8_t& x : b) x = 17;
    gemm_event e;
    e.samples = 1;
    e.macs = 8;
    e.a = {{a.data(), 8, 0, gemm::axis::linear(1, 4), gemm::axis::linear(4, 1)},
           {a.data(), 1, 1, 1, 4},
           role::activation,
           nullptr,
           {}};
    e.b = {{b.data(), 8, 0, gemm::axis::linear(2, 4), gemm::axis::linear(4, 1)},
           {b.data(), 1, 1, 1, 8},
           role::weight,
           nullptr,
           {}};
    slice_counts counts(slice::encoding::sign_magnitude);
    counts.on_gemm(e);
    CHECK(counts.last().a == accelerator::operand_slices{4, 8});  // 0x03, 0x00, -0x11, 0x10
    CHECK(counts.last().b == accelerator::operand_slices{0, 16});
    CHECK(counts.left_operand_streams(0, stage::feed_forward));
    CHECK(counts.total() == stage_counts{8, 128, 32, 4 * 2 * 2, 0, 8 * 16});
    CHECK(counts.total().mean_width_256() == 8 * 256);

    e.probe = true;
    counts.on_gemm(e);
    CHECK(counts.total() == stage_counts{8, 128, 32, 32, 16, 8 * 16});

    // Behind a ReLU: of two inputs one is dead, so half of the products of a are not needed.
    e.probe = false;
    e.where = stage::error_propagation;
    e.a.what = role::error;
    const std::array<std::int32_t, 2> gate{5, 0};
    e.gate = gate.data();
    e.gate_rows = gemm::axis::linear(1, 2);
    counts.on_gemm(e);
    CHECK(counts.total(stage::error_propagation) == stage_counts{8, 128, 32, 8, 0, 8 * 16});
    CHECK(counts.total(stage::weight_gradient) == stage_counts{});
    counts.reset();
    CHECK(counts.total() == stage_counts{});
}

TEST_CASE("samples that do not lie one image after the other are refused") {
    generator r(5);
    layer_step layer(r);
    gemm_event e = layer.forward(0, 0);
    e.samples = e.a.view.rows.size() + 1;
    slice_counts counts(slice::encoding::sign_magnitude);
    CHECK_THROWS_AS(counts.on_gemm(e), argument_error);
}

namespace {

using namespace testing;

// Counts every event by the definition.
struct plain_counts : gemm::observer {
    slice::encoding digits;
    std::array<stage_counts, 3> by_stage;
    std::vector<accelerator::event_counts> events;
    std::int64_t probes = 0;

    explicit plain_counts(slice::encoding e) : digits(e) {}
    void on_gemm(const gemm_event& event) override {
        events.push_back(accelerator::count_by_definition(event, digits));
        by_stage[static_cast<std::size_t>(event.where)] += events.back().counts;
        probes += event.probe;
        if (!event.probe) CHECK(event.macs == logical_macs(event));
    }
    static std::int64_t logical_macs(const gemm_event& e) {
        std::int64_t macs = 0;
        const auto offset = [](const gemm::event_operand& o, std::int64_t row, std::int64_t k) {
            return accelerator::detail::base_of(o) + o.view.rows.offset(row) + o.view.depth.offset(k);
        };
        for (std::int64_t k = 0; k < e.a.view.depth.size(); ++k) {
            std::int64_t left = 0, right = 0;
            for (std::int64_t m = 0; m < e.a.view.rows.size(); ++m)
                left += accelerator::detail::inside(e.a.stored, offset(e.a, m, k));
            for (std::int64_t n = 0; n < e.b.view.rows.size(); ++n)
                right += accelerator::detail::inside(e.b.stored, offset(e.b, n, k));
            macs += left * right;
        }
        return macs;
    }
};

// Asks whether the fast counts say the same after every event.
struct same_counts : gemm::observer {
    const slice_counts& fast;
    const plain_counts& plain;
    int differences = 0;
    same_counts(const slice_counts& f, const plain_counts& p) : fast(f), plain(p) {}
    void on_gemm(const gemm_event& event) override { differences += fast.of(event) != plain.events.back(); }
};

auto padded_model() {
    return nn::sequential(nn::conv2d{4, 3, 1, 1}, nn::relu{}, nn::max_pool2d{2}, nn::depthwise_conv2d{3, 1, 1},
                          nn::relu{}, nn::conv2d{6, 3, 2, 1}, nn::relu{}, nn::flatten{}, nn::linear{12}, nn::relu{},
                          nn::linear{5});
}
constexpr nn::image_shape small{10, 9, 2};

auto padded_network(slice::encoding digits) {
    precision::laps_settings settings;
    settings.every = 1;
    settings.digits = digits;
    return nn::network<nn::fixed, decltype(padded_model())>(padded_model(), small, nn::fixed::settings{}, 3,
                                                            std::make_unique<precision::laps>(settings));
}

template <class Network>
void train_steps(Network& net, const data::dataset& set, std::uint64_t first, std::uint64_t end) {
    for (std::uint64_t step = first; step < end; ++step) {
        const std::size_t batch = step % 3 == 2 ? 5 : 8, at = static_cast<std::size_t>(step) * 8 % (set.size() - batch);
        const auto index = positions(at, batch);
        const nn::batch_view<std::uint8_t> view{set.images.data(), index, small, set.exponent};
        net.train_step(view, labels_of(set, at, batch), step);
        net.predict(view);  // evaluation is not counted
        net.parameters([&](auto& p) {
            for (std::size_t i = 0; i < p.mantissa.size(); ++i)
                p.mantissa[i] =
                    static_cast<std::int16_t>(p.mantissa[i] * 31 / 32 - (p.gradient[i] > 0) + (p.gradient[i] < 0));
        });
    }
}

std::vector<std::string> cells_of(std::string_view line) {
    std::vector<std::string> cells(1);
    for (const char c : line)
        if (c == ',')
            cells.emplace_back();
        else if (c != '\n')
            cells.back().push_back(c);
    return cells;
}

}  // namespace

TEST_CASE("the counts of a network's training equal the definition, probes, padding and dead outputs included") {
    const data::dataset set = noisy_images(7, 60, small, 5);
    for (std::size_t e = 0; e < slice::encoding_names.size(); ++e) {
        const slice::encoding digits = encoding_of(e);
        CAPTURE(slice::name_of(digits));
        auto net = padded_network(digits);
        slice_counts fast(digits, best_path(), net.products());
        plain_counts plain(digits);
        same_counts compare(fast, plain);
        net.observe(fast);
        net.observe(plain);
        net.observe(compare);
        train_steps(net, set, 0, 9);
        CHECK(compare.differences == 0);
        CHECK(plain.probes >= 16);
        CHECK(net.products() == fast.layers());
        stage_counts all;
        for (const stage where : {stage::feed_forward, stage::error_propagation, stage::weight_gradient}) {
            CAPTURE(name_of(where));
            CHECK(accelerator::sum_of(fast.pairs(where)) == fast.total(where).issued);
            const stage_counts& expected = plain.by_stage[static_cast<std::size_t>(where)];
            CHECK(fast.total(where) == expected);
            CHECK(expected.issued < expected.dense);
            CHECK(expected.dense16 == 16 * expected.macs);
            all += expected;
        }
        CHECK(fast.total() == all);
        CHECK(fast.total(stage::feed_forward).macs == fast.total(stage::weight_gradient).macs);
        CHECK(fast.at(0, stage::error_propagation) == stage_counts{});
        for (int layer = 1; layer < fast.layers(); ++layer)  // EP has the products of its FF
            CHECK(fast.at(layer, stage::error_propagation).macs == fast.at(layer, stage::feed_forward).macs);
        CHECK(fast.total(stage::feed_forward).probe > 0);
        CHECK(fast.total(stage::weight_gradient).probe > 0);  // where error widths are compared
    }
}

TEST_CASE("a resumed run goes on with the totals") {
    const data::dataset set = noisy_images(7, 60, small, 5);
    auto net = padded_network(slice::encoding::signed_slice);
    slice_counts counts(slice::encoding::signed_slice, best_path(), net.products());
    net.observe(counts);
    train_steps(net, set, 0, 4);
    snapshot network_state = snapshot::of(net), counts_state = snapshot::of(counts);
    train_steps(net, set, 4, 7);

    auto resumed = padded_network(slice::encoding::signed_slice);
    slice_counts again(slice::encoding::signed_slice, path::scalar, resumed.products());
    network_state.restore(resumed);
    counts_state.restore(again);
    resumed.observe(again);
    train_steps(resumed, set, 4, 7);
    CHECK(snapshot::of(again) == snapshot::of(counts));
    CHECK(again.total() == counts.total());
    CHECK(again.share(1, role::error) == counts.share(1, role::error));
    CHECK(again.pairs(1, stage::error_propagation) == counts.pairs(1, stage::error_propagation));
    CHECK(counts.total().macs > 0);
}

TEST_CASE("a trace has one row a layer and stage of every n-th step, and its counts add up to the totals") {
    const data::dataset set = noisy_images(7, 60, small, 5);
    for (const std::uint64_t every : {1u, 3u}) {
        CAPTURE(every);
        auto net = padded_network(slice::encoding::sign_magnitude);
        slice_counts counts(slice::encoding::sign_magnitude, best_path(), net.products());
        std::vector<std::string> lines;
        precision::trace trace(counts, [&](std::string_view line) { lines.emplace_back(line); }, every);
        net.observe(counts);
        net.observe(trace);
        train_steps(net, set, 0, 7);
        trace.flush();
        const std::size_t stages = static_cast<std::size_t>(3 * net.products() - 1);  // no EP in the first layer
        REQUIRE(lines.size() == stages * (every == 1 ? 7 : 3));

        const std::vector<std::string> names = cells_of(precision::trace::header);
        const auto column = [&](std::string_view name) {
            const auto at = std::find(names.begin(), names.end(), name);
            REQUIRE(at != names.end());
            return static_cast<std::size_t>(at - names.begin());
        };
        stage_counts sum;
        for (std::size_t i = 0; i < lines.size(); ++i) {
            CAPTURE(lines[i]);
            const std::vector<std::string> cells = cells_of(lines[i]);
            REQUIRE(cells.size() == names.size());
            CHECK(cells[0] == std::to_string(i / stages * every));
            CHECK(lines[i].back() == '\n');
            const std::string share = cells[column("a_zero_share")];
            CHECK(share.size() == 8);
            CHECK((share.substr(0, 2) == "0." || share == "1.000000"));
            sum.macs += std::stoull(cells[column("macs")]);
            sum.dense16 += std::stoull(cells[column("dense16")]);
            sum.dense += std::stoull(cells[column("dense")]);
            sum.issued += std::stoull(cells[column("issued")]);
            sum.probe += std::stoull(cells[column("probe")]);
            if (cells[column("stage")] == "feed_forward") {
                CHECK(cells[column("a_role")] == "activation");
                CHECK(cells[column("b_role")] == "weight");
            }
        }
        if (every != 1) continue;
        sum.width_macs = counts.total().width_macs;
        CHECK(sum == counts.total());
    }
}

TEST_CASE("a trace in front of its counts is refused, and so is a period of no steps") {
    slice_counts counts(slice::encoding::sign_magnitude);
    precision::trace trace(counts, [](std::string_view) {});
    generator r(1);
    const layer_step layer(r);
    CHECK_THROWS_AS(trace.on_gemm(layer.forward(0, 0)), argument_error);
    CHECK_THROWS_AS(precision::trace(counts, [](std::string_view) {}, 0), argument_error);
}
