// Average pooling over windows of one size: the kernels, their grid, their bytes and their bound are in ops/average.h.
//
// y[n,p,q,c] = sum over r, s of x[n, p*stride_h + r - padding_h, q*stride_w + s - padding_w, c] / count, padding =
// zeros
//
// count: the window's elements that lie in the image or its padding (with ceil_mode the last windows may reach beyond
// both), or in the image alone. A window wholly in the padding gives 0.
#include "ops/average.h"

namespace minicnn {
namespace {

struct SlidingWindows {
  int inputs, outputs;
  Axis axis;
  bool count_padding;

  SlidingWindows(const Axis& axis, bool count_padding)
      : inputs(axis.inputs), outputs(axis.outputs), axis(axis), count_padding(count_padding) {}

  __device__ Range inputs_of(int output) const {
    const Range taps = taps_inside(axis, output);
    const int first = axis.input_at(output, 0);
    return {first + taps.begin, first + taps.end};
  }

  __device__ int count(int output) const {
    const int first = axis.input_at(output, 0), last = first + axis.taps;
    const int covered = count_padding ? min(last, inputs + axis.padding) - first : min(last, inputs) - max(first, 0);
    return max(covered, 1);
  }

  __device__ Range outputs_over(int input) const { return windows_over(axis, input); }
};

}  // namespace

void avgpool2d_forward(const float* x, float* y, int count_padding, PoolShape shape, Stream stream) {
  average_forward("avgpool2d_forward", x, y, SlidingWindows(shape.rows(), count_padding),
                  SlidingWindows(shape.columns(), count_padding), shape.n, shape.c, stream);
}

void avgpool2d_backward(const float* dy, const float* mask, float* dx, Accumulate accumulate, int count_padding,
                        PoolShape shape, Stream stream) {
  average_backward("avgpool2d_backward", dy, mask, dx, accumulate, SlidingWindows(shape.rows(), count_padding),
                   SlidingWindows(shape.columns(), count_padding), shape.n, shape.c, stream);
}

}  // namespace minicnn
