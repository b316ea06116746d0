// A barrier is missing between two accesses of one block.
//
// Pattern: the "sync" fault of Indigo; the intra-block races of GPUVerify and Faial.
// A detector must know: __syncthreads and its voting forms order all memory of the block, shared and global; a fence
// waits for nobody; __syncwarp orders one warp only.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "missing_barrier";

RACY(reversed_read, 1, 64, "thread 63 - t writes the word that thread t reads") {
  clear(shared);
  shared[t] = t;
  other[t] = shared[63 - t];
}

RACE_FREE(reversed_read_with_barrier, 1, 64, "the barrier lies between the writes and the reads") {
  shared[t] = t;
  __syncthreads();
  other[t] = shared[63 - t];
}

RACY(one_pair_across_warps, 1, 64, "only thread 31 reads what another thread, 32, writes") {
  clear(shared);
  shared[t] = t;
  other[t] = shared[t == 31 ? 32 : t];
}

RACE_FREE(own_word_only, 1, 64, "each thread reads only what it wrote itself") {
  shared[t] = t;
  other[t] = shared[t];
}

RACY(broadcast, 1, 64, "thread 0 writes the word that all others read") {
  clear(shared);
  if (t == 0) shared[0] = 7;
  other[t] = shared[0];
}

RACE_FREE(broadcast_with_barrier, 1, 64, "the barrier lies between the write and the reads") {
  if (t == 0) shared[0] = 7;
  __syncthreads();
  other[t] = shared[0];
}

RACY(write_after_read, 1, 64, "thread t + 1 overwrites the word that thread t reads") {
  clear(shared);
  const int value = shared[(t + 1) % 64];
  shared[t] = value + 1;
}

RACE_FREE(write_after_read_with_barrier, 1, 64, "the barrier lies between the reads and the writes") {
  clear(shared);
  const int value = shared[(t + 1) % 64];
  __syncthreads();
  shared[t] = value + 1;
}

RACY(last_reader_writes, 1, 64, "all threads read the word, thread 63 then writes it: 63 reads race with the write") {
  clear(shared);
  other[t] = shared[5];
  if (t == 63) shared[5] = 1;
}

RACY(first_reader_writes, 1, 64, "threads 0 and 40 read the word, thread 0 then writes it: thread 40's read races") {
  clear(shared);
  if (t == 0 || t == 40) other[t] = shared[5];
  if (t == 0) shared[5] = 1;
}

RACY(two_writers, 1, 64, "threads t and t + 32 write one word") { shared[t % 32] = t; }

RACE_FREE(two_writers_in_turn, 1, 64, "the barrier lies between the two warps' writes") {
  if (t < 32) shared[t] = t;
  __syncthreads();
  if (t >= 32) shared[t - 32] = t;
}

RACY(global_exchange, 1, 64, "thread 63 - t writes the global word that thread t reads") {
  global[t] = t;
  other[t] = global[63 - t];
}

RACE_FREE(global_exchange_with_barrier, 1, 64, "a block barrier orders global memory within its block, too") {
  global[t] = t;
  __syncthreads();
  other[t] = global[63 - t];
}

RACY(second_phase, 1, 64, "the second phase reads words 64.. that other threads write after the only barrier") {
  clear(shared);
  shared[t] = t;
  __syncthreads();
  shared[64 + t] = shared[63 - t];
  other[t] = shared[64 + (t + 32) % 64];
}

RACY(only_in_block_1, 2, 64, "block 1 leaves out the barrier between writes and reversed reads") {
  clear(shared);
  shared[t] = t;
  if (block == 0) __syncthreads();
  other[block * 64 + t] = shared[63 - t];
}

RACY(only_in_third_round, 1, 64, "round 2 leaves out the barrier between writes and reversed reads") {
  clear(shared);
  int sum = 0;
  for (int round = 0; round < 4; ++round) {
    shared[t] = round;
    if (round != 2) __syncthreads();
    sum += shared[63 - t];
    __syncthreads();
  }
  other[t] = sum;
}

RACY(fence_instead, 1, 64, "a fence orders one thread's accesses and waits for no other thread") {
  clear(shared);
  shared[t] = t;
  __threadfence_block();
  other[t] = shared[63 - t];
}

RACY(device_fence_instead, 1, 64, "a fence orders one thread's accesses and waits for no other thread") {
  global[t] = t;
  __threadfence();
  other[t] = global[63 - t];
}

RACY(warp_barrier_instead, 1, 64, "__syncwarp orders one warp; the reader and the writer are in different ones") {
  clear(shared);
  shared[t] = t;
  __syncwarp();
  other[t] = shared[(t + 32) % 64];
}

RACE_FREE(voting_barrier, 1, 64, "__syncthreads_or is a barrier, too") {
  shared[t] = t;
  const int any = __syncthreads_or(t == 5);
  other[t] = shared[63 - t] + any;
}

RACE_FREE(one_thread_does_all, 1, 64, "thread 0 alone touches shared memory") {
  if (t == 0) {
    for (int i = 0; i < 64; ++i) shared[i] = i;
    for (int i = 0; i < 64; ++i) other[i] = shared[63 - i];
  }
}

}  // namespace
}  // namespace minicnn::exam
