// Fully connected layer: one matrix product a pass.
//
// y[n,k]       = bias[k] + sum over c of x[n,c] weight[k,c]
// dx[n,c]      (+)= sum over k of dy[n,k] weight[k,c]
// dweight[k,c] (+)= sum over n of dy[n,k] x[n,c]
//
// x, dx (n, c), weight, dweight (k, c), bias (k) or null, y, dy (n, k) float32; workspace as gemm wants it.
//
// Grid, block and shared memory: those of csrc/gemm. FLOPs: 2nck a pass. At small n the weights, 4ck bytes, stream through
// once a pass and memory bandwidth is the bound: the reduction is cut so that all processors read.
#include "kernels.h"

namespace minicnn {
namespace {

// In each pass the operands lie one behind another, so that rows are as far apart as they are long.
GemmShape forward_shape(int n, int c, int k) { return {.m = n, .n = k, .k = c, .lda = c, .ldb = c, .ldc = k}; }
GemmShape backward_input_shape(int n, int c, int k) { return {.m = n, .n = c, .k = k, .lda = k, .ldb = c, .ldc = c}; }
GemmShape backward_weight_shape(int n, int c, int k) { return {.m = k, .n = c, .k = n, .lda = k, .ldb = c, .ldc = c}; }

}  // namespace

void linear_forward(const float* x, const float* weight, const float* bias, float* y, float* workspace, int n, int c,
                    int k, Stream stream) {
  gemm(x, weight, bias, y, workspace, forward_shape(n, c, k), Layout::nt, Accumulate::overwrite, Schedule{}, stream);
}

void linear_backward_input(const float* dy, const float* weight, float* dx, Accumulate accumulate, float* workspace,
                           int n, int c, int k, Stream stream) {
  gemm(dy, weight, nullptr, dx, workspace, backward_input_shape(n, c, k), Layout::nn, accumulate, Schedule{}, stream);
}

void linear_backward_weight(const float* dy, const float* x, float* dweight, Accumulate accumulate, float* workspace,
                            int n, int c, int k, Stream stream) {
  gemm(dy, x, nullptr, dweight, workspace, backward_weight_shape(n, c, k), Layout::tn, accumulate, Schedule{}, stream);
}

int64_t linear_forward_workspace(int n, int c, int k) { return gemm_workspace(forward_shape(n, c, k), Schedule{}); }
int64_t linear_backward_input_workspace(int n, int c, int k) {
  return gemm_workspace(backward_input_shape(n, c, k), Schedule{});
}
int64_t linear_backward_weight_workspace(int n, int c, int k) {
  return gemm_workspace(backward_weight_shape(n, c, k), Schedule{});
}

}  // namespace minicnn
