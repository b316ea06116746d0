// Convolution as an implicit GEMM on the CPU: the im2col matrix exists only as blocks in a cache.
//
// Source of the idea: Chetlur et al. 2014, "cuDNN", section 3.
#pragma once
#include "kernels.h"

namespace minicnn::implicit {

void forward(const float* x, const float* w, const float* bias, Activation activation, float* y, float* workspace,
             const ConvShape& shape);
void backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                    float* workspace, const ConvShape& shape);
void backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                     Accumulate accumulate_dbias, float* workspace, const ConvShape& shape);
int64_t forward_workspace(const ConvShape& shape);
int64_t backward_input_workspace(const ConvShape& shape);
int64_t backward_weight_workspace(const ConvShape& shape);

// y and the gradient of the weights for few channels (gather.cpp), where `gathers` says so.
bool gathers(const ConvShape& shape);
void gather_forward(const float* x, const float* w, const float* bias, Activation activation, float* y,
                    float* workspace, const ConvShape& shape);
void gather_backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                            Accumulate accumulate_dbias, float* workspace, const ConvShape& shape);
int64_t gather_forward_workspace(const ConvShape& shape);
int64_t gather_backward_weight_workspace(const ConvShape& shape);

// The gradient of the input for few channels (scatter.cpp): one group, dilation_w 1.
void scatter_backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                            float* workspace, const ConvShape& shape);
int64_t scatter_workspace(const ConvShape& shape);

}  // namespace minicnn::implicit
