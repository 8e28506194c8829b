// A layer of your own, in integers and for the twin: x clipped to -limit .. limit, limit a power of two.
//
// The blueprint is what users compose; layer<A> is the layer in arithmetic A. Integers travel as int32 mantissas with
// one exponent a tensor, so a limit of 2^p is the mantissa 2^(p - exponent).
#include <cstdio>
#include <lamella/lamella.hpp>

using namespace lamella;

struct clipped {
    int power = 0;  // limit = 2^power

    std::string describe() const { return "clipped(2^" + std::to_string(power) + ")"; }

    template <class A>
    class layer : public nn::detail::stateless {  // no parameters, nothing in a checkpoint
        using tensor = typename A::tensor;
        using value = typename A::value;

      public:
        explicit layer(const clipped& blueprint) : power_(blueprint.power) {}
        nn::image_shape build(typename A::engine&, const nn::image_shape& in, nn::layer_ids& ids) {
            ++ids.structure;
            return in;
        }
        tensor& forward(typename A::engine&, tensor& in) {
            const value limit = limit_of(in);
            inside_.resize(in.data.size());
            for (std::size_t i = 0; i < in.data.size(); ++i) {
                inside_[i] = in.data[i] > -limit && in.data[i] < limit;
                in.data[i] = std::clamp(in.data[i], static_cast<value>(-limit), limit);
            }
            in.changed();  // what was known of its magnitudes no longer holds
            return in;
        }
        tensor* backward(typename A::engine&, tensor& error, bool wanted) {
            if (!wanted) return nullptr;
            for (std::size_t i = 0; i < error.data.size(); ++i) error.data[i] = inside_[i] ? error.data[i] : value{0};
            error.changed();
            return &error;
        }

      private:
        value limit_of(const tensor& t) const {
            if constexpr (std::is_same_v<A, nn::fixed>) {
                const int places = power_ - t.exponent;
                return places < 0 ? 0 : places > 30 ? std::numeric_limits<value>::max() : value{1} << places;
            } else {
                return std::ldexp(value{1}, power_);
            }
        }
        int power_;
        std::vector<std::uint8_t> inside_;
    };
};

int main() {
    const data::dataset digits = data::generated_digits(1, 0, 2000), unseen = data::generated_digits(1, 2000, 500);
    const auto model = nn::sequential(nn::conv2d{6, 5}, clipped{1}, nn::max_pool2d{4}, nn::flatten{}, nn::linear{10});
    const auto report = [&](const char* name, auto net) {
        optim::optimizer optimizer;
        train::fit(net, optimizer, digits, {.epochs = 4, .batch = 16});
        std::printf("%s%s: %.1f %%\n\n", nn::summary(net).c_str(), name, 100 * train::evaluate(net, unseen).accuracy());
    };
    const nn::image_shape image{28, 28, 1};
    report("integers", nn::make_network<nn::fixed>(model, image, nn::fixed::settings{}, 1,
                                                   std::make_unique<precision::laps>(precision::laps_settings{})));
    report("twin", nn::make_network<nn::float32>(model, image, nn::float32::settings{}, 1));
}
