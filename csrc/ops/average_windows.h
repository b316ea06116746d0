// The windows of the two average poolings, on every device: inputs, outputs (the extents of the axis),
// inputs_of(output), count(output) > 0, outputs_over(input).
#pragma once

#include "check.h"
#include "ops/taps.h"

namespace minicnn {

// Of one size, at steps of one stride. The padding counts as zeros, or not at all.
struct SlidingWindows {
  int inputs, outputs;
  Axis axis;
  bool count_padding;

  SlidingWindows(const Axis& axis, bool count_padding)
      : inputs(axis.inputs), outputs(axis.outputs), axis(axis), count_padding(count_padding) {}

  MINICNN_HOST_DEVICE Range inputs_of(int output) const {
    const Range taps = taps_inside(axis, output);
    const int first = axis.input_at(output, 0);
    return {first + taps.begin, first + taps.end};
  }

  MINICNN_HOST_DEVICE int count(int output) const {
    const int first = axis.input_at(output, 0), last = first + axis.taps;
    const int covered =
        count_padding ? least(last, inputs + axis.padding) - first : least(last, inputs) - greatest(first, 0);
    return greatest(covered, 1);
  }

  MINICNN_HOST_DEVICE Range outputs_over(int input) const { return windows_over(axis, input); }
};

// Window i of `count` windows that share out `extent` elements.
MINICNN_HOST_DEVICE inline Range share_of_extent(int i, int extent, int count) {
  return {i * extent / count, ceil_div((i + 1) * extent, count)};
}

struct EvenWindows {
  int inputs, outputs;

  MINICNN_HOST_DEVICE Range inputs_of(int output) const { return share_of_extent(output, inputs, outputs); }
  MINICNN_HOST_DEVICE int count(int output) const {
    const auto [begin, end] = inputs_of(output);
    return end - begin;
  }
  MINICNN_HOST_DEVICE Range outputs_over(int input) const { return share_of_extent(input, outputs, inputs); }
};

// (count + 1) * extent must not overflow.
inline void check_products(const char* op, int extent, int count) {
  check((int64_t(count) + 1) * (extent + 1) < int64_t(1) << 31, op, extent, " inputs and ", count,
        " outputs along an axis: their product must be below 2^31");
}

}  // namespace minicnn
