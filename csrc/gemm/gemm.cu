// GEMM: the launch that everybody else calls, and the place where the choice between rungs is made.
//
// Rung 5 is the fastest kernel in float32 arithmetic for every size and layout; rung 8 computes on the tensor cores
// where the schedule asks for it, on GPUs whose tensor cores know TF32. The others are there to be read and measured.
#include "device/capability.h"
#include "gemm/gemm.h"
#include "gemm/schedule.h"

namespace minicnn {

void fused_gemm(const float* a, const float* b, float* c, float* workspace, GemmShape shape, Layout layout,
                const Epilogue& epilogue, Schedule schedule, Stream stream) {
  const bool on_tensor_cores = schedule.math != Math::float32 && compute_capability("gemm") >= 80;
  (on_tensor_cores ? gemm_8_fused : gemm_5_fused)(a, b, c, workspace, shape, layout, epilogue, schedule, stream);
}

void gemm(const float* a, const float* b, const float* bias, float* c, float* workspace, GemmShape shape, Layout layout,
          Accumulate accumulate, Schedule schedule, Stream stream) {
  fused_gemm(a, b, c, workspace, shape, layout, {.bias = bias, .accumulate = accumulate}, schedule, stream);
}

int64_t gemm_workspace(GemmShape shape, Schedule schedule) {
  const int64_t elements = int64_t(shape.m) * shape.n;
  return parts_workspace(choose_schedule("gemm", {shape.m, shape.n, shape.k, 1}, schedule), elements);
}

}  // namespace minicnn
