// A precision controller of your own: as many bits as it takes that few values round to zero.
//
// It derives from bounded_controller, so that floors and ceilings of layers work with it, and sees every product of a
// step as observers do: `clips` says how many elements the quantiser cut, and how many it rounded to zero. Integers
// alone decide, so a run gives the same bits everywhere; `visit` puts what it remembers into the checkpoint.
#include <cstdio>
#include <lamella/lamella.hpp>

using namespace lamella;

class underflow_follower final : public precision::bounded_controller {
  public:
    bool wants_events() const override { return true; }
    void on_gemm(const gemm::gemm_event& event) override {
        if (event.probe || event.where == stage::error_propagation) return;  // E is the left operand of WG, too
        const gemm::event_operand& operand = event.a;                        // FF: A, WG: E
        std::int64_t& width = widths_[slot(event.layer, event.where == stage::feed_forward ? 0 : 1)];
        const auto lost = static_cast<std::int64_t>(operand.clips.underflows);
        if (lost * 8 > operand.stored.size())
            width = std::min<std::int64_t>(width + 1, 12);
        else if (lost * 16 < operand.stored.size())
            width = std::max<std::int64_t>(width - 1, 4);
    }
    void visit(state_visitor& visitor) override { visitor.integers("widths", std::span<std::int64_t>(widths_)); }
    std::unique_ptr<precision::controller> clone() const override {
        return std::make_unique<underflow_follower>(*this);
    }

  private:
    void start() override { widths_.assign(static_cast<std::size_t>(2 * layers()), 8); }
    precision::layer_widths wanted(int layer) const override {
        const int forward = static_cast<int>(widths_[slot(layer, 0)]);
        return {forward, forward, static_cast<int>(widths_[slot(layer, 1)])};
    }
    std::string settings_text() const override { return "underflow_follower"; }
    static std::size_t slot(int layer, int which) { return static_cast<std::size_t>(2 * layer + which); }

    std::vector<std::int64_t> widths_;  // of A and W, of E; a pair a layer
};

int main() {
    const data::dataset digits = data::generated_digits(1, 0, 2000), unseen = data::generated_digits(1, 2000, 500);
    const auto model = nn::sequential(nn::conv2d{6, 5}, nn::relu{}, nn::max_pool2d{4}, nn::flatten{}, nn::linear{10});
    auto net = nn::make_network<nn::fixed>(model, nn::image_shape{28, 28, 1}, nn::fixed::settings{}, 1,
                                           std::make_unique<underflow_follower>());
    optim::optimizer optimizer;
    train::fit(net, optimizer, digits, {.epochs = 4, .batch = 16});
    std::printf("accuracy %.1f %%\n", 100 * train::evaluate(net, unseen).accuracy());
    for (int layer = 0; layer < net.products(); ++layer) {
        const precision::layer_widths w = net.engine().controller->widths(layer);
        std::printf("layer %d: A and W %d bits, E %d bits\n", layer, w.activation, w.error);
    }
}
