// Blocks that share global memory and have no order among them.
//
// Pattern: the inter-block races of GPUVerify, iGUARD and HiRace, which no shared-memory checker sees.
// A detector must know: __syncthreads and __threadfence order nothing between blocks, the end of a kernel does; a word
// may have readers in several blocks, one of them the writer's own, and each of them counts.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "between_blocks";

RACY(next_block_reads, 2, 64, "each block reads the words that the other writes") {
  global[block * 64 + t] = t;
  other[block * 64 + t] = global[(1 - block) * 64 + t];
}

RACY(both_write, 2, 32, "both blocks write one word") {
  if (t == 0) global[0] = block;
}

RACE_FREE(slices, 4, 64, "each block has its own slice") {
  global[block * 64 + t] = t;
  other[block * 64 + t] = global[block * 64 + t];
}

RACE_FREE(slice_shared_by_its_block, 4, 64, "within its slice each block has a barrier") {
  global[block * 64 + t] = t;
  __syncthreads();
  other[block * 64 + t] = global[block * 64 + 63 - t];
}

RACY(barrier_of_one_block, 2, 64, "__syncthreads does not wait for the block that writes") {
  global[block * 64 + t] = t;
  __syncthreads();
  other[block * 64 + t] = global[(1 - block) * 64 + t];
}

RACY(fence_between, 2, 64, "a fence does not wait for the block that writes") {
  global[block * 64 + t] = t;
  __threadfence();
  other[block * 64 + t] = global[(1 - block) * 64 + t];
}

RACY(two_readers_one_writes, 2, 32, "blocks 0 and 1 read the word, then block 1 writes it: block 0's read races") {
  if (t != 0) return;
  other[block] = global[5];
  if (block == 1) global[5] = 1;
}

RACY(two_readers_first_writes, 2, 32, "blocks 0 and 1 read the word, then block 0 writes it: block 1's read races") {
  if (t != 0) return;
  other[block] = global[5];
  if (block == 0) global[5] = 1;
}

RACE_FREE(all_read, 4, 64, "nobody writes the word") { other[block * 64 + t] = global[5] + block; }

RACE_FREE(one_reads_and_writes, 2, 32, "one thread reads, then writes the word; the other block has its own") {
  if (t != 0) return;
  other[block] = global[5 + block];
  global[5 + block] = 1;
}

RACY(four_readers_one_writes, 4, 64, "all blocks read the word, block 2 writes it after a barrier of its own") {
  other[block * 64 + t] = global[5];
  __syncthreads();
  if (block == 2 && t == 0) global[5] = 1;
}

RACY(only_blocks_2_and_3, 4, 32, "blocks 2 and 3 write one word, all other blocks their own") {
  if (t == 0) global[block == 3 ? 2 : block] = block;
}

RACY(halo_of_next_block, 2, 64, "thread 63 of block 0 reads the word that thread 0 of block 1 writes") {
  const int i = block * 64 + t;
  global[i] = i;
  __syncthreads();
  other[i] = global[i + 1];
}

RACY(one_reader, 2, 64, "one thread of block 1 reads what one thread of block 0 writes") {
  if (block == 0 && t == 0) global[100] = 1;
  if (block == 1 && t == 63) other[0] = global[100];
}

RACY(shift_in_place, 2, 64, "block 0 reads the words that block 1 overwrites") {
  const int i = block * 64 + t;
  const int value = global[i + 64];
  __syncthreads();
  global[i] = value;
}

RACE_FREE(shift_out_of_place, 2, 64, "what is read is not written") {
  const int i = block * 64 + t;
  other[i] = global[i + 64];
}

RACY(reverse_in_place, 2, 64, "block 1 overwrites the words that block 0 reads") {
  const int i = block * 64 + t;
  global[i] = global[127 - i] + i;
}

RACE_FREE(reverse_by_swapping_owner, 2, 32, "the thread that owns a pair reads and writes both of its words") {
  const int i = block * 32 + t;
  const int low = global[i], high = global[127 - i];
  global[i] = high;
  global[127 - i] = low;
}

RACE_FREE(one_block_works, 4, 64, "block 0 alone touches memory, with a barrier") {
  if (block == 0) {
    global[t] = t;
    __syncthreads();
    other[t] = global[63 - t];
  }
}

__global__ void write_slices_kernel(int* global) { global[blockIdx.x * 64 + threadIdx.x] = int(threadIdx.x); }

__global__ void read_next_slice_kernel(const int* global, int* other) {
  other[blockIdx.x * 64 + threadIdx.x] = global[(1 - blockIdx.x) * 64 + threadIdx.x];
}

void ask_two_kernels(int* global, int* other, Stream stream) {
  launch(write_slices_kernel, {"exam two_kernels", 2, 64, 0, stream}, global);
  launch(read_next_slice_kernel, {"exam two_kernels", 2, 64, 0, stream}, global, other);
}

[[maybe_unused]] const bool two_kernels_entered =
    add({FAMILY, "two_kernels", false, "the first kernel ends before the second begins", ask_two_kernels});

}  // namespace
}  // namespace minicnn::exam
