// Conversions between float32 and the numbers of 16 bits (kernels.h).
//
//   to_float(x)         exact; the NaNs of Float16 all become 0x7FFFFFFF, those of Bfloat16 keep their bits
//   float_to_bf16(x)    the nearest number, of two the one whose last bit is 0; too large ones become infinite,
//   float_to_f16(x)     subnormal ones stay, NaN becomes 0x7FFF
//   from_float<T>(x)    one of them, or x itself
//
// Source: PTX ISA, "cvt"; for NaN, which it leaves open, what cuda_fp16.hpp and cuda_bf16.hpp of CUDA 13.0 make of it.
// Those two headers hold these instructions too, among others that cost the compiler seconds a file.
#pragma once
#include "device/cuda.h"
#include "device/host_device.h"
#include "kernels.h"

namespace minicnn {

// number / 2^bits, rounded to the nearest, ties to even.
MINICNN_HOST_DEVICE inline uint32_t drop_bits(uint32_t number, int bits) {
  const uint32_t almost_half = (1u << (bits - 1)) - 1, is_odd = number >> bits & 1;
  return (number + almost_half + is_odd) >> bits;
}

#ifdef MINICNN_EMULATED

inline float to_float(Bfloat16 x) { return std::bit_cast<float>(uint32_t(x.bits) << 16); }

inline float to_float(Float16 x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, exponent = x.bits >> 10 & 31, mantissa = x.bits & 1023;
  if (exponent == 31) return std::bit_cast<float>(mantissa == 0 ? sign | 0x7F800000 : 0x7FFFFFFF);
  if (exponent == 0) return std::copysign(float(mantissa) * 0x1p-24f, std::bit_cast<float>(sign));
  return std::bit_cast<float>(sign | (exponent + 127 - 15) << 23 | mantissa << 13);
}

inline Bfloat16 float_to_bf16(float x) {
  if (x != x) return {0x7FFF};
  return {uint16_t(drop_bits(std::bit_cast<uint32_t>(x), 16))};
}

inline Float16 float_to_f16(float x) {
  if (x != x) return {0x7FFF};
  const uint32_t sign = std::bit_cast<uint32_t>(x) >> 16 & 0x8000;
  const float magnitude = std::abs(x);
  const uint32_t bits = std::bit_cast<uint32_t>(magnitude);
  if (magnitude >= 65520.0f) return {uint16_t(sign | 0x7C00)};  // as near to 2^16 as to the largest number, or nearer
  if (magnitude < 0x1p-14f)  // a multiple of 2^-24, which is the step of the float32 numbers behind 0.5
    return {uint16_t(sign | (std::bit_cast<uint32_t>(magnitude + 0.5f) - std::bit_cast<uint32_t>(0.5f)))};
  return {uint16_t(sign | (drop_bits(bits, 13) - ((127 - 15) << 10)))};
}

#else

__device__ __forceinline__ float to_float(Bfloat16 x) { return __uint_as_float(unsigned(x.bits) << 16); }

__device__ __forceinline__ float to_float(Float16 x) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
  return result;
}

__device__ __forceinline__ Float16 float_to_f16(float x) {
  Float16 result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
  return result;
}

__device__ __forceinline__ Bfloat16 float_to_bf16(float x) {
#if __CUDA_ARCH__ >= 800
  Bfloat16 result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
  return result;
#else
  if (x != x) return {0x7FFF};
  return {uint16_t(drop_bits(__float_as_uint(x), 16))};
#endif
}

#endif

// The same by the type wanted, float32 among them.
__device__ inline float to_float(float x) { return x; }

template <class T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline Bfloat16 from_float<Bfloat16>(float x) {
  return float_to_bf16(x);
}
template <>
__device__ inline Float16 from_float<Float16>(float x) {
  return float_to_f16(x);
}

}  // namespace minicnn
