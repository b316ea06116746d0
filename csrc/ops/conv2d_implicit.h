// What the implicit convolutions share, whichever arithmetic is within: how a pass is cut into blocks, and which part
// of the input's gradient a launch has.
#pragma once
#include "device/capability.h"
#include "gemm/schedule.h"
#include "shapes.h"

namespace minicnn {

// What the launches of one pass have in common: the products, how they are cut, and the elements of the result.
struct Pass {
  const char* op;
  Product product;
  int64_t results;
  Schedule schedule;

  Pass(const char* op, const Product& product, int64_t results, Schedule asked)
      : op(op), product(product), results(results), schedule(choose_schedule(op, product, asked)) {}

  int64_t workspace() const { return parts_workspace(schedule, results); }
};

inline Pass forward_pass(const ConvShape& shape, Schedule asked) {
  const int64_t pixels = int64_t(shape.n) * shape.p * shape.q, depth = int64_t(shape.r) * shape.s * shape.group_c();
  return {"conv2d_forward", {pixels, shape.group_k(), depth, shape.groups}, pixels * shape.k, asked};
}

// Of the first residue class, which is the largest.
inline Pass backward_input_pass(const ConvShape& shape, Schedule asked) {
  const int64_t pixels = int64_t(shape.n) * ceil_div(shape.h, shape.stride_h) * ceil_div(shape.w, shape.stride_w);
  const int64_t depth =
      int64_t(ceil_div(shape.r, shape.stride_h)) * ceil_div(shape.s, shape.stride_w) * shape.group_k();
  return {"conv2d_backward_input",
          {pixels, shape.group_c(), depth, shape.groups},
          int64_t(shape.n) * shape.h * shape.w * shape.c,
          asked};
}

inline Pass backward_weight_pass(const ConvShape& shape, Schedule asked) {
  const int64_t pixels = int64_t(shape.n) * shape.p * shape.q, depth = int64_t(shape.r) * shape.s * shape.group_c();
  return {"conv2d_backward_weight", {shape.group_k(), depth, pixels, shape.groups}, shape.k * depth, asked};
}

// By quads where all channel counts and pointers allow it, whatever the pass.
inline Access access_of(const ConvShape& shape, const float* a, const float* b) {
  const bool quads = shape.group_c() % 4 == 0 && shape.group_k() % 4 == 0 && is_aligned(a) && is_aligned(b);
  return quads ? Access::quads : Access::elements;
}

inline bool on_tensor_cores(Schedule schedule) {
  return schedule.math != Math::float32 && compute_capability("conv2d") >= 80;
}

// The tile of the result that a block owns, and its part of the reduction, whose slices are `depth` deep.
template <int TILE>
struct BlockWork {
  int group, first_row, first_column;
  PartOfReduction part;

  __device__ BlockWork(int columns, int k, int depth = TILE_K)
      : group(blockIdx.y), part(part_of_reduction(k, gridDim.z, blockIdx.z, depth)) {
    const int column_tiles = ceil_div(columns, TILE);
    first_row = blockIdx.x / column_tiles * TILE;
    first_column = blockIdx.x % column_tiles * TILE;
  }
};

// The input positions of one residue a side, and the filters' taps that can read them.
struct ResidueClass {
  ConvShape shape;
  GradientAxis rows, columns;
};

// Where the input pixels of a residue class lie, from the start of dx on: a pointer or an offset, as `first` is.
template <class Place>
struct ResidueRows {
  Place first;
  const ResidueClass& residue;
  __device__ Place operator()(int row) const {
    const Pixel place = pixel_at(row, residue.rows.positions, residue.columns.positions);
    const int h = residue.rows.residue + residue.shape.stride_h * place.row;
    const int w = residue.columns.residue + residue.shape.stride_w * place.column;
    return first + x_offset(residue.shape, place.image, h, w, 0);
  }
};
template <class Place>
ResidueRows(Place, const ResidueClass&) -> ResidueRows<Place>;

}  // namespace minicnn
