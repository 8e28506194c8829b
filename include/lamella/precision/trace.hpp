// The precision trace: one CSV row a layer and stage of every N-th step, with the widths and exponents that the step
// used, what its rounding clipped and lost, and how many slice products it took.
//
//   accelerator::slice_counts counts(...);
//   precision::trace rows(counts, [&](std::string_view line) { file << line; }, 100);
//   net.observe(counts);  // first: the trace reads what it has counted
//   net.observe(rows);
//   file << precision::trace::header; ... train ...; rows.flush();
//
// Columns: step, layer, stage; then of the stage's GEMMs in this step: macs, dense16, dense, issued and probe (slice
// products, see accelerator/counting.hpp), streams (the operand that streamed, a or b); then of each operand, a_ and
// b_: role, width (bits), exponent, nonzeros, overflows and underflows (elements, by its quantisation), zero_share (of
// its slices, six decimals, rounded down); metric and threshold: what the controller compared in this step to decide on
// the feed_forward row's A and W or on the weight_gradient row's E (every layer has that row), else empty. No floating
// point: a run that is traced stays free of it.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../accelerator/slice_counts.hpp"
#include "controller.hpp"

namespace lamella::precision {

class trace final : public gemm::observer {
  public:
    static constexpr std::string_view header =
        "step,layer,stage,macs,dense16,dense,issued,probe,streams,"
        "a_role,a_width,a_exponent,a_nonzeros,a_overflows,a_underflows,a_zero_share,"
        "b_role,b_width,b_exponent,b_nonzeros,b_overflows,b_underflows,b_zero_share,"
        "metric,threshold\n";

    // `write` is given whole lines with their end, without the header. `decides`: the network's controller, for the
    // last two columns. Throws argument_error when `every` is 0.
    trace(const accelerator::slice_counts& counts, std::function<void(std::string_view)> write, std::uint64_t every = 1,
          const controller* decides = nullptr)
        : counts_(counts), write_(std::move(write)), every_(every), decides_(decides) {
        if (every == 0) throw argument_error("trace every", "at least 1 step", "0");
        line_.reserve(512);
    }

    // The step of a row; the largest number for what is none.
    static std::uint64_t step_of(std::string_view row) noexcept {
        std::uint64_t step = 0;
        const bool is_row = std::from_chars(row.data(), row.data() + row.size(), step).ec == std::errc{};
        return is_row ? step : ~std::uint64_t{0};
    }

    // Throws argument_error when the counts have not been told of the event before.
    void on_gemm(const gemm::gemm_event& event) override {
        const accelerator::event_counts& seen = counts_.of(event);
        if (event.step != step_) flush();
        step_ = event.step;
        if (event.step % every_ != 0) return;
        const std::size_t at = index(event.layer, event.where);
        if (at >= rows_.size()) rows_.resize(at + 1);
        row& r = rows_[at];
        r.counts += seen.counts;
        if (event.probe) return;
        r.used = true;
        r.left_streams = seen.a_streams;
        r.operands = {describe(event.a, seen.a), describe(event.b, seen.b)};
    }

    // Writes the rows of the last step, which must be over. The steps before it have been written when it began.
    void flush() {
        if (decides_ != nullptr)
            decides_->each_measurement(step_, [&](const measurement& m) {
                const stage where = m.where == stage::feed_forward ? m.where : stage::weight_gradient;
                const auto at = index(m.layer, where);
                if (at < rows_.size() && (!rows_[at].compared || rows_[at].compared->metric < m.metric))
                    rows_[at].compared = m;
            });
        for (std::size_t at = 0; at < rows_.size(); ++at) {
            if (rows_[at].used) write_row(at, rows_[at]);
            rows_[at] = {};
        }
    }

  private:
    struct operand {
        role what = role::activation;
        int width = 0, exponent = 0;
        clip_counts clips;
        accelerator::operand_slices slices;
    };
    struct row {
        bool used = false, left_streams = true;
        accelerator::stage_counts counts;
        std::array<operand, 2> operands;
        std::optional<measurement> compared;  // of several, the one of largest metric
    };
    static std::size_t index(int layer, stage where) noexcept {
        return static_cast<std::size_t>(layer) * accelerator::slice_counts::stages + static_cast<std::size_t>(where);
    }

    static operand describe(const gemm::event_operand& o, const accelerator::operand_slices& slices) {
        return {o.what, o.view.width, o.view.exponent, o.clips, slices};
    }

    void put(std::string_view text) {
        if (!line_.empty()) line_.push_back(',');
        line_.append(text);
    }
    template <class Integer>
    void put_number(Integer value) {
        char digits[24];
        put({digits, std::to_chars(digits, digits + sizeof digits, value).ptr});
    }
    // part / whole with six decimals, rounded down.
    void put_ratio(std::uint64_t part, std::uint64_t whole) {
        constexpr std::uint64_t million = 1'000'000;
        put_number(part / whole);
        char digits[] = ".000000";
        std::uint64_t rest = part % whole * million / whole;
        for (int i = 6; i >= 1; --i, rest /= 10) digits[i] = static_cast<char>('0' + rest % 10);
        line_.append(digits, 7);
    }
    void write_row(std::size_t at, const row& r) {
        line_.clear();
        put_number(step_);
        put_number(at / accelerator::slice_counts::stages);
        put(name_of(static_cast<stage>(at % accelerator::slice_counts::stages)));
        for (const std::uint64_t count :
             {r.counts.macs, r.counts.dense16, r.counts.dense, r.counts.issued, r.counts.probe})
            put_number(count);
        put(r.left_streams ? "a" : "b");
        for (const operand& o : r.operands) {
            put(name_of(o.what));
            put_number(o.width);
            put_number(o.exponent);
            put_number(o.clips.nonzeros);
            put_number(o.clips.overflows);
            put_number(o.clips.underflows);
            put_ratio(o.slices.zero, std::max<std::uint64_t>(o.slices.all, 1));
        }
        if (r.compared) {
            put_ratio(r.compared->metric, 1 << 16);
            put_ratio(r.compared->threshold, 1 << 16);
        } else {
            line_.append(",,");
        }
        line_.push_back('\n');
        write_(line_);
    }

    const accelerator::slice_counts& counts_;
    std::function<void(std::string_view)> write_;
    std::uint64_t every_;
    const controller* decides_;
    std::uint64_t step_ = 0;
    std::vector<row> rows_;  // [layer][stage]
    std::string line_;
};

}  // namespace lamella::precision
