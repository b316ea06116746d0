// Average pooling to a given output size: the arithmetic, its threads, its bytes and its bound are in native/average.h,
// the windows in ops/average_windows.h.
#include "native/average.h"

namespace minicnn {

void adaptive_avgpool2d_forward(const float* x, float* y, int n, int h, int w, int c, int p, int q, Stream) {
  check_products("adaptive_avgpool2d_forward", h, p);
  check_products("adaptive_avgpool2d_forward", w, q);
  average_forward(x, y, EvenWindows{h, p}, EvenWindows{w, q}, n, c);
}

void adaptive_avgpool2d_backward(const float* dy, const float* mask, float* dx, Accumulate accumulate, int n, int h,
                                 int w, int c, int p, int q, Stream) {
  check_products("adaptive_avgpool2d_backward", h, p);
  check_products("adaptive_avgpool2d_backward", w, q);
  average_backward(dy, mask, dx, accumulate, EvenWindows{h, p}, EvenWindows{w, q}, n, c);
}

}  // namespace minicnn
