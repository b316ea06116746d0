// The problem sizes of the windowed ops, and the index maps of convolution and pooling that follow from them.
//
// All-int twins of the named tuples in minicnn/shapes.py: letters as in kernels.h, output extents computed there.
#pragma once
#include <array>
#include <cstdint>

#include "device/host_device.h"

namespace minicnn {

// One spatial axis: tap t of output o reads input position o * stride - padding + t * dilation, which may lie outside.
struct Axis {
  int inputs, taps, outputs, stride, padding, dilation;

  MINICNN_HOST_DEVICE int input_at(int output, int tap) const { return output * stride - padding + tap * dilation; }

  MINICNN_HOST_DEVICE bool is_inside(int input) const { return unsigned(input) < unsigned(inputs); }

  // The inverse: the output whose tap reads the input position; -1 where there is none.
  MINICNN_HOST_DEVICE int output_at(int input, int tap) const {
    const int distance = input + padding - tap * dilation;
    if (distance < 0 || distance % stride != 0 || distance / stride >= outputs) return -1;
    return distance / stride;
  }

  // The taps that can read an input position, at whichever output: first_tap, first_tap + tap_step, ... below `taps`.
  // They depend on input % stride alone, so that a strided dgrad multiplies no zeros if it takes the positions class by
  // class. Positions that no tap can read have first_tap == taps.
  MINICNN_HOST_DEVICE int first_tap(int input) const {
    for (int tap = 0; tap < taps && tap < stride; ++tap)
      if ((input + padding - tap * dilation) % stride == 0) return tap;
    return taps;
  }

  // stride / gcd(stride, dilation): the next tap whose distance is again a multiple of the stride.
  MINICNN_HOST_DEVICE int tap_step() const {
    int step = 1;
    while (step * dilation % stride != 0) ++step;
    return step;
  }
};

// x (N, H, W, C), w (K, R, S, C / groups), y (N, P, Q, K).
struct ConvShape {
  int n, h, w, c, k, r, s, p, q;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, groups;

  MINICNN_HOST_DEVICE Axis rows() const { return {h, r, p, stride_h, padding_h, dilation_h}; }
  MINICNN_HOST_DEVICE Axis columns() const { return {w, s, q, stride_w, padding_w, dilation_w}; }
  MINICNN_HOST_DEVICE int group_c() const { return c / groups; }
  MINICNN_HOST_DEVICE int group_k() const { return k / groups; }
};

// x (N, H, W, C), windows (R, S), y (N, P, Q, C).
struct PoolShape {
  int n, h, w, c, r, s, p, q;
  int stride_h, stride_w, padding_h, padding_w;

  MINICNN_HOST_DEVICE Axis rows() const { return {h, r, p, stride_h, padding_h, 1}; }
  MINICNN_HOST_DEVICE Axis columns() const { return {w, s, q, stride_w, padding_w, 1}; }
};

// c (m, n) = op(a) (m, k) times op(b) (k, n); ld: elements from one row in memory to the next.
struct GemmShape {
  int m, n, k, lda, ldb, ldc;
};

// How float32 arrays are multiplied: by float32 arithmetic, or by the tensor cores as csrc/gemm/precision.h says. GPUs
// whose tensor cores know no TF32 (below sm_80) compute in float32 whatever is asked.
enum class Math : int {
  float32 = 0,
  tf32 = 1,    // each element rounded to 11 significant bits
  tf32x3 = 2,  // each element as two TF32 numbers: float32's accuracy
};

// How a kernel cuts a product: tiles of tile x tile (64 or 128), the reduction in `splits`; 0 leaves it to the kernel.
// Operands that do not lie in quads of 16 bytes are cut in tiles of 64 whatever is asked. And how it multiplies.
struct Schedule {
  int tile, splits;
  Math math;
};

// The three GEMMs of a convolution, for one group:
//
//           rows                columns                reduction
//   fprop   output pixel        filter k               tap of C / groups channels
//   dgrad   input pixel         channel c              tap of K / groups filters
//   wgrad   filter k            tap of C / groups      output pixel
//
// Pixels and taps are numbered as they lie in memory.

struct Pixel {
  int image, row, column;
};

struct Tap {
  int r, s, channel;
};

MINICNN_HOST_DEVICE inline Pixel pixel_at(int index, int rows, int columns) {
  return {index / columns / rows, index / columns % rows, index % columns};
}

// Of y: 0 <= index < N * P * Q.
MINICNN_HOST_DEVICE inline Pixel output_pixel(const ConvShape& shape, int index) {
  return pixel_at(index, shape.p, shape.q);
}

// Of x: 0 <= index < N * H * W.
MINICNN_HOST_DEVICE inline Pixel input_pixel(const ConvShape& shape, int index) {
  return pixel_at(index, shape.h, shape.w);
}

// 0 <= index < R * S * channels.
MINICNN_HOST_DEVICE inline Tap tap_at(const ConvShape& shape, int index, int channels) {
  return {index / channels / shape.s, index / channels % shape.s, index % channels};
}

// `by` pixels further, without a division: what a loop over pixels keeps.
MINICNN_HOST_DEVICE inline Pixel pixel_after(Pixel pixel, int by, int rows, int columns) {
  pixel.column += by;
  while (pixel.column >= columns) {
    pixel.column -= columns;
    if (++pixel.row == rows) {
      pixel.row = 0;
      ++pixel.image;
    }
  }
  return pixel;
}

// `by` channels further along the taps of a filter `s` wide; r runs past the filter's end.
MINICNN_HOST_DEVICE inline Tap tap_after(Tap tap, int by, int s, int channels) {
  tap.channel += by;
  while (tap.channel >= channels) {
    tap.channel -= channels;
    if (++tap.s == s) {
      tap.s = 0;
      ++tap.r;
    }
  }
  return tap;
}

// Offsets of elements; w counts its channels within the group.
MINICNN_HOST_DEVICE inline int64_t x_offset(const ConvShape& shape, int n, int h, int w, int c) {
  return ((int64_t(n) * shape.h + h) * shape.w + w) * shape.c + c;
}
MINICNN_HOST_DEVICE inline int64_t w_offset(const ConvShape& shape, int k, int r, int s, int c) {
  return ((int64_t(k) * shape.r + r) * shape.s + s) * shape.group_c() + c;
}
MINICNN_HOST_DEVICE inline int64_t y_offset(const ConvShape& shape, int n, int p, int q, int k) {
  return ((int64_t(n) * shape.p + p) * shape.q + q) * shape.k + k;
}

// One integer an axis, in C order, for kernels that walk arrays of any rank (device/strided.h). Arrays of fewer axes
// have leading ones of extent 1 and stride 0.
struct PerAxis {
  static constexpr int COUNT = 6;
  int axis[COUNT];
  MINICNN_HOST_DEVICE constexpr int operator[](int i) const { return axis[i]; }
};

// The gradient of the input positions h = residue + stride * i of an axis, all of which the same taps can read,
// t = first_tap + tap_step * j: dy convolved at stride 1, where tap j of position i reads output i + first - step * j.
struct GradientAxis {
  int residue, positions, first_tap, tap_step, taps, first, step;
};

MINICNN_HOST_DEVICE inline GradientAxis gradient_axis(const Axis& axis, int residue) {
  const int first_tap = axis.first_tap(residue), tap_step = axis.tap_step();
  return {.residue = residue,
          .positions = residue < axis.inputs ? ceil_div(axis.inputs - residue, axis.stride) : 0,
          .first_tap = first_tap,
          .tap_step = tap_step,
          .taps = ceil_div(axis.taps - first_tap, tap_step),
          .first = (residue + axis.padding - first_tap * axis.dilation) / axis.stride,
          .step = tap_step * axis.dilation / axis.stride};
}

// That convolution: dy (N, P, Q, K) is its input, the input positions of one residue a side are its output.
MINICNN_HOST_DEVICE inline ConvShape gradient_shape(const ConvShape& shape, const GradientAxis& rows,
                                                    const GradientAxis& columns) {
  const bool has_taps = rows.taps > 0 && columns.taps > 0;  // where not, r = 0, and s stays a divisor
  return {.n = shape.n,
          .h = shape.p,
          .w = shape.q,
          .c = shape.k,
          .k = shape.c,
          .r = has_taps ? rows.taps : 0,
          .s = has_taps ? columns.taps : 1,
          .p = rows.positions,
          .q = columns.positions,
          .stride_h = 1,
          .stride_w = 1,
          .padding_h = -rows.first,
          .padding_w = -columns.first,
          .dilation_h = -rows.step,
          .dilation_w = -columns.step,
          .groups = shape.groups};
}

// The fields' names in their order, for Python.
template <class Shape>
struct ShapeFields;

template <>
struct ShapeFields<Axis> {
  static constexpr const char* name = "Axis";
  static constexpr std::array fields = {"inputs", "taps", "outputs", "stride", "padding", "dilation"};
};

template <>
struct ShapeFields<ConvShape> {
  static constexpr const char* name = "ConvShape";
  static constexpr std::array fields = {"n",         "h",          "w",          "c",        "k",        "r",
                                        "s",         "p",          "q",          "stride_h", "stride_w", "padding_h",
                                        "padding_w", "dilation_h", "dilation_w", "groups"};
};

template <>
struct ShapeFields<GemmShape> {
  static constexpr const char* name = "GemmShape";
  static constexpr std::array fields = {"m", "n", "k", "lda", "ldb", "ldc"};
};

template <>
struct ShapeFields<GradientAxis> {
  static constexpr const char* name = "GradientAxis";
  static constexpr std::array fields = {"residue", "positions", "first_tap", "tap_step", "taps", "first", "step"};
};

template <>
struct ShapeFields<PoolShape> {
  static constexpr const char* name = "PoolShape";
  static constexpr std::array fields = {"n", "h", "w",        "c",        "r",         "s",
                                        "p", "q", "stride_h", "stride_w", "padding_h", "padding_w"};
};

template <>
struct ShapeFields<PerAxis> {
  static constexpr const char* name = "PerAxis";
  static constexpr std::array fields = {"axis_0", "axis_1", "axis_2", "axis_3", "axis_4", "axis_5"};
};

template <>
struct ShapeFields<Schedule> {
  static constexpr const char* name = "Schedule";
  static constexpr std::array fields = {"tile", "splits", "math"};
};

}  // namespace minicnn
