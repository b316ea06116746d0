// Lanes of one warp that count on lockstep, and warp barriers that name too few lanes.
//
// Pattern: the warp-synchronous code that independent thread scheduling broke (Volta; "Using CUDA Warp-Level
// Primitives"), the intra-warp races of iGUARD.
// A detector must know: lanes of a warp are threads like any others; __syncwarp(mask) orders the memory of the lanes in
// mask and of no other, and orders add up along a chain of masks; shuffles and votes exchange registers and order no
// memory (CUDA C++ guide: they "do not imply a memory barrier").
#include "question.h"

namespace minicnn::exam {
namespace {

constexpr char FAMILY[] = "warp_synchronous";

RACY(neighbour_lane, 1, 32, "lane t ^ 1 writes the word that lane t reads") {
  clear(shared);
  shared[t] = t;
  other[t] = shared[t ^ 1];
}

RACE_FREE(neighbour_lane_with_syncwarp, 1, 32, "__syncwarp lies between writes and reads") {
  shared[t] = t;
  __syncwarp();
  other[t] = shared[t ^ 1];
}

RACE_FREE(neighbour_lane_with_block_barrier, 1, 32, "a block barrier orders the lanes of a warp, too") {
  shared[t] = t;
  __syncthreads();
  other[t] = shared[t ^ 1];
}

RACY(global_memory, 1, 32, "lane t ^ 1 writes the global word that lane t reads") {
  global[t] = t;
  other[t] = global[t ^ 1];
}

RACE_FREE(global_memory_with_syncwarp, 1, 32, "__syncwarp orders global memory, too") {
  global[t] = t;
  __syncwarp();
  other[t] = global[t ^ 1];
}

RACY(two_lanes_write, 1, 32, "lanes 2i and 2i + 1 write one word") { shared[t / 2] = t; }

RACY(shuffle_instead, 1, 32, "a shuffle orders no memory: lane t ^ 1 writes what lane t reads") {
  clear(shared);
  shared[t] = t;
  const int partner = __shfl_xor_sync(ALL_LANES, t, 1);
  other[t] = shared[partner];
}

RACE_FREE(shuffle_of_registers, 1, 32, "the values travel in registers") {
  shared[t] = t;
  other[t] = __shfl_xor_sync(ALL_LANES, shared[t], 1);
}

RACY(ballot_instead, 1, 32, "a ballot orders no memory: lane t ^ 1 writes what lane t reads") {
  clear(shared);
  shared[t] = t;
  const int lanes = int(__ballot_sync(ALL_LANES, t < 16));
  other[t] = shared[t ^ 1] + lanes;
}

RACY(vote_instead, 1, 32, "a vote orders no memory: lane 0 writes what all lanes read") {
  clear(shared);
  if (t == 0) shared[0] = 3;
  if (__all_sync(ALL_LANES, t < 32)) other[t] = shared[0];
}

RACE_FREE(vote_then_syncwarp, 1, 32, "the __syncwarp after the vote orders the write and the reads") {
  if (t == 0) shared[0] = 3;
  if (__all_sync(ALL_LANES, t < 32)) {
    __syncwarp();
    other[t] = shared[0];
  }
}

RACY(branches_in_turn, 1, 32, "lanes of the two branches have no order: lane t - 16 writes, lane t reads") {
  clear(shared);
  if (t < 16)
    shared[t] = t;
  else
    other[t] = shared[t - 16];
}

RACE_FREE(branches_with_syncwarp, 1, 32, "__syncwarp between the two branches") {
  if (t < 16) shared[t] = t;
  __syncwarp();
  if (t >= 16) other[t] = shared[t - 16];
}

RACY(syncwarp_before_write, 1, 32, "__syncwarp precedes both the write and the neighbour's read") {
  clear(shared);
  __syncwarp();
  shared[t] = t;
  other[t] = shared[t ^ 1];
}

RACY(one_syncwarp_for_two_phases, 1, 32, "lane t overwrites the word while lane t ^ 1 reads it") {
  shared[t] = t;
  __syncwarp();
  const int value = shared[t ^ 1];
  shared[t] = value + 1;
}

RACE_FREE(syncwarp_for_each_phase, 1, 32, "__syncwarp after the writes and after the reads") {
  shared[t] = t;
  __syncwarp();
  const int value = shared[t ^ 1];
  __syncwarp();
  shared[t] = value + 1;
}

RACY(pair_across_the_border, 1, 64, "of all neighbours only lane 0 of warp 1 and lane 31 of warp 0 lack an order") {
  clear(shared);
  shared[t] = t;
  __syncwarp();
  other[t] = shared[t == 63 ? 63 : t + 1];
}

RACY(half_warps_cross, 1, 32, "each half waits for itself and reads the other half's words") {
  clear(shared);
  shared[t] = t;
  __syncwarp(t < 16 ? 0x0000FFFF : 0xFFFF0000);
  other[t] = shared[t ^ 16];
}

RACE_FREE(half_warps_apart, 1, 32, "each half waits for itself and reads its own words") {
  shared[t] = t;
  __syncwarp(t < 16 ? 0x0000FFFF : 0xFFFF0000);
  other[t] = shared[t ^ 8];
}

RACY(pairs_cross, 1, 32, "pairs of lanes wait for each other and read the next pair's words") {
  clear(shared);
  shared[t] = t;
  __syncwarp(3u << (t & ~1));
  other[t] = shared[t ^ 2];
}

RACE_FREE(pairs_apart, 1, 32, "pairs of lanes wait for each other and read each other's words") {
  shared[t] = t;
  __syncwarp(3u << (t & ~1));
  other[t] = shared[t ^ 1];
}

RACY(quarters_at_their_border, 1, 32, "lanes 7, 15, 23 read a word of the next quarter, for which they do not wait") {
  clear(shared);
  shared[t] = t;
  __syncwarp(0xFFu << (t & ~7));
  other[t] = shared[t == 31 ? 31 : t + 1];
}

RACY(writer_not_in_mask, 1, 32, "lane 0 writes and does not take part in the __syncwarp of its readers") {
  clear(shared);
  if (t == 0)
    shared[0] = 3;
  else
    __syncwarp(0xFFFFFFFE);
  other[t] = shared[0];
}

RACY(one_reader_not_in_mask, 1, 32, "lane 7 does not take part in the __syncwarp and reads lane 8's word") {
  clear(shared);
  shared[t] = t;
  if (t != 7) __syncwarp(~(1u << 7));
  if (t == 7) other[t] = shared[8];
}

RACY(one_reader_of_two_ordered, 1, 64, "of the two readers, lane 1 of either warp, only warp 1's is ordered") {
  clear(shared);
  if (t % 32 == 1) other[t] = shared[0];
  __syncwarp();
  if (t == 32) shared[0] = 1;
}

RACE_FREE(both_readers_ordered, 1, 64, "the two readers are lanes of the writer's warp and wait for it") {
  clear(shared);
  if (t == 33 || t == 34) other[t] = shared[0];
  __syncwarp();
  if (t == 32) shared[0] = 1;
}

RACE_FREE(lanes_in_use, 1, 32, "the four lanes that share words wait for each other, the others do nothing") {
  if (t < 4) {
    shared[t] = t;
    __syncwarp(0xF);
    other[t] = shared[3 - t];
  }
}

RACE_FREE(chain_of_masks, 1, 32, "lane 0 to lane 1 by one mask, then lane 1 to lane 2 by another") {
  if (t == 0) shared[0] = 3;
  if (t < 2) __syncwarp(0b011);
  if (t == 1 || t == 2) __syncwarp(0b110);
  if (t == 2) other[0] = shared[0];
}

RACY(chain_in_wrong_order, 1, 32, "lane 2 meets lane 1 before lane 1 meets lane 0, who writes what lane 2 reads") {
  clear(shared);
  if (t == 0) shared[0] = 3;
  if (t == 1 || t == 2) __syncwarp(0b110);
  if (t < 2) __syncwarp(0b011);
  if (t == 2) other[0] = shared[0];
}

}  // namespace
}  // namespace minicnn::exam
