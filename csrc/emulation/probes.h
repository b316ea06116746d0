// Small kernels, right and wrong, by which the tests see what the emulation and the device headers do.
#pragma once
#include <cstdint>

#include "kernels.h"

namespace minicnn::probes {

// One block of `count` threads: y[i] = x[count - 1 - i] by way of shared memory, with the barrier and without it.
void reverse(const float* x, float* y, int count, Stream stream);
void reverse_without_barrier(const float* x, float* y, int count, Stream stream);

// One warp: y (32, 32) is the transpose of x, by way of shared memory whose rows lie `pitch` floats apart.
void transpose(const float* x, float* y, int pitch, Stream stream);

// y[i]: the number of threads that started before thread i of the grid did.
void start_order(int* y, int* counter, int blocks, int threads, Stream stream);

// y (threads of the grid, 12): threadIdx, blockIdx, blockDim, gridDim as each thread sees them.
void built_ins(int* y, int grid_x, int grid_y, int grid_z, int block_x, int block_y, int block_z, Stream stream);

// One warp: y (5, 32) holds x after __shfl_sync from lane 5, _xor over 3, _down and _up by 3, all with `width`; then
// the ballot of x > 0, __any_sync and __all_sync.
void shuffles(const float* x, float* y, int width, Stream stream);
void votes(const float* x, int* y, Stream stream);

// One warp of which the odd and the even lanes meet apart: y[i] is the sum of x over lanes like i.
void sum_by_parity(const float* x, float* y, Stream stream);

// One block: y (3) is __syncthreads_count, _and and _or of x > 0 as thread `reader` sees them.
void block_votes(const float* x, int* y, int count, int reader, Stream stream);

// One block of `count` threads, whole warps: y (2, count) is block_sum and block_max, twice in a row in one storage.
void block_reductions(const float* x, float* y, int count, Stream stream);

// A grid of count threads: y[0] += x[i], y[1] = max(y[1], x[i]), y[2] = y[2] + x[i] by a compare-and-swap loop.
void atomics(const int* x, int* y, int blocks, int threads, Stream stream);

// y[i]: the i-th of the block's `floats` of shared memory, which nobody wrote; and a write to one of them.
void read_shared(float* y, int floats, Stream stream);
void write_shared(int index, int floats, Stream stream);
void use_more_shared_than_given(Stream stream);

// words, kept (quads, 4): what Philox draws, and whether a unit that is dropped with probability p stays.
void philox(uint32_t* words, uint8_t* kept, int64_t seed, int64_t step, int64_t layer, int64_t first_quad, int quads,
            float p, Stream stream);
void philox_known_answer(const uint32_t* counter, const uint32_t* key, uint32_t* y, Stream stream);

// The same in block scope, for one block; and y[3] = x[i] by exchanges, of which y[4] sums what they found.
void atomics_of_block(const int* x, int* y, int threads, Stream stream);

// `threads` threads run a program (steps, 4) of asynchronous copies, each on 64 words of shared memory, zeros at first,
// and on its own 64 words of x and y:
//   0 to from bytes   a copy of x[from ..] to shared[to ..]
//   1 to from bytes   the same from outside, that is of zeros
//   2                 commit
//   3 pending         wait: pending is 0 to 3
//   4 to from         y[to] = shared[from]
void run_copies(const uint32_t* x, uint32_t* y, const int* program, int steps, int threads, Stream stream);
void copy_misaligned(const float* x, int where, Stream stream);

// Warp 0 hands x (rounds, 32) to warp 1 by way of one buffer and two named barriers; y is what warp 1 was given.
void hand_over(const float* x, float* y, int rounds, Stream stream);

// 64 threads misuse a named barrier: 0 its number, 1 the number of threads, 2 two numbers of threads, 3 they come
// twice, 4 half of them never come.
void misuse_named_barrier(int how, Stream stream);

// Each number in the other formats.
void narrow(const float* x, Bfloat16* bf16, Float16* f16, uint32_t* tf32, int64_t count, Stream stream);
void widen_bf16(const Bfloat16* x, float* y, int64_t count, Stream stream);
void widen_f16(const Float16* x, float* y, int64_t count, Stream stream);

// One warp that copies x (64, 8) to shared memory and loads 1, 2 or 4 matrices from it, transposed or not (1 or 0):
// lane i hands in the row `offsets[i]` bytes behind the beginning, and its registers are row i of y (32, matrices).
// Then it writes over x in shared memory. A barrier is left out: 0 none, 1 that before the loads, 2 that behind.
void load_matrices(const uint16_t* x, const int* offsets, uint32_t* y, int matrices, int transposed, int left_out,
                   Stream stream);
void load_matrices_in_half_a_warp(Stream stream);

// One warp: the registers of lane i are row i of a, b and d. Instructions as in emulation::Mma.
void mma(const uint32_t* a, const uint32_t* b, float* d, int instruction, Stream stream);
void diverge_at_mma(Stream stream);

// One warp and ldmatrix: d (16, 8) = a (16, k) b, where b is (8, k), its columns contiguous, or by rows (k, 8). k is a
// multiple of that of the instruction, m16n8k16 or the other.
void warp_gemm_bf16(const Bfloat16* a, const Bfloat16* b, float* d, int k, int b_by_rows, Stream stream);
void warp_gemm_f16(const Float16* a, const Float16* b, float* d, int k, int b_by_rows, int instruction_k,
                   Stream stream);
void warp_gemm_tf32(const float* a, const float* b, float* d, int k, Stream stream);

// What goes wrong, each in the thread that it says.
void read_at(const float* x, float* y, int64_t index, Stream stream);
void write_at(float* y, int64_t index, Stream stream);
void diverge_at_barrier(Stream stream);
void return_before_barrier(Stream stream);
void diverge_in_warp(Stream stream);
void wait_for_each_other(Stream stream);
void shuffle_outside_mask(Stream stream);
void shuffle_with_foreign_mask(Stream stream);
void overflow_stack(float* y, int depth, Stream stream);
void throw_in_thread(int thread, Stream stream);

}  // namespace minicnn::probes
