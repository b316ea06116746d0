// The table of contents: every launch function of the device modules, and the one table of their signatures.
//
// Arrays are raw device addresses: activations (N, H, W, C), convolution weights (K, R, S, C / groups), linear weights
// (out, in). Python has checked extents, dtypes and contiguity; a launch function checks what only it knows, returns at
// once where there is nothing to do, and throws with the op's name (check.h).
#pragma once
#include <cstdint>

#include "shapes.h"

struct CUstream_st;

namespace minicnn {

using Stream = CUstream_st*;  // cudaStream_t, without the CUDA headers

// What a kernel does with a gradient that may already hold a contribution.
enum class Accumulate : int { overwrite = 0, add = 1 };

// ReLU: x, y, dy, dx (count) float32.
void relu_forward(const float* x, float* y, int64_t count, Stream stream);
void relu_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream);

}  // namespace minicnn
