// The table of contents: every launch function of the device modules, and the one table of their signatures.
//
// Arrays are raw device addresses: activations (N, H, W, C), convolution weights (K, R, S, C / groups), linear weights
// (out, in). Extents come first checked by Python; a launch function checks what only it knows (alignment, grid
// limits), returns at once where there is nothing to do, and throws with the op's name otherwise (check.h).
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

// Hyperbolic tangent, logistic sigmoid: x, y, dy, dx (count) float32.
void tanh_forward(const float* x, float* y, int64_t count, Stream stream);
void tanh_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream);
void sigmoid_forward(const float* x, float* y, int64_t count, Stream stream);
void sigmoid_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream);

// Elementary functions: x, y, dy, dx (count) float32.
void exp_forward(const float* x, float* y, int64_t count, Stream stream);
void exp_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream);
void log_forward(const float* x, float* y, int64_t count, Stream stream);
void log_backward(const float* dy, const float* x, float* dx, Accumulate accumulate, int64_t count, Stream stream);
void sqrt_forward(const float* x, float* y, int64_t count, Stream stream);
void sqrt_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream);
void pow_forward(const float* x, float* y, float exponent, int64_t count, Stream stream);
void pow_backward(const float* dy, const float* x, float* dx, Accumulate accumulate, float exponent, int64_t count,
                  Stream stream);

// Arithmetic with broadcasting: a and b float32 at strides along the axes of y, 0 where they repeat, a null pointer
// standing for `scalar`; y, dy, da, db contiguous, all of the shape of y.
void add_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream stream);
void sub_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream stream);
void mul_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream stream);
void div_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream stream);
void mul_backward_a(const float* dy, const float* a, const float* b, float scalar, float* da, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream stream);
void mul_backward_b(const float* dy, const float* a, const float* b, float scalar, float* db, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream stream);
void div_backward_a(const float* dy, const float* a, const float* b, float scalar, float* da, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream stream);
void div_backward_b(const float* dy, const float* a, const float* b, float scalar, float* db, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream stream);

// Reductions: x, dx (outer, reduced, inner) float32, y, dy (outer, inner) float32, index (outer, inner) int32;
// workspaces (reduction_workspace) elements.
int64_t reduction_workspace(int64_t outer, int64_t reduced, int64_t inner);
void sum_forward(const float* x, float* y, float* workspace, Accumulate accumulate, float scale, int64_t outer,
                 int64_t reduced, int64_t inner, Stream stream);
void max_forward(const float* x, float* y, int* index, float* workspace, int* index_workspace, int64_t outer,
                 int64_t reduced, int64_t inner, Stream stream);
void max_backward(const float* dy, const int* index, float* dx, Accumulate accumulate, int64_t outer, int64_t reduced,
                  int64_t inner, Stream stream);

// y (+)= scale * x over `extents`, each array from its offset on at its own strides.
void strided_copy(const float* x, float* y, Accumulate accumulate, float scale, PerAxis extents, PerAxis x_strides,
                  PerAxis y_strides, int64_t x_offset, int64_t y_offset, Stream stream);

}  // namespace minicnn
