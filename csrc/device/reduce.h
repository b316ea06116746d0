// Sums and maxima over a warp or a block, in an order that depends on the block size alone: the same bits every time.
//
// Every thread of the warp or of the block takes part, and every one of them gets the result. Blocks have one dimension
// and whole warps.
#pragma once
#include <cmath>

#include "device/cuda.h"

namespace minicnn {

constexpr int WARP_SIZE = 32;
constexpr unsigned FULL_WARP = 0xFFFFFFFF;

struct Sum {
  __device__ static float identity() { return 0.0f; }
  __device__ static float combine(float a, float b) { return a + b; }
};

// NaN wins.
struct Max {
  __device__ static float identity() { return -INFINITY; }
  __device__ static float combine(float a, float b) { return a > b || a != a ? a : b; }
};

// The lanes exchange partial results over distances 16, 8, 4, 2, 1; both sides of an exchange combine the same two
// numbers, so that all lanes end with equal bits.
template <class Operation>
__device__ inline float warp_reduce(float value) {
  for (int distance = WARP_SIZE / 2; distance > 0; distance /= 2)
    value = Operation::combine(value, __shfl_xor_sync(FULL_WARP, value, distance));
  return value;
}

// Part of the caller's shared memory; free for other use once the reduction has returned.
struct BlockReduceStorage {
  float of_warp[WARP_SIZE];
};

template <class Operation>
__device__ inline float block_reduce(float value, BlockReduceStorage& storage) {
  const int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE, warps = blockDim.x / WARP_SIZE;
  value = warp_reduce<Operation>(value);
  if (lane == 0) storage.of_warp[warp] = value;
  __syncthreads();
  value = warp_reduce<Operation>(lane < warps ? storage.of_warp[lane] : Operation::identity());
  __syncthreads();
  return value;
}

__device__ inline float warp_sum(float value) { return warp_reduce<Sum>(value); }
__device__ inline float warp_max(float value) { return warp_reduce<Max>(value); }
__device__ inline float block_sum(float value, BlockReduceStorage& storage) {
  return block_reduce<Sum>(value, storage);
}
__device__ inline float block_max(float value, BlockReduceStorage& storage) {
  return block_reduce<Max>(value, storage);
}

}  // namespace minicnn
