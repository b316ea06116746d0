// Two buffers in turn: one barrier an iteration is enough, if the buffers alternate.
//
// Pattern: the software pipelining of tiled kernels; ping-pong relaxation; the loop-carried races of Faial.
// A detector must know: the write of round i + 2 meets the reads of round i, with the barrier of round i + 1 between.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "double_buffer";

constexpr int ROUNDS = 4;

RACE_FREE(alternating, 1, 64, "the next round's barrier lies between the reads and the same buffer's next write") {
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    int* buffer = shared + i % 2 * 64;
    buffer[t] = global[i * 64 + t];
    __syncthreads();
    sum += buffer[63 - t];
  }
  other[t] = sum;
}

RACY(one_buffer, 1, 64, "round i + 1 overwrites the only buffer while round i reads it") {
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    shared[t] = global[i * 64 + t];
    __syncthreads();
    sum += shared[63 - t];
  }
  other[t] = sum;
}

RACY(alternating_too_slowly, 1, 64, "rounds 2i and 2i + 1 use one buffer: the write meets the reads before it") {
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    int* buffer = shared + i / 2 % 2 * 64;
    buffer[t] = global[i * 64 + t];
    __syncthreads();
    sum += buffer[63 - t];
  }
  other[t] = sum;
}

RACY(buffers_overlap, 1, 64, "the second buffer begins within the first") {
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    int* buffer = shared + i % 2 * 32;
    buffer[t] = global[i * 64 + t];
    __syncthreads();
    sum += buffer[63 - t];
  }
  other[t] = sum;
}

// Word 63 is the first buffer's last and the second buffer's first.
RACY(buffers_touch_in_one_word, 1, 64, "thread 0 overwrites word 63 for the second buffer while thread 62 reads it") {
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    int* buffer = shared + i % 2 * 63;
    buffer[t] = global[i * 64 + t];
    __syncthreads();
    sum += buffer[(t + 1) % 64];
  }
  other[t] = sum;
}

RACE_FREE(buffers_touch_in_own_word, 1, 64, "whoever reads word 63 is the thread that overwrites it next") {
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    int* buffer = shared + i % 2 * 63;
    buffer[t] = global[i * 64 + t];
    __syncthreads();
    sum += buffer[63 - t];
  }
  other[t] = sum;
}

RACY(one_thread_out_of_step, 1, 64, "thread 5 writes the other buffer, whose word thread 58 reads before and after") {
  clear(shared);
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    shared[(t == 5 ? i + 1 : i) % 2 * 64 + t] = global[i * 64 + t];
    __syncthreads();
    sum += shared[i % 2 * 64 + 63 - t];
  }
  other[t] = sum;
}

RACE_FREE(three_buffers, 1, 64, "two barriers lie between the reads and the same buffer's next write") {
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    int* buffer = shared + i % 3 * 64;
    buffer[t] = global[i * 64 + t];
    __syncthreads();
    sum += buffer[63 - t];
  }
  other[t] = sum;
}

RACE_FREE(prefetch, 1, 64, "each round fills the buffer that it does not read, and ends in a barrier") {
  shared[t] = global[t];
  __syncthreads();
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    if (i + 1 < ROUNDS) shared[(i + 1) % 2 * 64 + t] = global[(i + 1) * 64 + t];
    sum += shared[i % 2 * 64 + 63 - t];
    __syncthreads();
  }
  other[t] = sum;
}

RACY(prefetch_into_the_same, 1, 64, "each round fills the buffer that it reads") {
  clear(shared);
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    shared[i % 2 * 64 + t] = global[i * 64 + t];
    sum += shared[i % 2 * 64 + 63 - t];
    __syncthreads();
  }
  other[t] = sum;
}

RACY(prefetch_unawaited, 1, 64, "the first buffer is read without a barrier after its prologue") {
  clear(shared);
  shared[t] = global[t];
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    if (i + 1 < ROUNDS) shared[(i + 1) % 2 * 64 + t] = global[(i + 1) * 64 + t];
    sum += shared[i % 2 * 64 + 63 - t];
    __syncthreads();
  }
  other[t] = sum;
}

RACY(barrier_every_other_round, 1, 64, "odd rounds have no barrier between write and reversed read") {
  clear(shared);
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    int* buffer = shared + i % 2 * 64;
    buffer[t] = global[i * 64 + t];
    if (i % 2 == 0) __syncthreads();
    sum += buffer[63 - t];
  }
  other[t] = sum;
}

// The last round, 3, reads the second buffer.
RACE_FREE(result_in_the_idle_buffer, 1, 64, "nobody has read the first buffer since the last barrier") {
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    int* buffer = shared + i % 2 * 64;
    buffer[t] = global[i * 64 + t];
    __syncthreads();
    sum += buffer[63 - t];
  }
  shared[t] = sum;
  other[t] = shared[t];
}

RACY(result_in_the_busy_buffer, 1, 64, "the result overwrites the second buffer while others still read it") {
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    int* buffer = shared + i % 2 * 64;
    buffer[t] = global[i * 64 + t];
    __syncthreads();
    sum += buffer[63 - t];
  }
  shared[64 + t] = sum;
  other[t] = shared[64 + t];
}

RACE_FREE(warp_with_syncwarp, 1, 32, "the same pipeline within a warp") {
  int sum = 0;
  for (int i = 0; i < ROUNDS; ++i) {
    int* buffer = shared + i % 2 * 32;
    buffer[t] = global[i * 32 + t];
    __syncwarp();
    sum += buffer[31 - t];
  }
  other[t] = sum;
}

RACE_FREE(relaxation, 1, 64, "a round reads what the other buffer got before the last barrier") {
  int *from = global, *to = other;
  for (int i = 0; i < ROUNDS; ++i) {
    to[t] = from[(t + 1) % 64] + 1;
    __syncthreads();
    int* const next = from;
    from = to;
    to = next;
  }
}

RACY(relaxation_between_blocks, 2, 64, "a round reads what the other block writes in the round before") {
  int *from = global, *to = other;
  for (int i = 0; i < ROUNDS; ++i) {
    to[block * 64 + t] = from[(block * 64 + t + 1) % 128] + 1;
    __syncthreads();
    int* const next = from;
    from = to;
    to = next;
  }
}

}  // namespace
}  // namespace minicnn::exam
