// Products: GEMM, fully connected layers, convolutions.
#include <algorithm>

#include "device/philox.h"
#include "driver.h"

namespace driver {
namespace {

std::string of(std::initializer_list<int64_t> extents) {
  std::string name;
  for (const int64_t extent : extents) name += (name.empty() ? "" : "x") + std::to_string(extent);
  return name;
}

// Matrices with `gap` elements behind each row, which nobody may write: there c is compared too.
void verify_gemm(int m, int n, int k, int gap) {
  for (const Layout layout : {Layout::nn, Layout::nt, Layout::tn}) {
    const int a_rows = layout == Layout::tn ? k : m, lda = (layout == Layout::tn ? m : k) + gap;
    const int b_rows = layout == Layout::nt ? n : k, ldb = (layout == Layout::nt ? k : n) + gap, ldc = n + gap;
    const Array a = integers(int64_t(a_rows) * lda, 1), b = integers(int64_t(b_rows) * ldb, 2), bias = integers(n, 3),
                before = integers(int64_t(m) * ldc, 4);
    const GemmShape shape{m, n, k, lda, ldb, ldc};
    for (const Accumulate mode : {Accumulate::overwrite, Accumulate::add}) {
      const auto expected = map(int64_t(m) * ldc, [&](int64_t at) {
        const int64_t i = at / ldc, j = at % ldc;
        if (j >= n) return double(before[at]);
        double sum = bias[j] + (mode == Accumulate::add ? before[at] : 0.0f);
        for (int64_t l = 0; l < k; ++l)
          sum += double(layout == Layout::tn ? a[l * lda + i] : a[i * lda + l]) *
                 (layout == Layout::nt ? b[j * ldb + l] : b[l * ldb + j]);
        return sum;
      });
      const std::string variant = of({m, n, k}) + " layout " + std::to_string(int(layout));
      verify("gemm", variant, {{"c", expected, EXACT}}, [&] {
        Array c = before, workspace = unwritten(gemm_workspace(shape, NO_SCHEDULE));
        gemm(a, b, bias, c, workspace, shape, layout, mode, NO_SCHEDULE, nullptr);
        return std::vector{c};
      });
    }
  }
}

double activated(Activation activation, double sum) {
  return activation == Activation::relu ? std::max(sum, 0.0) : sum;
}

void verify_linear(int n, int c, int k) {
  const Array x = integers(int64_t(n) * c, 1), weight = integers(int64_t(k) * c, 2), bias = integers(k, 3),
              dy = integers(int64_t(n) * k, 4), mask = integers(int64_t(n) * c, 5);
  const std::string variant = of({n, c, k});
  const auto sums = map(int64_t(n) * k, [&](int64_t i) {
    double sum = bias[i % k];
    for (int64_t j = 0; j < c; ++j) sum += double(x[i / k * c + j]) * weight[i % k * c + j];
    return sum;
  });
  for (const Activation activation : {Activation::none, Activation::relu})
    verify("linear_forward", variant, map(int64_t(n) * k, [&](int64_t i) { return activated(activation, sums[i]); }),
           EXACT, [&](float* y) {
             Array workspace = unwritten(linear_forward_workspace(n, c, k, NO_SCHEDULE));
             linear_forward(x, weight, bias, activation, y, workspace, n, c, k, NO_SCHEDULE, nullptr);
           });

  const int64_t drawn[2] = {3, 7};
  const PhiloxStream stream{.seed = 42, .step = 7, .layer = 3};
  const auto dropped = map(int64_t(n) * k, [&](int64_t i) {
    const bool keeps = philox_keeps(philox_words(stream, uint64_t(i) / 4).words[i % 4], 0.5f);
    return keeps ? 2 * activated(Activation::relu, sums[i]) : 0;
  });
  verify("linear_dropout_forward", variant, dropped, EXACT, [&](float* y) {
    Array workspace = unwritten(linear_dropout_forward_workspace(n, c, k, NO_SCHEDULE));
    linear_dropout_forward(x, weight, bias, Activation::relu, 42, drawn, 0.5f, 2.0f, y, workspace, n, c, k, NO_SCHEDULE,
                           nullptr);
  });

  const auto dx = map(int64_t(n) * c, [&](int64_t i) {
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) sum += double(dy[i / c * k + j]) * weight[j * c + i % c];
    return mask[i] <= 0 ? 0 : sum;
  });
  verify_gradient("linear_backward_input", variant, dx, EXACT, [&](float* to, Accumulate mode) {
    Array workspace = unwritten(linear_backward_input_workspace(n, c, k, NO_SCHEDULE));
    linear_backward_input(dy, weight, mask, to, mode, workspace, n, c, k, NO_SCHEDULE, nullptr);
  });

  // The gradients of weights and bias, one behind the other.
  const int64_t weights = int64_t(k) * c;
  const auto gradients = map(weights + k, [&](int64_t i) {
    double sum = 0;
    for (int64_t image = 0; image < n; ++image)
      sum += i < weights ? double(dy[image * k + i / c]) * x[image * c + i % c] : dy[image * k + i - weights];
    return sum;
  });
  verify_gradient("linear_backward_weight", variant, gradients, EXACT, [&](float* to, Accumulate mode) {
    Array workspace = unwritten(linear_backward_weight_workspace(n, c, k, NO_SCHEDULE));
    linear_backward_weight(dy, x, to, mode, to + weights, mode, workspace, n, c, k, NO_SCHEDULE, nullptr);
  });
}

// A gradient that is larger than any cache and lies on a line of it: it is stored past them. Its last panel is a half
// one of AVX-512's.
void verify_large_gradient() {
  constexpr int C = 4096 + 16, K = 2048 + 1;
  const Array x = integers(C, 1), dy = integers(K, 2);
  const Lines dweight = lines(int64_t(C) * K);
  verify("linear_backward_weight", "past the caches",
         map(int64_t(C) * K, [&](int64_t i) { return double(dy[i / C]) * x[i % C]; }), EXACT, [&](float* to) {
           Array workspace = unwritten(linear_backward_weight_workspace(1, C, K, NO_SCHEDULE)), dbias = unwritten(K);
           linear_backward_weight(dy, x, dweight.get(), Accumulate::overwrite, dbias, Accumulate::overwrite, workspace,
                                  1, C, K, NO_SCHEDULE, nullptr);
           std::copy_n(dweight.get(), int64_t(C) * K, to);
         });
}

struct Case {
  const char* name;
  int n, h, w, c, k, window, stride, padding, dilation, groups;
  bool winograd;
};
constexpr Case CONVOLUTIONS[] = {
    {"LeNet 5x5", 3, 15, 14, 1, 6, 5, 1, 2, 1, 1, false},
    {"LeNet's second 5x5", 3, 10, 10, 6, 16, 5, 1, 0, 1, 1, false},
    {"AlexNet 11x11/4", 2, 35, 39, 3, 24, 11, 4, 2, 1, 1, false},
    {"AlexNet 5x5, two groups", 2, 9, 10, 34, 38, 5, 1, 2, 1, 2, true},
    {"VGG 3x3", 3, 10, 11, 19, 35, 3, 1, 1, 1, 1, true},
    {"3x3 of many channels", 1, 6, 5, 130, 67, 3, 1, 1, 1, 1, true},
    {"3x3/2", 2, 13, 12, 18, 33, 3, 2, 1, 1, 1, false},
    {"3x3 dilated, three groups", 2, 11, 9, 21, 15, 3, 1, 2, 2, 3, false},
    {"3x3/2 dilated", 2, 15, 14, 10, 9, 3, 2, 3, 3, 1, false},
    {"3x3 depthwise", 2, 9, 8, 18, 18, 3, 1, 1, 1, 18, false},
    {"1x1", 3, 7, 6, 67, 33, 1, 1, 0, 1, 1, false},
    {"1x1/2", 2, 9, 8, 20, 40, 1, 2, 0, 1, 1, false},
    {"3x3 in wide padding", 1, 4, 3, 9, 16, 3, 3, 4, 1, 1, false},
    {"7x7/2 of three channels", 2, 19, 17, 3, 17, 7, 2, 3, 1, 1, false},
};

ConvShape shape_of(const Case& conv) {
  const int span = (conv.window - 1) * conv.dilation + 1;
  const auto outputs = [&](int extent) { return (extent + 2 * conv.padding - span) / conv.stride + 1; };
  return {conv.n,       conv.h,          conv.w,          conv.c,      conv.k,      conv.window,
          conv.window,  outputs(conv.h), outputs(conv.w), conv.stride, conv.stride, conv.padding,
          conv.padding, conv.dilation,   conv.dilation,   conv.groups};
}

struct Sizes {
  int64_t x, w, y;
  explicit Sizes(const ConvShape& shape)
      : x(int64_t(shape.n) * shape.h * shape.w * shape.c),
        w(int64_t(shape.k) * shape.r * shape.s * shape.group_c()),
        y(int64_t(shape.n) * shape.p * shape.q * shape.k) {}
};

// visit(y, x, w): the places of the factors, for each product of the convolution.
template <class Visit>
void each_product(const ConvShape& shape, const Visit& visit) {
  for (int64_t pixel = 0; pixel < int64_t(shape.n) * shape.p * shape.q; ++pixel) {
    const Pixel at = output_pixel(shape, int(pixel));
    for (int r = 0; r < shape.r; ++r)
      for (int s = 0; s < shape.s; ++s) {
        const int h = shape.rows().input_at(at.row, r), w = shape.columns().input_at(at.column, s);
        if (h < 0 || h >= shape.h || w < 0 || w >= shape.w) continue;
        for (int k = 0; k < shape.k; ++k)
          for (int c = 0; c < shape.group_c(); ++c)
            visit(pixel * shape.k + k, x_offset(shape, at.image, h, w, k / shape.group_k() * shape.group_c() + c),
                  w_offset(shape, k, r, s, c));
      }
  }
}

void verify_convolution(const Case& conv, bool direct) {
  const ConvShape shape = shape_of(conv);
  const Sizes sizes(shape);
  const Array x = integers(sizes.x, 1), w = integers(sizes.w, 2), bias = integers(shape.k, 3),
              dy = integers(sizes.y, 4), mask = integers(sizes.x, 5);
  std::vector<double> y(sizes.y), dx(sizes.x), gradients(sizes.w + shape.k);  // of weights, of the bias
  for (int64_t i = 0; i < sizes.y; ++i) y[i] = bias[i % shape.k], gradients[sizes.w + i % shape.k] += dy[i];
  each_product(shape, [&](int64_t at_y, int64_t at_x, int64_t at_w) {
    y[at_y] += double(x[at_x]) * w[at_w];
    dx[at_x] += double(dy[at_y]) * w[at_w];
    gradients[at_w] += double(dy[at_y]) * x[at_x];
  });
  for (int64_t i = 0; i < sizes.x; ++i)
    if (mask[i] <= 0) dx[i] = 0;

  const std::string variant = conv.name + std::string(direct ? ", direct" : "");
  const double tolerance = conv.winograd && !direct ? WINOGRAD : EXACT;
  for (const Activation activation : {Activation::none, Activation::relu})
    verify("conv2d_forward", variant, map(sizes.y, [&](int64_t i) { return activated(activation, y[i]); }), tolerance,
           [&](float* to) {
             Array workspace = unwritten(conv2d_forward_workspace(shape, NO_SCHEDULE));
             conv2d_forward(x, w, bias, activation, to, workspace, shape, NO_SCHEDULE, nullptr);
           });
  verify_gradient("conv2d_backward_input", variant, dx, tolerance, [&](float* to, Accumulate mode) {
    Array workspace = unwritten(conv2d_backward_input_workspace(shape, NO_SCHEDULE));
    conv2d_backward_input(dy, w, mask, to, mode, workspace, shape, NO_SCHEDULE, nullptr);
  });
  verify_gradient("conv2d_backward_weight", variant, gradients, tolerance, [&](float* to, Accumulate mode) {
    Array workspace = unwritten(conv2d_backward_weight_workspace(shape, NO_SCHEDULE));
    conv2d_backward_weight(dy, x, to, mode, to + sizes.w, mode, workspace, shape, NO_SCHEDULE, nullptr);
  });
}

}  // namespace

void verify_products() {
  verify_gemm(131, 67, 530, 3);
  verify_gemm(5, 130, 17, 0);
  verify_gemm(1, 1, 1, 2);
  verify_gemm(9, 33, 0, 0);
  verify_linear(16, 250, 130);
  verify_linear(1, 129, 65);
  verify_linear(70, 33, 10);
  verify_large_gradient();
  for (const Case& conv : CONVOLUTIONS) verify_convolution(conv, false);
  setenv("MINICNN_CONV", "direct", 1);
  for (const Case& conv : CONVOLUTIONS)
    if (conv.winograd) verify_convolution(conv, true);
  unsetenv("MINICNN_CONV");
}

}  // namespace driver
