// Average pooling to a given output size: the kernels, their grid, their bytes and their bound are in ops/average.h.
//
// y[n,p,q,c] = mean of x[n,h,w,c] over floor(p*H/P) <= h < ceil((p+1)*H/P) and floor(q*W/Q) <= w < ceil((q+1)*W/Q)
//
// The windows over an input are those of the opposite pooling, from P to H: floor(p*H/P) <= h holds where p <
// (h+1)*P/H, and ceil((p+1)*H/P) > h where p + 1 > h*P/H.
#include "ops/average.h"

namespace minicnn {
namespace {

// Window i of `count` windows that share out `extent` elements.
__device__ Range share_of(int i, int extent, int count) {
  return {i * extent / count, ceil_div((i + 1) * extent, count)};
}

struct EvenWindows {
  int inputs, outputs;

  __device__ Range inputs_of(int output) const { return share_of(output, inputs, outputs); }
  __device__ int count(int output) const {
    const auto [begin, end] = inputs_of(output);
    return end - begin;
  }
  __device__ Range outputs_over(int input) const { return share_of(input, outputs, inputs); }
};

// (count + 1) * extent must not overflow.
void check_products(const char* op, int extent, int count) {
  check((int64_t(count) + 1) * (extent + 1) < int64_t(1) << 31, op,
        std::to_string(extent) + " inputs and " + std::to_string(count) +
            " outputs along an axis: their product must be below 2^31");
}

}  // namespace

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
