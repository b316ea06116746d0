// Average pooling over windows of one size: the kernels, their grid, their bytes and their bound are in ops/average.h.
//
// y[n,p,q,c] = sum over r, s of x[n, p*stride_h + r - padding_h, q*stride_w + s - padding_w, c] / count, padding =
// zeros
//
// count: the window's elements that lie in the image or its padding (with ceil_mode the last windows may reach beyond
// both), or in the image alone. A window wholly in the padding gives 0.
#include "ops/average.h"
#include "ops/average_windows.h"

namespace minicnn {

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
