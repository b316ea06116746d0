// Average pooling over windows of one size: the arithmetic, its threads, its bytes and its bound are in
// native/average.h, the windows and what they count in ops/average_windows.h.
#include "native/average.h"

namespace minicnn {

void avgpool2d_forward(const float* x, float* y, int count_padding, PoolShape shape, Stream) {
  average_forward(x, y, SlidingWindows(shape.rows(), count_padding), SlidingWindows(shape.columns(), count_padding),
                  shape.n, shape.c);
}

void avgpool2d_backward(const float* dy, const float* mask, float* dx, Accumulate accumulate, int count_padding,
                        PoolShape shape, Stream) {
  average_backward(dy, mask, dx, accumulate, SlidingWindows(shape.rows(), count_padding),
                   SlidingWindows(shape.columns(), count_padding), shape.n, shape.c);
}

}  // namespace minicnn
