// Messages by fence and atomic: whoever draws the last ticket reads what the others wrote. Nobody waits.
//
// Pattern: threadFenceReduction of the CUDA samples; message passing with fences in ScoRD and in "A Formal Analysis of
// the NVIDIA PTX Memory Consistency Model" (release pattern: fence, then atomic; acquire pattern: atomic, then fence).
// A detector must know: an atomic alone orders nothing; the writer's fence comes before its atomic, the reader's after
// its own, and the scopes of both fences and of both atomics must include the other thread; a fence carries what a
// barrier brought to its thread, and a chain of atomics carries the message of its first.
// Each racy question races whoever comes last.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "last_block";

constexpr int BLOCKS = 4;

// Word 0 of `global` counts tickets, block b's message is word MESSAGES + b.
constexpr int MESSAGES = 64;

__device__ int sum_of_messages(const int* global) {
  int sum = 0;
  for (int i = 0; i < BLOCKS; ++i) sum += global[MESSAGES + i];
  return sum;
}

RACE_FREE(both_fences, BLOCKS, 1, "fence, atomic on the writers' side; atomic, fence on the reader's") {
  global[MESSAGES + block] = block;
  __threadfence();
  const int ticket = atomicAdd(&global[0], 1);
  __threadfence();
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACY(no_fence, BLOCKS, 1, "the last block reads messages that no fence releases or acquires") {
  global[MESSAGES + block] = block;
  const int ticket = atomicAdd(&global[0], 1);
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACY(no_release, BLOCKS, 1, "no fence between a writer's message and its ticket") {
  global[MESSAGES + block] = block;
  const int ticket = atomicAdd(&global[0], 1);
  __threadfence();
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACY(no_acquire, BLOCKS, 1, "no fence between the last ticket and the reads") {
  global[MESSAGES + block] = block;
  __threadfence();
  const int ticket = atomicAdd(&global[0], 1);
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACY(fence_before_message, BLOCKS, 1, "the writer's fence precedes its message instead of following it") {
  __threadfence();
  global[MESSAGES + block] = block;
  const int ticket = atomicAdd(&global[0], 1);
  __threadfence();
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACY(message_after_ticket, BLOCKS, 1, "each block writes its message after it has drawn its ticket") {
  __threadfence();
  const int ticket = atomicAdd(&global[0], 1);
  global[MESSAGES + block] = block;
  __threadfence();
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACY(block_scope_release, BLOCKS, 1, "the writer's fence has block scope, its reader is in another block") {
  global[MESSAGES + block] = block;
  __threadfence_block();
  const int ticket = atomicAdd(&global[0], 1);
  __threadfence();
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACY(block_scope_acquire, BLOCKS, 1, "the reader's fence has block scope, the writers are in other blocks") {
  global[MESSAGES + block] = block;
  __threadfence();
  const int ticket = atomicAdd(&global[0], 1);
  __threadfence_block();
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACY(block_scope_tickets, BLOCKS, 1, "the tickets' own atomics race between the blocks") {
  global[MESSAGES + block] = block;
  __threadfence();
  const int ticket = atomicAdd_block(&global[0], 1);
  __threadfence();
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACY(plain_tickets, BLOCKS, 1, "the tickets are plain increments") {
  global[MESSAGES + block] = block;
  __threadfence();
  const int ticket = global[0];
  global[0] = ticket + 1;
  __threadfence();
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACY(first_reads, BLOCKS, 1, "the block with the first ticket reads messages that are still being written") {
  global[MESSAGES + block] = block;
  __threadfence();
  const int ticket = atomicAdd(&global[0], 1);
  __threadfence();
  if (ticket == 0) other[0] = sum_of_messages(global);
}

RACY(last_but_one_reads, BLOCKS, 1, "the block with the last ticket but one reads the last block's message") {
  global[MESSAGES + block] = block;
  __threadfence();
  const int ticket = atomicAdd(&global[0], 1);
  __threadfence();
  if (ticket == BLOCKS - 2) other[0] = sum_of_messages(global);
}

RACY(two_blocks_without_release, BLOCKS, 1, "blocks 2 and 3 have no fence before their tickets: one is not last") {
  global[MESSAGES + block] = block;
  if (block < 2) __threadfence();
  const int ticket = atomicAdd(&global[0], 1);
  __threadfence();
  if (ticket == BLOCKS - 1) other[0] = sum_of_messages(global);
}

RACE_FREE(each_reads_its_predecessors, 2, 1, "the second of two blocks finds the flag and reads the first's message") {
  global[MESSAGES + block] = block;
  __threadfence();
  const int found = atomicExch(&global[0], 1);
  __threadfence();
  if (found == 1) other[0] = global[MESSAGES + 1 - block];
}

RACY(predecessors_without_fence, 2, 1, "the second of two blocks reads the first's message without fences") {
  global[MESSAGES + block] = block;
  const int found = atomicExch(&global[0], 1);
  if (found == 1) other[0] = global[MESSAGES + 1 - block];
}

// The whole block writes 64 words, thread 0 draws the ticket, the last block reads all.
RACE_FREE(whole_blocks, BLOCKS, 64,
          "barrier, fence, atomic, fence, barrier: each carries what the one before brought") {
  global[MESSAGES + block * 64 + t] = t;
  __syncthreads();
  if (t == 0) {
    __threadfence();
    shared[0] = atomicAdd(&global[0], 1);
    __threadfence();
  }
  __syncthreads();
  if (shared[0] == BLOCKS - 1)
    for (int i = 0; i < BLOCKS; ++i) other[i * 64 + t] = global[MESSAGES + i * 64 + 63 - t];
}

RACY(whole_blocks_no_barrier_before, BLOCKS, 64, "thread 0's fence does not release what its block's others write") {
  global[MESSAGES + block * 64 + t] = t;
  if (t == 0) {
    __threadfence();
    shared[0] = atomicAdd(&global[0], 1);
    __threadfence();
  }
  __syncthreads();
  if (shared[0] == BLOCKS - 1)
    for (int i = 0; i < BLOCKS; ++i) other[i * 64 + t] = global[MESSAGES + i * 64 + 63 - t];
}

RACY(whole_blocks_barrier_for_fence, BLOCKS, 64, "a block's barrier releases nothing to other blocks") {
  global[MESSAGES + block * 64 + t] = t;
  __syncthreads();
  if (t == 0) {
    shared[0] = atomicAdd(&global[0], 1);
    __threadfence();
  }
  __syncthreads();
  if (shared[0] == BLOCKS - 1)
    for (int i = 0; i < BLOCKS; ++i) other[i * 64 + t] = global[MESSAGES + i * 64 + 63 - t];
}

RACY(whole_blocks_block_scope_fence, BLOCKS, 64, "thread 0's fence before the ticket has block scope") {
  global[MESSAGES + block * 64 + t] = t;
  __syncthreads();
  if (t == 0) {
    __threadfence_block();
    shared[0] = atomicAdd(&global[0], 1);
    __threadfence();
  }
  __syncthreads();
  if (shared[0] == BLOCKS - 1)
    for (int i = 0; i < BLOCKS; ++i) other[i * 64 + t] = global[MESSAGES + i * 64 + 63 - t];
}

RACY(whole_blocks_ticket_unshared, BLOCKS, 64, "the others read the ticket in shared memory without a barrier") {
  clear(shared);
  global[MESSAGES + block * 64 + t] = t;
  __syncthreads();
  if (t == 0) {
    __threadfence();
    shared[0] = atomicAdd(&global[0], 1);
    __threadfence();
  }
  other[block * 64 + t] = shared[0];
}

RACE_FREE(warps_of_a_block, 1, 64, "within a block, fences and atomics of block scope are enough") {
  clear(shared);
  if (t % 32 == 0) {
    shared[64 + t] = t;
    __threadfence_block();
    const int ticket = atomicAdd_block(&shared[0], 1);
    __threadfence_block();
    if (ticket == 1) other[0] = shared[64] + shared[64 + 32];
  }
}

RACY(warps_of_a_block_no_fence, 1, 64, "atomics of one block order nothing without fences") {
  clear(shared);
  if (t % 32 == 0) {
    shared[64 + t] = t;
    const int ticket = atomicAdd_block(&shared[0], 1);
    if (ticket == 1) other[0] = shared[64] + shared[64 + 32];
  }
}

RACE_FREE(not_last_not_read, BLOCKS, 1, "no block ever draws the ticket on which the messages would be read") {
  global[MESSAGES + block] = block;
  const int ticket = atomicAdd(&global[0], 1);
  if (ticket == BLOCKS) other[0] = sum_of_messages(global);
}

RACE_FREE(relay, 3, 1, "block 0's message to block 1 by one flag, on to block 2 by another, if the flags are seen") {
  if (block == 0) {
    global[MESSAGES] = 7;
    __threadfence();
    atomicExch(&global[0], 1);
  } else {
    const int seen = atomicAdd(&global[block - 1], 0);
    __threadfence();
    if (seen == 1 && block == 1) atomicExch(&global[1], 1);
    if (seen == 1 && block == 2) other[0] = global[MESSAGES];
  }
}

RACE_FREE(reset_by_the_last, BLOCKS, 1, "the last block has acquired all tickets when it resets the counter plainly") {
  global[MESSAGES + block] = block;
  __threadfence();
  const int ticket = atomicAdd(&global[0], 1);
  __threadfence();
  if (ticket == BLOCKS - 1) global[0] = 0;
}

RACY(reset_by_the_first, BLOCKS, 1, "the first block resets the counter plainly while others draw tickets") {
  const int ticket = atomicAdd(&global[0], 1);
  if (ticket == 0) global[0] = 0;
}

}  // namespace
}  // namespace minicnn::exam
