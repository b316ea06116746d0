// Average pooling to a given output size: the kernels, their grid, their bytes and their bound are in ops/average.h.
//
// y[n,p,q,c] = mean of x[n,h,w,c] over floor(p*H/P) <= h < ceil((p+1)*H/P) and floor(q*W/Q) <= w < ceil((q+1)*W/Q)
//
// The windows over an input are those of the opposite pooling, from P to H: floor(p*H/P) <= h holds where p <
// (h+1)*P/H, and ceil((p+1)*H/P) > h where p + 1 > h*P/H.
#include "ops/average.h"
#include "ops/average_windows.h"

namespace minicnn {

void adaptive_avgpool2d_forward(const float* x, float* y, int n, int h, int w, int c, int p, int q, Stream stream) {
  check_products("adaptive_avgpool2d_forward", h, p);
  check_products("adaptive_avgpool2d_forward", w, q);
  average_forward("adaptive_avgpool2d_forward", x, y, EvenWindows{h, p}, EvenWindows{w, q}, n, c, stream);
}

void adaptive_avgpool2d_backward(const float* dy, const float* mask, float* dx, Accumulate accumulate, int n, int h,
                                 int w, int c, int p, int q, Stream stream) {
  check_products("adaptive_avgpool2d_backward", h, p);
  check_products("adaptive_avgpool2d_backward", w, q);
  average_backward("adaptive_avgpool2d_backward", dy, mask, dx, accumulate, EvenWindows{h, p}, EvenWindows{w, q}, n, c,
                   stream);
}

}  // namespace minicnn
