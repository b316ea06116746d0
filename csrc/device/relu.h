// ReLU of one number, and its gradient: one definition for csrc/ops/relu.cu and for every kernel that does it on its
// way. NaN stays NaN, and where y is NaN the gradient passes, as in PyTorch.
#pragma once
#include "device/cuda.h"

namespace minicnn {

__device__ inline float relu(float x) { return x < 0.0f ? 0.0f : x; }

__device__ inline float relu_gradient(float dy, float y) { return y <= 0.0f ? 0.0f : dy; }

}  // namespace minicnn
