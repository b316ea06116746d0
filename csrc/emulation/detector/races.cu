#include "device/async_copy.h"
#include "device/named_barrier.h"
#include "device/reduce.h"
#include "device/run.h"
#include "device/vec4.h"
#include "emulation/detector/races.h"
#include "launch.h"

namespace minicnn::races {
namespace {

struct Lanes {
  float values[32];
};

__global__ void neighbours_kernel(float* y, int between) {
  auto& shared = shared_memory<Lanes>();
  const int lane = threadIdx.x;
  shared.values[lane] = float(between);
  if (between == 1) __syncwarp();
  if (between == 2) __shfl_sync(FULL_WARP, 1.0f, 0);
  if (between == 3) __any_sync(FULL_WARP, 1);
  if (between == 4) __syncwarp(lane < 16 ? 0x0000FFFFu : 0xFFFF0000u);
  if (between == 5) __syncthreads();
  y[lane] = shared.values[(lane + 1) % 32];
}

__global__ void read_and_write_kernel(float* x, float* y, int writer) {
  y[blockIdx.x] = x[0];
  if (int(blockIdx.x) == writer) x[0] = 2.0f;
}

__global__ void bytes_kernel(uint8_t* x, uint8_t* y, int overlaps) {
  const unsigned i = threadIdx.x;
  x[i] = uint8_t(i);
  if (overlaps && i + 1 < blockDim.x) y[i] = x[i + 1];
}

__global__ void atomic_and_plain_kernel(int* x, int plain) {
  atomicAdd(&x[0], 1);  // of 64 threads
  if (plain == 3) __syncthreads();
  if (threadIdx.x != 63) return;
  if (plain == 1 || plain == 3) x[1] = x[0];
  if (plain == 2) x[0] = 0;
}

__global__ void atomics_of_blocks_kernel(int* x, int in_block_scope) {
  if (in_block_scope)
    atomicAdd_block(&x[0], 1);
  else
    atomicAdd(&x[0], 1);
}

__device__ void fence_in_scope(int scope) {
  if (scope == 1) __threadfence_block();
  if (scope == 2) __threadfence();
}

__global__ void last_block_kernel(int* parts, int* ticket, int* y, int release, int acquire, int ticket_scope) {
  parts[blockIdx.x] = int(blockIdx.x) + 1;
  fence_in_scope(release);
  const int mine = ticket_scope == 1 ? atomicAdd_block(ticket, 1) : atomicAdd(ticket, 1);
  if (mine + 1 < int(gridDim.x)) return;
  fence_in_scope(acquire);
  int sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
  y[0] = sum;
}

__global__ void flag_in_block_kernel(int* value, int* flag, int* y, int scope) {
  if (threadIdx.x == 0) {
    value[0] = 7;
    fence_in_scope(scope);
    atomicExch_block(flag, 1);
  }
  __shfl_sync(FULL_WARP, 0, 0);  // gives no order, but lets the other lane come after the flag
  if (threadIdx.x == 1 && atomicAdd_block(flag, 0) == 1) {
    fence_in_scope(scope);
    y[0] = value[0];
  }
}

__global__ void named_kernel(float* y, int who_waits) {
  auto& shared = shared_memory<Lanes>();
  const int lane = threadIdx.x % 32;
  if (threadIdx.x < 32) {
    shared.values[lane] = float(lane);
    who_waits == 2 ? named_barrier_sync(1, 64) : named_barrier_arrive(1, 64);
  } else {
    who_waits == 1 ? named_barrier_sync(1, 64) : named_barrier_arrive(1, 64);
    y[lane] = shared.values[lane];
  }
}

struct Stages {
  float values[2][32];
};

__global__ void copies_kernel(float* x, float* y, int how) {
  auto& shared = shared_memory<Stages>();
  const int lane = threadIdx.x;
  for (int stage = 0; stage < 2; ++stage) {
    async_copy<4>(&shared.values[stage][lane], &x[32 * stage + lane]);
    async_copy_commit();
  }
  if (how == 5) x[lane] = 0.0f;
  if (how == 6) shared.values[0][lane] = 0.0f;
  if (how == 2) async_copy_wait<1>();
  if (how != 1 && how != 2) async_copy_wait<0>();
  if (how == 4) __syncthreads();
  const int source = how == 3 || how == 4 ? (lane + 1) % 32 : lane;
  y[lane] = shared.values[0][source];
  y[32 + lane] = shared.values[1][source];
}

__global__ void copy_from_kernel(const float* x, float* y, int64_t index, int inside) {
  auto& shared = shared_memory<float>();
  async_copy_or_zero<4>(&shared, x + index, inside != 0);
  async_copy_commit();
  async_copy_wait<0>();
  y[0] = shared;
}

__global__ void read_partly_written_kernel(int* y, int written) {
  auto& shared = shared_memory<int>();
  for (int i = 0; i < written; ++i) reinterpret_cast<uint8_t*>(&shared)[i] = uint8_t(i + 1);
  y[0] = shared;  // four bytes
}

__global__ void reuse_kernel(int* x) {
  int& shared = shared_memory<int>();
  volatile int local[4];
  local[blockIdx.x % 4] = int(blockIdx.x);
  shared = local[blockIdx.x % 4];
  x[blockIdx.x] = shared;
}

struct Rows {
  float values[2][2];
};

__global__ void own_array_kernel(const float* x, float* y, int which, int index) {
  float own[4];
  for (int i = 0; i < 4; ++i) own[i] = x[i];
  const auto run = load_run<4>(x);
  Rows rows{{{x[0], x[1]}, {x[2], x[3]}}};
  if (which == 0) y[0] = own[index];
  if (which == 1) y[0] = run.values[index];
  if (which == 2) y[0] = rows.values[0][index];
  if (which == 3) y[0] = rows.values[index][0];
  if (which == 4)
    for (const float* p = own; p < &own[index]; ++p) y[0] = *p;
}

__global__ void move_four_kernel(const float* x, float* y, int64_t index, int how) {
  auto& shared = shared_memory<Lanes>();
  if (how == 0) store_run(y, load_run<4>(x + index));
  if (how == 1) store_run(&shared.values[index], load_run<4>(x));
  if (how == 1) store_run(y, load_run<4>(&shared.values[index]));
  if (how == 2) move_whole(x + index, y);
}

__global__ void increment_kernel(int* x) { x[threadIdx.x] += 1; }

}  // namespace

void neighbours(float* y, int between, Stream stream) {
  launch(neighbours_kernel,
         {.op = "neighbours", .grid = 1, .block = 32, .shared_bytes = sizeof(Lanes), .stream = stream}, y, between);
}

void read_and_write(float* x, float* y, int blocks, int writer, Stream stream) {
  launch(read_and_write_kernel, {.op = "read_and_write", .grid = unsigned(blocks), .block = 1, .stream = stream}, x, y,
         writer);
}

void bytes(uint8_t* x, uint8_t* y, int threads, int overlaps, Stream stream) {
  launch(bytes_kernel, {.op = "bytes", .grid = 1, .block = unsigned(threads), .stream = stream}, x, y, overlaps);
}

void atomic_and_plain(int* x, int plain, Stream stream) {
  launch(atomic_and_plain_kernel, {.op = "atomic_and_plain", .grid = 1, .block = 64, .stream = stream}, x, plain);
}

void atomics_of_blocks(int* x, int blocks, int in_block_scope, Stream stream) {
  launch(atomics_of_blocks_kernel, {.op = "atomics_of_blocks", .grid = unsigned(blocks), .block = 1, .stream = stream},
         x, in_block_scope);
}

void last_block(int* parts, int* ticket, int* y, int blocks, int release, int acquire, int ticket_scope,
                Stream stream) {
  launch(last_block_kernel, {.op = "last_block", .grid = unsigned(blocks), .block = 1, .stream = stream}, parts, ticket,
         y, release, acquire, ticket_scope);
}

void flag_in_block(int* value, int* flag, int* y, int fence_scope, Stream stream) {
  launch(flag_in_block_kernel, {.op = "flag_in_block", .grid = 1, .block = 32, .stream = stream}, value, flag, y,
         fence_scope);
}

void named(float* y, int who_waits, Stream stream) {
  launch(named_kernel, {.op = "named", .grid = 1, .block = 64, .shared_bytes = sizeof(Lanes), .stream = stream}, y,
         who_waits);
}

void copies(float* x, float* y, int how, Stream stream) {
  launch(copies_kernel, {.op = "copies", .grid = 1, .block = 32, .shared_bytes = sizeof(Stages), .stream = stream}, x,
         y, how);
}

void copy_from(const float* x, float* y, int64_t index, int inside, Stream stream) {
  launch(copy_from_kernel, {.op = "copy_from", .grid = 1, .block = 1, .shared_bytes = sizeof(float), .stream = stream},
         x, y, index, inside);
}

void read_partly_written(int* y, int written, Stream stream) {
  launch(read_partly_written_kernel,
         {.op = "read_partly_written", .grid = 1, .block = 1, .shared_bytes = sizeof(int), .stream = stream}, y,
         written);
}

void reuse(int* x, int blocks, Stream stream) {
  launch(reuse_kernel,
         {.op = "reuse", .grid = unsigned(blocks), .block = 1, .shared_bytes = sizeof(int), .stream = stream}, x);
}

void own_array(const float* x, float* y, int which, int index, Stream stream) {
  launch(own_array_kernel, {.op = "own_array", .grid = 1, .block = 1, .stream = stream}, x, y, which, index);
}

void move_four(const float* x, float* y, int64_t index, int how, Stream stream) {
  launch(move_four_kernel, {.op = "move_four", .grid = 1, .block = 1, .shared_bytes = sizeof(Lanes), .stream = stream},
         x, y, index, how);
}

int on_the_host(int index) {
  const int four[] = {0, 1, 2, 3};
  return four[index];
}

void increment(int* x, int count, Stream stream) {
  launch(increment_kernel, {.op = "increment", .grid = 1, .block = unsigned(count), .stream = stream}, x);
}

}  // namespace minicnn::races
