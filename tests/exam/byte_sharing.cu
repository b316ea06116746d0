// Bytes, halfwords and words that share an address, or only seem to.
//
// Pattern: the sub-word packing of pooling indices and quantised tensors, on which a detector that keeps its records by
// the word raises false alarms. In the CUDA and PTX memory models a byte is a memory location of its own.
// A detector must know: neighbours within a word do not conflict; accesses of two widths conflict where they overlap; a
// read-modify-write of a word to change one of its bytes is an access to all four.
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "byte_sharing";

__device__ unsigned char* bytes(int* words) { return reinterpret_cast<unsigned char*>(words); }
__device__ unsigned short* halves(int* words) { return reinterpret_cast<unsigned short*>(words); }
__device__ unsigned long long* pairs(int* words) { return reinterpret_cast<unsigned long long*>(words); }

RACE_FREE(own_byte, 1, 64, "each thread writes and reads its own byte") {
  bytes(shared)[t] = t;
  other[t] = bytes(shared)[t];
}

RACY(same_byte, 1, 64, "threads 2i and 2i + 1 write one byte") { bytes(shared)[t / 2] = t; }

RACY(one_byte_shared, 1, 64, "threads 62 and 63 alone write one byte") { bytes(shared)[t == 63 ? 62 : t] = t; }

RACY(next_byte, 1, 64, "thread t reads the byte that thread t + 1 writes") {
  clear(shared);
  bytes(shared)[t] = t;
  other[t] = bytes(shared)[t + 1];
}

RACE_FREE(next_byte_after_barrier, 1, 64, "the barrier lies between the bytes' writes and reads") {
  clear(shared);
  bytes(shared)[t] = t;
  __syncthreads();
  other[t] = bytes(shared)[t + 1];
}

RACE_FREE(byte_a_block, 4, 32, "the four blocks write the four bytes of one word") {
  if (t == 0) bytes(global)[block] = block;
}

RACY(byte_of_two_blocks, 4, 32, "blocks 2 and 3 write one byte") {
  if (t == 0) bytes(global)[block == 3 ? 2 : block] = block;
}

RACE_FREE(byte_slices, 2, 63, "slices of 63 bytes meet within a word") { bytes(global)[block * 63 + t] = t; }

RACY(byte_slices_overlap, 2, 64, "block 0's last byte is block 1's first") { bytes(global)[block * 63 + t] = t; }

RACE_FREE(halves_of_a_word, 1, 64, "the two halfwords of a word belong to two threads") {
  halves(shared)[t] = t;
  other[t] = halves(shared)[t];
}

RACY(byte_of_a_half, 1, 64, "thread 0 writes a halfword, thread 32 its upper byte") {
  if (t == 0) halves(shared)[0] = 1;
  if (t == 32) bytes(shared)[1] = 1;
}

RACE_FREE(byte_beside_a_half, 1, 64, "thread 0 writes a halfword, thread 32 the byte after it") {
  if (t == 0) halves(shared)[0] = 1;
  if (t == 32) bytes(shared)[2] = 1;
}

RACY(word_over_byte, 1, 64, "thread 0 writes a word, thread 1 its last byte") {
  if (t == 0) shared[0] = 1;
  if (t == 1) bytes(shared)[3] = 1;
}

RACY(word_read_over_byte, 2, 32, "block 0 reads a word of which block 1 writes one byte") {
  if (block == 0 && t == 0) other[0] = global[0];
  if (block == 1 && t == 0) bytes(global)[2] = 1;
}

RACE_FREE(word_then_bytes, 1, 64, "thread 0 writes the word, four threads read its bytes after the barrier") {
  if (t == 0) shared[0] = 0x01020304;
  __syncthreads();
  if (t < 4) other[t] = bytes(shared)[t];
}

RACY(pair_over_word, 1, 64, "thread 0 writes eight bytes, thread 32 the last four of them") {
  if (t == 0) pairs(global)[0] = 1;
  if (t == 32) global[1] = 1;
}

RACE_FREE(pair_beside_word, 1, 64, "thread 0 writes eight bytes, thread 32 the four after them") {
  if (t == 0) pairs(global)[0] = 1;
  if (t == 32) global[2] = 1;
}

RACY(byte_set_by_word, 1, 4, "each thread changes its byte by reading and writing the whole word") {
  clear(shared);
  shared[0] |= 1 << (8 * t);
}

RACE_FREE(byte_set_by_byte, 1, 4, "each thread changes its byte as a byte") {
  clear(shared);
  bytes(shared)[t] |= 1;
}

RACY(flags_in_a_byte, 1, 8, "eight threads set their bits in one byte") {
  clear(shared);
  bytes(shared)[5] |= 1 << t;
}

RACY(copy_over_byte, 1, 32, "thread 0's asynchronous copy of four bytes covers the byte that thread 1 stores") {
  if (t == 0) async_copy<4>(&shared[0], &global[0]);
  if (t == 1) bytes(shared)[3] = 1;
  async_copy_commit();
  async_copy_wait<0>();
}

RACE_FREE(copy_beside_byte, 1, 32, "thread 1 stores to the first byte after thread 0's asynchronous copy") {
  if (t == 0) async_copy<4>(&shared[0], &global[0]);
  if (t == 1) bytes(shared)[4] = 1;
  async_copy_commit();
  async_copy_wait<0>();
}

}  // namespace
}  // namespace minicnn::exam
