// Products of small matrices on the tensor cores: d (16, 8) += a (16, k) b (k, 8), by a warp (mma.sync; PTX ISA,
// "Warp-level matrix multiply-accumulate instructions: mma", shapes m16n8k16 and m16n8k8).
//
//   mma_m16n8k16_bf16(d, a, b)   float d[4]; uint32_t a[4], b[2]   pairs of Bfloat16   sm_80
//   mma_m16n8k16_f16(d, a, b)    float d[4]; uint32_t a[4], b[2]   pairs of Float16    sm_80; in two halves on sm_75
//   mma_m16n8k8_f16(d, a, b)     float d[4]; uint32_t a[2], b[1]   pairs of Float16    sm_75
//   mma_m16n8k8_tf32(d, a, b)    float d[4]; uint32_t a[4], b[2]   single TF32         sm_80
//
// Which lane holds what, with g = lane / 4 and t = lane % 4:
//   d[i]              element (g + 8 (i / 2), 2 t + i % 2)
//   a[i], pairs       elements (g + 8 (i % 2), 2 t + 8 (i / 2) + {0, 1}), the first in the lower half
//   b[i], pairs       elements (2 t + 8 i + {0, 1}, g)
//   a[i], TF32        element (g + 8 (i % 2), t + 4 (i / 2))
//   b[i], TF32        element (t + 4 i, g)
// This is what ldmatrix gives for rows of a and for columns of b that are contiguous, and ldmatrix_trans, with elements
// of 16 bits, for rows of b that are.
//
// TF32 is a float32 of which the last 13 mantissa bits are 0: float_to_tf32 rounds to the nearest, ties away from 0
// (cvt.rna.tf32.f32); too large numbers become infinite, subnormal ones stay. Of a NaN it keeps the bits but the last
// 13, as ptxas 13.0 has it for sm_80 and sm_90a: one that has no others becomes infinite. An operand that is no TF32
// number has no meaning (PTX ISA, "Alternate Floating-Point Data Formats"); the emulation refuses it.
//
// All 32 lanes come. Products are exact; how their sum is rounded, PTX leaves open, and GPUs truncate differently
// (Khattak and Mikaitis, "Accurate models of NVIDIA tensor cores", arXiv 2512.07004). The emulation adds them to d in
// double precision, one after another from k = 0 on, and rounds the sum once: the last bits of a GPU may be others,
// those of sums that are exact in float32 at every step (of small integers, say) may not.
//
// Instructions of later architectures (wgmma, TMA) would be headers beside this one, each with its twin in emulation/.
#pragma once
#include <cstdint>

#include "device/cuda.h"
#ifdef MINICNN_EMULATED
#include "emulation/options.h"
#include "emulation/tensor_core.h"
#endif

namespace minicnn {

#ifdef MINICNN_EMULATED

inline uint32_t float_to_tf32(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x), half = 1 << 12, kept = ~0u << 13;
  return (std::isfinite(x) ? bits + half : bits) & kept;
}

inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                              emulation::Where where = emulation::Where::current()) {
  emulation::mma(emulation::Mma::m16n8k16_bf16, d, a, b, where);
}
inline void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             emulation::Where where = emulation::Where::current()) {
  if (emulation::options().capability >= 80) return emulation::mma(emulation::Mma::m16n8k16_f16, d, a, b, where);
  emulation::mma(emulation::Mma::m16n8k8_f16, d, a, b, where);
  emulation::mma(emulation::Mma::m16n8k8_f16, d, a + 2, b + 1, where);
}
inline void mma_m16n8k8_f16(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1],
                            emulation::Where where = emulation::Where::current()) {
  emulation::mma(emulation::Mma::m16n8k8_f16, d, a, b, where);
}
inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                             emulation::Where where = emulation::Where::current()) {
  emulation::mma(emulation::Mma::m16n8k8_tf32, d, a, b, where);
}

#else

// Below sm_80 what is not there traps: the launch function takes another kernel then.
__device__ __forceinline__ uint32_t float_to_tf32(float x) {
  uint32_t bits = 0;
#if __CUDA_ARCH__ >= 800
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
#else
  __trap();
#endif
  return bits;
}

__device__ __forceinline__ void mma_m16n8k8_f16(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

__device__ __forceinline__ void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  mma_m16n8k8_f16(d, {a[0], a[1]}, {b[0]});
  mma_m16n8k8_f16(d, {a[2], a[3]}, {b[1]});
#endif
}

__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

#endif

}  // namespace minicnn
