// How a question is written, in a file that defines FAMILY:
//
//   RACY(name, blocks, threads, "which two accesses race") { body }
//   RACE_FREE(name, blocks, threads, "what orders them") { body }
//
// The body is that of a kernel, and sees
//   global, other  int*, BUFFER_INTS ints of global memory, zero
//   shared         int*, SHARED_INTS ints of the block's shared memory, unwritten: see clear()
//   t, block       threadIdx.x and blockIdx.x as ints
// `other` takes the results: a value that nobody uses would not be read at all.
#pragma once
#include "device/async_copy.h"
#include "device/cuda.h"
#include "device/named_barrier.h"
#include "exam.h"
#include "launch.h"

namespace minicnn::exam {

constexpr int SHARED_INTS = 512;
constexpr unsigned ALL_LANES = 0xFFFFFFFF;

struct Shared {
  int values[SHARED_INTS];
};

// Writes all of shared memory and meets at a barrier: a racing read finds a value, so that its race is the only fault.
__device__ inline void clear(int* shared) {
  const int threads = blockDim.x * blockDim.y;
  for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < SHARED_INTS; i += threads) shared[i] = 0;
  __syncthreads();
}

}  // namespace minicnn::exam

#define MINICNN_QUESTION(name, racy, blocks, threads, why)                                                      \
  __device__ void name(int* global, int* other, int* shared, int t, int block);                                 \
  __global__ void name##_kernel(int* global, int* other) {                                                      \
    name(global, other, shared_memory<Shared>().values, int(threadIdx.x), int(blockIdx.x));                     \
  }                                                                                                             \
  void ask_##name(int* global, int* other, Stream stream) {                                                     \
    launch(name##_kernel, {"exam " #name, blocks, threads, sizeof(Shared), stream}, global, other);             \
  }                                                                                                             \
  [[maybe_unused]] const bool name##_entered = add({FAMILY, #name, racy, why, ask_##name});                     \
  __device__ void name([[maybe_unused]] int* global, [[maybe_unused]] int* other, [[maybe_unused]] int* shared, \
                       [[maybe_unused]] int t, [[maybe_unused]] int block)

#define RACY(name, blocks, threads, why) MINICNN_QUESTION(name, true, blocks, threads, why)
#define RACE_FREE(name, blocks, threads, why) MINICNN_QUESTION(name, false, blocks, threads, why)
