// The two average poolings as one pair of kernels; they differ in their windows.
//
// Forward:  y[n,p,q,c] = sum of x[n,h,w,c] over h in rows.inputs_of(p), w in columns.inputs_of(q)
//                        / (rows.count(p) * columns.count(q))
// Backward: dx[n,h,w,c] (+)= sum of dy[n,p,q,c] / (rows.count(p) * columns.count(q))
//                            over p in rows.outputs_over(h), q in columns.outputs_over(w), 0 where mask[n,h,w,c] <= 0
//
// x, dx (N, H, W, C) float32, mask the same or null; y, dy (N, P, Q, C) float32.
//
// Windows: ops/average_windows.h.
//
// Forward: a thread owns four consecutive channels (one where C % 4 != 0) of an output pixel; backward the same of an
// input pixel, for which it gathers: no atomics, and one order of additions.
// Grid (ceil(runs of an image / 256), ceil(N / 4)), block 256 threads, no shared memory.
// Bytes: x or dx once, y or dy once, the mask once; neighbouring windows meet in the cache. An addition for 4 bytes
// read: bound by memory bandwidth.
//
// Assumes images below 2^31 elements. A count that is a power of two divides exactly.
#pragma once
#include "ops/windows.h"

namespace minicnn {

template <int WIDTH, class Windows>
__global__ void __launch_bounds__(SPOT_THREADS, SPOT_BLOCKS)
    average_forward_kernel(const float* x, float* y, Windows row_windows, Windows column_windows, int images,
                           int channels) {
  const ImageExtents input{row_windows.inputs, column_windows.inputs, channels};
  const ImageExtents output{row_windows.outputs, column_windows.outputs, channels};
  const auto [p, q, c] = spot_of_thread<WIDTH>(output);
  if (p >= output.rows) return;
  const Range rows = row_windows.inputs_of(p), columns = column_windows.inputs_of(q);
  const float share = 1.0f / (float(row_windows.count(p)) * float(column_windows.count(q)));
  for (int n = blockIdx.y; n < images; n += gridDim.y) {
    const float* image = x + n * input.size();
    Run<float, WIDTH> sum{};
    for (int h = rows.begin; h < rows.end; ++h)
      for (int w = columns.begin; w < columns.end; ++w) {
        const auto value = load_run<WIDTH>(image + input.offset(h, w, c));
        for (int i = 0; i < WIDTH; ++i) sum.values[i] += value.values[i];
      }
    for (float& value : sum.values) value *= share;
    store_run(y + n * output.size() + output.offset(p, q, c), sum);
  }
}

template <int WIDTH, class Windows>
__global__ void __launch_bounds__(SPOT_THREADS, SPOT_BLOCKS)
    average_backward_kernel(const float* dy, const float* mask, float* dx, Accumulate accumulate, Windows row_windows,
                            Windows column_windows, int images, int channels) {
  const ImageExtents input{row_windows.inputs, column_windows.inputs, channels};
  const ImageExtents output{row_windows.outputs, column_windows.outputs, channels};
  const auto [h, w, c] = spot_of_thread<WIDTH>(input);
  if (h >= input.rows) return;
  const Range rows = row_windows.outputs_over(h), columns = column_windows.outputs_over(w);
  for (int n = blockIdx.y; n < images; n += gridDim.y) {
    const float* image = dy + n * output.size();
    Run<float, WIDTH> sum{};
    for (int p = rows.begin; p < rows.end; ++p) {
      const float row_count = float(row_windows.count(p));
      for (int q = columns.begin; q < columns.end; ++q) {
        const float share = 1.0f / (row_count * float(column_windows.count(q)));
        const auto gradient = load_run<WIDTH>(image + output.offset(p, q, c));
        for (int i = 0; i < WIDTH; ++i) sum.values[i] += share * gradient.values[i];
      }
    }
    const int64_t offset = n * input.size() + input.offset(h, w, c);
    store_run(dx + offset, sum, mask != nullptr ? mask + offset : nullptr, accumulate);
  }
}

template <class Windows>
void average_forward(const char* op, const float* x, float* y, Windows rows, Windows columns, int images, int channels,
                     Stream stream) {
  const ImageExtents output{rows.outputs, columns.outputs, channels};
  if (images * output.size() == 0) return;
  const bool fours = has_runs_of(4, channels, {x, y});
  launch(fours ? average_forward_kernel<4, Windows> : average_forward_kernel<1, Windows>,
         spots(op, images, output, fours ? 4 : 1, stream), x, y, rows, columns, images, channels);
}

template <class Windows>
void average_backward(const char* op, const float* dy, const float* mask, float* dx, Accumulate accumulate,
                      Windows rows, Windows columns, int images, int channels, Stream stream) {
  const ImageExtents input{rows.inputs, columns.inputs, channels};
  if (images * input.size() == 0) return;
  const bool fours = has_runs_of(4, channels, {dy, mask, dx});
  launch(fours ? average_backward_kernel<4, Windows> : average_backward_kernel<1, Windows>,
         spots(op, images, input, fours ? 4 : 1, stream), dy, mask, dx, accumulate, rows, columns, images, channels);
}

}  // namespace minicnn
