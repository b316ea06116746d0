// The barrier is there, but on the wrong side of an access or at the wrong place of a loop.
//
// Pattern: the loop-carried races of Faial and GPUVerify; the synchronisation bugs collected by Simulee.
// A detector must know: each barrier separates what precedes it from what follows it and nothing else, so a loop whose
// threads write, then read others' words needs two an iteration: one before the reads, one after them.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "misplaced_barrier";

RACY(before_the_write, 1, 64, "the barrier precedes both the write and the reversed read") {
  clear(shared);
  __syncthreads();
  shared[t] = t;
  other[t] = shared[63 - t];
}

RACY(after_the_read, 1, 64, "the barrier follows both the write and the reversed read") {
  clear(shared);
  shared[t] = t;
  const int value = shared[63 - t];
  __syncthreads();
  other[t] = value;
}

RACY(none_after_the_read, 1, 64, "the next round's write meets this round's reversed read") {
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    shared[t] = round + t;
    __syncthreads();
    sum += shared[63 - t];
  }
  other[t] = sum;
}

RACY(none_before_the_read, 1, 64, "write and reversed read of one round, the barrier is at its end") {
  clear(shared);
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    shared[t] = round + t;
    sum += shared[63 - t];
    __syncthreads();
  }
  other[t] = sum;
}

RACE_FREE(two_a_round, 1, 64, "one barrier before the reads, one after them") {
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    shared[t] = round + t;
    __syncthreads();
    sum += shared[63 - t];
    __syncthreads();
  }
  other[t] = sum;
}

RACE_FREE(none_after_the_last_read, 1, 64, "what is left out is the last barrier, after which nobody writes") {
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    shared[t] = round + t;
    __syncthreads();
    sum += shared[63 - t];
    if (round != 2) __syncthreads();
  }
  other[t] = sum;
}

RACE_FREE(fresh_words_each_round, 1, 64, "one barrier a round is enough: no word is written twice") {
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    shared[round * 64 + t] = t;
    __syncthreads();
    sum += shared[round * 64 + 63 - t];
  }
  other[t] = sum;
}

RACY(hoisted_out_of_the_loop, 1, 64, "the rounds after the barrier write and read reversed without one") {
  clear(shared);
  shared[t] = t;
  __syncthreads();
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    sum += shared[63 - t];
    shared[t] = sum;
  }
  other[t] = sum;
}

RACY(in_the_first_round_only, 1, 64, "rounds 1 and 2 write and read reversed without the barrier") {
  clear(shared);
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    shared[t] = round;
    if (round == 0) __syncthreads();
    sum += shared[63 - t];
    __syncthreads();
  }
  other[t] = sum;
}

RACY(two_here_none_there, 1, 64, "both barriers are before the second phase, whose words are read without one") {
  clear(shared);
  shared[t] = t;
  __syncthreads();
  __syncthreads();
  shared[64 + t] = shared[63 - t];
  other[t] = shared[64 + 63 - t];
}

RACE_FREE(one_here_one_there, 1, 64, "one barrier after each phase's writes") {
  shared[t] = t;
  __syncthreads();
  shared[64 + t] = shared[63 - t];
  __syncthreads();
  other[t] = shared[64 + 63 - t];
}

RACY(between_two_stores, 1, 64, "the words 64.. are stored after the barrier and read reversed") {
  clear(shared);
  shared[t] = t;
  __syncthreads();
  shared[64 + t] = t;
  other[t] = shared[63 - t] + shared[64 + 63 - t];
}

RACY(wrong_in_one_branch, 2, 64, "block 1 has its barrier before the write instead of after it") {
  clear(shared);
  if (block == 0) {
    shared[t] = t;
    __syncthreads();
  } else {
    __syncthreads();
    shared[t] = t;
  }
  other[block * 64 + t] = shared[63 - t];
}

RACE_FREE(right_in_both_branches, 2, 64, "both blocks have a barrier between write and read") {
  if (block == 0) {
    shared[t] = t;
    __syncthreads();
  } else {
    shared[t] = 2 * t;
    __syncthreads();
  }
  other[block * 64 + t] = shared[63 - t];
}

RACY(reset_before_barrier, 1, 64, "thread 0 resets the word before the others have read it") {
  if (t == 0) shared[0] = 5;
  __syncthreads();
  other[t] = shared[0];
  if (t == 0) shared[0] = 1;
  __syncthreads();
  other[64 + t] = shared[0];
}

RACE_FREE(reset_after_barrier, 1, 64, "barriers before and after the reset") {
  if (t == 0) shared[0] = 5;
  __syncthreads();
  other[t] = shared[0];
  __syncthreads();
  if (t == 0) shared[0] = 1;
  __syncthreads();
  other[64 + t] = shared[0];
}

RACY(before_the_late_writer, 1, 64, "thread 40 writes its word after the barrier, thread 23 reads it") {
  clear(shared);
  if (t != 40) shared[t] = t;
  __syncthreads();
  if (t == 40) shared[t] = t;
  other[t] = shared[63 - t];
}

}  // namespace
}  // namespace minicnn::exam
