// Convolution on the CPU: which algorithm computes which shape.
//
//   Winograd       F(4x4, 3x3), F(2x2, 5x5) where its 36 products a tile save work enough      native/winograd.cpp
//   gather         y and the gradient of the weights for an input of few channels              native/gather.cpp
//   scatter        the gradient of such an input                                               native/scatter.cpp
//   implicit GEMM  everything else: strides, dilation, 1x1                                     native/implicit.cpp
//
// MINICNN_CONV=direct, like the names of the device kernels that the variable knows too, leaves all to the others:
// rounding of a plain sum, exact on small integers, and infinities that stay where the formula has them.
#include <cstdlib>

#include "check.h"
#include "kernels.h"
#include "native/implicit.h"
#include "native/sum_rows.h"
#include "native/winograd.h"

namespace minicnn {
namespace {

enum class Algorithm { implicit, winograd, gather, scatter };

bool only_direct() { return std::getenv("MINICNN_CONV") != nullptr; }

// Multiplications of the implicit GEMM for each one of Winograd's products, tiles over an image's border counted whole
// (side by side on a sheet, images take fewer).
double winograd_saving(const ConvShape& shape, int rows, int columns) {
  const int outputs = 7 - shape.r;
  const double tiles = double(ceil_div(rows, outputs)) * ceil_div(columns, outputs);
  return double(rows) * columns * shape.r * shape.s / (tiles * 36);
}

// rows and columns: of the pixels that the pass computes.
Algorithm choose(const ConvShape& shape, int rows, int columns) {
  const bool enough_channels = shape.group_c() >= 16 && shape.group_k() >= 16;
  return winograd::supports(shape) && enough_channels && winograd_saving(shape, rows, columns) >= 1.5 && !only_direct()
             ? Algorithm::winograd
             : Algorithm::implicit;
}

Algorithm choose_forward(const ConvShape& shape) {
  return implicit::gathers(shape) ? Algorithm::gather : choose(shape, shape.p, shape.q);
}
Algorithm choose_backward_input(const ConvShape& shape) {
  const Algorithm algorithm = choose(shape, shape.h, shape.w);
  const bool few_channels = shape.groups == 1 && shape.dilation_w == 1 && shape.c < 32 && shape.r * shape.s > 1;
  return few_channels && (algorithm == Algorithm::implicit || shape.r == 5) ? Algorithm::scatter : algorithm;
}

// Throws where 32 bits do not suffice for what the kernels count in them.
void check_extents(const ConvShape& shape) {
  const auto below_2_31 = [](int64_t count, const char* what) {
    check(count <= INT32_MAX, "conv2d", count, " ", what, ", more than 2^31 - 1: use a smaller batch or image");
  };
  below_2_31(int64_t(shape.n) * shape.h * shape.w, "input pixels");
  below_2_31(int64_t(shape.n) * shape.p * shape.q, "output pixels");
  below_2_31(int64_t(shape.h) * shape.w * shape.c, "elements in one image of x");
  below_2_31(int64_t(shape.p) * shape.q * shape.k, "elements in one image of y");
  below_2_31(int64_t(shape.k) * shape.r * shape.s * shape.group_c(), "elements in w");
}

}  // namespace

int64_t conv2d_forward_workspace(ConvShape shape, Schedule) {
  switch (choose_forward(shape)) {
    case Algorithm::winograd:
      return winograd::forward_workspace(shape);
    case Algorithm::gather:
      return implicit::gather_forward_workspace(shape);
    default:
      return implicit::forward_workspace(shape);
  }
}

int64_t conv2d_backward_input_workspace(ConvShape shape, Schedule) {
  switch (choose_backward_input(shape)) {
    case Algorithm::winograd:
      return winograd::backward_input_workspace(shape);
    case Algorithm::scatter:
      return implicit::scatter_workspace(shape);
    default:
      return implicit::backward_input_workspace(shape);
  }
}

int64_t conv2d_backward_weight_workspace(ConvShape shape, Schedule) {
  switch (choose_forward(shape)) {
    case Algorithm::winograd:
      return winograd::backward_weight_workspace(shape);
    case Algorithm::gather:
      return implicit::gather_backward_weight_workspace(shape);
    default:
      return implicit::backward_weight_workspace(shape);
  }
}

void conv2d_forward(const float* x, const float* w, const float* bias, Activation activation, float* y,
                    float* workspace, ConvShape shape, Schedule, Stream) {
  check_extents(shape);
  switch (choose_forward(shape)) {
    case Algorithm::winograd:
      return winograd::forward(x, w, bias, activation, y, workspace, shape);
    case Algorithm::gather:
      return implicit::gather_forward(x, w, bias, activation, y, workspace, shape);
    default:
      return implicit::forward(x, w, bias, activation, y, workspace, shape);
  }
}

void conv2d_backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                           float* workspace, ConvShape shape, Schedule, Stream) {
  check_extents(shape);
  switch (choose_backward_input(shape)) {
    case Algorithm::winograd:
      return winograd::backward_input(dy, w, mask, dx, accumulate, workspace, shape);
    case Algorithm::scatter:
      return implicit::scatter_backward_input(dy, w, mask, dx, accumulate, workspace, shape);
    default:
      return implicit::backward_input(dy, w, mask, dx, accumulate, workspace, shape);
  }
}

void conv2d_backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                            Accumulate accumulate_dbias, float* workspace, ConvShape shape, Schedule, Stream) {
  check_extents(shape);
  if (dw == nullptr) return sum_rows(dy, int64_t(shape.n) * shape.p * shape.q, shape.k, dbias, accumulate_dbias);
  switch (choose_forward(shape)) {
    case Algorithm::winograd:
      return winograd::backward_weight(dy, x, dw, accumulate, dbias, accumulate_dbias, workspace, shape);
    case Algorithm::gather:
      return implicit::gather_backward_weight(dy, x, dw, accumulate, dbias, accumulate_dbias, workspace, shape);
    default:
      return implicit::backward_weight(dy, x, dw, accumulate, dbias, accumulate_dbias, workspace, shape);
  }
}

}  // namespace minicnn
