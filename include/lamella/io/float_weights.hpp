// Weights in floating point, in and out: import_float puts those that another tool has trained into a network,
// export_float writes a network's for another tool. Needs nlohmann-json (`lamella::json`).
//
//   io::import_float(net, "model.safetensors", {.modules = {"conv1", "conv2", "fc1", "fc2", "fc3"}});
//   train::calibrate(net, images);   // ranges of the activations, which weights alone do not tell
//
// The files are safetensors with PyTorch's names and layouts: what safetensors.torch.save_file(model.state_dict(), ...)
// writes, and load_state_dict takes. A layer is `0`, `3`, `7.main.0`, ... as torch.nn.Sequential numbers it (residual
// blocks: `main` and `shortcut`), or has the name that `modules` gives; its tensors are
//
//   here                    there
//   weight (OHWI), bias     weight (OIHW; of a linear layer: outputs x inputs), bias
//   scale, shift            weight, bias                 of a batch normalisation
//   running_mean, running_variance                       running_mean, running_var (num_batches_tracked is not looked
//   at)
//
// A linear layer after `flatten` reads an image channels-last here and channels-first there: its inputs change places.
// Batch normalisation adds 2^-17 to a variance here, PyTorch 10^-5 unless told otherwise.
//
// Import works on the floats' bits: no floating point decides a mantissa. A tensor becomes 16-bit mantissas with one
// exponent, by a radix policy, to nearest (statistics: units of 2^-32). Export to F32 is exact for weights, 16 bits of
// F32's 24, so that exporting and importing again changes no value; statistics, which may have more bits, go to the
// nearest.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "../core/errors.hpp"
#include "../core/histogram.hpp"
#include "../core/rounding.hpp"
#include "../core/sdfxp.hpp"
#include "../core/state.hpp"
#include "../data/file.hpp"
#include "../nn/network.hpp"
#include "safetensors.hpp"

namespace lamella::io {

// How a file of floats is read.
struct import_settings {
    std::vector<std::string>
        modules;  // of the layers with parameters, in the network's order; none: Sequential's numbers
    radix_policy radix{radix_rule::no_overflow, 0, 0};
};

namespace detail {

// A float without its format: mantissa x 2^exponent, the mantissa of at most 24 bits and a sign.
struct exact_value {
    std::int32_t mantissa = 0;
    int exponent = 0;
};

// From the bits of an IEEE 754 binary format; nothing when they are an infinity or no number.
constexpr std::optional<exact_value> exact_value_of(std::uint32_t bits, int exponent_bits, int fraction_bits) noexcept {
    const auto low = [](std::uint32_t x, int count) { return x & ((std::uint32_t{1} << count) - 1); };
    const std::uint32_t field = low(bits >> fraction_bits, exponent_bits), fraction = low(bits, fraction_bits);
    if (field == low(~std::uint32_t{0}, exponent_bits)) return std::nullopt;
    const auto magnitude = static_cast<std::int32_t>(fraction | (field == 0 ? 0u : 1u << fraction_bits));
    const bool negative = (bits >> (exponent_bits + fraction_bits) & 1) != 0;
    const int bias = (1 << (exponent_bits - 1)) - 1 + fraction_bits;
    return exact_value{negative ? -magnitude : magnitude, static_cast<int>(field == 0 ? 1 : field) - bias};
}

inline std::optional<exact_value> exact_value_at(element_type type, const std::uint8_t* bytes) noexcept {
    switch (type) {
        case element_type::f16: return exact_value_of(little_endian_value<std::uint16_t>(bytes), 5, 10);
        case element_type::bf16: return exact_value_of(little_endian_value<std::uint16_t>(bytes), 8, 7);
        default: return exact_value_of(little_endian_value<std::uint32_t>(bytes), 8, 23);
    }
}

struct quantised_floats {
    std::vector<std::int64_t> mantissas;
    std::optional<int> exponent;
};

// 16-bit mantissas with the exponent that the policy picks.
inline quantised_floats quantise_weights(std::span<const exact_value> values, const radix_policy& policy) {
    constexpr int width = 16, wide_bits = 30;
    int top = std::numeric_limits<int>::min();  // bit length of the largest magnitude, beside its exponent
    const auto magnitude = [](const exact_value& x) { return static_cast<std::uint32_t>(std::abs(x.mantissa)); };
    for (const exact_value& x : values)
        if (x.mantissa != 0) top = std::max(top, bit_length(magnitude(x)) + x.exponent);
    quantised_floats made{std::vector<std::int64_t>(values.size(), 0), 0};
    if (top == std::numeric_limits<int>::min()) return made;

    const int wide = top - wide_bits;
    histogram seen;
    for (const exact_value& x : values)
        seen.add(static_cast<std::int32_t>(round_nearest(x.mantissa, x.mantissa == 0 ? 0 : wide - x.exponent)));
    const int exponent = wide + dropped_bits(policy, seen, width, rounding::nearest, 0);
    for (std::size_t i = 0; i < values.size(); ++i)
        if (values[i].mantissa != 0)
            made.mantissas[i] = clip(round_nearest(values[i].mantissa, exponent - values[i].exponent), width);
    made.exponent = exponent;
    return made;
}

// Walks a network's learned tensors with the names, shapes and places that they have in a file of floats.
class exchange_visitor : public state_visitor {
  public:
    explicit exchange_visitor(const std::vector<std::string>& modules) : modules_(modules) {}

    // Throws argument_error unless the list of modules is empty or has one name a layer.
    void require_modules() const {
        if (!modules_.empty() && modules_.size() != layers_)
            throw argument_error("modules", std::to_string(layers_) + " names, one a layer with parameters",
                                 std::to_string(modules_.size()));
    }

  protected:
    struct exchanged {
        std::string name, part;            // there, and what this library calls the tensor in its layer
        std::vector<std::size_t> shape;    // there
        std::vector<std::uint32_t> place;  // there, of each of our values
    };
    virtual void on_parameter(const exchanged& tensor, integer_span values, int* exponent) = 0;
    const std::string& layer() const noexcept { return layer_; }  // of the last parameter, as visited

  private:
    void reads_image(std::int64_t height, std::int64_t width, std::int64_t channels) override {
        for (const std::int64_t extent : {height, width, channels}) image_.push_back(static_cast<std::size_t>(extent));
    }
    void on_tensor(const std::string& name, state_kind kind, std::span<const std::size_t> shape, integer_span values,
                   int, int* exponent) override {
        if (kind != state_kind::parameter) return;
        const std::size_t dot = name.rfind('.');
        if (name.substr(0, dot) != layer_) {
            layer_ = name.substr(0, dot);
            ++layers_;
        }
        exchanged tensor;
        tensor.part = name.substr(dot + 1);
        const std::string module = modules_.empty()             ? layer_.substr(layer_.find('.') + 1)
                                   : layers_ <= modules_.size() ? modules_[layers_ - 1]
                                                                : "";
        tensor.name = module + "." + name_there(tensor.part);
        lay_out(tensor, shape);
        on_parameter(tensor, values, exponent);
    }
    static std::string name_there(const std::string& part) {
        return part == "scale"              ? "weight"
               : part == "shift"            ? "bias"
               : part == "running_variance" ? "running_var"
                                            : part;
    }
    // A linear layer is a convolution whose kernel covers its image; only the shape's rank differs.
    void lay_out(exchanged& tensor, std::span<const std::size_t> shape) {
        tensor.shape.assign(shape.begin(), shape.end());
        const std::vector<std::size_t> image = std::exchange(image_, {});
        std::size_t count = 1;
        for (const std::size_t extent : shape) count *= extent;
        tensor.place.resize(count);
        if (shape.size() != 4) {
            for (std::size_t i = 0; i < count; ++i) tensor.place[i] = static_cast<std::uint32_t>(i);
            return;
        }
        const std::size_t outputs = shape[0], pixels = image.empty() ? shape[1] * shape[2] : image[0] * image[1];
        const std::size_t channels = image.empty() ? shape[3] : image[2];
        if (image.empty())
            tensor.shape = {outputs, channels, shape[1], shape[2]};
        else
            tensor.shape = {outputs, pixels * channels};
        std::size_t i = 0;
        for (std::size_t o = 0; o < outputs; ++o)
            for (std::size_t p = 0; p < pixels; ++p)
                for (std::size_t c = 0; c < channels; ++c)
                    tensor.place[i++] = static_cast<std::uint32_t>((o * channels + c) * pixels + p);
    }

    const std::vector<std::string>& modules_;
    std::string layer_;
    std::size_t layers_ = 0;
    std::vector<std::size_t> image_;  // height, width, channels that the next layer reads; empty unless it is linear
};

// An opened file of floats: visited by a network, it knows what that needs.
class float_reader final : public exchange_visitor {
  public:
    float_reader(const std::string& path, const std::vector<std::string>& modules)
        : exchange_visitor(modules), file_(path, data::unpacking::never), header_(read_safetensors_header(file_)) {}

    // Throws unless the header has the network's tensors, of these shapes, and no others.
    void require_all() {
        require_modules();
        std::vector<bool> taken(header_.tensors.size(), false);
        for (wanted_tensor& w : wanted_) {
            const auto found = std::ranges::find(header_.tensors, w.tensor.name, &tensor_entry::name);
            if (found == header_.tensors.end()) throw file_error(file_.path(), w.tensor.name, "this tensor", "none");
            if (found->type < element_type::f16)
                throw file_error(file_.path(), w.tensor.name + ".dtype", "F16, BF16 or F32", name_of(found->type));
            if (found->shape != w.tensor.shape)
                throw file_error(file_.path(), w.tensor.name + ".shape", text_of(w.tensor.shape),
                                 text_of(found->shape));
            w.index = static_cast<std::size_t>(found - header_.tensors.begin());
            taken[w.index] = true;
        }
        for (std::size_t i = 0; i < taken.size(); ++i)
            if (const std::string& name = header_.tensors[i].name; !taken[i] && !name.ends_with(".num_batches_tracked"))
                throw file_error(file_.path(), name, "no such tensor", "one");
    }
    // The tensors in the network's order, which is that of the visit.
    std::vector<quantised_floats> read(const radix_policy& policy, bool fixed) {
        std::vector<std::uint8_t> bytes(header_.data_bytes());
        file_.read(bytes, "tensors");
        std::vector<quantised_floats> all;
        for (const wanted_tensor& w : wanted_) {
            const std::vector<exact_value> values = values_of(w, bytes);
            if (!fixed)
                all.push_back(bit_patterns(values, w.doubles));
            else if (w.has_exponent)
                all.push_back(quantise_weights(values, policy));
            else
                all.push_back(in_units_of_statistics(w, values));
        }
        return all;
    }

  private:
    struct wanted_tensor {
        exchanged tensor;
        std::size_t index;  // in header_.tensors
        bool has_exponent, doubles;
    };

    void on_parameter(const exchanged& tensor, integer_span values, int* exponent) override {
        wanted_.push_back({tensor, 0, exponent != nullptr, std::holds_alternative<std::span<std::int64_t>>(values)});
    }
    // In our order. Throws file_error for a value that is not finite and for a variance below zero.
    std::vector<exact_value> values_of(const wanted_tensor& w, std::span<const std::uint8_t> bytes) const {
        const tensor_entry& entry = header_.tensors[w.index];
        std::vector<exact_value> values;
        for (const std::uint32_t place : w.tensor.place) {
            const auto value = exact_value_at(entry.type, bytes.data() + entry.begin + place * bytes_of(entry.type));
            if (!value) throw refused(w, place, "a finite number", "none");
            if (w.tensor.part == "running_variance" && value->mantissa < 0)
                throw refused(w, place, "a variance from 0", "one below it");
            values.push_back(*value);
        }
        return values;
    }
    file_error refused(const wanted_tensor& w, std::uint32_t place, std::string_view expected,
                       std::string_view found) const {
        return file_error(file_.path(), w.tensor.name + " element " + std::to_string(place), expected, found);
    }
    quantised_floats in_units_of_statistics(const wanted_tensor& w, std::span<const exact_value> values) const {
        constexpr int fraction = nn::detail::statistic_fraction, most = 62 - fraction;
        quantised_floats made;
        for (std::size_t i = 0; i < values.size(); ++i) {
            const auto [mantissa, exponent] = values[i];
            if (bit_length(static_cast<std::uint32_t>(std::abs(mantissa))) + exponent > most)
                throw refused(w, w.tensor.place[i], "a magnitude under 2^30", "more");
            made.mantissas.push_back(mantissa == 0 ? 0 : round_nearest(mantissa, -fraction - exponent));
        }
        return made;
    }
    static quantised_floats bit_patterns(std::span<const exact_value> values, bool doubles) {
        quantised_floats made;
        for (const exact_value& x : values) {
            const double value = std::ldexp(static_cast<double>(x.mantissa), x.exponent);
            made.mantissas.push_back(doubles ? std::bit_cast<std::int64_t>(value)
                                             : std::bit_cast<std::int32_t>(static_cast<float>(value)));
        }
        return made;
    }

    data::file_reader file_;
    safetensors_header header_;
    std::vector<wanted_tensor> wanted_;
};

// Puts the tensors that float_reader made into the network, in the same order.
class float_importer final : public exchange_visitor {
  public:
    explicit float_importer(const std::vector<quantised_floats>& tensors)
        : exchange_visitor(none_), tensors_(tensors) {}

  private:
    void on_parameter(const exchanged&, integer_span values, int* exponent) override {
        const quantised_floats& from = tensors_[next_++];
        std::visit(
            [&](auto span) {
                for (std::size_t i = 0; i < span.size(); ++i)
                    span[i] = static_cast<typename decltype(span)::value_type>(from.mantissas[i]);
            },
            values);
        if (exponent != nullptr) *exponent = *from.exponent;
    }
    // Imported statistics are as good as measured ones.
    void on_integer(const std::string& name, std::int64_t& value, range) override {
        if (name == layer() + ".started") value = 1;
    }

    inline static const std::vector<std::string> none_;
    const std::vector<quantised_floats>& tensors_;
    std::size_t next_ = 0;
};

class float_exporter final : public exchange_visitor {
  public:
    float_exporter(const std::vector<std::string>& modules, bool fixed) : exchange_visitor(modules), fixed_(fixed) {}

    void write(const std::string& path) const {
        std::vector<std::span<const std::uint8_t>> pieces(bytes_.begin(), bytes_.end());
        write_safetensors(path, header_, pieces);
    }

  private:
    void on_parameter(const exchanged& tensor, integer_span values, int* exponent) override {
        std::vector<std::uint8_t>& bytes = bytes_.emplace_back(4 * tensor.place.size());
        std::visit(
            [&](auto span) {
                for (std::size_t i = 0; i < span.size(); ++i) {
                    const auto value = static_cast<float>(real(span[i], exponent));
                    if (!std::isfinite(value))
                        throw argument_error(tensor.name, "values that F32 holds", "a larger one");
                    const auto bits = std::bit_cast<std::uint32_t>(value);
                    for (std::size_t b = 0; b < 4; ++b)
                        bytes[4 * tensor.place[i] + b] = static_cast<std::uint8_t>(bits >> (8 * b));
                }
            },
            values);
        const std::size_t begin = header_.data_bytes();
        header_.tensors.push_back({tensor.name, element_type::f32, tensor.shape, begin, begin + bytes.size()});
    }
    template <class Integer>
    double real(Integer value, const int* exponent) const {
        if (fixed_)
            return std::ldexp(static_cast<double>(value),
                              exponent == nullptr ? -nn::detail::statistic_fraction : *exponent);
        if constexpr (sizeof(Integer) == 4)
            return std::bit_cast<float>(value);
        else if constexpr (sizeof(Integer) == 8)
            return std::bit_cast<double>(value);
        else
            return 0;  // no twin has other integers
    }

    bool fixed_;
    safetensors_header header_{{{"format", "pt"}}, {}};
    std::vector<std::vector<std::uint8_t>> bytes_;
};

template <class Network>
inline constexpr bool is_fixed = std::is_same_v<typename Network::arithmetic, nn::fixed>;

}  // namespace detail

// Gives `net`, the integer network or a twin, the weights, biases and normalisation statistics of a safetensors file of
// F32, F16 or BF16 tensors. What else the network's state has (the optimizer's moments, controller, ranges of
// activations) stays; an integer network that was never trained evaluates after train::calibrate. Throws, with the
// network untouched, argument_error for a list of modules of another length, and file_error for a file that is no
// safetensors file, a tensor that is missing, not known to the network, not of floats or of another shape, a value that
// is not finite, a variance below zero, or statistics from 2^30 up.
template <class Network>
void import_float(Network& net, const std::string& path, const import_settings& settings = {}) {
    detail::float_reader reader(path, settings.modules);
    net.visit(reader);
    reader.require_all();
    const std::vector<detail::quantised_floats> tensors = reader.read(settings.radix, detail::is_fixed<Network>);
    detail::float_importer importer(tensors);
    net.visit(importer);
}

// Writes what `net`, the integer network or a twin, has learned as F32, atomically; `modules` as in import_settings.
// Throws argument_error for a list of modules of another length and for a magnitude beyond F32, file_error when writing
// fails.
template <class Network>
void export_float(Network& net, const std::string& path, const std::vector<std::string>& modules = {}) {
    detail::float_exporter exporter(modules, detail::is_fixed<Network>);
    net.visit(exporter);
    exporter.require_modules();
    exporter.write(path);
}

}  // namespace lamella::io
