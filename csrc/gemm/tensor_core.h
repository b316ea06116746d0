// Kernels that stand on tensor_core_tile.h: how they are launched, and where their sums go.
#pragma once
#include "device/capability.h"
#include "device/quad.h"
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

// A warp's sums on their way to memory, 32 rows at a time, where the slices were. Rows are 8 floats longer than needed,
// so that the pairs which half a warp writes, of four rows, lie in different banks.
template <class Sums>
struct SumsPatch {
  static constexpr int HEIGHT = 32, WIDTH = Sums::WIDTH, QUADS = WIDTH / 4;
  float at[HEIGHT][WIDTH + 8];

  __device__ const Vec4& quad(int row, int column) const { return *reinterpret_cast<const Vec4*>(&at[row][column]); }
};

// Calls use(patch, row, column) for each patch of sums, of which (row, column) of the result is the first, in the tile
// that `shared` has kept. All threads of the block take part; those of a warp see its patches.
//
// Each warp turns its sums into quads of neighbours by way of shared memory: accesses of 16 bytes, and code that is
// short because it need not name registers.
template <class Sums, int TILE, class Use>
__device__ inline void for_each_patch(const Sums& sums, TensorCoreStorage<TILE>& shared, const Use& use) {
  using Patch = SumsPatch<Sums>;
  struct alignas(8) Pair {
    float values[2];
  };
  static_assert(Sums::WARPS * sizeof(Patch) <= sizeof(shared.a) + sizeof(shared.b),
                "the warps' patches are in the storage");
  Patch& patch = reinterpret_cast<Patch*>(&shared)[threadIdx.x / 32];
  const int lane = threadIdx.x % 32;
  __syncthreads();  // all have multiplied the last slice
#pragma unroll      // the sums are registers, which no variable can index
  for (int top = 0; top < Sums::HEIGHT; top += Patch::HEIGHT) {
#pragma unroll
    for (int i = 0; i < Patch::HEIGHT / 8; ++i)
      for (int j = 0; j < Sums::COLUMNS; ++j) {
        const auto& values = sums.values[top / 16 + i / 2][j];
        *reinterpret_cast<Pair*>(&patch.at[8 * i + lane / 4][8 * j + lane % 4 * 2]) = {values[i % 2 * 2],
                                                                                       values[i % 2 * 2 + 1]};
      }
    __syncwarp();
    use(patch, shared.tile.first_row + int(Sums::first_row()) + top,
        shared.tile.first_column + int(Sums::first_column()));
    __syncwarp();
  }
}

// quad = activation(quad + bias[column ...]), where a bias of null is none.
__device__ inline void finish_quad(Vec4& quad, const float* bias, Activation activation, int column, int last_column) {
  if (bias != nullptr) {
    const Vec4 of_columns = load_vec4(bias, column, last_column);
    for (int e = 0; e < 4; ++e) quad.values[e] += of_columns.values[e];
  }
  if (activation == Activation::relu)
    for (float& value : quad.values) value = relu(value);
}

// results[offset_of(i) + j] (+)= the epilogue of sums[i,j], for all i < last_row that offset_of has and j < last_column
// of the tile that `shared` has kept; the bias is that of column 0. All threads of the block take part.
template <class Sums, int TILE, class Element, class Rows>
__device__ inline void write_sums(const Sums& sums, TensorCoreStorage<TILE>& shared, const Results<Element>& results,
                                  const EpilogueOf<Element>& epilogue, const Rows& offset_of, int last_row,
                                  int last_column) {
  using Patch = SumsPatch<Sums>;
  for_each_patch(sums, shared, [&](const Patch& patch, int first_row, int first_column) {
#pragma unroll 1
    for (int place = threadIdx.x % 32; place < Patch::HEIGHT * Patch::QUADS; place += 32) {
      const int patch_row = place / Patch::QUADS, patch_column = place % Patch::QUADS * 4;
      const int row = first_row + patch_row, column = first_column + patch_column, count = last_column - column;
      if (row >= last_row || count <= 0 || !has_row(offset_of, row)) continue;
      Vec4 quad = patch.quad(patch_row, patch_column);
      finish_quad(quad, epilogue.bias, epilogue.activation, column, last_column);
      const int64_t offset = offset_of(row) + column;
      const Element* const mask = epilogue.mask != nullptr ? epilogue.mask + offset : nullptr;
      if (std::is_same_v<Element, float> || results.wide != nullptr)
        write_quad(quad, results.wide + offset, mask, epilogue.accumulate, count);
      else
        write_quad(quad, results.narrow + offset, mask, epilogue.accumulate, count);
    }
  });
}

// Blocks an SM, for __launch_bounds__: left to itself, which 0 means, ptxas spills registers for more of the large tile
// and of tf32x3.
template <class Arithmetic, int TILE>
constexpr int FEWEST_BLOCKS = TILE == 128                         ? 1
                              : Arithmetic::IN_FLOAT32_IF_SPECIAL ? 4
                                                                  : 0;

// Calls launch_with(tile, copies, config) with the kernel's compile-time constants.
template <class Arithmetic, class Launch>
void launch_tensor_core_tiles(const char* op, const Product& product, Schedule schedule, bool in_chunks, Stream stream,
                              const Launch& launch_with) {
  const auto launch_tile = [&](auto tile, auto copies) {
    schedule.tile = tile;
    launch_with(tile, copies,
                LaunchConfig{.op = op,
                             .grid = tile_grid(op, product, schedule),
                             .block = TENSOR_CORE_THREADS<Arithmetic, tile>,
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
