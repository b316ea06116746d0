// Fully connected layer: y (n, k) = x (n, c) weight^T (c, k) + bias.
#include "kernels.h"

namespace minicnn {

int64_t linear_forward_workspace(int, int, int) { return 0; }
int64_t linear_backward_input_workspace(int, int, int) { return 0; }
int64_t linear_backward_weight_workspace(int, int, int) { return 0; }

void linear_forward(const float* x, const float* weight, const float* bias, float* y, float* workspace, int n, int c,
                    int k, Stream stream) {
  gemm(x, weight, bias, y, workspace, {n, k, c, c, c, k}, Layout::nt, Accumulate::overwrite, {}, stream);
}

void linear_backward_input(const float* dy, const float* weight, float* dx, Accumulate accumulate, float* workspace,
                           int n, int c, int k, Stream stream) {
  gemm(dy, weight, nullptr, dx, workspace, {n, c, k, k, c, c}, Layout::nn, accumulate, {}, stream);
}

void linear_backward_weight(const float* dy, const float* x, float* dweight, Accumulate accumulate, float* workspace,
                            int n, int c, int k, Stream stream) {
  gemm(dy, x, nullptr, dweight, workspace, {k, c, n, k, c, c}, Layout::tn, accumulate, {}, stream);
}

}  // namespace minicnn
