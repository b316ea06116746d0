// Read, modify, write without an atomic: counters, histograms, bit sets, swaps.
//
// Pattern: the "atomic" fault of Indigo, the lost updates of DataRaceBench.
// A detector must know: which bins collide depends on the data, so one pair of threads may be all there is to find;
// privatised bins end the race within a phase and need an order before they are merged.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "read_modify_write";

RACY(counter, 1, 64, "all threads increment one word") {
  clear(shared);
  shared[0] += 1;
}

RACE_FREE(counter_in_turn, 1, 64, "threads 0 and 32 increment on either side of a barrier") {
  if (t == 0) shared[0] = 1;
  __syncthreads();
  if (t == 32) shared[0] += 1;
}

RACY(counter_between_blocks, 4, 32, "one thread of each block increments one word") {
  if (t == 0) global[0] += 1;
}

RACY(maximum, 1, 64, "thread t compares with a word that another thread has written or is about to write") {
  if (global[0] < t + 1) global[0] = t + 1;
}

RACE_FREE(atomic_maximum, 1, 64, "compare and write are one atomic") { atomicMax(&global[0], t + 1); }

RACY(swap_loop_from_plain_read, 1, 64, "the loop's first read is plain and races with other threads' swaps") {
  int seen = global[0];
  while (true) {
    const int found = atomicCAS(&global[0], seen, seen + t);
    if (found == seen) break;
    seen = found;
  }
}

RACE_FREE(swap_loop_from_guess, 1, 64, "the loop starts from a guess, all accesses are atomic") {
  int seen = 0;
  while (true) {
    const int found = atomicCAS(&global[0], seen, seen + t);
    if (found == seen) break;
    seen = found;
  }
}

RACY(slot_from_plain_counter, 1, 64, "all threads take their slot from a counter that they increment plainly") {
  clear(shared);
  const int slot = shared[0];
  shared[0] = slot + 1;
  other[t] = slot;
}

RACE_FREE(slot_from_atomic_counter, 1, 64, "an atomic gives each thread a slot of its own, written plainly") {
  clear(shared);
  const int slot = atomicAdd(&shared[0], 1);
  other[slot] = t;
}

RACY(histogram, 1, 64, "threads of equal t % 8 increment one bin") {
  clear(shared);
  shared[t % 8] += 1;
  __syncthreads();
  if (t < 8) other[t] = shared[t];
}

RACE_FREE(histogram_with_atomics, 1, 64, "atomic increments, a barrier before the bins are read") {
  clear(shared);
  atomicAdd(&shared[t % 8], 1);
  __syncthreads();
  if (t < 8) other[t] = shared[t];
}

RACY(histogram_one_collision, 1, 64, "threads 0 and 63 alone share a bin") {
  clear(shared);
  shared[t % 63] += 1;
}

RACY(histogram_a_warp, 1, 64, "each warp has its own bins, its lanes l and l + 16 share one") {
  clear(shared);
  shared[t / 32 * 16 + t % 16] += 1;
}

RACE_FREE(histogram_a_thread, 1, 16, "each thread has its own bins; they are merged after the barrier") {
  for (int bin = 0; bin < 8; ++bin) shared[bin * 16 + t] = 0;
  for (int i = 0; i < 4; ++i) shared[(t + i) % 8 * 16 + t] += 1;
  __syncthreads();
  if (t < 8)
    for (int i = 0; i < 16; ++i) other[t] += shared[t * 16 + i];
}

RACY(histogram_merged_too_early, 1, 64, "the bins are read while other threads still add to them") {
  clear(shared);
  atomicAdd(&shared[t % 8], 1);
  if (t < 8) other[t] = shared[t];
}

RACY(histogram_merged_plainly, 2, 64, "both blocks add their bins to the global ones without atomics") {
  clear(shared);
  atomicAdd(&shared[t % 8], 1);
  __syncthreads();
  if (t < 8) global[t] += shared[t];
}

RACE_FREE(histogram_merged_by_atomics, 2, 64, "both blocks add their bins to the global ones by atomics") {
  clear(shared);
  atomicAdd(&shared[t % 8], 1);
  __syncthreads();
  if (t < 8) atomicAdd(&global[t], shared[t]);
}

RACY(histogram_cleared_late, 1, 64, "threads 0..7 clear bins that others already add to") {
  clear(shared);
  if (t < 8) shared[t] = 0;
  atomicAdd(&shared[t % 8], 1);
}

RACY(bit_set, 1, 32, "32 lanes set their bits in one word") {
  clear(shared);
  shared[0] |= 1 << (t % 31);
}

RACE_FREE(bit_set_by_ballot, 1, 32, "the votes make the word, lane 0 writes it") {
  const unsigned bits = __ballot_sync(ALL_LANES, t % 3 == 0);
  if (t == 0) other[0] = int(bits);
}

RACY(swap_by_both, 1, 64, "both threads of a pair swap its two words") {
  clear(shared);
  const int mine = shared[t], partners = shared[t ^ 1];
  shared[t] = partners + 1;
  shared[t ^ 1] = mine + 1;
}

RACE_FREE(swap_by_one, 1, 64, "the even thread of a pair swaps its two words") {
  clear(shared);
  if (t % 2 == 0) {
    const int mine = shared[t], partners = shared[t ^ 1];
    shared[t] = partners + 1;
    shared[t ^ 1] = mine + 1;
  }
}

}  // namespace
}  // namespace minicnn::exam
