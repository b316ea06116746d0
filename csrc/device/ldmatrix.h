// Loads of 8 x 8 matrices of 16-bit elements from shared memory by a warp, as the operands of device/mma.h lie in its
// registers (ldmatrix; PTX ISA, "Warp-level matrix load instruction").
//
//   uint32_t registers[4];
//   ldmatrix(registers, &tile[lane % 16][8 * (lane / 16)]);   four matrices; the length of the array says how many
//
// A row is 16 bytes, aligned to 16. Lane 8 m + i hands in where row i of matrix m begins. Register m of lane l then
// holds, of matrix m,
//   ldmatrix         elements (l / 4, 2 (l % 4)) and (l / 4, 2 (l % 4) + 1), the first in the lower half
//   ldmatrix_trans   elements (2 (l % 4), l / 4) and (2 (l % 4) + 1, l / 4)
// Of elements of 32 bits, a row has four, and ldmatrix gives lane l element (l / 4, l % 4).
//
// All 32 lanes come. Lanes that are left over with one matrix or two hand in a valid row all the same: sm_75 asks for
// it. The loads are ordered by barriers as any others are: one before, where other lanes have written, and one after,
// before they write again. From sm_75 on.
#pragma once
#include <cstdint>

#include "device/cuda.h"
#ifdef MINICNN_EMULATED
#include "emulation/tensor_core.h"
#endif

namespace minicnn {

#ifdef MINICNN_EMULATED

template <int MATRICES>
void ldmatrix(uint32_t (&registers)[MATRICES], const void* row, emulation::Where where = emulation::Where::current()) {
  emulation::load_matrices<false>("ldmatrix", registers, row, where);
}

template <int MATRICES>
void ldmatrix_trans(uint32_t (&registers)[MATRICES], const void* row,
                    emulation::Where where = emulation::Where::current()) {
  emulation::load_matrices<true>("ldmatrix_trans", registers, row, where);
}

#else

template <int MATRICES>
__device__ __forceinline__ void ldmatrix(uint32_t (&registers)[MATRICES], const void* row) {
  static_assert(MATRICES == 1 || MATRICES == 2 || MATRICES == 4, "ldmatrix loads 1, 2 or 4 matrices");
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (MATRICES == 1)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(registers[0]) : "r"(address) : "memory");
  else if constexpr (MATRICES == 2)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
}

template <int MATRICES>
__device__ __forceinline__ void ldmatrix_trans(uint32_t (&registers)[MATRICES], const void* row) {
  static_assert(MATRICES == 1 || MATRICES == 2 || MATRICES == 4, "ldmatrix loads 1, 2 or 4 matrices");
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (MATRICES == 1)
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(registers[0])
                 : "r"(address)
                 : "memory");
  else if constexpr (MATRICES == 2)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
}

#endif

}  // namespace minicnn
