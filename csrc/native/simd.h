// Vectors of floats, as wide as the instruction set that a file is compiled for has them: one text for AVX-512, AVX2,
// NEON and the baseline of every other processor.
//
// The compilers' own vectors (GCC, Clang): + - * / and comparisons go lane by lane, a comparison gives 0 or -1 in the
// lanes of Ints, `mask ? a : b` chooses. a * b + c becomes one fused instruction where there is one.
// Loops over arrays whose lanes do not meet are left to the compiler; what is here is for those that it cannot turn
// into vectors: sums in lanes, tiles in registers.
#pragma once
#include <cmath>
#include <cstdint>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace minicnn {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

using Floats = float __attribute__((vector_size(LANES * sizeof(float))));
using Ints = int32_t __attribute__((vector_size(LANES * sizeof(int32_t))));
using Words = uint16_t __attribute__((vector_size(LANES * sizeof(uint16_t))));
using Bytes = uint8_t __attribute__((vector_size(LANES * sizeof(uint8_t))));

inline Floats broadcast(float value) { return Floats{} + value; }
inline Ints broadcast(int32_t value) { return Ints{} + value; }

// From and to any address.
inline Floats load(const float* from) {
  Floats values;
  __builtin_memcpy(&values, from, sizeof values);
  return values;
}
inline void store(float* to, Floats values) { __builtin_memcpy(to, &values, sizeof values); }

// All lanes: what a loop over an array passes to load_some() and its like but for the last vector.
struct Whole {};

inline int lane_count(Whole) { return LANES; }
inline int lane_count(int count) { return count; }

inline Floats load_some(const float* from, Whole) { return load(from); }
inline void store_some(float* to, Floats values, Whole) { store(to, values); }

#if defined(__AVX2__) && !defined(__AVX512F__)
// -1 in the first `count` lanes.
inline __m256i first_lanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

// The first `count` lanes, 0 <= count <= LANES: memory beyond is not touched, lanes beyond are 0.
inline Floats load_some(const float* from, int count) {
#if defined(__AVX512F__)
  return Floats(_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), from));
#else
  if (count == LANES) return load(from);
#if defined(__AVX2__)
  return Floats(_mm256_maskload_ps(from, first_lanes(count)));
#else
  Floats values{};
  for (int i = 0; i < count; ++i) values[i] = from[i];
  return values;
#endif
#endif
}
inline void store_some(float* to, Floats values, int count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, __mmask16((1u << count) - 1), __m512(values));
#else
  if (count == LANES) return store(to, values);
#if defined(__AVX2__)
  _mm256_maskstore_ps(to, first_lanes(count), __m256(values));
#else
  for (int i = 0; i < count; ++i) to[i] = values[i];
#endif
#endif
}

// Results (rows, columns) that are many times a second-level cache are stored past the caches, which spares reading
// their lines first: whole vectors, at aligned addresses, by instruction sets that have such stores.
constexpr int64_t PAST_CACHES = 3 << 20;  // floats: 12 MiB

inline bool is_stored_past_caches([[maybe_unused]] const float* results, [[maybe_unused]] int64_t rows,
                                  [[maybe_unused]] int64_t columns) {
#if defined(__AVX2__)
  return rows * columns >= PAST_CACHES && columns % LANES == 0 &&
         reinterpret_cast<uintptr_t>(results) % sizeof(Floats) == 0;
#else
  return false;
#endif
}
inline void store_past_caches(float* to, Floats values, Whole) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, __m512(values));
#elif defined(__AVX2__)
  _mm256_stream_ps(to, __m256(values));
#else
  store(to, values);
#endif
}
inline void store_past_caches(float* to, Floats values, int count) { store_some(to, values, count); }

// Such stores are seen by other threads before what the thread stores afterwards: nothing less orders them.
inline void fence_stores_past_caches() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

// step(i, lanes) for the elements i, ... of each vector of [begin, end): `lanes` is Whole, or for the last their count.
template <class Step>
void in_vectors(int64_t begin, int64_t end, const Step& step) {
  for (; begin + LANES <= end; begin += LANES) step(begin, Whole{});
  if (begin < end) step(begin, int(end - begin));
}

// The numbers at `from` as Ints.
inline Ints widen(const uint8_t* from, Whole) {
#if defined(__AVX512F__)
  return Ints(_mm512_maskz_cvtepu8_epi32(__mmask16(-1), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__)
  return Ints(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
  Ints values;
  for (int i = 0; i < LANES; ++i) values[i] = from[i];
  return values;
#endif
}
inline Ints widen(const uint16_t* from, Whole) {
#if defined(__AVX512F__)
  return Ints(_mm512_maskz_cvtepu16_epi32(__mmask16(-1), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
#elif defined(__AVX2__)
  return Ints(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#else
  Ints values;
  for (int i = 0; i < LANES; ++i) values[i] = from[i];
  return values;
#endif
}
template <class Number>
inline Ints widen(const Number* from, int count) {
#if defined(__AVX512F__)
  const __mmask16 mask = __mmask16((1u << count) - 1);
  if constexpr (sizeof(Number) == 1)
    return Ints(_mm512_maskz_cvtepu8_epi32(mask, _mm_maskz_loadu_epi8(mask, from)));
  else
    return Ints(_mm512_maskz_cvtepu16_epi32(mask, _mm256_maskz_loadu_epi16(mask, from)));
#else
  Ints values{};
  for (int i = 0; i < count; ++i) values[i] = from[i];
  return values;
#endif
}

// The lowest bits of the first `count` Ints, all of them with Whole.
template <class Number, class Lanes>
inline void store_narrow(Number* to, Ints values, Lanes lanes) {
  const int count = lane_count(lanes);
#if defined(__AVX512F__)
  if constexpr (sizeof(Number) == 1)
    _mm512_mask_cvtepi32_storeu_epi8(to, __mmask16((1u << count) - 1), __m512i(values));
  else
    _mm512_mask_cvtepi32_storeu_epi16(to, __mmask16((1u << count) - 1), __m512i(values));
#else
  if constexpr (sizeof(Number) == 1) {
    const Bytes narrow = __builtin_convertvector(values, Bytes);
    __builtin_memcpy(to, &narrow, count * sizeof(Number));
  } else {
    const Words narrow = __builtin_convertvector(values, Words);
    __builtin_memcpy(to, &narrow, count * sizeof(Number));
  }
#endif
}

// 0, 1, 2, ...
inline Ints lane_numbers() {
  Ints numbers;
  for (int i = 0; i < LANES; ++i) numbers[i] = i;
  return numbers;
}

// The lanes that load_some() did not load, replaced.
inline Floats fill(Floats values, Whole, float) { return values; }
inline Floats fill(Floats values, int count, float filler) {
  return lane_numbers() < count ? values : broadcast(filler);
}

// The same bits as numbers of the other kind.
inline Ints bits_of(Floats values) { return (Ints)values; }
inline Floats floats_of(Ints bits) { return (Floats)bits; }

inline Floats maximum(Floats a, Floats b) { return a > b ? a : b; }
inline Floats minimum(Floats a, Floats b) { return a < b ? a : b; }

inline Floats absolute(Floats values) { return floats_of(bits_of(values) & 0x7FFFFFFF); }

inline Floats square_root(Floats values) {
#if defined(__AVX512F__)
  return Floats(_mm512_maskz_sqrt_ps(__mmask16(-1), __m512(values)));  // unmasked, GCC 12 warns of its own header
#elif defined(__AVX2__)
  return Floats(_mm256_sqrt_ps(__m256(values)));
#else
  for (int i = 0; i < LANES; ++i) values[i] = std::sqrt(values[i]);
  return values;
#endif
}

// values^(-1/2), within two units in the last place: an estimate and a step of Newton's method, which zero and infinity
// spare themselves.
inline Floats reciprocal_square_root(Floats values) {
#if defined(__AVX512F__) || defined(__AVX2__)
#if defined(__AVX512F__)
  const Floats estimate = Floats(_mm512_maskz_rsqrt14_ps(__mmask16(-1), __m512(values)));
#else
  const Floats estimate = Floats(_mm256_rsqrt_ps(__m256(values)));
#endif
  const Floats refined = estimate + 0.5f * estimate * (1.0f - values * estimate * estimate);
  return refined == refined ? refined : estimate;
#else
  return 1.0f / square_root(values);
#endif
}

// The sum of the lanes, in the order of a tree.
inline float sum_of_lanes(Floats values) {
  float lanes[LANES];
  store(lanes, values);
  for (int half = LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

inline float largest_lane(Floats values) {
  float largest = values[0];
  for (int i = 1; i < LANES; ++i) largest = values[i] > largest ? values[i] : largest;
  return largest;
}

}  // namespace minicnn
