// The sums over an operand's rows, out of the slices that a product on the tensor cores brings anyway.
#pragma once
#include "gemm/tensor_core_tile.h"

namespace minicnn {

// The sums over k of op(a)[i, k], for the rows i of a tile: of a's slices, which lie along the outer index, each thread
// adds up one word of every GROUPS-th row.
template <class Arithmetic, int TILE>
class RowSums {
  using T = typename Arithmetic::Element;
  using Layout = SliceLayout<T, TILE, Along::outer>;
  static constexpr int THREADS = TENSOR_CORE_THREADS<Arithmetic, TILE>, EACH = sizeof(uint32_t) / sizeof(T);
  static constexpr int WORDS = TILE / EACH, GROUPS = THREADS / WORDS;

 public:
  __device__ void see(const Chunk* slice) {
    const unsigned word = threadIdx.x % WORDS;
#pragma unroll 4
    for (int k = threadIdx.x / WORDS; k < Layout::DEPTH; k += GROUPS) {
      const unsigned offset = Layout::offset(word * EACH, k) / EACH;
      const uint32_t bits = slice[offset / 4].words[offset % 4];
      if constexpr (EACH == 1) {
        sums_[0] += __uint_as_float(bits);
      } else {
        sums_[0] += to_float(T{uint16_t(bits)});
        sums_[1] += to_float(T{uint16_t(bits >> 16)});
      }
    }
  }

  // result[i] (+)= sum i, for the first `rows` of the tile. All threads of the block take part.
  __device__ void write(TensorCoreStorage<TILE>& storage, float* result, Accumulate accumulate, int rows) const {
    auto& shared = reinterpret_cast<float (&)[GROUPS][TILE]>(storage);
    __syncthreads();  // all have multiplied the last slice
    for (int i = 0; i < EACH; ++i) shared[threadIdx.x / WORDS][threadIdx.x % WORDS * EACH + i] = sums_[i];
    __syncthreads();
    const int row = threadIdx.x;
    if (row >= min(TILE, rows)) return;
    float sum = 0.0f;
    for (int group = 0; group < GROUPS; ++group) sum += shared[group][row];
    write_sum(sum, nullptr, 0, result + row, accumulate);
  }

 private:
  float sums_[EACH] = {};
};

}  // namespace minicnn
