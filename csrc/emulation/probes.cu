#include <stdexcept>

#include "device/async_copy.h"
#include "device/named_barrier.h"
#include "device/philox.h"
#include "device/reduce.h"
#include "emulation/probes.h"
#include "launch.h"

namespace minicnn::probes {
namespace {

struct Values {
  float values[1024];
};

template <bool with_barrier>
__global__ void reverse_kernel(const float* x, float* y) {
  auto& shared = shared_memory<Values>();
  shared.values[threadIdx.x] = x[threadIdx.x];
  if (with_barrier) __syncthreads();
  y[threadIdx.x] = shared.values[blockDim.x - 1 - threadIdx.x];
}

__global__ void transpose_kernel(const float* x, float* y, int pitch) {
  float* const shared = &shared_memory<float>();
  for (int row = 0; row < WARP_SIZE; ++row) shared[row * pitch + threadIdx.x] = x[row * WARP_SIZE + threadIdx.x];
  __syncthreads();
  for (int row = 0; row < WARP_SIZE; ++row) y[row * WARP_SIZE + threadIdx.x] = shared[threadIdx.x * pitch + row];
}

__global__ void start_order_kernel(int* y, int* counter) {
  y[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(counter, 1);
  __syncthreads();
}

__global__ void built_ins_kernel(int* y) {
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned seen[12] = {threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z,
                             blockDim.x,  blockDim.y,  blockDim.z,  gridDim.x,  gridDim.y,  gridDim.z};
  y += 12 * (block * blockDim.x * blockDim.y * blockDim.z + thread);
  for (int i = 0; i < 12; ++i) y[i] = int(seen[i]);
}

__global__ void shuffles_kernel(const float* x, float* y, int width) {
  const int lane = threadIdx.x;
  const float value = x[lane];
  y[0 * 32 + lane] = __shfl_sync(FULL_WARP, value, 5, width);
  y[1 * 32 + lane] = __shfl_xor_sync(FULL_WARP, value, 3, width);
  y[2 * 32 + lane] = __shfl_down_sync(FULL_WARP, value, 3, width);
  y[3 * 32 + lane] = __shfl_up_sync(FULL_WARP, value, 3, width);
}

__global__ void votes_kernel(const float* x, int* y) {
  const int lane = threadIdx.x;
  const bool predicate = x[lane] > 0;
  y[0 * 32 + lane] = int(__ballot_sync(FULL_WARP, predicate));
  y[1 * 32 + lane] = __any_sync(FULL_WARP, predicate);
  y[2 * 32 + lane] = __all_sync(FULL_WARP, predicate);
}

__global__ void sum_by_parity_kernel(const float* x, float* y) {
  const unsigned mask = threadIdx.x % 2 == 0 ? 0x55555555 : 0xAAAAAAAA;
  float value = x[threadIdx.x];
  for (int distance = 16; distance > 1; distance /= 2) value += __shfl_xor_sync(mask, value, distance);
  y[threadIdx.x] = value;
}

__global__ void block_votes_kernel(const float* x, int* y, int reader) {
  const bool predicate = x[threadIdx.x] > 0;
  const int count = __syncthreads_count(predicate);
  const int all = __syncthreads_and(predicate);
  const int any = __syncthreads_or(predicate);
  if (int(threadIdx.x) == reader) y[0] = count, y[1] = all, y[2] = any;
}

__global__ void block_reductions_kernel(const float* x, float* y) {
  auto& storage = shared_memory<BlockReduceStorage>();
  y[threadIdx.x] = block_sum(x[threadIdx.x], storage);
  y[blockDim.x + threadIdx.x] = block_max(x[threadIdx.x], storage);
}

__global__ void atomics_kernel(const int* x, int* y) {
  const int value = x[blockIdx.x * blockDim.x + threadIdx.x];
  atomicAdd(&y[0], value);
  atomicMax(&y[1], value);
  for (int seen = atomicCAS(&y[2], 0, 0), before = seen + 1; before != seen;) {
    before = seen;
    seen = atomicCAS(&y[2], before, before + value);
  }
}

__global__ void atomics_of_block_kernel(const int* x, int* y) {
  const int value = x[threadIdx.x];
  atomicAdd_block(&y[0], value);
  atomicMax_block(&y[1], value);
  for (int seen = atomicCAS_block(&y[2], 0, 0), before = seen + 1; before != seen;) {
    before = seen;
    seen = atomicCAS_block(&y[2], before, before + value);
  }
  atomicAdd(&y[4], threadIdx.x % 2 ? atomicExch(&y[3], value) : atomicExch_block(&y[3], value));
}

__global__ void copy_misaligned_kernel(const float* x, int where) {
  float* shared = shared_memory<Values>().values;
  async_copy<16>(where == 0 ? shared + 1 : shared, where == 1 ? x + 1 : x);
  async_copy<16>(where == 2 ? const_cast<float*>(x) : shared, x);
}

enum { FULL = 1, EMPTY = 2 };

__global__ void hand_over_kernel(const float* x, float* y, int rounds) {
  float* shared = shared_memory<Values>().values;
  const int lane = threadIdx.x % 32;
  for (int round = 0; round < rounds; ++round) {
    if (threadIdx.x < 32) {
      if (round > 0) named_barrier_sync(EMPTY, 64);
      shared[lane] = x[32 * round + lane];
      named_barrier_arrive(FULL, 64);
    } else {
      named_barrier_sync(FULL, 64);
      y[32 * round + lane] = shared[31 - lane];
      if (round + 1 < rounds) named_barrier_arrive(EMPTY, 64);
    }
  }
}

__global__ void misuse_named_barrier_kernel(int how) {
  if (how == 0) named_barrier_sync(0, 64);
  if (how == 1) named_barrier_sync(1, 48);
  if (how == 2) named_barrier_sync(1, threadIdx.x < 32 ? 64 : 96);
  if (how == 3) named_barrier_arrive(1, 96);
  if (how == 3) named_barrier_arrive(1, 96);
  if (how == 4 && threadIdx.x < 32) named_barrier_sync(1, 64);
}

__global__ void read_shared_kernel(float* y) { y[threadIdx.x] = (&shared_memory<float>())[threadIdx.x]; }

__global__ void write_shared_kernel(int index) { (&shared_memory<float>())[index] = 0.0f; }

__global__ void use_shared_kernel() { shared_memory<Values>().values[0] = 0.0f; }

__global__ void philox_kernel(uint32_t* words, uint8_t* kept, PhiloxStream stream, int64_t first_quad, float p) {
  const PhiloxWords drawn = philox_words(stream, uint64_t(first_quad + threadIdx.x));
  for (int i = 0; i < 4; ++i) {
    words[4 * threadIdx.x + i] = drawn.words[i];
    kept[4 * threadIdx.x + i] = philox_keeps(drawn.words[i], p);
  }
}

__global__ void philox_known_answer_kernel(const uint32_t* counter, const uint32_t* key, uint32_t* y) {
  const PhiloxWords words = philox4x32({{counter[0], counter[1], counter[2], counter[3]}}, {{key[0], key[1]}});
  for (int i = 0; i < 4; ++i) y[i] = words.words[i];
}

__global__ void read_at_kernel(const float* x, float* y, int64_t index) {
  if (threadIdx.x == 7) *y = x[index];
}

__global__ void write_at_kernel(float* y, int64_t index) {
  if (threadIdx.x == 7) y[index] = 1.0f;
}

__global__ void diverge_at_barrier_kernel() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void return_before_barrier_kernel() {
  if (threadIdx.x >= 48) return;
  __syncthreads();
}

__global__ void diverge_in_warp_kernel() {
  if (threadIdx.x < 16) {
    __syncwarp();
  } else {
    __shfl_sync(FULL_WARP, 1.0f, 0);
  }
}

__global__ void wait_for_each_other_kernel() {
  if (threadIdx.x >= 48) return;
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

__global__ void shuffle_outside_mask_kernel() {
  if (threadIdx.x < 16) __shfl_sync(0x0000FFFF, 1.0f, 20);
}

__global__ void shuffle_with_foreign_mask_kernel() {
  if (threadIdx.x < 16) __shfl_sync(0xFFFF0000, 1.0f, 20);
}

__attribute__((noinline)) float descend(float* y, int depth) {
  volatile float local[256];
  for (int i = 0; i < 256; ++i) local[i] = *y;
  return depth == 0 ? local[0] : local[depth % 256] + descend(y, depth - 1);
}

__global__ void overflow_stack_kernel(float* y, int depth) { *y = descend(y, depth); }

__global__ void throw_in_thread_kernel(int thread) {
  __syncthreads();
  if (int(threadIdx.x) == thread) throw std::invalid_argument("thrown on purpose");
  __syncthreads();
}

}  // namespace

void reverse(const float* x, float* y, int count, Stream stream) {
  launch(reverse_kernel<true>,
         {.op = "reverse", .grid = 1, .block = unsigned(count), .shared_bytes = sizeof(Values), .stream = stream}, x,
         y);
}

void reverse_without_barrier(const float* x, float* y, int count, Stream stream) {
  launch(reverse_kernel<false>,
         {.op = "reverse", .grid = 1, .block = unsigned(count), .shared_bytes = sizeof(Values), .stream = stream}, x,
         y);
}

void transpose(const float* x, float* y, int pitch, Stream stream) {
  launch(transpose_kernel,
         {.op = "transpose",
          .grid = 1,
          .block = WARP_SIZE,
          .shared_bytes = WARP_SIZE * pitch * sizeof(float),
          .stream = stream},
         x, y, pitch);
}

void start_order(int* y, int* counter, int blocks, int threads, Stream stream) {
  launch(start_order_kernel,
         {.op = "start_order", .grid = unsigned(blocks), .block = unsigned(threads), .stream = stream}, y, counter);
}

void built_ins(int* y, int grid_x, int grid_y, int grid_z, int block_x, int block_y, int block_z, Stream stream) {
  launch(built_ins_kernel,
         {.op = "built_ins",
          .grid = dim3(grid_x, grid_y, grid_z),
          .block = dim3(block_x, block_y, block_z),
          .stream = stream},
         y);
}

void shuffles(const float* x, float* y, int width, Stream stream) {
  launch(shuffles_kernel, {.op = "shuffles", .grid = 1, .block = 32, .stream = stream}, x, y, width);
}

void votes(const float* x, int* y, Stream stream) {
  launch(votes_kernel, {.op = "votes", .grid = 1, .block = 32, .stream = stream}, x, y);
}

void sum_by_parity(const float* x, float* y, Stream stream) {
  launch(sum_by_parity_kernel, {.op = "sum_by_parity", .grid = 1, .block = 32, .stream = stream}, x, y);
}

void block_votes(const float* x, int* y, int count, int reader, Stream stream) {
  launch(block_votes_kernel, {.op = "block_votes", .grid = 1, .block = unsigned(count), .stream = stream}, x, y,
         reader);
}

void block_reductions(const float* x, float* y, int count, Stream stream) {
  launch(block_reductions_kernel,
         {.op = "block_reductions",
          .grid = 1,
          .block = unsigned(count),
          .shared_bytes = sizeof(BlockReduceStorage),
          .stream = stream},
         x, y);
}

void atomics(const int* x, int* y, int blocks, int threads, Stream stream) {
  launch(atomics_kernel, {.op = "atomics", .grid = unsigned(blocks), .block = unsigned(threads), .stream = stream}, x,
         y);
}

void atomics_of_block(const int* x, int* y, int threads, Stream stream) {
  launch(atomics_of_block_kernel, {.op = "atomics_of_block", .grid = 1, .block = unsigned(threads), .stream = stream},
         x, y);
}

void copy_misaligned(const float* x, int where, Stream stream) {
  launch(copy_misaligned_kernel,
         {.op = "copy_misaligned", .grid = 1, .block = 1, .shared_bytes = sizeof(Values), .stream = stream}, x, where);
}

void hand_over(const float* x, float* y, int rounds, Stream stream) {
  launch(hand_over_kernel,
         {.op = "hand_over", .grid = 1, .block = 64, .shared_bytes = sizeof(Values), .stream = stream}, x, y, rounds);
}

void misuse_named_barrier(int how, Stream stream) {
  launch(misuse_named_barrier_kernel, {.op = "misuse_named_barrier", .grid = 1, .block = 64, .stream = stream}, how);
}

void read_shared(float* y, int floats, Stream stream) {
  launch(read_shared_kernel,
         {.op = "read_shared",
          .grid = 1,
          .block = unsigned(floats),
          .shared_bytes = sizeof(float) * floats,
          .stream = stream},
         y);
}

void write_shared(int index, int floats, Stream stream) {
  launch(write_shared_kernel,
         {.op = "write_shared", .grid = 1, .block = 1, .shared_bytes = sizeof(float) * floats, .stream = stream},
         index);
}

void use_more_shared_than_given(Stream stream) {
  launch(use_shared_kernel, {.op = "use_more_shared_than_given",
                             .grid = 1,
                             .block = 1,
                             .shared_bytes = sizeof(Values) - 1,
                             .stream = stream});
}

void philox(uint32_t* words, uint8_t* kept, int64_t seed, int64_t step, int64_t layer, int64_t first_quad, int quads,
            float p, Stream stream) {
  launch(philox_kernel, {.op = "philox", .grid = 1, .block = unsigned(quads), .stream = stream}, words, kept,
         PhiloxStream{uint64_t(seed), uint32_t(step), uint32_t(layer)}, first_quad, p);
}

void philox_known_answer(const uint32_t* counter, const uint32_t* key, uint32_t* y, Stream stream) {
  launch(philox_known_answer_kernel, {.op = "philox_known_answer", .grid = 1, .block = 1, .stream = stream}, counter,
         key, y);
}

void read_at(const float* x, float* y, int64_t index, Stream stream) {
  launch(read_at_kernel, {.op = "read_at", .grid = 1, .block = 32, .stream = stream}, x, y, index);
}

void write_at(float* y, int64_t index, Stream stream) {
  launch(write_at_kernel, {.op = "write_at", .grid = 1, .block = 32, .stream = stream}, y, index);
}

void diverge_at_barrier(Stream stream) {
  launch(diverge_at_barrier_kernel, {.op = "diverge_at_barrier", .grid = 1, .block = 64, .stream = stream});
}

void return_before_barrier(Stream stream) {
  launch(return_before_barrier_kernel, {.op = "return_before_barrier", .grid = 1, .block = 64, .stream = stream});
}

void diverge_in_warp(Stream stream) {
  launch(diverge_in_warp_kernel, {.op = "diverge_in_warp", .grid = 1, .block = 32, .stream = stream});
}

void wait_for_each_other(Stream stream) {
  launch(wait_for_each_other_kernel, {.op = "wait_for_each_other", .grid = 1, .block = 64, .stream = stream});
}

void shuffle_outside_mask(Stream stream) {
  launch(shuffle_outside_mask_kernel, {.op = "shuffle_outside_mask", .grid = 1, .block = 32, .stream = stream});
}

void shuffle_with_foreign_mask(Stream stream) {
  launch(shuffle_with_foreign_mask_kernel,
         {.op = "shuffle_with_foreign_mask", .grid = 1, .block = 32, .stream = stream});
}

void overflow_stack(float* y, int depth, Stream stream) {
  launch(overflow_stack_kernel, {.op = "overflow_stack", .grid = 1, .block = 1, .stream = stream}, y, depth);
}

void throw_in_thread(int thread, Stream stream) {
  launch(throw_in_thread_kernel, {.op = "throw_in_thread", .grid = 1, .block = 64, .stream = stream}, thread);
}

}  // namespace minicnn::probes
