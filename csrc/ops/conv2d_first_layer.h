// The convolution of first layers, whose few channels do not fill a chunk of 16 bytes: where
// csrc/ops/conv2d_implicit.cu and csrc/ops/conv2d_tensor_core.cu go where is_first_layer says so.
#pragma once
#include "gemm/tensor_core.h"
#include "kernels.h"
#include "ops/conv2d_maxpool2d.h"

namespace minicnn {

// Depends on the extents alone. A schedule that asks for a tile asks for the general kernels. The forward pass cuts no
// reduction, whatever is asked: it is short.
bool is_first_layer(const ConvShape& shape, Schedule schedule);

// Floats, in any of the formats.
int64_t first_layer_forward_workspace(const ConvShape& shape);
int64_t first_layer_backward_weight_workspace(const ConvShape& shape, Schedule schedule);

void first_layer_forward(const float* x, const float* w, const float* bias, Activation activation, float* y,
                         float* workspace, const ConvShape& shape, Stream stream);
void first_layer_maxpool2d_forward(const char* op, const float* x, const float* w, const WindowDestination<float>& y,
                                   float* workspace, const ConvShape& shape, Stream stream);
void first_layer_backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                                 Accumulate accumulate_dbias, float* workspace, const ConvShape& shape,
                                 Schedule schedule, Stream stream);

// The same on the tensor cores.
template <class Arithmetic>
void first_layer_forward_tensor_core(const char* op, const typename Arithmetic::Element* x,
                                     const typename Arithmetic::Element* w, const float* bias, Activation activation,
                                     Results<typename Arithmetic::Element> y, float* workspace, const ConvShape& shape,
                                     Stream stream);
template <class Arithmetic>
void first_layer_maxpool2d_forward_tensor_core(const char* op, const typename Arithmetic::Element* x,
                                               const typename Arithmetic::Element* w,
                                               const WindowDestination<typename Arithmetic::Element>& y,
                                               float* workspace, const ConvShape& shape, Stream stream);
template <class Arithmetic>
void first_layer_backward_weight_tensor_core(const char* op, const typename Arithmetic::Element* dy,
                                             const typename Arithmetic::Element* x, float* dw, Accumulate accumulate,
                                             float* dbias, Accumulate accumulate_dbias, float* workspace,
                                             const ConvShape& shape, Schedule schedule, Stream stream);

}  // namespace minicnn
