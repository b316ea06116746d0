// Which windows of the pooling ops meet which pixels, on every device.
#pragma once
#include "device/host_device.h"
#include "shapes.h"

namespace minicnn {

// begin <= i < end; empty where end <= begin.
struct Range {
  int begin, end;
};

MINICNN_HOST_DEVICE constexpr int least(int a, int b) { return a < b ? a : b; }
MINICNN_HOST_DEVICE constexpr int greatest(int a, int b) { return a < b ? b : a; }

// The taps of a window that lie in the image rather than in the padding.
MINICNN_HOST_DEVICE inline Range taps_inside(const Axis& axis, int output) {
  const int first = axis.input_at(output, 0);
  return {greatest(0, -first), least(axis.taps, axis.inputs - first)};
}

// The windows that contain an input position.
MINICNN_HOST_DEVICE inline Range windows_over(const Axis& axis, int input) {
  const int distance = input + axis.padding;
  return {distance < axis.taps ? 0 : (distance - axis.taps) / axis.stride + 1,
          least(axis.outputs, distance / axis.stride + 1)};
}

}  // namespace minicnn
