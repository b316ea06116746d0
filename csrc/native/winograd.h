// Convolution by Winograd's minimal filtering, for windows of 3 x 3 and 5 x 5 at stride 1 (winograd_transforms.h).
//
// With float32 sums its error is 4 to 12 times that of the sum over taps, 1 to 4 parts in a million of the result's
// root mean square, by layer in tests/ops/test_conv2d_native.py.
// An infinity or NaN reaches every output of its tile, as NaN: B^T subtracts infinities from each other. A tile may lie
// across images of the batch (winograd_tiles.h), so it may reach the next image, too, and how a result is rounded
// depends on its image's place in the batch.
#pragma once
#include "kernels.h"

namespace minicnn::winograd {

// Windows that it computes, stride and dilation included.
bool supports(const ConvShape& shape);

void forward(const float* x, const float* w, const float* bias, Activation activation, float* y, float* workspace,
             const ConvShape& shape);
void backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                    float* workspace, const ConvShape& shape);
void backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                     Accumulate accumulate_dbias, float* workspace, const ConvShape& shape);
int64_t forward_workspace(const ConvShape& shape);
int64_t backward_input_workspace(const ConvShape& shape);
int64_t backward_weight_workspace(const ConvShape& shape);

}  // namespace minicnn::winograd
