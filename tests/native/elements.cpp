// Functions element by element: maps, dropout, SGD, clipping, arithmetic, strided copies.
#include "device/philox.h"
#include "driver.h"

namespace driver {
namespace {

constexpr int64_t COUNT = 16 * 16384 + 5;  // sixteen threads have a share, and the last a tail

using Forward = void (*)(const float*, float*, int64_t, Stream);
using Backward = void (*)(const float*, const float*, float*, Accumulate, int64_t, Stream);
using Formula = double (*)(double);
using Gradient = double (*)(double dy, double saved);

void verify_map(const std::string& name, float low, float high, double tolerance, Forward forward, Formula formula,
                Backward backward, Gradient gradient) {
  const Array x = numbers(COUNT, 1, low, high), dy = integers(COUNT, 2);
  verify((name + "_forward").c_str(), "", map(COUNT, [&](int64_t i) { return formula(x[i]); }), tolerance,
         [&](float* y) { forward(x, y, COUNT, nullptr); });
  verify_gradient((name + "_backward").c_str(), "", map(COUNT, [&](int64_t i) { return gradient(dy[i], x[i]); }),
                  ROUNDED, [&](float* dx, Accumulate mode) { backward(dy, x, dx, mode, COUNT, nullptr); });
}

void verify_maps() {
  verify_map(
      "relu", -1, 1, EXACT, relu_forward, [](double x) { return x < 0 ? 0 : x; }, relu_backward,
      [](double dy, double y) { return y <= 0 ? 0 : dy; });
  verify_map(
      "tanh", -8, 8, ROUNDED, tanh_forward, [](double x) { return std::tanh(x); }, tanh_backward,
      [](double dy, double y) { return dy * (1 - y * y); });
  verify_map(
      "sigmoid", -8, 8, ROUNDED, sigmoid_forward, [](double x) { return 1 / (1 + std::exp(-x)); }, sigmoid_backward,
      [](double dy, double y) { return dy * y * (1 - y); });
  verify_map(
      "exp", -4, 4, ROUNDED, exp_forward, [](double x) { return std::exp(x); }, exp_backward,
      [](double dy, double y) { return dy * y; });
  verify_map(
      "log", 0.1f, 9, ROUNDED, log_forward, [](double x) { return std::log(x); }, log_backward,
      [](double dy, double x) { return dy / x; });
  verify_map(
      "sqrt", 0.1f, 9, ROUNDED, sqrt_forward, [](double x) { return std::sqrt(x); }, sqrt_backward,
      [](double dy, double y) { return dy / (2 * y); });
  verify_map(
      "pow", 0.1f, 3, ROUNDED,
      [](const float* x, float* y, int64_t count, Stream stream) { pow_forward(x, y, 2.5f, count, stream); },
      [](double x) { return std::pow(x, 2.5); },
      [](const float* dy, const float* x, float* dx, Accumulate mode, int64_t count, Stream stream) {
        pow_backward(dy, x, dx, mode, 2.5f, count, stream);
      },
      [](double dy, double x) { return dy * 2.5 * std::pow(x, 1.5); });
}

void verify_dropout() {
  const Array x = integers(COUNT, 1), mask = integers(COUNT, 2);
  const int64_t layer = 3;
  verify("dropout_draw", "", {3, 7, 8}, EXACT, [&](float* y) {
    int64_t counter = 7, drawn[2];
    dropout_draw(&layer, &counter, drawn, nullptr);
    y[0] = float(drawn[0]), y[1] = float(drawn[1]), y[2] = float(counter);
  });
  const int64_t drawn[2] = {3, 7};
  const PhiloxStream stream{.seed = 42, .step = 7, .layer = 3};
  for (const bool masked : {false, true}) {
    const auto expected = map(COUNT, [&](int64_t i) {
      const bool keeps = philox_keeps(philox_words(stream, uint64_t(i) / 4).words[i % 4], 0.25f);
      return keeps && (!masked || mask[i] > 0) ? 2.0 * x[i] : 0.0;
    });
    verify_gradient("dropout_apply", masked ? "masked" : "", expected, EXACT, [&](float* y, Accumulate mode) {
      dropout_apply(x, masked ? mask.begin() : nullptr, y, mode, 42, drawn, 0.25f, 2.0f, COUNT, nullptr);
    });
  }
}

void verify_sgd() {
  const Array weights = integers(COUNT, 1), grads = integers(COUNT, 2), velocity = integers(COUNT, 3);
  const int64_t bounds[] = {64, 1000, 1024, 4096, 8192, COUNT};  // gaps between, and the second's rate is 0
  const float multipliers[] = {1, 1, 0, 1, 2, 0}, hyper[] = {0.25f, 0.5f};
  const float momentum = 0.5f, decay = 0.125f;
  for (const SgdRule rule : {SgdRule::torch, SgdRule::nesterov, SgdRule::paper}) {
    std::vector<double> new_weights(weights.begin(), weights.end()), new_velocity(velocity.begin(), velocity.end());
    for (int segment = 0; segment < 3; ++segment)
      for (int64_t i = bounds[2 * segment]; i < bounds[2 * segment + 1] && multipliers[2 * segment] != 0; ++i) {
        double &w = new_weights[i], &v = new_velocity[i];
        const double lr = hyper[0] * multipliers[2 * segment];
        const double g = hyper[1] * grads[i] + decay * multipliers[2 * segment + 1] * w;
        v = momentum * v + (rule == SgdRule::paper ? -lr * g : g);
        w += rule == SgdRule::paper ? v : -lr * (rule == SgdRule::torch ? v : g + momentum * v);
      }
    verify("sgd_step", "rule " + std::to_string(int(rule)),
           {{"weights", new_weights, EXACT}, {"velocity", new_velocity, EXACT}}, [&] {
             Array w = weights, v = velocity;
             sgd_step(w, grads, v, bounds, multipliers, 3, hyper, momentum, decay, rule, COUNT, nullptr);
             return std::vector{w, v};
           });
  }
}

void verify_adam() {
  const Array weights = integers(COUNT, 1), grads = integers(COUNT, 2), mean = integers(COUNT, 3);
  const Array square = numbers(COUNT, 4, 0.5f, 2);
  const int64_t bounds[] = {64, 1000, 1024, 4096, 8192, COUNT};  // gaps between, and the second's rate is 0
  const float multipliers[] = {1, 1, 0, 1, 2, 0}, hyper[] = {0.25f, 0.5f, 1.5f};
  const float mean_rate = 0.5f, square_rate = 0.25f, eps = 0.125f, decay = 0.125f;
  std::vector<double> w(weights.begin(), weights.end()), m(mean.begin(), mean.end()), v(square.begin(), square.end());
  for (int segment = 0; segment < 3; ++segment)
    for (int64_t i = bounds[2 * segment]; i < bounds[2 * segment + 1] && multipliers[2 * segment] != 0; ++i) {
      const double g = hyper[1] * grads[i] + decay * multipliers[2 * segment + 1] * w[i];
      m[i] += mean_rate * (g - m[i]);
      v[i] += square_rate * (g * g - v[i]);
      w[i] -= hyper[0] * multipliers[2 * segment] * m[i] / (hyper[2] * std::sqrt(v[i]) + eps);
    }
  verify("adam_step", "", {{"weights", w, ROUNDED}, {"mean", m, EXACT}, {"square", v, ROUNDED}}, [&] {
    Array new_weights = weights, new_mean = mean, new_square = square;
    adam_step(new_weights, grads, new_mean, new_square, bounds, multipliers, 3, hyper, mean_rate, square_rate, eps,
              decay, COUNT, nullptr);
    return std::vector{new_weights, new_mean, new_square};
  });
}

void verify_clipping() {
  const Array x = integers(COUNT, 1);
  double squares = 0;
  for (const float value : x) squares += value * value;
  const double norm = std::sqrt(squares), factor = 100 / (norm + 1e-6);
  Array partial = unwritten(clip_workspace(COUNT));
  const auto chunks = map(partial.count(), [&](int64_t chunk) {
    double sum = 0;
    for (int64_t i = chunk * 8192; i < std::min(COUNT, (chunk + 1) * 8192); ++i) sum += x[i] * x[i];
    return sum;
  });
  verify("clip_squares", "", chunks, EXACT, [&](float* y) { clip_squares(x, y, COUNT, nullptr); });
  clip_squares(x, partial, COUNT, nullptr);
  verify("clip_factor", "", {norm, factor}, ROUNDED,
         [&](float* y) { clip_factor(partial, 100, y, y + 1, partial.count(), nullptr); });
  const float half = 0.5f;
  verify("clip_scale", "", {{"x", map(COUNT, [&](int64_t i) { return 0.5 * x[i]; }), EXACT}}, [&] {
    Array y = x;
    clip_scale(y, &half, COUNT, nullptr);
    return std::vector{y};
  });
}

// a as it is, b broadcast over the rows or read across; a null pointer standing for a scalar.
struct Operand {
  const char* name;
  PerAxis strides;
};
constexpr int ROWS = 521, COLUMNS = 517;
constexpr PerAxis EXTENTS{1, 1, 1, 1, ROWS, COLUMNS}, PLAIN{0, 0, 0, 0, COLUMNS, 1};
constexpr Operand OPERANDS[] = {
    {"rows", PLAIN}, {"one row", {0, 0, 0, 0, 0, 1}}, {"transposed", {0, 0, 0, 0, 1, ROWS}}, {"scalar", {}}};

using ArithmeticForward = void (*)(const float*, const float*, float, float*, PerAxis, PerAxis, PerAxis, Stream);
using ArithmeticBackward = void (*)(const float*, const float*, const float*, float, float*, Accumulate, PerAxis,
                                    PerAxis, PerAxis, Stream);

void verify_arithmetic() {
  constexpr int64_t ELEMENTS = int64_t(ROWS) * COLUMNS;
  const Array a = integers(ELEMENTS, 1), b = numbers(ELEMENTS, 2, 1, 3), dy = integers(ELEMENTS, 3);
  for (const Operand& operand : OPERANDS) {
    const std::string name = operand.name;
    const PerAxis strides = operand.strides;
    const bool is_scalar = name == "scalar";
    const float* const from = is_scalar ? nullptr : b.begin();
    const auto b_at = [&](int64_t i) {
      return double(is_scalar ? 1.5f : b[i / COLUMNS * strides[4] + i % COLUMNS * strides[5]]);
    };
    const auto forward = [&](const char* function, ArithmeticForward run, double (*formula)(double, double)) {
      verify(function, name, map(ELEMENTS, [&](int64_t i) { return formula(a[i], b_at(i)); }), ROUNDED,
             [&](float* y) { run(a, from, 1.5f, y, EXTENTS, PLAIN, strides, nullptr); });
    };
    forward("add_forward", add_forward, [](double x, double y) { return x + y; });
    forward("sub_forward", sub_forward, [](double x, double y) { return x - y; });
    forward("mul_forward", mul_forward, [](double x, double y) { return x * y; });
    forward("div_forward", div_forward, [](double x, double y) { return x / y; });
    const auto backward = [&](const char* function, ArithmeticBackward run,
                              double (*formula)(double dy, double a, double b)) {
      verify_gradient(
          function, name, map(ELEMENTS, [&](int64_t i) { return formula(dy[i], a[i], b_at(i)); }), ROUNDED,
          [&](float* to, Accumulate mode) { run(dy, a, from, 1.5f, to, mode, EXTENTS, PLAIN, strides, nullptr); });
    };
    backward("mul_backward_a", mul_backward_a, [](double g, double, double y) { return g * y; });
    backward("mul_backward_b", mul_backward_b, [](double g, double x, double) { return g * x; });
    backward("div_backward_a", div_backward_a, [](double g, double, double y) { return g / y; });
    backward("div_backward_b", div_backward_b, [](double g, double x, double y) { return -g / y * (x / y); });
  }
}

void verify_add_relu() {
  const Array a = integers(COUNT, 1), b = integers(COUNT, 2), dy = integers(COUNT, 3), before = integers(COUNT, 4);
  const auto sums = map(COUNT, [&](int64_t i) { return std::max(double(a[i]) + b[i], 0.0); });
  verify("add_relu_forward", "", sums, EXACT, [&](float* y) { add_relu_forward(a, b, y, COUNT, nullptr); });
  const Array y(sums.begin(), sums.end());
  for (const bool masked : {false, true}) {
    const auto gradient = map(COUNT, [&](int64_t i) { return masked && y[i] <= 0 ? 0.0 : dy[i]; });
    const auto added = map(COUNT, [&](int64_t i) { return gradient[i] + before[i]; });
    const auto run = [&](Accumulate mode_a, Accumulate mode_b) {
      Array da = before, db = before;
      add_relu_backward(dy, masked ? y.begin() : nullptr, da, mode_a, db, mode_b, COUNT, nullptr);
      return std::vector{da, db};
    };
    const std::string variant = masked ? "masked" : "";
    verify("add_relu_backward", variant + " db added", {{"da", gradient, EXACT}, {"db", added, EXACT}},
           [&] { return run(Accumulate::overwrite, Accumulate::add); });
    verify("add_relu_backward", variant + " da added", {{"da", added, EXACT}, {"db", gradient, EXACT}},
           [&] { return run(Accumulate::add, Accumulate::overwrite); });
    verify_gradient("add_relu_backward", variant + " da alone", gradient, EXACT, [&](float* da, Accumulate mode) {
      add_relu_backward(dy, masked ? y.begin() : nullptr, da, mode, nullptr, Accumulate::overwrite, COUNT, nullptr);
    });
    verify_gradient("add_relu_backward", variant + " db alone", gradient, EXACT, [&](float* db, Accumulate mode) {
      add_relu_backward(dy, masked ? y.begin() : nullptr, nullptr, Accumulate::overwrite, db, mode, COUNT, nullptr);
    });
  }
}

void verify_copies() {
  constexpr int64_t ELEMENTS = int64_t(ROWS) * COLUMNS;
  const Array x = integers(ELEMENTS, 1);
  const PerAxis transposed{0, 0, 0, 0, 1, ROWS}, repeated{0, 0, 0, 0, 0, 1}, backwards{0, 0, 0, 0, -COLUMNS, 1};
  const auto copy = [&](const char* variant, const PerAxis& strides, int64_t offset) {
    const auto expected =
        map(ELEMENTS, [&](int64_t i) { return 2.0 * x[offset + i / COLUMNS * strides[4] + i % COLUMNS * strides[5]]; });
    verify_gradient("strided_copy", variant, expected, EXACT, [&](float* y, Accumulate mode) {
      strided_copy(x, y, mode, 2.0f, EXTENTS, strides, PLAIN, offset, 0, nullptr);
    });
  };
  copy("as it is", PLAIN, 0);
  copy("transposed", transposed, 0);
  copy("a row repeated", repeated, 0);
  copy("from the last row", backwards, ELEMENTS - COLUMNS);
}

}  // namespace

void verify_elements() {
  verify_maps();
  verify_dropout();
  verify_sgd();
  verify_adam();
  verify_clipping();
  verify_arithmetic();
  verify_add_relu();
  verify_copies();
}

}  // namespace driver
