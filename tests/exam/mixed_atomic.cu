// Atomic and plain accesses to one word.
//
// Pattern: the "atomic" fault of Indigo applied to one side only; mixed races of iGUARD and HiRace.
// A detector must know: an atomic does not make another thread's plain access safe, reading included; two atomics that
// overlap only in part race as well (PTX: morally strong operations "overlap completely").
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "mixed_atomic";

RACY(plain_read_of_counter, 1, 64, "each thread reads plainly what the others add to") {
  atomicAdd(&global[0], 1);
  other[t] = global[0];
}

RACE_FREE(plain_read_after_barrier, 1, 64, "the barrier lies between the additions and the reads") {
  atomicAdd(&global[0], 1);
  __syncthreads();
  other[t] = global[0];
}

RACE_FREE(atomic_read, 1, 64, "the reads are atomic, too") {
  atomicAdd(&global[0], 1);
  other[t] = atomicAdd(&global[0], 0);
}

RACY(plain_read_after_fence, 1, 64, "a fence does not wait for the other threads' additions") {
  atomicAdd(&global[0], 1);
  __threadfence();
  other[t] = global[0];
}

RACY(plain_read_in_other_block, 2, 64, "block 0 adds, block 1 reads plainly") {
  if (block == 0)
    atomicAdd(&global[0], 1);
  else
    other[t] = global[0];
}

RACY(plain_store_among_exchanges, 1, 64, "thread 0 stores plainly to the word that the others exchange") {
  if (t == 0)
    shared[0] = 1;
  else
    atomicExch(&shared[0], t);
}

RACY(plain_reset, 1, 64, "thread 0 resets the counter plainly while others add") {
  clear(shared);
  if (t == 0) shared[0] = 5;
  atomicAdd(&shared[0], 1);
}

RACE_FREE(plain_reset_before_barrier, 1, 64, "the barrier lies between the plain reset and the additions") {
  if (t == 0) shared[0] = 5;
  __syncthreads();
  atomicAdd(&shared[0], 1);
}

RACY(plain_reset_in_other_block, 2, 32, "block 0 resets plainly what block 1 adds to") {
  if (block == 1)
    atomicAdd(&global[0], 1);
  else if (t == 0)
    global[0] = 5;
}

RACY(plain_write_atomic_reads, 1, 64, "thread 0 writes plainly, the others read by adding zero") {
  if (t == 0)
    global[0] = 1;
  else
    other[t] = atomicAdd(&global[0], 0);
}

RACE_FREE(exchange_and_atomic_reads, 1, 64, "thread 0 writes by an exchange, the others read by adding zero") {
  if (t == 0)
    atomicExch(&global[0], 1);
  else
    other[t] = atomicAdd(&global[0], 0);
}

RACY(peek_before_swap, 1, 64, "the plain look at the lock word races with another thread's successful swap") {
  if (global[0] == 0) other[t] = atomicCAS(&global[0], 0, t + 1);
}

RACE_FREE(swap_without_peek, 1, 64, "all accesses to the lock word are atomic") {
  other[t] = atomicCAS(&global[0], 0, t + 1);
}

RACY(peek_before_max, 2, 32, "the plain look that is to save an atomic races with other threads' maxima") {
  const int mine = block * 32 + t + 1;
  if (global[0] < mine) atomicMax(&global[0], mine);
}

RACY(in_one_warp, 1, 32, "lane 0 adds, lane 1 reads plainly") {
  clear(shared);
  if (t == 0) atomicAdd(&shared[0], 1);
  if (t == 1) other[0] = shared[0];
}

RACY(overlap_in_part, 1, 64, "a 64-bit addition and a 32-bit one to its upper half") {
  if (t == 0) atomicAdd(reinterpret_cast<unsigned long long*>(global), 1ull);
  if (t == 32) atomicAdd(&global[1], 1);
}

RACE_FREE(signed_and_unsigned, 1, 64, "two 32-bit additions overlap completely, whatever their sign") {
  if (t % 2 == 0)
    atomicAdd(reinterpret_cast<unsigned*>(global), 1u);
  else
    atomicAdd(&global[0], 1);
}

RACE_FREE(different_atomics, 2, 32, "an exchange and an addition are both atomic") {
  if (block == 0)
    atomicExch(&global[0], t);
  else
    atomicAdd(&global[0], 1);
}

RACE_FREE(atomic_beside_plain, 1, 64, "the plain word is the counter's neighbour") {
  if (t == 0)
    shared[1] = 5;
  else
    atomicExch(&shared[0], t);
}

RACE_FREE(own_counter, 1, 64, "each thread reads plainly the word that it alone adds to") {
  atomicAdd(&global[t], t);
  other[t] = global[t];
}

}  // namespace
}  // namespace minicnn::exam
