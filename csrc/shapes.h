// The problem sizes of the windowed ops, all-int twins of the named tuples in minicnn/shapes.py, and the index maps of
// convolution derived from them.
#pragma once
#include <array>

#include "device/host_device.h"

namespace minicnn {

// x (N, H, W, C), w (K, R, S, C / groups), y (N, P, Q, K).
struct ConvShape {
  int n, h, w, c, k, r, s, p, q;
  int stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, groups;
};

// x (N, H, W, C), windows (R, S), y (N, P, Q, C).
struct PoolShape {
  int n, h, w, c, r, s, p, q;
  int stride_h, stride_w, padding_h, padding_w;
};

// Field names in order, for Python.
template <class Shape>
struct ShapeFields;

template <>
struct ShapeFields<ConvShape> {
  static constexpr const char* name = "ConvShape";
  static constexpr std::array fields = {"n",        "h",        "w",         "c",         "k",          "r",
                                        "s",        "p",        "q",         "stride_h",  "stride_w",   "padding_h",
                                        "padding_w", "dilation_h", "dilation_w", "groups"};
};

template <>
struct ShapeFields<PoolShape> {
  static constexpr const char* name = "PoolShape";
  static constexpr std::array fields = {"n", "h", "w",        "c",        "r",         "s",
                                        "p", "q", "stride_h", "stride_w", "padding_h", "padding_w"};
};

}  // namespace minicnn
