// The report of a run: its sums, its text, and its page in a browser (where one is installed), figure by figure.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <regex>
#include <string>

#include <lamella/accelerator/energy_tables.hpp>
#include <lamella/accelerator/report_page.hpp>
#include <lamella/accelerator/report_text.hpp>

#include "scratch.hpp"
#include "training.hpp"

using namespace lamella;
using namespace lamella::accelerator;

namespace {

// Seven steps of a small network, three of them sampled.
const json_report& small_report() {
    static const json_report report = [] {
        const auto model = nn::sequential(nn::conv2d{5, 3, 1, 1}, nn::relu{}, nn::max_pool2d{2}, nn::flatten{},
                                          nn::linear{12}, nn::relu{}, nn::linear{6});
        const nn::image_shape shape{9, 9, 2};
        const data::dataset images = testing::noisy_images(3, 32, shape, 6);
        auto net = testing::fixed_network(model, shape, 5);
        configuration c = hnpu();
        c.cores = 4;
        slice_counts products(c.encoding, best_path(), net.products());
        run_costs costs(c, products, {95, 972, 78}, 1, 3);
        net.observe(products);
        net.observe(costs);
        const auto index = testing::positions(0, 8);
        for (std::uint64_t step = 0; step < 7; ++step)
            net.train_step(nn::batch_view<std::uint8_t>{images.images.data(), index, shape, images.exponent},
                           testing::labels_of(images, 0, 8), step);
        run_facts facts;
        facts.network = "small </script> & \"net\"";
        facts.layers_described = net.description();
        facts.data = images.name;
        facts.controller = "fixed";
        facts.optimizer = "momentum";
        facts.weights_sha256 = "none";
        facts.train_samples = 32;
        facts.test_samples = 8;
        facts.epochs_asked = 2;
        facts.batch = 8;
        facts.seed = 1;
        facts.steps = 7;
        facts.test_accuracy = 0.8125;
        facts.test_loss = 0.5;
        facts.epochs = {{1.5, 0.53125}, {0.75, 0.75}};
        for (const std::uint64_t weights : costs.weights()) facts.layers.push_back({weights, weights - 1, 5, 5, 5});
        return make_report(facts, costs, products, energy_tables());
    }();
    return report;
}

double sum_of(const json_report& parts, const std::string& pointer) {
    double sum = 0;
    for (const json_report& part : parts) sum += part.at(json_report::json_pointer(pointer)).get<double>();
    return sum;
}
// Equal but for the order in which doubles were added.
auto nearly(double x) { return doctest::Approx(x).epsilon(1e-12); }

std::string output_of(const std::string& command) {
    std::string text;
    std::FILE* const pipe = popen(command.c_str(), "r");
    REQUIRE(pipe != nullptr);
    char part[4096];
    for (std::size_t n; (n = std::fread(part, 1, sizeof part, pipe)) != 0;) text.append(part, n);
    pclose(pipe);
    return text;
}
std::string attribute(const std::string& tag, const std::string& name) {
    const std::string start = " " + name + "=\"";
    const std::size_t at = tag.find(start);
    if (at == std::string::npos) return "";
    return tag.substr(at + start.size(), tag.find('"', at + start.size()) - at - start.size());
}
std::string unescaped(std::string text) {
    for (const auto& [entity, character] : {std::pair{"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&amp;", "&"}})
        for (std::size_t at; (at = text.find(entity)) != std::string::npos;)
            text.replace(at, std::string(entity).size(), character);
    return text;
}

}  // namespace

TEST_CASE("layers, stages, levels and tensors add up to the step's totals") {
    const json_report& r = small_report();
    const std::size_t last = r["machines"].size() - 1;
    CHECK(r["run"]["sampled_steps"]["value"] == 3);
    CHECK(r["machines"][0]["name"] == "dense 16 bit, native multiplier");
    for (std::size_t t = 0; t < r["energy"].size(); ++t) {
        const json_report& e = r["energy"][t];
        CAPTURE(e["table"]);
        for (const json_report& m : e["machines"])
            CHECK(m["arithmetic"].get<double>() + m["registers"].get<double>() + m["network"].get<double>() +
                      m["buffer"].get<double>() + m["dram"].get<double>() ==
                  nearly(m["total"].get<double>()));
        const double total = e["machines"][last]["total"].get<double>();
        CHECK(sum_of(e["stages"], "/total") == nearly(total));
        double layers = 0;
        for (const json_report& l : r["layers"])
            layers += sum_of(l["stages"], "/energy/" + e["table"].get<std::string>() + "/total");
        CHECK(layers == nearly(total));
        const double native = e["machines"][0]["total"].get<double>(), slices = e["machines"][1]["total"].get<double>();
        CHECK(e["gain"]["cheaper"].get<double>() == nearly(std::min(native, slices) / total));
        if (e.contains("sensitivity")) {
            CHECK(e["sensitivity"].size() == 5);
            for (const json_report& s : e["sensitivity"])
                if (s["dram_bit"] == e["source"]["dram"]["bit"])
                    CHECK(s["gain"].get<double>() == nearly(e["gain"]["cheaper"].get<double>()));
        }
    }
    for (const std::string level : {"registers", "network", "buffer", "dram"}) {
        const double bytes = r["machines"][last]["bytes"][level].get<double>();
        CHECK(sum_of(r["traffic"]["machine"], "/" + level) == nearly(bytes));
        double layers = 0;
        for (const json_report& l : r["layers"]) layers += sum_of(l["stages"], "/bytes/" + level);
        CHECK(layers == nearly(bytes));
    }
    for (const std::string where : {"feed_forward", "error_propagation", "weight_gradient", "weight_update"})
        CHECK(sum_of(r["layers"], "/stages/" + where + "/cycles") ==
              nearly(r["machines"][last]["stages"][where]["cycles"].get<double>()));
    CHECK(r["series"]["steps"] == json_report({0, 3, 6}));
}

TEST_CASE("a step takes the longer of the array's time and DRAM's") {
    for (const json_report& m : small_report()["machines"]) {
        const double array = m["compute_cycles"]["value"].get<double>(), dram = m["dram_cycles"]["value"].get<double>();
        CHECK(dram == nearly(m["bytes"]["dram"].get<double>() * 8 / 128));
        CHECK(m["cycles"]["value"].get<double>() == std::max(array, dram));
        CHECK(m["bound_by"] == (array >= dram ? "array" : "dram"));
        CHECK(m["latency"]["value"].get<double>() == nearly(std::max(array, dram) / 200e6));
        CHECK(m["throughput"]["value"].get<double>() == nearly(8 / m["latency"]["value"].get<double>()));
    }
}

TEST_CASE("the text has every machine, table and layer") {
    const std::string text = report_text(small_report());
    for (const json_report& m : small_report()["machines"])
        CHECK(text.find(m["name"].get<std::string>()) != std::string::npos);
    for (const energy_table& t : energy_tables()) CHECK(text.find("Energy, " + t.name) != std::string::npos);
    CHECK(text.find("81.25 %  [measured]") != std::string::npos);
    CHECK(text.find("2 weight_gradient") != std::string::npos);
}

TEST_CASE("the page holds the report itself and asks the network for nothing") {
    const std::string page = report_page(small_report());
    const std::string start = "<script id=\"report\" type=\"application/json\">";
    const std::size_t from = page.find(start) + start.size();
    CHECK(json_report::parse(page.substr(from, page.find("</script>", from) - from)) == small_report());
    for (const char* way : {"http:", "https:", "src=", "href=", "url(", "@import", "fetch(", "XMLHttpRequest"})
        CHECK(page.find(way) == std::string::npos);
}

TEST_CASE("every figure that the page shows in a browser is the report's") {
    const std::string browser =
        output_of("command -v chromium || command -v chromium-browser || command -v google-chrome || true");
    if (browser.empty()) {
        MESSAGE("no chromium here: the page was not opened");
        return;
    }
    scratch folder;
    put(folder / "report.html", report_page(small_report()));
    const std::string dom =
        output_of(browser.substr(0, browser.find('\n')) + " --headless --no-sandbox --disable-gpu --user-data-dir='" +
                  (folder / "profile") + "' --host-resolver-rules='MAP * ~NOTFOUND' --dump-dom 'file://" +
                  (folder / "report.html") + "' 2>/dev/null");
    REQUIRE(dom.find("</html>") != std::string::npos);
    const std::string body = dom.substr(dom.rfind("</script>"));
    const std::regex element("<([a-z]+)((?: [a-z0-9-]+=\"[^\"]*\")* data-path=\"[^\"]*\"[^>]*)>([^<]*)");
    int words = 0, numbers = 0, lengths = 0, points = 0;
    for (std::sregex_iterator found(body.begin(), body.end(), element), end; found != end; ++found) {
        const std::string tag = (*found)[2], text = unescaped((*found)[3]);
        const std::string path = attribute(tag, "data-path");
        CAPTURE(path);
        CAPTURE(text);
        REQUIRE(small_report().contains(json_report::json_pointer(path)));
        const json_report& figure = small_report().at(json_report::json_pointer(path));
        if (!attribute(tag, "data-text").empty()) {
            REQUIRE(text == (figure.is_string() ? figure.get<std::string>() : figure.dump()));
            ++words;
            continue;
        }
        const double value = figure.get<double>();
        REQUIRE(std::stod(attribute(tag, "data-value")) == value);
        if (!attribute(tag, "data-digits").empty()) {  // printed
            const int digits = std::stoi(attribute(tag, "data-digits"));
            const double printed = value * std::stod(attribute(tag, "data-factor"));
            REQUIRE(text.size() -
                        std::min(text.size(), text.find('.') == std::string::npos ? text.size() : text.find('.') + 1) ==
                    static_cast<std::size_t>(digits));
            REQUIRE(std::fabs(std::stod(text) - printed) <= 0.5 * std::pow(10.0, -digits) * (1 + 1e-9));
            ++numbers;
        } else if (!attribute(tag, "data-origin").empty()) {  // a point of a line
            REQUIRE(std::stod(attribute(tag, "cy")) ==
                    doctest::Approx(std::stod(attribute(tag, "data-origin")) -
                                    value * std::stod(attribute(tag, "data-scale"))));
            ++points;
        } else if (!attribute(tag, "data-scale").empty()) {  // a bar
            REQUIRE(std::stod(attribute(tag, "width")) ==
                    doctest::Approx(value * std::stod(attribute(tag, "data-scale"))));
            ++lengths;
        }
    }
    MESSAGE(words << " words, " << numbers << " numbers, " << lengths << " bars, " << points << " points of lines");
    const auto machines = static_cast<int>(small_report()["machines"].size()),
               tables = static_cast<int>(small_report()["energy"].size());
    CHECK(words > 40);
    CHECK(numbers > 400);
    CHECK(lengths == machines * 4 + machines * tables * 5 + 2 * 9);
    CHECK(points ==
          2 + 1 + 3 * 3 * 3);  // accuracies of two epochs and the test set; zero slices of roles, layers, steps
}
