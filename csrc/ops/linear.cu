// Fully connected layer: one matrix product a pass.
//
// y[n,k]       = activation(bias[k] + sum over c of x[n,c] weight[k,c]), linear_dropout_forward: times 0 or 1 / (1 - p)
// dx[n,c]      (+)= mask[n,c] <= 0 ? 0 : sum over k of dy[n,k] weight[k,c]
// dweight[k,c] (+)= sum over n of dy[n,k] x[n,c]
// dbias[k]     (+)= sum over n of dy[n,k]
//
// x, dx (n, c), mask (n, c) or null, weight, dweight (k, c), bias, dbias (k) or null, y, dy (n, k) float32; workspace:
// what gemm or the sum wants.
//
// Grid, block and shared memory: those of csrc/gemm. FLOPs: 2nck a pass. At small n the weights, 4ck bytes, stream
// through once a pass and memory bandwidth is the bound: the reduction is cut so that all processors read. The bias's
// gradient is a launch of its own, 4nk bytes beside the 4(nk + nc + ck) of the weight's: at batch 128 and 4096 x 4096
// 3 % of them, and the second-level cache still has them.
#include <algorithm>

#include "gemm/gemm.h"
#include "kernels.h"

namespace minicnn {
namespace {

// In each pass the operands lie one behind another, so that rows are as far apart as they are long.
GemmShape forward_shape(int n, int c, int k) { return {.m = n, .n = k, .k = c, .lda = c, .ldb = c, .ldc = k}; }
GemmShape backward_input_shape(int n, int c, int k) { return {.m = n, .n = c, .k = k, .lda = k, .ldb = c, .ldc = c}; }
GemmShape backward_weight_shape(int n, int c, int k) { return {.m = k, .n = c, .k = n, .lda = k, .ldb = c, .ldc = c}; }

}  // namespace

void linear_forward(const float* x, const float* weight, const float* bias, Activation activation, float* y,
                    float* workspace, int n, int c, int k, Stream stream) {
  fused_gemm(x, weight, y, workspace, forward_shape(n, c, k), Layout::nt, {.bias = bias, .activation = activation},
             Schedule{}, stream);
}

void linear_dropout_forward(const float* x, const float* weight, const float* bias, Activation activation,
                            uint64_t seed, const int64_t* drawn, float p, float scale, float* y, float* workspace,
                            int n, int c, int k, Stream stream) {
  fused_gemm(x, weight, y, workspace, forward_shape(n, c, k), Layout::nt,
             {.bias = bias, .activation = activation, .dropout = {seed, drawn, p, scale}}, Schedule{}, stream);
}

void linear_backward_input(const float* dy, const float* weight, const float* mask, float* dx, Accumulate accumulate,
                           float* workspace, int n, int c, int k, Stream stream) {
  fused_gemm(dy, weight, dx, workspace, backward_input_shape(n, c, k), Layout::nn,
             {.mask = mask, .accumulate = accumulate}, Schedule{}, stream);
}

void linear_backward_weight(const float* dy, const float* x, float* dweight, Accumulate accumulate, float* dbias,
                            Accumulate accumulate_dbias, float* workspace, int n, int c, int k, Stream stream) {
  if (dweight != nullptr)
    fused_gemm(dy, x, dweight, workspace, backward_weight_shape(n, c, k), Layout::tn, {.accumulate = accumulate},
               Schedule{}, stream);
  if (dbias != nullptr) sum_forward(dy, dbias, workspace, accumulate_dbias, 1.0f, 1, n, k, stream);
}

int64_t linear_forward_workspace(int n, int c, int k) { return gemm_workspace(forward_shape(n, c, k), Schedule{}); }
int64_t linear_dropout_forward_workspace(int n, int c, int k) {
  return std::max(linear_forward_workspace(n, c, k), int64_t(n) * k);  // the sums pass through it, cut or not
}
int64_t linear_backward_input_workspace(int n, int c, int k) {
  return gemm_workspace(backward_input_shape(n, c, k), Schedule{});
}
int64_t linear_backward_weight_workspace(int n, int c, int k) {
  return std::max(gemm_workspace(backward_weight_shape(n, c, k), Schedule{}), reduction_workspace(1, n, k));
}

}  // namespace minicnn
