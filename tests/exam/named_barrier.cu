// Named barriers: groups of warps that wait for each other, producers that arrive and consumers that wait.
//
// Pattern: warp specialisation and its producers and consumers, as verified by WEFT.
// PTX: bar.sync id, n waits until n threads have come to barrier id; bar.arrive id, n comes and does not wait; each of
// them orders what it follows before what follows the bar.sync that it completes.
// A detector must know: only the threads of one phase of one id are ordered; an arrival passes on what precedes it and
// brings nothing to what follows it.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "named_barrier";

RACE_FREE(groups_apart, 1, 128, "two groups of two warps, each with its own barrier and words") {
  shared[t] = t;
  named_barrier_sync(1 + t / 64, 64);
  other[t] = shared[t ^ 63];
}

RACY(groups_cross, 1, 128, "each group of two warps waits for itself and reads the other's words") {
  clear(shared);
  shared[t] = t;
  named_barrier_sync(1 + t / 64, 64);
  other[t] = shared[(t + 64) % 128];
}

RACY(groups_at_their_border, 1, 128, "thread 63 alone reads a word of the other group, thread 64's") {
  clear(shared);
  shared[t] = t;
  named_barrier_sync(1 + t / 64, 64);
  other[t] = shared[t % 64 == 0 ? t : t == 63 ? 64 : t - 1];
}

RACY(barriers_by_parity, 1, 128, "the barriers join even warps and odd warps, the words are those of neighbours") {
  clear(shared);
  shared[t] = t;
  named_barrier_sync(1 + t / 32 % 2, 64);
  other[t] = shared[t ^ 32];
}

RACY(count_too_small, 1, 128, "a count of 64 lets the four warps through two by two; each reads all other three") {
  clear(shared);
  shared[t] = t;
  named_barrier_sync(1, 64);
  other[t] = shared[(t + 32) % 128] + shared[(t + 64) % 128] + shared[(t + 96) % 128];
}

RACE_FREE(count_of_all, 1, 128, "one barrier for all four warps") {
  shared[t] = t;
  named_barrier_sync(1, 128);
  other[t] = shared[(t + 32) % 128] + shared[(t + 64) % 128] + shared[(t + 96) % 128];
}

RACY(one_warp_left_out, 1, 128, "warp 3 is not in the barrier of the three warps that read its words") {
  clear(shared);
  shared[t] = t;
  if (t < 96) {
    named_barrier_sync(1, 96);
    other[t] = shared[96 + t % 32];
  }
}

RACE_FREE(three_warps_of_four, 1, 128, "three warps share words and a barrier, warp 3 does nothing") {
  if (t < 96) {
    shared[t] = t;
    named_barrier_sync(1, 96);
    other[t] = shared[(t + 32) % 96];
  }
}

RACY(own_barrier_each, 1, 64, "each warp waits for itself and reads the other's words") {
  clear(shared);
  shared[t] = t;
  named_barrier_sync(1 + t / 32, 32);
  other[t] = shared[t ^ 32];
}

RACE_FREE(warp_by_its_own, 1, 64, "each warp waits for itself and reads its own words") {
  shared[t] = t;
  named_barrier_sync(1 + t / 32, 32);
  other[t] = shared[t ^ 31];
}

// Warp 0 produces, warp 1 consumes.
RACE_FREE(arrive_and_sync, 1, 64, "the producer arrives after its writes, the consumer waits before its reads") {
  if (t < 32) {
    shared[t] = t;
    named_barrier_arrive(1, 64);
  } else {
    named_barrier_sync(1, 64);
    other[t] = shared[t - 32];
  }
}

RACY(consumer_arrives, 1, 64, "the consumer arrives, does not wait, and reads what the producer writes") {
  clear(shared);
  if (t < 32) {
    shared[t] = t;
    named_barrier_sync(1, 64);
  } else {
    named_barrier_arrive(1, 64);
    other[t] = shared[t - 32];
  }
}

RACY(arrives_before_writing, 1, 64, "the producer arrives before its writes") {
  clear(shared);
  if (t < 32) {
    named_barrier_arrive(1, 64);
    shared[t] = t;
  } else {
    named_barrier_sync(1, 64);
    other[t] = shared[t - 32];
  }
}

RACY(writes_on_after_arrival, 1, 64, "the producer overwrites its words after it has arrived") {
  if (t < 32) {
    shared[t] = t;
    named_barrier_arrive(1, 64);
    shared[t] = 2 * t;
  } else {
    named_barrier_sync(1, 64);
    other[t] = shared[t - 32];
  }
}

// Three tiles through one buffer: barrier 1 says that it is full, barrier 2 that it is empty.
RACE_FREE(full_and_empty, 1, 64, "the producer waits for empty before each tile but the first") {
  for (int i = 0; i < 3; ++i) {
    if (t < 32) {
      if (i > 0) named_barrier_sync(2, 64);
      shared[t] = i;
      named_barrier_arrive(1, 64);
    } else {
      named_barrier_sync(1, 64);
      other[i * 32 + t] = shared[t - 32];
      if (i < 2) named_barrier_arrive(2, 64);
    }
  }
}

RACY(full_without_empty, 1, 64, "the producer writes the next tile while the consumer reads the last one") {
  for (int i = 0; i < 3; ++i) {
    if (t < 32) {
      shared[t] = i;
      named_barrier_sync(1, 64);
    } else {
      named_barrier_sync(1, 64);
      other[i * 32 + t] = shared[t - 32];
    }
  }
}

RACY(empty_before_the_read, 1, 64, "the consumer says empty before it has read the tile") {
  for (int i = 0; i < 3; ++i) {
    if (t < 32) {
      if (i > 0) named_barrier_sync(2, 64);
      shared[t] = i;
      named_barrier_arrive(1, 64);
    } else {
      named_barrier_sync(1, 64);
      if (i < 2) named_barrier_arrive(2, 64);
      other[i * 32 + t] = shared[t - 32];
    }
  }
}

RACE_FREE(two_syncs_a_round, 1, 128, "each group waits after its writes and after its reads") {
  int sum = 0;
  for (int i = 0; i < 3; ++i) {
    shared[t] = i;
    named_barrier_sync(1 + t / 64, 64);
    sum += shared[t ^ 63];
    named_barrier_sync(1 + t / 64, 64);
  }
  other[t] = sum;
}

RACY(one_sync_a_round, 1, 128, "the next round's write meets this round's read") {
  int sum = 0;
  for (int i = 0; i < 3; ++i) {
    shared[t] = i;
    named_barrier_sync(1 + t / 64, 64);
    sum += shared[t ^ 63];
  }
  other[t] = sum;
}

RACE_FREE(chain_of_barriers, 1, 96, "warp 0 to warp 1 by one barrier, then warp 1 to warp 2 by another") {
  if (t < 32) shared[t] = t;
  if (t < 64) named_barrier_sync(1, 64);
  if (t >= 32) named_barrier_sync(2, 64);
  if (t >= 64) other[t] = shared[t - 64];
}

RACY(chain_in_wrong_order, 1, 96, "warp 2 meets warp 1 before warp 1 meets warp 0, whose words warp 2 reads") {
  clear(shared);
  if (t < 32) shared[t] = t;
  if (t >= 32) named_barrier_sync(2, 64);
  if (t < 64) named_barrier_sync(1, 64);
  if (t >= 64) other[t] = shared[t - 64];
}

}  // namespace
}  // namespace minicnn::exam
