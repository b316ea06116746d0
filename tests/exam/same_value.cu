// Races that no output shows: the same value written twice, a value read and not used, a loser overwritten later.
//
// Pattern: the "benign" races of the literature. In the CUDA and PTX memory models they are races like any others, and
// compilers may break them (Boehm: How to Miscompile Programs with "Benign" Data Races): they count as racy.
// A detector must know: whether accesses conflict does not depend on their values.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "same_value";

RACY(flag_by_all, 1, 64, "all threads write 1 to one word") { global[0] = 1; }

RACE_FREE(flag_by_one, 1, 64, "one thread writes the flag") {
  if (t == 0) global[0] = 1;
}

RACE_FREE(flag_by_exchange, 1, 64, "all threads write 1 to one word by an atomic exchange") {
  atomicExch(&global[0], 1);
}

RACY(flag_by_blocks, 4, 32, "one thread of each block writes 1 to one word") {
  if (t == 0) global[0] = 1;
}

RACE_FREE(flag_a_block, 4, 32, "one thread of each block writes 1 to the block's word") {
  if (t == 0) global[block] = 1;
}

RACY(flag_in_a_warp, 1, 32, "all lanes of a warp write 1 to one word") { shared[0] = 1; }

RACY(zero_over_zero, 1, 64, "threads 3 and 40 write to a zero word the zero that it holds") {
  if (t == 3 || t == 40) global[0] = global[100];
}

RACY(changed, 1, 64, "threads 7 and 50 write 1 to the flag; all read it after the barrier") {
  clear(shared);
  if (t == 7 || t == 50) shared[0] = 1;
  __syncthreads();
  other[t] = shared[0];
}

RACE_FREE(changed_by_vote, 1, 64, "the barrier's own vote carries the flag") {
  other[t] = __syncthreads_or(t == 7 || t == 50);
}

RACE_FREE(changed_in_turn, 1, 64, "thread 7 and thread 50 write 1 on either side of a barrier") {
  if (t == 7) shared[0] = 1;
  __syncthreads();
  if (t == 50) shared[0] = 1;
  __syncthreads();
  other[t] = shared[0];
}

RACY(set_if_unset, 1, 64, "the test reads what other threads write") {
  clear(shared);
  if (shared[0] == 0) shared[0] = 1;
}

RACE_FREE(set_by_winner, 1, 64, "only the winner of the swap writes, the others read after the barrier") {
  clear(shared);
  if (atomicCAS(&shared[0], 0, 1) == 0) shared[1] = 5;
  __syncthreads();
  other[t] = shared[1];
}

RACY(read_of_the_value_it_has, 1, 64, "thread 0 writes the zero that the others read") {
  clear(shared);
  if (t == 0) shared[0] = 0;
  other[t] = shared[0];
}

RACY(multiplied_away, 1, 64, "what thread t reads of thread 63 - t's word is multiplied by zero") {
  clear(shared);
  shared[t] = t;
  other[t] = t + global[t] * shared[63 - t];
}

RACY(masked_away, 1, 64, "what thread t reads of thread 63 - t's word is masked away") {
  clear(shared);
  shared[t] = t;
  other[t] = shared[63 - t] & global[t];
}

RACY(overwritten_later, 1, 64, "all threads write one word, which thread 0 overwrites after the barrier") {
  shared[0] = t;
  __syncthreads();
  if (t == 0) shared[0] = 5;
  __syncthreads();
  other[t] = shared[0];
}

RACY(clamped_tail, 2, 64, "threads past the end recompute the last element and store it again") {
  const int i = min(block * 64 + t, 99);
  other[i] = global[i] + i;
}

RACE_FREE(guarded_tail, 2, 64, "threads past the end store nothing") {
  const int i = block * 64 + t;
  if (i < 100) other[i] = global[i] + i;
}

RACE_FREE(clamped_reads, 2, 64, "threads past the end read the last element again and store nothing") {
  const int i = block * 64 + t;
  const int value = global[min(i, 99)];
  if (i < 100) other[i] = value;
}

RACY(same_work_in_two_blocks, 2, 64, "both blocks compute and store the same results") { other[t] = global[t] + t; }

RACE_FREE(same_work_in_two_places, 2, 64, "both blocks compute the same results and store them apart") {
  other[block * 64 + t] = global[t] + t;
}

}  // namespace
}  // namespace minicnn::exam
