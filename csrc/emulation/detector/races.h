// Kernels with and without a fault that only the detector sees: by them the tests know what it finds.
#pragma once
#include <cstdint>

#include "kernels.h"

namespace minicnn::races {

// One warp: each lane writes shared memory, then reads its neighbour's. What lies between: 0 nothing, 1 __syncwarp,
// 2 a shuffle, 3 a vote, 4 __syncwarp of each half of the warp, 5 __syncthreads.
void neighbours(float* y, int between, Stream stream);

// `blocks` blocks of one thread read x[0], then block `writer` writes it.
void read_and_write(float* x, float* y, int blocks, int writer, Stream stream);

// Each thread writes its own byte, each but the last also reads the byte of the next thread if `overlaps`.
void bytes(uint8_t* x, uint8_t* y, int threads, int overlaps, Stream stream);

// 64 threads: all update x[0]; thread 63 accesses it plainly as well: 0 not at all, 1 reads, 2 writes, 3 after a
// barrier.
void atomic_and_plain(int* x, int plain, Stream stream);

// Each of `blocks` blocks updates x[0], in the scope of the block or of the device.
void atomics_of_blocks(int* x, int blocks, int in_block_scope, Stream stream);

// Each block writes a part and takes a ticket; the last one sums the parts. Fences before and after the ticket, and the
// ticket itself: 0 none (the ticket is always atomic), 1 in block scope, 2 in device scope.
void last_block(int* parts, int* ticket, int* y, int blocks, int release, int acquire, int ticket_scope, Stream stream);

// The same within a block: thread 0 passes a value on through a flag.
void flag_in_block(int* value, int* flag, int* y, int fence_scope, Stream stream);

// Two warps and barrier 1: warp 0 writes, then comes; warp 1 comes, then reads. Who waits: 1 the reader, 2 the writer.
void named(float* y, int who_waits, Stream stream);

// 32 threads copy x to shared memory, a float each and another with the next group, and read it: 0 after the wait for
// both groups, 1 without a wait, 2 after the wait for the first, 3 the neighbour's after the wait, 4 the same after a
// barrier as well, 5 as 0 but the source is overwritten before the wait, 6 as 0 but the shared memory is.
void copies(float* x, float* y, int how, Stream stream);

// One thread copies four bytes from x[index] where that is `inside`, and zeros otherwise.
void copy_from(const float* x, float* y, int64_t index, int inside, Stream stream);

// One thread writes `written` bytes of a word of shared memory and reads all four.
void read_partly_written(int* y, int written, Stream stream);

// A block a thread: x[i] = i by way of shared memory and of an array on the stack.
void reuse(int* x, int blocks, Stream stream);

// One thread: y[0] = x[index] by way of 0 an array of four of its own, 1 a run of four, which is all of its struct, 2 a
// row of two of an array of rows, 3 the first number of such a row, 4 as 0 up to a pointer to the end.
void own_array(const float* x, float* y, int which, int index, Stream stream);

// One thread moves four floats at once from x[index ..] to y, 0 as a run, 2 by move_whole(), or 1 from x to y by way
// of shared memory there.
void move_four(const float* x, float* y, int64_t index, int how, Stream stream);

// The host's code takes element `index` of an array of four.
int on_the_host(int index);

// x[i] += 1.
void increment(int* x, int count, Stream stream);

}  // namespace minicnn::races
