#include "device/async_copy.h"
#include "emulation/probes.h"
#include "launch.h"

namespace minicnn::probes {
namespace {

constexpr int COPY_WORDS = 64, STEP_INTS = 4;

struct CopyStorage {
  alignas(16) uint32_t words[32][COPY_WORDS];
};

template <int BYTES>
__device__ void copy_step(uint32_t* shared, const uint32_t* x, bool inside) {
  inside ? async_copy<BYTES>(shared, x) : async_copy_or_zero<BYTES>(shared, x, false);
}

__device__ void wait_step(int pending) {
  if (pending == 0) async_copy_wait<0>();
  if (pending == 1) async_copy_wait<1>();
  if (pending == 2) async_copy_wait<2>();
  if (pending == 3) async_copy_wait<3>();
}

__global__ void run_copies_kernel(const uint32_t* x, uint32_t* y, const int* program, int steps) {
  uint32_t* shared = shared_memory<CopyStorage>().words[threadIdx.x];
  for (int i = 0; i < COPY_WORDS; ++i) shared[i] = 0;
  x += COPY_WORDS * threadIdx.x;
  y += COPY_WORDS * threadIdx.x;
  for (int i = 0; i < steps; ++i) {
    const int *step = program + STEP_INTS * i, to = step[1], from = step[2], bytes = step[3];
    if (step[0] <= 1 && bytes == 4) copy_step<4>(shared + to, x + from, step[0] == 0);
    if (step[0] <= 1 && bytes == 8) copy_step<8>(shared + to, x + from, step[0] == 0);
    if (step[0] <= 1 && bytes == 16) copy_step<16>(shared + to, x + from, step[0] == 0);
    if (step[0] == 2) async_copy_commit();
    if (step[0] == 3) wait_step(to);
    if (step[0] == 4) y[to] = shared[from];
  }
}

}  // namespace

void run_copies(const uint32_t* x, uint32_t* y, const int* program, int steps, int threads, Stream stream) {
  launch(run_copies_kernel,
         {.op = "run_copies",
          .grid = 1,
          .block = unsigned(threads),
          .shared_bytes = sizeof(CopyStorage),
          .stream = stream},
         x, y, program, steps);
}

}  // namespace minicnn::probes
