// How the fast kernels cut a product into blocks, and what follows where they cut its reduction.
//
// A cut reduction is deterministic: each part writes its own sums into the workspace, and a second pass adds them in
// order.
#pragma once
#include <cstdint>

#include "device/host_device.h"
#include "gemm/tile.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {

// What one launch computes: `batch` products of m x n sums over k.
struct Product {
  int64_t m, n, k, batch;
};

// `asked`, with what it leaves open chosen. It depends on the extents alone, so that equal work gives equal bits.
// Throws for a tile that there is not.
Schedule choose_schedule(const char* op, const Product& product, Schedule asked);

// Floats of workspace for `elements` results.
inline int64_t parts_workspace(Schedule schedule, int64_t elements) {
  return schedule.splits == 1 ? 0 : schedule.splits * elements;
}

// The blocks of a launch: its tiles, those of one row of tiles side by side, times the batch times the parts.
dim3 tile_grid(const char* op, const Product& product, Schedule schedule);

// Calls launch_with(tile, access, config): tile and access as compile-time constants, and what the launch needs for
// them. What is not read by quads goes to the small tile.
template <class Launch>
void launch_tiles(const char* op, const Product& product, Schedule schedule, Access access, Stream stream,
                  const Launch& launch_with) {
  const auto launch_tile = [&](auto tile, auto access) {
    schedule.tile = tile;
    launch_with(tile, access,
                LaunchConfig{.op = op,
                             .grid = tile_grid(op, product, schedule),
                             .block = tile_threads<tile>(),
                             .shared_bytes = sizeof(TileStorage<tile>),
                             .stream = stream});
  };
  if (access == Access::elements)
    launch_tile(std::integral_constant<int, 64>(), std::integral_constant<Access, Access::elements>());
  else if (schedule.tile == 64)
    launch_tile(std::integral_constant<int, 64>(), std::integral_constant<Access, Access::quads>());
  else
    launch_tile(std::integral_constant<int, 128>(), std::integral_constant<Access, Access::quads>());
}

// Where the blocks of part p write: result[p * part_stride ...].
struct Destination {
  float* result;
  int64_t part_stride;
  Epilogue epilogue;
};

// Whether the sums go to the workspace as they are, and sum_parts does the rest: of a cut reduction, and before
// dropout, whose random numbers would take a tile's threads too many registers, while in its place a pass of its own
// moves as many bytes.
template <class T>
bool has_second_pass(const EpilogueOf<T>& epilogue, Schedule schedule) {
  return schedule.splits > 1 || epilogue.dropout.drawn != nullptr;
}

inline Destination destination(float* result, float* workspace, int64_t elements, const Epilogue& epilogue,
                               Schedule schedule) {
  if (!has_second_pass(epilogue, schedule)) return {result, 0, epilogue};
  return {workspace, elements, {}};
}

// result (m, n), rows `pitch` apart, (+)= the epilogue of parts[0] + parts[1] + ... in this order; parts (splits, m,
// n). T is float, Bfloat16 or Float16.
template <class T>
void sum_parts(const char* op, const float* parts, int splits, int64_t m, int n, const EpilogueOf<T>& epilogue,
               T* result, int64_t pitch, Stream stream);

// The slices of the reduction, each `depth` deep, that belong to one of `splits` parts.
struct PartOfReduction {
  int first_k, slices;
};

__device__ inline PartOfReduction part_of_reduction(int k, int splits, int part, int depth = TILE_K) {
  const int slices = ceil_div(k, depth), each = ceil_div(slices, splits);
  return {part * each * depth, max(0, min(each, slices - part * each))};
}

}  // namespace minicnn
