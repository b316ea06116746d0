// Kernels that stand on tensor_core_tile.h: how they are launched, and where their sums go.
#pragma once
#include "device/capability.h"
#include "gemm/schedule.h"
#include "gemm/tensor_core_tile.h"

namespace minicnn {

// An array of results: float32, or where that is null in the operands' format.
template <class Element>
struct Results {
  float* wide;
  Element* narrow;
};

// Where the blocks of part p write: results[p * part_stride ...].
template <class Element>
struct TensorCoreDestination {
  Results<Element> results;
  int64_t part_stride;
  EpilogueOf<Element> epilogue;
};

template <class Element>
TensorCoreDestination<Element> destination(Results<Element> results, float* workspace, int64_t elements,
                                           const EpilogueOf<Element>& epilogue, Schedule schedule) {
  if (!has_second_pass(epilogue, schedule)) return {results, 0, epilogue};
  return {{workspace, nullptr}, elements, {}};
}

// The second pass of a cut reduction. Results that are wider than the operands have no mask.
template <class Element>
void sum_parts(const char* op, const float* parts, int splits, int64_t m, int n, const EpilogueOf<Element>& epilogue,
               Results<Element> results, int64_t pitch, Stream stream) {
  if (results.wide == nullptr) return sum_parts(op, parts, splits, m, n, epilogue, results.narrow, pitch, stream);
  Epilogue wide{.bias = epilogue.bias,
                .activation = epilogue.activation,
                .dropout = epilogue.dropout,
                .accumulate = epilogue.accumulate};
  if constexpr (std::is_same_v<Element, float>) wide.mask = epilogue.mask;
  sum_parts(op, parts, splits, m, n, wide, results.wide, pitch, stream);
}

// As load_vec4 and store_vec4 of float32, for numbers of 16 bits: four of them by one access where they lie on 8 bytes.
template <class T>
struct alignas(4 * sizeof(T)) Quad {
  T values[4];
};

template <class T>
__device__ inline bool is_whole_quad(const T* quad, int64_t count) {
  return count >= 4 && reinterpret_cast<uintptr_t>(quad) % alignof(Quad<T>) == 0;
}

template <class T>
__device__ inline Vec4 load_vec4(const T* array, int64_t begin, int64_t count) {
  Quad<T> quad{};
  if (is_whole_quad(array + begin, count - begin)) {
    quad = *reinterpret_cast<const Quad<T>*>(array + begin);
  } else {
    for (int i = 0; i < 4; ++i)
      if (begin + i < count) quad.values[i] = array[begin + i];
  }
  return {to_float(quad.values[0]), to_float(quad.values[1]), to_float(quad.values[2]), to_float(quad.values[3])};
}

template <class T>
__device__ inline void store_vec4(T* array, int64_t begin, int64_t count, const Vec4& value) {
  const Quad<T> quad{from_float<T>(value.values[0]), from_float<T>(value.values[1]), from_float<T>(value.values[2]),
                     from_float<T>(value.values[3])};
  if (is_whole_quad(array + begin, count - begin)) {
    *reinterpret_cast<Quad<T>*>(array + begin) = quad;
    return;
  }
  for (int i = 0; i < 4; ++i)
    if (begin + i < count) array[begin + i] = quad.values[i];
}

// target[i] (+)= mask[i] <= 0 ? 0 : quad i, for the first `count` of the four; a mask of null is none.
template <class T, class M>
__device__ inline void write_quad(Vec4 quad, T* target, const M* mask, Accumulate accumulate, int count) {
  if (mask != nullptr) {
    const Vec4 y = load_vec4(mask, 0, count);
    for (int i = 0; i < 4; ++i) quad.values[i] = relu_gradient(quad.values[i], y.values[i]);
  }
  if (accumulate == Accumulate::add) {
    const Vec4 earlier = load_vec4(target, 0, count);
    for (int i = 0; i < 4; ++i) quad.values[i] += earlier.values[i];
  }
  store_vec4(target, 0, count, quad);
}

// results[offset_of(i) + j] (+)= the epilogue of sums[i,j], for all i < last_row and j < last_column of the tile that
// `shared` has kept; the bias is that of column 0. All threads of the block take part.
//
// Each warp turns its sums, 32 rows at a time, into quads of neighbours by way of shared memory, where the slices were:
// accesses of 16 bytes, and code that is short because it need not name registers. Rows are 8 floats longer than
// needed, so that the pairs which half a warp writes, of four rows, lie in different banks.
template <int TILE, class Element, class Rows>
__device__ inline void write_sums(const WarpSums<TILE>& sums, TensorCoreStorage<TILE>& shared,
                                  const Results<Element>& results, const EpilogueOf<Element>& epilogue,
                                  const Rows& offset_of, int last_row, int last_column) {
  using Sums = WarpSums<TILE>;
  constexpr int HEIGHT = 32, QUADS = Sums::SIDE / 4;
  struct alignas(8) Pair {
    float values[2];
  };
  struct Patch {
    float at[HEIGHT][Sums::SIDE + 8];
  };
  static_assert(TENSOR_CORE_THREADS / 32 * sizeof(Patch) <= sizeof(shared.a) + sizeof(shared.b),
                "the warps' patches are in the storage");
  Patch& patch = reinterpret_cast<Patch*>(&shared)[threadIdx.x / 32];
  const int lane = threadIdx.x % 32;
  __syncthreads();  // all have multiplied the last slice
#pragma unroll      // the sums are registers, which no variable can index
  for (int top = 0; top < Sums::SIDE; top += HEIGHT) {
#pragma unroll
    for (int i = 0; i < HEIGHT / 8; ++i)
      for (int j = 0; j < Sums::COLUMNS; ++j) {
        const auto& values = sums.values[top / 16 + i / 2][j];
        *reinterpret_cast<Pair*>(&patch.at[8 * i + lane / 4][8 * j + lane % 4 * 2]) = {values[i % 2 * 2],
                                                                                       values[i % 2 * 2 + 1]};
      }
    __syncwarp();
#pragma unroll 1
    for (int step = 0; step < HEIGHT * QUADS / 32; ++step) {
      const int place = step * 32 + lane, patch_row = place / QUADS, patch_column = place % QUADS * 4;
      const int row = shared.first_row + int(Sums::first_row()) + top + patch_row;
      const int column = shared.first_column + int(Sums::first_column()) + patch_column, count = last_column - column;
      if (row >= last_row || count <= 0 || !has_row(offset_of, row)) continue;
      Vec4 quad = *reinterpret_cast<const Vec4*>(&patch.at[patch_row][patch_column]);
      if (epilogue.bias != nullptr) {
        const Vec4 bias = load_vec4(epilogue.bias, column, last_column);
        for (int e = 0; e < 4; ++e) quad.values[e] += bias.values[e];
      }
      if (epilogue.activation == Activation::relu)
        for (float& value : quad.values) value = relu(value);
      const int64_t offset = offset_of(row) + column;
      const Element* const mask = epilogue.mask != nullptr ? epilogue.mask + offset : nullptr;
      if (std::is_same_v<Element, float> || results.wide != nullptr)
        write_quad(quad, results.wide + offset, mask, epilogue.accumulate, count);
      else
        write_quad(quad, results.narrow + offset, mask, epilogue.accumulate, count);
    }
    __syncwarp();
  }
}

// Calls launch_with(tile, copies, config) with the kernel's compile-time constants.
template <class Launch>
void launch_tensor_core_tiles(const char* op, const Product& product, Schedule schedule, bool in_chunks, Stream stream,
                              const Launch& launch_with) {
  const auto launch_tile = [&](auto tile, auto copies) {
    schedule.tile = tile;
    launch_with(tile, copies,
                LaunchConfig{.op = op,
                             .grid = tile_grid(op, product, schedule),
                             .block = TENSOR_CORE_THREADS,
                             .shared_bytes = sizeof(TensorCoreStorage<tile>),
                             .stream = stream});
  };
  if (schedule.tile == 128 && in_chunks)
    launch_tile(std::integral_constant<int, 128>(), std::integral_constant<Copies, Copies::chunks>());
  else
    launch_tile(std::integral_constant<int, 64>(), std::integral_constant<Copies, Copies::any>());
}

// Throws where the GPU's tensor cores do not know the elements.
template <class Arithmetic>
void check_capability(const char* op) {
  const int capability = compute_capability(op);
  check(capability >= Arithmetic::CAPABILITY, op, Arithmetic::NAME, " wants a GPU of compute capability ",
        Arithmetic::CAPABILITY / 10, ".", Arithmetic::CAPABILITY % 10, ", this one has ", capability / 10, ".",
        capability % 10, ": use float32");
}

}  // namespace minicnn
