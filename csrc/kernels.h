// The table of contents: every launch function of the device modules, and the one table of their signatures.
//
// Arrays are raw device addresses: activations (N, H, W, C), convolution weights (K, R, S, C / groups), linear weights
// (out, in). Extents come first checked by Python; a launch function checks what only it knows (alignment, grid limits),
// returns at once where there is nothing to do, and throws with the op's name otherwise (check.h).
#pragma once
#include <cstdint>

#include "shapes.h"

struct CUstream_st;

namespace minicnn {

using Stream = CUstream_st*;  // cudaStream_t, without the CUDA headers

// What a kernel does with a gradient that may already hold a contribution.
enum class Accumulate : int { overwrite = 0, add = 1 };

// Adaptive average pooling: x, dx (N, H, W, C), y, dy (N, P, Q, C) float32.
void adaptive_avgpool2d_forward(const float* x, float* y, int n, int h, int w, int c, int p, int q, Stream stream);
void adaptive_avgpool2d_backward(const float* dy, float* dx, Accumulate accumulate, int n, int h, int w, int c, int p,
                                 int q, Stream stream);

// Average pooling: x, dx (N, H, W, C), y, dy (N, P, Q, C) float32. count_padding: 1 or 0.
void avgpool2d_forward(const float* x, float* y, int count_padding, PoolShape shape, Stream stream);
void avgpool2d_backward(const float* dy, float* dx, Accumulate accumulate, int count_padding, PoolShape shape,
                        Stream stream);

// Local response normalisation: x, y, dy, dx (pixels, channels) float32. The window of a channel reaches `below` channels
// down and `above` channels up; the squares' sum is multiplied by `scale`.
void lrn_forward(const float* x, float* y, int below, int above, float scale, float beta, float k, int64_t pixels,
                 int channels, Stream stream);
void lrn_backward(const float* dy, const float* x, float* dx, Accumulate accumulate, int below, int above, float scale,
                  float beta, float k, int64_t pixels, int channels, Stream stream);

// Max pooling: x, dx (N, H, W, C), y, dy (N, P, Q, C) float32. The winners' places in their windows (N, P, Q, C) are in
// `index`, or in `wide_index` where a window has more than 256 places; the other is null.
void maxpool2d_forward(const float* x, float* y, uint8_t* index, uint16_t* wide_index, PoolShape shape, Stream stream);
void maxpool2d_backward(const float* dy, const uint8_t* index, const uint16_t* wide_index, float* dx,
                        Accumulate accumulate, PoolShape shape, Stream stream);

// ReLU: x, y, dy, dx (count) float32.
void relu_forward(const float* x, float* y, int64_t count, Stream stream);
void relu_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream);

}  // namespace minicnn
