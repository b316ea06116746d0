// GEMM: the launch that everybody else calls, and the place where the choice between rungs is made.
//
// Rung 4 is the fastest float32 kernel for every size and layout; the rungs below it are there to be read and measured.
// A tensor-core rung will be chosen here, by the precision asked for.
#include "device/capability.h"
#include "gemm/schedule.h"

namespace minicnn {

void gemm(const float* a, const float* b, const float* bias, float* c, float* workspace, GemmShape shape, Layout layout,
          Accumulate accumulate, Schedule schedule, Stream stream) {
  const bool on_tensor_cores = schedule.math != Math::float32 && compute_capability("gemm") >= 80;
  (on_tensor_cores ? gemm_5_tensor_core : gemm_4_vectorized)(a, b, bias, c, workspace, shape, layout, accumulate,
                                                             schedule, stream);
}

int64_t gemm_workspace(GemmShape shape, Schedule schedule) {
  const int64_t elements = int64_t(shape.m) * shape.n;
  return parts_workspace(choose_schedule("gemm", {shape.m, shape.n, shape.k, 1}, schedule), elements);
}

}  // namespace minicnn
