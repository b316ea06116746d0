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

// The second pass of a cut reduction.
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

// target[0], target[1] (+)= first, second; the second where `both`.
template <class T>
__device__ inline void write_pair(T* target, float first, float second, bool both, Accumulate accumulate) {
  struct alignas(2 * sizeof(T)) Pair {
    T values[2];
  };
  if (accumulate == Accumulate::add) {
    first += to_float(target[0]);
    if (both) second += to_float(target[1]);
  }
  if (both && reinterpret_cast<uintptr_t>(target) % sizeof(Pair) == 0) {
    *reinterpret_cast<Pair*>(target) = {from_float<T>(first), from_float<T>(second)};
    return;
  }
  target[0] = from_float<T>(first);
  if (both) target[1] = from_float<T>(second);
}

// results[offset_of(i) + j] (+)= the epilogue of sums[i,j], for all i < last_row and j < last_column of the tile at
// (first_row, first_column); the bias is that of column 0.
template <int TILE, class Element, class Rows>
__device__ inline void write_sums(const WarpSums<TILE>& sums, const Results<Element>& results,
                                  const EpilogueOf<Element>& epilogue, const Rows& offset_of, int first_row,
                                  int last_row, int first_column, int last_column) {
  using Sums = WarpSums<TILE>;
#pragma unroll  // the sums are registers, which no variable can index
  for (int i = 0; i < 2 * Sums::ROWS; ++i) {
    const int row = first_row + int(Sums::row(i / 2, i % 2));
    if (row >= last_row) continue;
    const int64_t first_offset = offset_of(row);
#pragma unroll
    for (int j = 0; j < Sums::COLUMNS; ++j) {
      const int column = first_column + int(Sums::column(j));
      if (column >= last_column) continue;
      const int64_t offset = first_offset + column;
      const bool both = column + 1 < last_column;
      const auto finish = [&](float sum, int e) {
        if (epilogue.bias != nullptr) sum += epilogue.bias[column + e];
        if (epilogue.activation == Activation::relu) sum = relu(sum);
        return epilogue.mask != nullptr ? relu_gradient(sum, to_float(epilogue.mask[offset + e])) : sum;
      };
      const float first = finish(sums.values[i / 2][j][i % 2 * 2], 0);
      const float second = both ? finish(sums.values[i / 2][j][i % 2 * 2 + 1], 1) : 0.0f;
      if (results.wide != nullptr)
        write_pair(results.wide + offset, first, second, both, epilogue.accumulate);
      else
        write_pair(results.narrow + offset, first, second, both, epilogue.accumulate);
    }
  }
}

// Calls launch_with(tile, copies, config) with the kernel's compile-time constants. Off 16-byte boundaries there is the
// small tile alone, whose registers leave room for finding elements one by one.
template <class Launch>
void launch_tensor_core_tiles(const char* op, const Product& product, Schedule schedule, Copies copies, Stream stream,
                              const Launch& launch_with) {
  const auto launch_tile = [&](auto tile, auto constant_copies) {
    schedule.tile = tile;
    launch_with(tile, constant_copies,
                LaunchConfig{.op = op,
                             .grid = tile_grid(op, product, schedule),
                             .block = TENSOR_CORE_THREADS,
                             .shared_bytes = sizeof(TensorCoreStorage<tile>),
                             .stream = stream});
  };
  using Large = std::integral_constant<int, 128>;
  using Small = std::integral_constant<int, 64>;
  using Chunks = std::integral_constant<Copies, Copies::chunks>;
  if (copies == Copies::elements)
    launch_tile(Small(), std::integral_constant<Copies, Copies::elements>());
  else if (schedule.tile == 64)
    launch_tile(Small(), Chunks());
  else
    launch_tile(Large(), Chunks());
}

// Throws where the GPU's tensor cores do not know the elements.
template <class Arithmetic>
void check_capability(const char* op) {
  const int capability = compute_capability(op);
  check(capability >= Arithmetic::CAPABILITY, op,
        std::string(Arithmetic::NAME) + " wants a GPU of compute capability " +
            std::to_string(Arithmetic::CAPABILITY / 10) + "." + std::to_string(Arithmetic::CAPABILITY % 10) +
            ", this one has " + std::to_string(capability / 10) + "." + std::to_string(capability % 10) +
            ": use float32");
}

}  // namespace minicnn
