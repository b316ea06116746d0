// Functions along rows or columns: softmax and its kin, batch and response normalisation, reductions.
#include <algorithm>

#include "driver.h"

namespace driver {
namespace {

// The rows (outer, inner) of an array (outer, reduced, inner).
struct Rows {
  int64_t outer, reduced, inner;

  int64_t count() const { return outer * reduced * inner; }
  int64_t at(int64_t row, int64_t r) const { return (row / inner * reduced + r) * inner + row % inner; }
  std::string name() const {
    return std::to_string(outer) + "x" + std::to_string(reduced) + "x" + std::to_string(inner);
  }

  // sum(row) of value(i) over the elements of each row
  std::vector<double> sums(const std::function<double(int64_t)>& value) const {
    std::vector<double> totals(outer * inner, 0.0);
    for (int64_t row = 0; row < outer * inner; ++row)
      for (int64_t r = 0; r < reduced; ++r) totals[row] += value(at(row, r));
    return totals;
  }
  int64_t row_of(int64_t i) const { return i / (reduced * inner) * inner + i % inner; }
};

void verify_softmax(const Rows& rows) {
  const int64_t count = rows.count();
  const Array x = numbers(count, 1, -4, 4), y = numbers(count, 2, 0.01f, 0.5f), dy = integers(count, 3);
  const auto totals = rows.sums([&](int64_t i) { return std::exp(double(x[i])); });
  const auto softmax = map(count, [&](int64_t i) { return std::exp(double(x[i])) / totals[rows.row_of(i)]; });
  verify("softmax_forward", rows.name(), softmax, ROUNDED,
         [&](float* to) { softmax_forward(x, to, rows.outer, int(rows.reduced), int(rows.inner), nullptr); });
  verify("log_softmax_forward", rows.name(), map(count, [&](int64_t i) { return std::log(softmax[i]); }), ROUNDED,
         [&](float* to) { log_softmax_forward(x, to, rows.outer, int(rows.reduced), int(rows.inner), nullptr); });

  const auto products = rows.sums([&](int64_t i) { return double(dy[i]) * y[i]; });
  verify_gradient("softmax_backward", rows.name(),
                  map(count, [&](int64_t i) { return y[i] * (dy[i] - products[rows.row_of(i)]); }), ROUNDED,
                  [&](float* dx, Accumulate mode) {
                    softmax_backward(dy, y, dx, mode, rows.outer, int(rows.reduced), int(rows.inner), nullptr);
                  });
  const auto sums = rows.sums([&](int64_t i) { return dy[i]; });
  verify_gradient("log_softmax_backward", rows.name(),
                  map(count, [&](int64_t i) { return dy[i] - std::exp(double(y[i])) * sums[rows.row_of(i)]; }), ROUNDED,
                  [&](float* dx, Accumulate mode) {
                    log_softmax_backward(dy, y, dx, mode, rows.outer, int(rows.reduced), int(rows.inner), nullptr);
                  });
}

void verify_cross_entropy(int64_t n, int classes, float smoothing) {
  const Rows rows{n, classes, 1};
  const Array logits = numbers(rows.count(), 1, -4, 4), dy = integers(n, 2);
  ArrayOf<int64_t> target(n);
  for (int64_t i = 0; i < n; ++i) target[i] = i * 37 % classes;
  target[n / 2] = classes;  // no class: its row becomes NaN

  const double every = smoothing / classes;
  const auto share = [&](int64_t i) { return i % classes == target[i / classes] ? 1.0 - smoothing + every : every; };
  std::vector<double> peak(n), log_sum(n), loss(n);
  for (int64_t row = 0; row < n; ++row) {
    const float* const first = logits + row * classes;
    peak[row] = *std::max_element(first, first + classes);
    double sum = 0;
    for (int c = 0; c < classes; ++c) sum += std::exp(first[c] - peak[row]);
    log_sum[row] = std::log(sum);
    for (int c = 0; c < classes; ++c) loss[row] -= share(row * classes + c) * (first[c] - peak[row] - log_sum[row]);
  }
  loss[n / 2] = NAN;
  const std::string variant = rows.name() + " smoothing " + std::to_string(smoothing);
  verify("cross_entropy_forward", variant,
         {{"peak", peak, EXACT}, {"log_sum", log_sum, ROUNDED}, {"loss", loss, ROUNDED}}, [&] {
           Array a = unwritten(n), b = unwritten(n), c = unwritten(n);
           cross_entropy_forward(logits, target, a, b, c, smoothing, n, classes, nullptr);
           return std::vector{a, b, c};
         });

  const Array whole = integers(n, 3);
  double total = 0;
  for (const float value : whole) total += value;
  verify("cross_entropy_reduce", variant, {total / 2}, EXACT,
         [&](float* y) { cross_entropy_reduce(whole, y, 2.0f, n, nullptr); });

  const Array peaks(peak.begin(), peak.end()), log_sums(log_sum.begin(), log_sum.end());
  for (const int stride : {0, 1}) {
    const auto expected = map(rows.count(), [&](int64_t i) {
      const int64_t row = i / classes;
      const double softmax = std::exp(double(logits[i]) - peak[row] - log_sum[row]);
      return row == n / 2 ? NAN : (softmax - share(i)) * dy[row * stride] / 4;
    });
    verify_gradient("cross_entropy_backward", variant + " stride " + std::to_string(stride), expected, ROUNDED,
                    [&](float* dlogits, Accumulate mode) {
                      cross_entropy_backward(dy, logits, target, peaks, log_sums, dlogits, mode, smoothing, 4.0f,
                                             stride, n, classes, nullptr);
                    });
  }
}

void verify_batch_norm(int64_t n, int channels) {
  const float eps = 0.1f;
  const Rows columns{1, n, channels};
  const int64_t count = columns.count();
  const Array x = numbers(count, 1, 9, 11), dy = integers(count, 2), weight = integers(channels, 3),
              bias = integers(channels, 4), running = integers(channels, 5);
  auto mean = columns.sums([&](int64_t i) { return x[i]; });
  for (double& value : mean) value /= double(n);
  auto variance = columns.sums([&](int64_t i) { return std::pow(x[i] - mean[i % channels], 2); });
  for (double& value : variance) value /= double(n);
  const auto follow = [&](const std::vector<double>& batch, double factor) {
    return map(channels, [&, factor](int64_t c) { return 0.75 * running[c] + 0.25 * batch[c] * factor; });
  };
  verify("batch_norm_statistics", columns.name(),
         {{"mean", mean, ROUNDED},
          {"variance", variance, ROUNDED},
          {"running_mean", follow(mean, 1), ROUNDED},
          {"running_variance", follow(variance, double(n) / double(n - 1)), ROUNDED}},
         [&] {
           Array workspace = unwritten(batch_norm_workspace(n, channels)), a = unwritten(channels), b = a, c = running,
                 d = running;
           batch_norm_statistics(x, workspace, a, b, c, d, 0.25f, n, channels, nullptr);
           return std::vector{a, b, c, d};
         });

  const Array means(mean.begin(), mean.end()), variances(variance.begin(), variance.end());
  const auto inverse = [&](int64_t i) { return 1 / std::sqrt(double(variances[i % channels]) + eps); };
  const auto z = [&](int64_t i) { return (double(x[i]) - means[i % channels]) * inverse(i); };
  const Array y = integers(count, 6);  // of a ReLU, or null
  for (const Activation activation : {Activation::none, Activation::relu}) {
    const bool is_relu = activation == Activation::relu;
    const std::string variant = columns.name() + (is_relu ? " ReLU" : "");
    const auto normalized = map(count, [&](int64_t i) {
      const double value = z(i) * weight[i % channels] + bias[i % channels];
      return is_relu ? std::max(value, 0.0) : value;
    });
    verify("batch_norm_forward", variant, normalized, ROUNDED, [&](float* to) {
      batch_norm_forward(x, means, variances, weight, bias, activation, to, eps, n, channels, nullptr);
    });

    const float* const cut = is_relu ? y.begin() : nullptr;
    const auto g = [&](int64_t i) { return is_relu && y[i] <= 0 ? 0.0 : dy[i]; };
    const auto sum_g = columns.sums(g);
    const auto sum_g_z = columns.sums([&](int64_t i) { return g(i) * z(i); });
    std::vector<double> both = sum_g;
    both.insert(both.end(), sum_g_z.begin(), sum_g_z.end());
    verify("batch_norm_backward_sums", variant,
           {{"sums", both, ROUNDED}, {"dweight", sum_g_z, ROUNDED}, {"dbias", sum_g, ROUNDED}}, [&] {
             Array workspace = unwritten(batch_norm_workspace(n, channels)), sums = unwritten(2 * channels),
                   dweight = unwritten(channels), dbias = dweight;
             batch_norm_backward_sums(dy, cut, x, means, variances, workspace, sums, dweight, Accumulate::overwrite,
                                      dbias, Accumulate::overwrite, eps, n, channels, nullptr);
             return std::vector{sums, dweight, dbias};
           });

    const Array sums(both.begin(), both.end());
    const auto expected = map(count, [&](int64_t i) {
      const int64_t c = i % channels;
      return weight[c] * inverse(i) * (g(i) - (sum_g[c] + z(i) * sum_g_z[c]) / double(n));
    });
    verify_gradient("batch_norm_backward_input", variant, expected, ROUNDED, [&](float* dx, Accumulate mode) {
      batch_norm_backward_input(dy, cut, x, means, variances, weight, sums, dx, mode, eps, n, channels, nullptr);
    });
  }
}

// Results that are stored past the caches: where mean and variance are constants, each row is as if it were alone.
void verify_large_batch_norm() {
  constexpr int64_t ROWS = 65536 + 3;
  constexpr int CHANNELS = 64;
  const Array x = integers(ROWS * CHANNELS, 1), dy = integers(ROWS * CHANNELS, 2), mean = integers(CHANNELS, 3),
              weight = integers(CHANNELS, 4), bias = integers(CHANNELS, 5), variance(CHANNELS, 0.25f);
  const Lines result = lines(ROWS * CHANNELS);
  verify("batch_norm_forward", "past the caches",
         map(ROWS * CHANNELS,
             [&](int64_t i) {
               const int64_t c = i % CHANNELS;
               return std::max(0.0, (double(x[i]) - mean[c]) * 2 * weight[c] + bias[c]);
             }),
         EXACT, [&](float* to) {
           batch_norm_forward(x, mean, variance, weight, bias, Activation::relu, result.get(), 0, ROWS, CHANNELS,
                              nullptr);
           std::copy_n(result.get(), ROWS * CHANNELS, to);
         });
  verify_gradient("batch_norm_backward_input", "past the caches",
                  map(ROWS * CHANNELS, [&](int64_t i) { return 2.0 * weight[i % CHANNELS] * dy[i]; }), EXACT,
                  [&](float* to, Accumulate mode) {
                    std::copy_n(to, ROWS * CHANNELS, result.get());
                    batch_norm_backward_input(dy, nullptr, x, mean, variance, weight, nullptr, result.get(), mode, 0,
                                              ROWS, CHANNELS, nullptr);
                    std::copy_n(result.get(), ROWS * CHANNELS, to);
                  });
}

void verify_lrn(int64_t pixels, int channels, int below, int above, float beta) {
  const float scale = 0.25f, k = 2;
  const int64_t count = pixels * channels;
  const Array x = integers(count, 1), dy = integers(count, 2);
  // The sum of value(i) over the window of channel `i % channels`.
  const auto window = [&](int64_t i, int down, int up, const std::function<double(int64_t)>& value) {
    const int64_t c = i % channels, pixel = i - c;
    double sum = 0;
    for (int64_t j = std::max<int64_t>(0, c - down); j <= std::min<int64_t>(channels - 1, c + up); ++j)
      sum += value(pixel + j);
    return sum;
  };
  const auto s = map(count, [&](int64_t i) {
    return k + scale * window(i, below, above, [&](int64_t j) { return double(x[j]) * x[j]; });
  });
  const std::string variant = std::to_string(channels) + " channels, beta " + std::to_string(beta);
  verify("lrn_forward", variant, map(count, [&](int64_t i) { return x[i] * std::pow(s[i], -beta); }), ROUNDED,
         [&](float* y) { lrn_forward(x, y, below, above, scale, beta, k, pixels, channels, nullptr); });
  for (const Activation of_x : {Activation::none, Activation::relu}) {
    const auto expected = map(count, [&](int64_t i) {
      if (of_x == Activation::relu && x[i] <= 0) return 0.0;
      const double ratios =
          window(i, above, below, [&](int64_t j) { return dy[j] * std::pow(s[j], -beta - 1) * x[j]; });
      return dy[i] * std::pow(s[i], -beta) - 2 * scale * beta * x[i] * ratios;
    });
    verify_gradient("lrn_backward", variant, expected, ROUNDED, [&](float* dx, Accumulate mode) {
      lrn_backward(dy, x, of_x, dx, mode, below, above, scale, beta, k, pixels, channels, nullptr);
    });
  }
}

void verify_reductions(const Rows& rows) {
  const int64_t count = rows.count(), outputs = rows.outer * rows.inner;
  const Array x = integers(count, 1), dy = integers(outputs, 2);
  auto sums = rows.sums([&](int64_t i) { return x[i]; });
  for (double& sum : sums) sum *= 0.5;
  const int64_t elements = reduction_workspace(rows.outer, rows.reduced, rows.inner);
  verify_gradient("sum_forward", rows.name(), sums, EXACT, [&](float* y, Accumulate mode) {
    Array workspace = unwritten(elements);
    sum_forward(x, y, workspace, mode, 0.5f, rows.outer, rows.reduced, rows.inner, nullptr);
  });

  std::vector<double> largest(outputs), place(outputs);
  for (int64_t row = 0; row < outputs; ++row) {
    largest[row] = -INFINITY;
    for (int64_t r = 0; r < rows.reduced; ++r)
      if (x[rows.at(row, r)] > largest[row]) largest[row] = x[rows.at(row, r)], place[row] = double(r);
  }
  ArrayOf<int> winners(outputs, -1);
  verify("max_forward", rows.name(), {{"y", largest, EXACT}, {"index", place, EXACT}}, [&] {
    Array y = unwritten(outputs), workspace = unwritten(elements);
    ArrayOf<int> index_workspace(elements);
    max_forward(x, y, winners, workspace, index_workspace, rows.outer, rows.reduced, rows.inner, nullptr);
    return std::vector{y, Array(winners.begin(), winners.end())};
  });
  const auto expected = map(count, [&](int64_t i) {
    return i / rows.inner % rows.reduced == winners[rows.row_of(i)] ? dy[rows.row_of(i)] : 0.0f;
  });
  verify_gradient("max_backward", rows.name(), expected, EXACT, [&](float* dx, Accumulate mode) {
    max_backward(dy, winners, dx, mode, rows.outer, rows.reduced, rows.inner, nullptr);
  });
}

}  // namespace

void verify_rows() {
  for (const Rows& rows : {Rows{64, 1000, 1}, Rows{7, 5, 1}, Rows{9, 37, 53}}) verify_softmax(rows);
  verify_cross_entropy(64, 1000, 0.0f);
  verify_cross_entropy(37, 10, 0.25f);
  verify_batch_norm(1031, 67);
  verify_batch_norm(9, 3);
  verify_batch_norm(70, 1027);
  verify_large_batch_norm();
  verify_lrn(700, 97, 2, 2, 0.75f);
  verify_lrn(50, 5, 3, 4, 0.5f);
  for (const Rows& rows : {Rows{1, 300000, 1}, Rows{70, 301, 1}, Rows{2, 1027, 67}, Rows{3, 5, 7}})
    verify_reductions(rows);
}

}  // namespace driver
