// What host and device code share: the only place that spells the decoration of a function callable from both.
#pragma once

#ifdef __CUDACC__
#define MINICNN_HOST_DEVICE __host__ __device__
#else
#define MINICNN_HOST_DEVICE
#endif

namespace minicnn {

// The smallest q with q * b >= a, for a >= 0 and b > 0.
template <class Integer>
MINICNN_HOST_DEVICE constexpr Integer ceil_div(Integer a, Integer b) {
  return (a + b - 1) / b;
}

}  // namespace minicnn
