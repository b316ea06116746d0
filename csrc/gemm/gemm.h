// The product as other kernels call it: gemm, and on the way to memory all that may become of its sums.
#pragma once
#include "gemm/operand.h"

namespace minicnn {

// c (m, n), rows ldc apart, (+)= mask <= 0 ? 0 : activation(op(a) op(b) + bias); workspace as gemm wants it.
void fused_gemm(const float* a, const float* b, float* c, float* workspace, GemmShape shape, Layout layout,
                const Epilogue& epilogue, Schedule schedule, Stream stream);

// The same by rung 5, and by rung 8.
void gemm_5_fused(const float* a, const float* b, float* c, float* workspace, GemmShape shape, Layout layout,
                  const Epilogue& epilogue, Schedule schedule, Stream stream);
void gemm_8_fused(const float* a, const float* b, float* c, float* workspace, GemmShape shape, Layout layout,
                  const Epilogue& epilogue, Schedule schedule, Stream stream);

}  // namespace minicnn
