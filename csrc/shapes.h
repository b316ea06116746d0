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

}  // namespace minicnn
