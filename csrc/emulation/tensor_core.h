// The twins of ldmatrix and mma.sync.
#pragma once
#include <cstdint>
#include <string>

#include "emulation/detector/order.h"
#include "emulation/recording.h"
#include "emulation/runtime.h"

namespace minicnn::emulation {

enum class Mma { m16n8k16_bf16, m16n8k16_f16, m16n8k8_f16, m16n8k8_tf32 };

// A warp collective: each lane hands in its registers of d, a and b (device/mma.h).
void mma(Mma mma, float* d, const uint32_t* a, const uint32_t* b, Where where);

// Refuses an address that is not one of a row of a matrix in shared memory.
inline void check_row(const char* name, const void* row, Where where) {
  constexpr int64_t ROW_BYTES = 16;
  const Block& block = *current().block;
  const auto offset = int64_t(reinterpret_cast<uintptr_t>(row) - reinterpret_cast<uintptr_t>(block.shared));
  if (offset < 0 || offset + ROW_BYTES > int64_t(block.shared_bytes))
    fail(std::string(name) + ": the 16 bytes of this lane's row are not in the block's " +
             std::to_string(block.shared_bytes) + " bytes of shared memory",
         where);
  if (offset % ROW_BYTES != 0)
    fail(std::string(name) + ": this lane's row begins at byte " + std::to_string(offset) +
             " of shared memory, and not at a multiple of 16",
         where);
}

typedef uint16_t Element __attribute__((may_alias));  // whatever type the kernel has stored
typedef uint32_t ElementPair __attribute__((may_alias));

// The lanes tell each other where their rows lie, and then each loads what it shall hold. The loads are here, in the
// kernel's own code, so that the detector sees which thread reads what; and they come after the meeting, so that a
// kernel which overwrites the rows too soon gets them overwritten.
template <bool TRANSPOSED, int MATRICES>
void load_matrices(const char* name, uint32_t (&registers)[MATRICES], const void* row, Where where) {
  static_assert(MATRICES == 1 || MATRICES == 2 || MATRICES == 4, "ldmatrix loads 1, 2 or 4 matrices");
  struct Lane {
    const Element* row;
    const Element* elements[MATRICES][2];  // those that its registers are made of
  };
  check_row(name, row, where);
  Lane mine{static_cast<const Element*>(row), {}};
  const Operation hand_out = [](uint32_t, void* const operands[32]) {
    for (int lane = 0; lane < 32; ++lane)
      for (int matrix = 0; matrix < MATRICES; ++matrix)
        for (int i = 0; i < 2; ++i) {
          const int group = lane / 4, member = 2 * (lane % 4) + i;
          const int row = TRANSPOSED ? member : group, column = TRANSPOSED ? group : member;
          static_cast<Lane*>(operands[lane])->elements[matrix][i] =
              static_cast<Lane*>(operands[8 * matrix + row])->row + column;
        }
  };
  synchronize_warp(name, ~0u, hand_out, &mine, where);
  if (CHECKED && current().linear % 32 < 8 * MATRICES) record_row(row);
  for (int matrix = 0; matrix < MATRICES; ++matrix) {
    const auto [first, second] = mine.elements[matrix];
    if constexpr (TRANSPOSED)
      registers[matrix] = *first | uint32_t(*second) << 16;
    else
      registers[matrix] = *reinterpret_cast<const ElementPair*>(first);
  }
}

}  // namespace minicnn::emulation
