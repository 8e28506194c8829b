// Pictures of results: a few SVG elements and a frame with linear or logarithmic axes. Needs nothing but the standard
// library; for reports, so in floating point.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace example {

class svg {
  public:
    svg(double width, double height) {
        text_ =
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + number(width) + " " + number(height) +
            "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
    }
    void line(double x0, double y0, double x1, double y1, const std::string& colour, double width = 1,
              const std::string& dashes = "") {
        text_ += "<line x1=\"" + number(x0) + "\" y1=\"" + number(y0) + "\" x2=\"" + number(x1) + "\" y2=\"" +
                 number(y1) + "\" stroke=\"" + colour + "\" stroke-width=\"" + number(width) + "\"" +
                 (dashes.empty() ? "" : " stroke-dasharray=\"" + dashes + "\"") + "/>\n";
    }
    void path(const std::vector<std::pair<double, double>>& points, const std::string& colour, double width = 1,
              const std::string& dashes = "") {
        text_ += "<polyline fill=\"none\" stroke=\"" + colour + "\" stroke-width=\"" + number(width) + "\"" +
                 (dashes.empty() ? "" : " stroke-dasharray=\"" + dashes + "\"") + " points=\"";
        for (const auto& [x, y] : points) text_ += number(x) + "," + number(y) + " ";
        text_ += "\"/>\n";
    }
    void circle(double x, double y, double radius, const std::string& stroke, const std::string& fill) {
        text_ += "<circle cx=\"" + number(x) + "\" cy=\"" + number(y) + "\" r=\"" + number(radius) + "\" stroke=\"" +
                 stroke + "\" fill=\"" + fill + "\"/>\n";
    }
    // `anchor`: start, middle or end.
    void text(double x, double y, const std::string& content, const std::string& anchor = "start",
              const std::string& colour = "#333") {
        text_ += "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\" fill=\"" +
                 colour + "\">";
        for (const char c : content)
            text_ += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
        text_ += "</text>\n";
    }
    std::string finished() const { return text_ + "</svg>\n"; }

    static std::string number(double value, const char* format = "%.6g") {
        char digits[32];
        std::snprintf(digits, sizeof digits, format, value);
        return digits;
    }

  private:
    std::string text_;
};

// Where values lie on the picture, along one side.
struct axis {
    double from = 0, to = 1;        // values
    double at_from = 0, at_to = 1;  // places on the picture
    bool logarithmic = false;

    double operator()(double value) const {
        const double share = logarithmic ? std::log(value / from) / std::log(to / from) : (value - from) / (to - from);
        return at_from + share * (at_to - at_from);
    }
};

}  // namespace example
