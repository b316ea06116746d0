// Atomics whose scope is too narrow for the threads that meet in them.
//
// Pattern: the scoped races of ScoRD and iGUARD. PTX: two atomics are morally strong, and so no race, only where the
// scope of each includes the thread of the other.
// A detector must know: atomicX_block is atomic to its own block only; to another block it is a plain access.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "atomic_scope";

RACY(add_between_blocks, 2, 64, "block-scope additions of two blocks to one word") { atomicAdd_block(&global[0], 1); }

RACE_FREE(device_add_between_blocks, 2, 64, "the additions have device scope") { atomicAdd(&global[0], 1); }

RACY(max_between_blocks, 2, 64, "block-scope maxima of two blocks in one word") {
  atomicMax_block(&global[0], block * 64 + t + 1);
}

RACE_FREE(device_max_between_blocks, 2, 64, "the maxima have device scope") {
  atomicMax(&global[0], block * 64 + t + 1);
}

RACY(exchange_between_blocks, 2, 32, "block-scope exchanges of two blocks in one word") {
  other[block * 32 + t] = atomicExch_block(&global[0], t + 1);
}

RACE_FREE(device_exchange_between_blocks, 2, 32, "the exchanges have device scope") {
  other[block * 32 + t] = atomicExch(&global[0], t + 1);
}

RACY(swap_between_blocks, 2, 32, "block-scope compare-and-swaps of two blocks in one word") {
  other[block * 32 + t] = atomicCAS_block(&global[0], 0, t + 1);
}

RACE_FREE(device_swap_between_blocks, 2, 32, "the compare-and-swaps have device scope") {
  other[block * 32 + t] = atomicCAS(&global[0], 0, t + 1);
}

RACY(one_thread_a_block, 2, 32, "one block-scope addition of each block") {
  if (t == 0) atomicAdd_block(&global[0], 1);
}

RACY(one_side_narrow, 2, 32, "block 0 adds at device scope, block 1 at block scope") {
  if (block == 0)
    atomicAdd(&global[0], 1);
  else
    atomicAdd_block(&global[0], 1);
}

RACY(one_narrow_block_of_four, 4, 32, "block 3 alone adds at block scope") {
  if (block != 3)
    atomicAdd(&global[0], 1);
  else
    atomicAdd_block(&global[0], 1);
}

RACY(one_narrow_thread, 2, 32, "thread 31 of block 1 alone adds at block scope, to a word that block 0 adds to") {
  if (block == 1 && t == 31)
    atomicAdd_block(&global[t], 1);
  else
    atomicAdd(&global[t], 1);
}

RACY(narrow_read, 2, 32, "block 1 reads by adding zero at block scope what block 0 adds to at device scope") {
  if (block == 0)
    atomicAdd(&global[0], 1);
  else
    other[t] = atomicAdd_block(&global[0], 0);
}

RACY(counter_a_pair_of_blocks, 4, 32, "blocks 2i and 2i + 1 add at block scope to one word") {
  atomicAdd_block(&global[block / 2], 1);
}

RACE_FREE(counter_a_block, 4, 32, "each block has a word of its own") { atomicAdd_block(&global[block], 1); }

RACY(tickets, 2, 32, "both blocks draw their tickets from one word at block scope") {
  const int ticket = atomicAdd_block(&global[0], 1);
  other[block * 64 + t] = ticket;
}

RACE_FREE(shared_memory_counter, 2, 64, "shared memory belongs to one block: block scope is enough") {
  clear(shared);
  atomicAdd_block(&shared[0], 1);
  __syncthreads();
  other[block * 64 + t] = shared[0];
}

RACE_FREE(both_scopes_in_one_block, 1, 64, "both scopes include all threads of the one block") {
  if (t < 32)
    atomicAdd(&global[0], 1);
  else
    atomicAdd_block(&global[0], 1);
}

RACE_FREE(one_block_counts, 2, 64, "only block 0 touches the word, block 1 another") {
  if (block == 0)
    atomicAdd_block(&global[0], 1);
  else
    atomicAdd(&global[1], 1);
}

RACE_FREE(block_total_then_grid_total, 2, 64, "block scope and a barrier for the block's word, device scope between") {
  atomicAdd_block(&global[1 + block], t);
  __syncthreads();
  if (t == 0) atomicAdd(&global[0], global[1 + block]);
}

}  // namespace
}  // namespace minicnn::exam
