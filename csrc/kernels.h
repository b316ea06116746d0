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

// What a kernel does to a sum before it stores it.
enum class Activation : int { none = 0, relu = 1 };

// `mask`, wherever a backward function takes one, has the shape of dx: the y of the ReLU that x came through, where dx
// is to be the gradient of what that ReLU was given: dx (+)= mask <= 0 ? 0 : value. Null is no mask.

// Numbers of 16 bits as arrays hold them; device/float16.h computes with them.
struct Bfloat16 {
  uint16_t bits;  // 1 sign, 8 exponent, 7 mantissa bits: the upper half of a float32
};
struct Float16 {
  uint16_t bits;  // 1 sign, 5 exponent, 10 mantissa bits: IEEE 754 binary16
};

// Addition and ReLU: a, b, y, dy, da, db (count) float32. Null is allowed for y in the backward pass, where dy is 0
// wherever y is not above 0, and for da and db.
void add_relu_forward(const float* a, const float* b, float* y, int64_t count, Stream stream);
void add_relu_backward(const float* dy, const float* y, float* da, Accumulate accumulate_da, float* db,
                       Accumulate accumulate_db, int64_t count, Stream stream);

// Adaptive average pooling: x, dx (N, H, W, C), y, dy (N, P, Q, C) float32.
void adaptive_avgpool2d_forward(const float* x, float* y, int n, int h, int w, int c, int p, int q, Stream stream);
void adaptive_avgpool2d_backward(const float* dy, const float* mask, float* dx, Accumulate accumulate, int n, int h,
                                 int w, int c, int p, int q, Stream stream);

// Average pooling: x, dx (N, H, W, C), y, dy (N, P, Q, C) float32. count_padding: 1 or 0.
void avgpool2d_forward(const float* x, float* y, int count_padding, PoolShape shape, Stream stream);
void avgpool2d_backward(const float* dy, const float* mask, float* dx, Accumulate accumulate, int count_padding,
                        PoolShape shape, Stream stream);

// Local response normalisation: x, y, dy, dx (pixels, channels) float32. The window of a channel reaches `below`
// channels down and `above` channels up; the squares' sum is multiplied by `scale`. of_x: relu where x is the y of a
// ReLU and dx is to be the gradient of what that was given.
void lrn_forward(const float* x, float* y, int below, int above, float scale, float beta, float k, int64_t pixels,
                 int channels, Stream stream);
void lrn_backward(const float* dy, const float* x, Activation of_x, float* dx, Accumulate accumulate, int below,
                  int above, float scale, float beta, float k, int64_t pixels, int channels, Stream stream);

// The same of x and dx of 16 bits; on devices with tensor cores.
void lrn_forward_bfloat16(const Bfloat16* x, float* y, int below, int above, float scale, float beta, float k,
                          int64_t pixels, int channels, Stream stream);
void lrn_backward_bfloat16(const float* dy, const Bfloat16* x, Activation of_x, Bfloat16* dx, Accumulate accumulate,
                           int below, int above, float scale, float beta, float k, int64_t pixels, int channels,
                           Stream stream);
void lrn_forward_float16(const Float16* x, float* y, int below, int above, float scale, float beta, float k,
                         int64_t pixels, int channels, Stream stream);
void lrn_backward_float16(const float* dy, const Float16* x, Activation of_x, Float16* dx, Accumulate accumulate,
                          int below, int above, float scale, float beta, float k, int64_t pixels, int channels,
                          Stream stream);

// Max pooling: x, dx (N, H, W, C), y, dy (N, P, Q, C) float32. The winners' places in their windows (N, P, Q, C) are in
// `index`, or in `wide_index` where a window has more than 255 places; the other is null. of_x: relu where x is the y
// of a ReLU and dx is to be the gradient of what that was given: then the place is nobody's (255, 65535) where y <= 0.
void maxpool2d_forward(const float* x, Activation of_x, float* y, uint8_t* index, uint16_t* wide_index, PoolShape shape,
                       Stream stream);
void maxpool2d_backward(const float* dy, const uint8_t* index, const uint16_t* wide_index, float* dx,
                        Accumulate accumulate, PoolShape shape, Stream stream);

// The same of numbers of 16 bits; on devices with tensor cores.
void maxpool2d_forward_bfloat16(const Bfloat16* x, Activation of_x, Bfloat16* y, uint8_t* index, PoolShape shape,
                                Stream stream);
void maxpool2d_backward_bfloat16(const Bfloat16* dy, const uint8_t* index, Bfloat16* dx, Accumulate accumulate,
                                 PoolShape shape, Stream stream);
void maxpool2d_forward_float16(const Float16* x, Activation of_x, Float16* y, uint8_t* index, PoolShape shape,
                               Stream stream);
void maxpool2d_backward_float16(const Float16* dy, const uint8_t* index, Float16* dx, Accumulate accumulate,
                                PoolShape shape, Stream stream);

// How the operands of a matrix product lie in memory, row by row.
enum class Layout : int {
  nn = 0,  // a (m, k), b (k, n)
  nt = 1,  // a (m, k), b (n, k)
  tn = 2,  // a (k, m), b (k, n)
};

// Convolution: x, dx, mask (N, H, W, C), w, dw (K, R, S, C / groups), bias, dbias (K), y, dy (N, P, Q, K) float32. Null
// is allowed for bias, for mask, and for one of dw and dbias. `workspace` is room for as many floats as the function of
// that name says. conv2d is the product, conv2d_im2col the rung below it.
void conv2d_forward(const float* x, const float* w, const float* bias, Activation activation, float* y,
                    float* workspace, ConvShape shape, Schedule schedule, Stream stream);
void conv2d_backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                           float* workspace, ConvShape shape, Schedule schedule, Stream stream);
void conv2d_backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                            Accumulate accumulate_dbias, float* workspace, ConvShape shape, Schedule schedule,
                            Stream stream);
int64_t conv2d_forward_workspace(ConvShape shape, Schedule schedule);
int64_t conv2d_backward_input_workspace(ConvShape shape, Schedule schedule);
int64_t conv2d_backward_weight_workspace(ConvShape shape, Schedule schedule);

// Convolution, ReLU and max-pooling by squares of 2 x 2 in one pass: y (N, P / 2, Q / 2, K) float32, index likewise, as
// maxpool2d_forward says of the y of a ReLU; or null. Only for a pooling and a schedule that it fits (1, else 0).
int conv2d_maxpool2d_fits(ConvShape shape, PoolShape pool, Schedule schedule);
int64_t conv2d_maxpool2d_forward_workspace(ConvShape shape, Schedule schedule);
void conv2d_maxpool2d_forward(const float* x, const float* w, const float* bias, float* y, uint8_t* index,
                              float* workspace, ConvShape shape, Schedule schedule, Stream stream);

// The same of numbers of 16 bits, with the workspace of float32; y is compared as it is written, rounded.
void conv2d_maxpool2d_forward_bfloat16(const Bfloat16* x, const Bfloat16* w, const float* bias, Bfloat16* y,
                                       uint8_t* index, float* workspace, ConvShape shape, Schedule schedule,
                                       Stream stream);
void conv2d_maxpool2d_forward_float16(const Float16* x, const Float16* w, const float* bias, Float16* y, uint8_t* index,
                                      float* workspace, ConvShape shape, Schedule schedule, Stream stream);

// Convolution of numbers of 16 bits, on the tensor cores: bias, dw, dbias and workspace float32, all else in the
// format. Each has the workspace of its namesake; dw is not null.
void conv2d_forward_bfloat16(const Bfloat16* x, const Bfloat16* w, const float* bias, Activation activation,
                             Bfloat16* y, float* workspace, ConvShape shape, Schedule schedule, Stream stream);
void conv2d_backward_input_bfloat16(const Bfloat16* dy, const Bfloat16* w, const Bfloat16* mask, Bfloat16* dx,
                                    Accumulate accumulate, float* workspace, ConvShape shape, Schedule schedule,
                                    Stream stream);
void conv2d_backward_weight_bfloat16(const Bfloat16* dy, const Bfloat16* x, float* dw, Accumulate accumulate,
                                     float* dbias, Accumulate accumulate_dbias, float* workspace, ConvShape shape,
                                     Schedule schedule, Stream stream);
void conv2d_forward_float16(const Float16* x, const Float16* w, const float* bias, Activation activation, Float16* y,
                            float* workspace, ConvShape shape, Schedule schedule, Stream stream);
void conv2d_backward_input_float16(const Float16* dy, const Float16* w, const Float16* mask, Float16* dx,
                                   Accumulate accumulate, float* workspace, ConvShape shape, Schedule schedule,
                                   Stream stream);
void conv2d_backward_weight_float16(const Float16* dy, const Float16* x, float* dw, Accumulate accumulate, float* dbias,
                                    Accumulate accumulate_dbias, float* workspace, ConvShape shape, Schedule schedule,
                                    Stream stream);

void conv2d_im2col_forward(const float* x, const float* w, const float* bias, Activation activation, float* y,
                           float* workspace, ConvShape shape, Schedule schedule, Stream stream);
void conv2d_im2col_backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                                  float* workspace, ConvShape shape, Schedule schedule, Stream stream);
void conv2d_im2col_backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                                   Accumulate accumulate_dbias, float* workspace, ConvShape shape, Schedule schedule,
                                   Stream stream);
int64_t conv2d_im2col_forward_workspace(ConvShape shape, Schedule schedule);
int64_t conv2d_im2col_backward_input_workspace(ConvShape shape, Schedule schedule);
int64_t conv2d_im2col_backward_weight_workspace(ConvShape shape, Schedule schedule);

// GEMM: c (m, n) (+)= op(a) op(b) + bias (n), a bias of null is none. `gemm` is the highest rung of the ladder.
void gemm(const float* a, const float* b, const float* bias, float* c, float* workspace, GemmShape shape, Layout layout,
          Accumulate accumulate, Schedule schedule, Stream stream);
int64_t gemm_workspace(GemmShape shape, Schedule schedule);
void gemm_1_naive(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                  Accumulate accumulate, Stream stream);
void gemm_2_shared(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                   Accumulate accumulate, Stream stream);
void gemm_3_register(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                     Accumulate accumulate, Stream stream);
void gemm_4_vectorized(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                       Accumulate accumulate, Stream stream);
void gemm_5_pipelined(const float* a, const float* b, const float* bias, float* c, float* workspace, GemmShape shape,
                      Layout layout, Accumulate accumulate, Schedule schedule, Stream stream);
void gemm_6_tensor_core(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                        Accumulate accumulate, Stream stream);
void gemm_7_ldmatrix(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                     Accumulate accumulate, Stream stream);
void gemm_8_asynchronous(const float* a, const float* b, const float* bias, float* c, float* workspace, GemmShape shape,
                         Layout layout, Accumulate accumulate, Schedule schedule, Stream stream);

// The same of numbers of 16 bits: bias float32; c in the format of a and b, or, where that is null, float32 `wide_c`.
void gemm_bfloat16(const Bfloat16* a, const Bfloat16* b, const float* bias, Bfloat16* c, float* wide_c,
                   float* workspace, GemmShape shape, Layout layout, Accumulate accumulate, Schedule schedule,
                   Stream stream);
void gemm_float16(const Float16* a, const Float16* b, const float* bias, Float16* c, float* wide_c, float* workspace,
                  GemmShape shape, Layout layout, Accumulate accumulate, Schedule schedule, Stream stream);

// Linear: x, dx, mask (n, c), weight, dweight (k, c), bias, dbias (k), y, dy (n, k) float32; activation, mask, nulls
// and workspace as in convolution; seed, drawn, p and scale as in dropout_apply, by whose mask y is multiplied.
void linear_forward(const float* x, const float* weight, const float* bias, Activation activation, float* y,
                    float* workspace, int n, int c, int k, Schedule schedule, Stream stream);
void linear_dropout_forward(const float* x, const float* weight, const float* bias, Activation activation,
                            uint64_t seed, const int64_t* drawn, float p, float scale, float* y, float* workspace,
                            int n, int c, int k, Schedule schedule, Stream stream);
void linear_backward_input(const float* dy, const float* weight, const float* mask, float* dx, Accumulate accumulate,
                           float* workspace, int n, int c, int k, Schedule schedule, Stream stream);
void linear_backward_weight(const float* dy, const float* x, float* dweight, Accumulate accumulate, float* dbias,
                            Accumulate accumulate_dbias, float* workspace, int n, int c, int k, Schedule schedule,
                            Stream stream);
int64_t linear_forward_workspace(int n, int c, int k, Schedule schedule);
int64_t linear_dropout_forward_workspace(int n, int c, int k, Schedule schedule);
int64_t linear_backward_input_workspace(int n, int c, int k, Schedule schedule);
int64_t linear_backward_weight_workspace(int n, int c, int k, Schedule schedule);

// The input of a network: images (M, H, W, C) uint8, windows (N, 4) int64 of image, top, left, mirrored, scale (C)
// float32, offset (N, C) float32, y (N, P, Q, C) float32.
void prepare_images(const uint8_t* images, const int64_t* windows, const float* scale, const float* offset, float* y,
                    int n, int h, int w, int c, int p, int q, Stream stream);

// The same with y of 16 bits; on devices with tensor cores.
void prepare_images_bfloat16(const uint8_t* images, const int64_t* windows, const float* scale, const float* offset,
                             Bfloat16* y, int n, int h, int w, int c, int p, int q, Stream stream);
void prepare_images_float16(const uint8_t* images, const int64_t* windows, const float* scale, const float* offset,
                            Float16* y, int n, int h, int w, int c, int p, int q, Stream stream);

// Precision: between float32 and numbers of 16 bits; `mask` float32, of the shape of y.
void narrow_bfloat16(const float* x, Bfloat16* y, int64_t count, Stream stream);
void narrow_float16(const float* x, Float16* y, int64_t count, Stream stream);
void widen_bfloat16(const Bfloat16* x, const float* mask, float* y, Accumulate accumulate, int64_t count,
                    Stream stream);
void widen_float16(const Float16* x, const float* mask, float* y, Accumulate accumulate, int64_t count, Stream stream);

// ReLU: x, y, dy, dx (count) float32.
void relu_forward(const float* x, float* y, int64_t count, Stream stream);
void relu_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t count, Stream stream);

// Softmax and its logarithm along the middle axis: x, y, dy, dx (outer, reduced, inner) float32.
void softmax_forward(const float* x, float* y, int64_t outer, int reduced, int inner, Stream stream);
void softmax_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t outer, int reduced,
                      int inner, Stream stream);
void log_softmax_forward(const float* x, float* y, int64_t outer, int reduced, int inner, Stream stream);
void log_softmax_backward(const float* dy, const float* y, float* dx, Accumulate accumulate, int64_t outer, int reduced,
                          int inner, Stream stream);

// Cross-entropy: logits, dlogits (N, classes) float32; target (N) int64; peak, log_sum, loss (N) float32; y () float32,
// the sum of loss over divisor; dy () with dy_stride 0, or (N) with dy_stride 1.
void cross_entropy_forward(const float* logits, const int64_t* target, float* peak, float* log_sum, float* loss,
                           float label_smoothing, int64_t n, int classes, Stream stream);
void cross_entropy_reduce(const float* loss, float* y, float divisor, int64_t n, Stream stream);
void cross_entropy_backward(const float* dy, const float* logits, const int64_t* target, const float* peak,
                            const float* log_sum, float* dlogits, Accumulate accumulate, float label_smoothing,
                            float divisor, int dy_stride, int64_t n, int classes, Stream stream);

// Dropout: layer, counter (1) int64; drawn (2) int64; x, y (count) float32. Forward is draw, then apply from x to y;
// backward is apply from dy to dx, with a mask.
void dropout_draw(const int64_t* layer, int64_t* counter, int64_t* drawn, Stream stream);
void dropout_apply(const float* x, const float* mask, float* y, Accumulate accumulate, uint64_t seed,
                   const int64_t* drawn, float p, float scale, int64_t count, Stream stream);

// Batch normalisation: x, y, dy, dx (rows, channels) float32; statistics, weight, bias and their gradients (channels)
// float32; sums (2, channels) float32, of dy and of dy * z; workspace (batch_norm_workspace elements) float32. Null is
// allowed for the running statistics, weight, bias, dweight and dbias, for `sums` where mean and variance were
// constants, and in the backward pass for y, where no activation followed or dy is 0 wherever y is not above 0.
int64_t batch_norm_workspace(int64_t rows, int channels);
void batch_norm_statistics(const float* x, float* workspace, float* mean, float* variance, float* running_mean,
                           float* running_variance, float momentum, int64_t rows, int channels, Stream stream);
void batch_norm_forward(const float* x, const float* mean, const float* variance, const float* weight,
                        const float* bias, Activation activation, float* y, float eps, int64_t rows, int channels,
                        Stream stream);
void batch_norm_backward_sums(const float* dy, const float* y, const float* x, const float* mean, const float* variance,
                              float* workspace, float* sums, float* dweight, Accumulate accumulate_dweight,
                              float* dbias, Accumulate accumulate_dbias, float eps, int64_t rows, int channels,
                              Stream stream);
void batch_norm_backward_input(const float* dy, const float* y, const float* x, const float* mean,
                               const float* variance, const float* weight, const float* sums, float* dx,
                               Accumulate accumulate, float eps, int64_t rows, int channels, Stream stream);

// Where the learning rate of SGD stands (csrc/ops/sgd.cu has the formulas).
enum class SgdRule : int { torch = 0, nesterov = 1, paper = 2 };

// SGD: weights, grads, velocity (count) float32; bounds (segments, 2) int64, multipliers (segments, 2) float32 of lr
// and of weight decay; hyper (2) float32: lr, scale of grads.
void sgd_step(float* weights, const float* grads, float* velocity, const int64_t* bounds, const float* multipliers,
              int segments, const float* hyper, float momentum, float weight_decay, SgdRule rule, int64_t count,
              Stream stream);

// The same, and copy (count) of 16 bits becomes nearest(weights) wherever those move; on devices with tensor cores.
void sgd_step_bfloat16(float* weights, Bfloat16* copy, const float* grads, float* velocity, const int64_t* bounds,
                       const float* multipliers, int segments, const float* hyper, float momentum, float weight_decay,
                       SgdRule rule, int64_t count, Stream stream);
void sgd_step_float16(float* weights, Float16* copy, const float* grads, float* velocity, const int64_t* bounds,
                      const float* multipliers, int segments, const float* hyper, float momentum, float weight_decay,
                      SgdRule rule, int64_t count, Stream stream);

// Adam: weights, grads, mean, square (count) float32; bounds and multipliers as for SGD; hyper (3) float32: lr over the
// mean's correction, scale of grads, 1 over the root of the square's correction (csrc/ops/adam.cu has the formulas).
void adam_step(float* weights, const float* grads, float* mean, float* square, const int64_t* bounds,
               const float* multipliers, int segments, const float* hyper, float mean_rate, float square_rate,
               float eps, float weight_decay, int64_t count, Stream stream);

// The weight's gradient of a fully connected layer, and the step with it in its place: dy (n, k), x (n, c), weight,
// velocity (k, c), hyper (2) float32. weight_decay is the weight's own.
void linear_backward_weight_sgd(const float* dy, const float* x, float* weight, float* velocity, const float* hyper,
                                float lr_multiplier, float momentum, float weight_decay, SgdRule rule, int n, int c,
                                int k, Schedule schedule, Stream stream);

// Gradient clipping: x (count) float32; partial (clip_workspace elements for each x, `count` of them for clip_factor)
// float32; norm, factor () float32.
int64_t clip_workspace(int64_t count);
void clip_squares(const float* x, float* partial, int64_t count, Stream stream);
void clip_factor(const float* partial, float max_norm, float* norm, float* factor, int64_t count, Stream stream);
void clip_scale(float* x, const float* factor, int64_t count, Stream stream);

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
