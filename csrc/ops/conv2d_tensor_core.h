// The implicit convolution on the tensor cores, for float32 arrays: where csrc/ops/conv2d_implicit.cu goes when the
// schedule asks for it. Signatures as in kernels.h.
#pragma once
#include "kernels.h"

namespace minicnn {

void conv2d_forward_tensor_core(const float* x, const float* w, const float* bias, Activation activation, float* y,
                                float* workspace, ConvShape shape, Schedule schedule, Stream stream);
void conv2d_backward_input_tensor_core(const float* dy, const float* w, const float* mask, float* dx,
                                       Accumulate accumulate, float* workspace, ConvShape shape, Schedule schedule,
                                       Stream stream);
void conv2d_backward_weight_tensor_core(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                                        Accumulate accumulate_dbias, float* workspace, ConvShape shape,
                                        Schedule schedule, Stream stream);

}  // namespace minicnn
