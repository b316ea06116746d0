// What the tensor cores multiply, by the elements of the arrays and the precision asked for.
//
//   Bfloat16Arithmetic   Bfloat16 arrays   products exact, sums float32
//   Float16Arithmetic    Float16 arrays    likewise
//   Tf32Arithmetic       float32 arrays    each element rounded to TF32, 11 significant bits
//   Tf32x3Arithmetic     float32 arrays    each element as the sum of two TF32 numbers: three products in place of one,
//   at
//                                    the accuracy of float32
//
// Each has
//   Element                    of the arrays
//   Number, number(bits)       what becomes of a register of a fragment (device/mma.h) on its way to the tensor cores
//   multiply(d, a, b)          d (16, 8) += a b by a warp, over 32 bytes of the reduction
//   NAME, CAPABILITY           of it, and of the GPUs that have it: 10 * major + minor of their compute capability
//   IN_FLOAT32_IF_SPECIAL      whether sums that are infinite or NaN want to be computed again in float32 arithmetic
//
// Tf32x3Arithmetic: x = big + small + rest, where big is x rounded to TF32 and small what is left, cut to TF32; the
// rest is at most 2^-23 of x. Of the four products of a pair, small * small is left out, at most 2^-22 of the product:
// it is off by less than 2^-20 of itself. The three are summed by the tensor cores, and their sum is added to the
// others outside, because tensor cores may cut sums where float32 addition rounds them. Of numbers below 2^-113 the cut
// bits are subnormal and may count as 0. An infinite or NaN x has no small, nor has one that TF32 cannot hold (the 4096
// largest float32 numbers): any of them makes NaN of its sums, and those are computed again.
//
// Sources: Ootomo and Yokota 2022, "Recovering single precision accuracy from Tensor Cores while surpassing the FP32
// theoretical peak performance" (the sum outside); CUTLASS, example 27 (three products in place of four).
#pragma once
#include "device/float16.h"
#include "device/mma.h"

namespace minicnn {

struct Bfloat16Arithmetic {
  static constexpr const char* NAME = "bfloat16";
  static constexpr int CAPABILITY = 80;
  static constexpr bool IN_FLOAT32_IF_SPECIAL = false;
  using Element = Bfloat16;
  using Number = uint32_t;
  static __device__ Number number(uint32_t bits) { return bits; }
  static __device__ void multiply(float (&d)[4], const Number (&a)[4], const Number (&b)[2]) {
    mma_m16n8k16_bf16(d, a, b);
  }
};

struct Float16Arithmetic {
  static constexpr const char* NAME = "float16";
  static constexpr int CAPABILITY = 75;
  static constexpr bool IN_FLOAT32_IF_SPECIAL = false;
  using Element = Float16;
  using Number = uint32_t;
  static __device__ Number number(uint32_t bits) { return bits; }
  static __device__ void multiply(float (&d)[4], const Number (&a)[4], const Number (&b)[2]) {
    mma_m16n8k16_f16(d, a, b);
  }
};

struct Tf32Arithmetic {
  static constexpr const char* NAME = "tf32";
  static constexpr int CAPABILITY = 80;
  static constexpr bool IN_FLOAT32_IF_SPECIAL = false;
  using Element = float;
  using Number = uint32_t;
  static __device__ Number number(uint32_t bits) { return float_to_tf32(__uint_as_float(bits)); }
  static __device__ void multiply(float (&d)[4], const Number (&a)[4], const Number (&b)[2]) {
    mma_m16n8k8_tf32(d, a, b);
  }
};

struct Tf32x3Arithmetic {
  static constexpr const char* NAME = "tf32x3";
  static constexpr int CAPABILITY = 80;
  static constexpr bool IN_FLOAT32_IF_SPECIAL = true;
  using Element = float;
  struct Number {
    uint32_t big, small;
  };

  static __device__ Number number(uint32_t bits) {
    const float x = __uint_as_float(bits);
    const uint32_t big = float_to_tf32(x);
    return {big, __float_as_uint(x - __uint_as_float(big)) & ~0u << 13};
  }

  static __device__ void multiply(float (&d)[4], const Number (&a)[4], const Number (&b)[2]) {
    const uint32_t a_big[4] = {a[0].big, a[1].big, a[2].big, a[3].big}, b_big[2] = {b[0].big, b[1].big};
    const uint32_t a_small[4] = {a[0].small, a[1].small, a[2].small, a[3].small};
    const uint32_t b_small[2] = {b[0].small, b[1].small};
    float sum[4] = {};
    mma_m16n8k8_tf32(sum, a_small, b_big);
    mma_m16n8k8_tf32(sum, a_big, b_small);
    mma_m16n8k8_tf32(sum, a_big, b_big);
    for (int i = 0; i < 4; ++i) d[i] += sum[i];
  }
};

}  // namespace minicnn
