// Index arithmetic by which two threads meet, often only one pair of them.
//
// Pattern: the faulty bounds of Indigo, the subscripts of DataRaceBench, the strides of GPUVerify and Faial.
// A detector must know: every thread's every byte; sampling, or summaries by warp, miss most of these.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "index_overlap";

RACY(two_words_each, 1, 64, "thread t's second word is thread t + 1's first") {
  global[t] = t;
  global[t + 1] = t;
}

RACE_FREE(two_words_each_apart, 1, 64, "thread t has words 2t and 2t + 1") {
  global[2 * t] = t;
  global[2 * t + 1] = t;
}

RACY(stride_shorter_than_run, 1, 64, "runs of five words every four: the last word is the next run's first") {
  for (int i = 0; i < 5; ++i) shared[4 * t + i] = t;
}

RACE_FREE(stride_longer_than_run, 1, 64, "runs of five words every six") {
  for (int i = 0; i < 5; ++i) shared[6 * t + i] = t;
}

RACY(wrap_one_short, 1, 64, "t % 63 maps threads 0 and 63 alone to one word") { global[t % 63] = t; }

RACE_FREE(wrap, 1, 64, "t % 64 maps 64 threads to 64 words") { global[t % 64] = t; }

RACY(even_multiplier, 1, 64, "4t mod 64 maps four threads to each word") { shared[4 * t % 64] = t; }

RACE_FREE(odd_multiplier, 1, 64, "5t mod 64 is a permutation") { shared[5 * t % 64] = t; }

RACY(squares, 1, 64, "t * t mod 64 maps threads t and 64 - t to one word") { shared[t * t % 64] = t; }

RACE_FREE(gray_code, 1, 64, "t ^ t / 2 is a permutation") { shared[t ^ t / 2] = t; }

RACY(block_offset_one_short, 3, 64, "the last thread of a block and the first of the next write one word") {
  global[block * 63 + t] = t;
}

RACE_FREE(block_offset_one_longer, 3, 64, "the blocks' runs are one word apart") { global[block * 65 + t] = t; }

RACY(block_offset_forgotten, 2, 64, "both blocks write the words of block 0") { global[t] = block; }

RACY(only_blocks_0_and_2, 4, 64, "128 words for four blocks of 64: blocks 0 and 2, 1 and 3 meet") {
  global[(block * 64 + t) % 128] = t;
}

RACY(grid_stride_of_one_block, 2, 64, "each block strides by its own size and works on all that follows") {
  for (int i = block * 64 + t; i < 256; i += 64) global[i] = i;
}

RACE_FREE(grid_stride, 2, 64, "the stride is the whole grid's size") {
  for (int i = block * 64 + t; i < 256; i += 128) global[i] = i;
}

RACY(inclusive_end, 2, 32, "block 0's run ends with the first word of block 1's") {
  for (int i = block * 100 + t; i <= block * 100 + 100; i += 32) global[i] = i;
}

RACE_FREE(exclusive_end, 2, 32, "block 0's run ends before the first word of block 1's") {
  for (int i = block * 100 + t; i < block * 100 + 100; i += 32) global[i] = i;
}

RACY(left_neighbour_clamped, 1, 64, "threads 0 and 1 both write word 0") { shared[max(t - 1, 0)] = t; }

RACY(right_neighbour_read, 1, 64, "only thread 10 reads another thread's word, thread 11's") {
  clear(shared);
  shared[t] = t;
  other[t] = shared[t == 10 ? 11 : t];
}

RACY(pitch_too_small, 1, dim3(8, 8), "rows of eight words every seven: a row's last word is the next one's first") {
  shared[threadIdx.y * 7 + t] = t;
}

RACE_FREE(pitch_with_padding, 1, dim3(8, 8), "rows of eight words every nine") { shared[threadIdx.y * 9 + t] = t; }

RACY(second_dimension_forgotten, 1, dim3(16, 4), "four threads of equal threadIdx.x write one word") {
  shared[t] = int(threadIdx.y);
}

RACY(permutation_with_duplicate, 1, 64, "of the 64 subscripts in shared memory two are equal, 7") {
  clear(shared);
  shared[t] = t == 40 ? 7 : t;
  __syncthreads();
  global[shared[t]] = t;
}

RACE_FREE(permutation, 1, 64, "the 64 subscripts in shared memory are all different") {
  shared[t] = (t + 7) % 64;
  __syncthreads();
  global[shared[t]] = t;
}

RACY(byte_counter_wraps, 3, 128, "a subscript of eight bits wraps at 256: blocks 0 and 2 meet") {
  const auto i = static_cast<unsigned char>(block * 128 + t);
  global[i] = t;
}

RACE_FREE(odd_reads_even_writes, 1, 64, "what is read and what is written differ in parity") {
  if (t % 2 == 0)
    global[t] = t;
  else
    other[t] = global[(t + 2) % 64];
}

RACY(odd_reads_even_writes_but_one, 1, 64, "thread 33 alone reads an even word, which thread 34 writes") {
  if (t % 2 == 0)
    global[t] = t;
  else
    other[t] = global[t == 33 ? 34 : (t + 2) % 64];
}

}  // namespace
}  // namespace minicnn::exam
