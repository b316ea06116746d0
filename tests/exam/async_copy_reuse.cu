// Source or destination of an asynchronous copy that is touched while the copy is in flight.
//
// Pattern: pipeline stages released too early (ConSan); sources rewritten under a copy.
// PTX: from its issue to its completion (the thread's wait) a copy reads its source and writes its destination at any
// time; copies have no order among themselves before that.
// A detector must know: what a thread did before the issue is ordered before the copy; what it does after it is not,
// up to its wait; a barrier that other threads pass meanwhile completes nothing; a copy has 4, 8 or 16 bytes.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "async_copy_reuse";

RACY(source_overwritten, 1, 64, "the thread overwrites the source of its copy in flight") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  global[t] = 7;
  async_copy_wait<0>();
  other[t] = shared[t];
}

RACE_FREE(source_overwritten_after_wait, 1, 64, "the thread overwrites the source after its wait") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  global[t] = 7;
  other[t] = shared[t];
}

RACY(source_overwritten_after_barrier, 1, 64, "a barrier completes no copy: thread 63 - t overwrites its source") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  __syncthreads();
  global[63 - t] = 7;
  async_copy_wait<0>();
  other[t] = shared[t];
}

RACE_FREE(source_overwritten_after_wait_and_barrier, 1, 64, "the copier waits, then the barrier, then the writer") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  __syncthreads();
  global[63 - t] = 7;
  other[t] = shared[t];
}

RACY(source_overwritten_without_barrier, 1, 64, "the writer waits for its own copy only, not for that of its target") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  global[63 - t] = 7;
  other[t] = shared[t];
}

RACY(source_of_other_block, 2, 64, "block 1 overwrites what block 0 copies") {
  if (block == 0) {
    async_copy<4>(&shared[t], &global[t]);
    async_copy_commit();
    async_copy_wait<0>();
    other[t] = shared[t];
  } else {
    global[t] = 7;
  }
}

RACY(source_counted_by_other_block, 2, 64, "block 1 adds atomically to what block 0 copies") {
  if (block == 0) {
    async_copy<4>(&shared[t], &global[t]);
    async_copy_commit();
    async_copy_wait<0>();
    other[t] = shared[t];
  } else {
    atomicAdd(&global[t], 1);
  }
}

RACE_FREE(source_read_by_all, 2, 64, "copies and loads of one source are all reads") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  const int value = global[63 - t];
  async_copy_wait<0>();
  other[block * 64 + t] = shared[t] + value;
}

RACY(source_just_written, 1, 64, "thread 63 - t writes the source of thread t's copy without a barrier") {
  global[t] = t;
  async_copy<4>(&shared[t], &global[63 - t]);
  async_copy_commit();
  async_copy_wait<0>();
  other[t] = shared[t];
}

RACE_FREE(source_written_before_barrier, 1, 64, "the barrier lies between the source's writes and the copies' issue") {
  global[t] = t;
  __syncthreads();
  async_copy<4>(&shared[t], &global[63 - t]);
  async_copy_commit();
  async_copy_wait<0>();
  other[t] = shared[t];
}

RACE_FREE(own_stores_before_issue, 1, 64, "the thread's own stores to source and destination precede the issue") {
  global[t] = t;
  shared[t] = 0;
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  other[t] = shared[t];
}

RACY(destination_stored_to, 1, 64, "the thread stores to the destination of its copy in flight") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  shared[t] = 1;
  async_copy_wait<0>();
  other[t] = shared[t];
}

RACY(destination_stored_to_after_barrier, 1, 64, "a barrier completes no copy: thread 63 - t stores to its target") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  __syncthreads();
  shared[63 - t] = 1;
  async_copy_wait<0>();
}

RACY(destination_just_written, 1, 64, "thread 63 - t stores to the copy's target without a barrier") {
  shared[63 - t] = 1;
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
}

RACY(refilled_while_read, 1, 64, "thread t's next copy overwrites what thread 63 - t reads") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  __syncthreads();
  const int value = shared[63 - t];
  async_copy<4>(&shared[t], &global[64 + t]);
  async_copy_commit();
  async_copy_wait<0>();
  other[t] = value + shared[t];
}

RACE_FREE(refilled_after_barrier, 1, 64, "a barrier lies between the reads and the next copies' issue") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  __syncthreads();
  const int value = shared[63 - t];
  __syncthreads();
  async_copy<4>(&shared[t], &global[64 + t]);
  async_copy_commit();
  async_copy_wait<0>();
  other[t] = value + shared[t];
}

RACE_FREE(own_word_refilled, 1, 64, "each thread alone reads and refills its word") {
  int sum = 0;
  for (int i = 0; i < 3; ++i) {
    async_copy<4>(&shared[t], &global[i * 64 + t]);
    async_copy_commit();
    async_copy_wait<0>();
    sum += shared[t];
  }
  other[t] = sum;
}

// Four tiles in a ring of two stages, one barrier a round.
RACE_FREE(ring_filled_after_barrier, 1, 64, "round i fills the stage that round i - 1 read, after round i's barrier") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  int sum = 0;
  for (int i = 0; i < 4; ++i) {
    async_copy_wait<0>();
    __syncthreads();
    if (i + 1 < 4) async_copy<4>(&shared[(i + 1) % 2 * 64 + t], &global[(i + 1) * 64 + t]);
    async_copy_commit();
    sum += shared[i % 2 * 64 + 63 - t];
  }
  other[t] = sum;
}

RACY(ring_filled_before_barrier, 1, 64, "round i fills the stage that others still read in round i - 1") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  int sum = 0;
  for (int i = 0; i < 4; ++i) {
    if (i + 1 < 4) async_copy<4>(&shared[(i + 1) % 2 * 64 + t], &global[(i + 1) * 64 + t]);
    async_copy_commit();
    async_copy_wait<1>();
    __syncthreads();
    sum += shared[i % 2 * 64 + 63 - t];
  }
  other[t] = sum;
}

RACY(ring_of_one_stage, 1, 64, "round i fills the stage that it reads itself") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  int sum = 0;
  for (int i = 0; i < 4; ++i) {
    async_copy_wait<0>();
    __syncthreads();
    if (i + 1 < 4) async_copy<4>(&shared[t], &global[(i + 1) * 64 + t]);
    async_copy_commit();
    sum += shared[63 - t];
  }
  other[t] = sum;
}

RACY(two_copies_to_one_word, 1, 64, "two copies of one group have no order and one destination") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy<4>(&shared[t], &global[64 + t]);
  async_copy_commit();
  async_copy_wait<0>();
  other[t] = shared[t];
}

RACE_FREE(two_copies_in_turn, 1, 64, "the first copy has been waited for when the second is issued") {
  async_copy<4>(&shared[t], &global[t]);
  async_copy_commit();
  async_copy_wait<0>();
  async_copy<4>(&shared[t], &global[64 + t]);
  async_copy_commit();
  async_copy_wait<0>();
  other[t] = shared[t];
}

RACY(two_threads_copy_to_one_place, 1, 64, "threads 2i and 2i + 1 copy to one place") {
  async_copy<16>(&shared[t / 2 * 4], &global[t * 4]);
  async_copy_commit();
  async_copy_wait<0>();
}

RACY(last_word_of_wide_copy, 1, 64, "thread 1's copy of 4 bytes goes into the end of thread 0's of 16") {
  if (t == 0) async_copy<16>(&shared[0], &global[0]);
  if (t == 1) async_copy<4>(&shared[3], &global[64]);
  async_copy_commit();
  async_copy_wait<0>();
}

RACE_FREE(wide_copies_side_by_side, 1, 64, "copies of 16, 8 and 4 bytes touch and do not overlap") {
  if (t == 0) async_copy<16>(&shared[0], &global[0]);
  if (t == 1) async_copy<8>(&shared[4], &global[4]);
  if (t == 2) async_copy<4>(&shared[6], &global[6]);
  if (t == 3) shared[7] = 1;
  async_copy_commit();
  async_copy_wait<0>();
}

RACY(second_word_of_copy, 1, 64, "odd threads store to the second word of the even thread's copy of 8 bytes") {
  if (t % 2 == 0)
    async_copy<8>(&shared[t], &global[t]);
  else
    shared[t] = 1;
  async_copy_commit();
  async_copy_wait<0>();
}

}  // namespace
}  // namespace minicnn::exam
