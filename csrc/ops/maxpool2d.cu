// Max pooling.
//
// Forward:  y[n,p,q,c] = max over r, s of x[n, p*stride_h + r - padding_h, q*stride_w + s - padding_w, c] inside the
// image
//           index[n,p,q,c] = r*S + s of the winner: the first of equals, the last NaN
//           A window wholly in the padding: y = -inf, its index is never read.
//           Where a ReLU made x, index = NOBODY where y <= 0: that ReLU's gradient passes nothing there
// Backward: dx[n,h,w,c] (+)= sum of dy[n,p,q,c] over the windows that contain (h, w) and whose index says (h, w)
//
// x, dx (N, H, W, C), y, dy (N, P, Q, C) float32, Bfloat16 or Float16; index (N, P, Q, C) uint8, or, of float32 alone,
// uint16 where R*S > 255. Sums are float32, rounded once.
//
// Forward: a thread owns 16 bytes of consecutive channels, four or eight (one where they do not divide C), of an output
// pixel; backward the same of an input pixel, for which it gathers: no atomics, and one order of additions.
// Grid (ceil(runs of an image / 256), ceil(N / 4)), block 256 threads, no shared memory.
// Bytes: x and dx once, y and dy once, the index once; neighbouring windows meet in the cache. A comparison or an
// addition for 4 or 2 bytes read: bound by memory bandwidth. The mask of the ReLU before it costs no byte: a winner is
// above 0 where its maximum is, and the index has a number left to say so.
//
// Assumes an image below 2^31 elements and R*S <= 65535.
// Source: gathering instead of scattering overlapping windows, cuda-convnet (Krizhevsky 2012); the index of one byte,
// Chen et al. 2016, "Training deep nets with sublinear memory cost" and MXNet.
#include "ops/windows.h"

namespace minicnn {
namespace {

// The place of no tap.
template <class Index>
constexpr Index NOBODY = Index(-1);

template <int WIDTH, class T, class Index>
__global__ void __launch_bounds__(SPOT_THREADS, SPOT_BLOCKS)
    maxpool2d_forward_kernel(const T* x, Activation of_x, T* y, Index* index, PoolShape shape) {
  const ImageExtents input{shape.h, shape.w, shape.c}, output{shape.p, shape.q, shape.c};
  const auto [p, q, c] = spot_of_thread<WIDTH>(output);
  if (p >= shape.p) return;
  const Range rows = taps_inside(shape.rows(), p), columns = taps_inside(shape.columns(), q);
  const int h = shape.rows().input_at(p, 0), w = shape.columns().input_at(q, 0);
  for (int n = blockIdx.y; n < shape.n; n += gridDim.y) {
    const T* image = x + n * input.size();
    Run<float, WIDTH> largest;
    Run<Index, WIDTH> place;
    for (int i = 0; i < WIDTH; ++i) {
      largest.values[i] = -INFINITY;
      place.values[i] = Index(rows.begin * shape.s + columns.begin);
    }
    for (int r = rows.begin; r < rows.end; ++r)
      for (int s = columns.begin; s < columns.end; ++s) {
        const auto value = run_of<float>(load_run<WIDTH>(image + input.offset(h + r, w + s, c)));
        for (int i = 0; i < WIDTH; ++i)
          if (value.values[i] > largest.values[i] || value.values[i] != value.values[i]) {
            largest.values[i] = value.values[i];
            place.values[i] = Index(r * shape.s + s);
          }
      }
    if (of_x == Activation::relu)
      for (int i = 0; i < WIDTH; ++i)
        if (largest.values[i] <= 0.0f) place.values[i] = NOBODY<Index>;
    const int64_t offset = n * output.size() + output.offset(p, q, c);
    store_run(y + offset, run_of<T>(largest));
    store_run(index + offset, place);
  }
}

template <int WIDTH, class T, class Index>
__global__ void __launch_bounds__(SPOT_THREADS, SPOT_BLOCKS)
    maxpool2d_backward_kernel(const T* dy, const Index* index, T* dx, Accumulate accumulate, PoolShape shape) {
  const ImageExtents input{shape.h, shape.w, shape.c}, output{shape.p, shape.q, shape.c};
  const auto [h, w, c] = spot_of_thread<WIDTH>(input);
  if (h >= shape.h) return;
  const Range rows = windows_over(shape.rows(), h), columns = windows_over(shape.columns(), w);
  for (int n = blockIdx.y; n < shape.n; n += gridDim.y) {
    Run<float, WIDTH> sum{};
    for (int p = rows.begin; p < rows.end; ++p)
      for (int q = columns.begin; q < columns.end; ++q) {
        const int r = h - shape.rows().input_at(p, 0), s = w - shape.columns().input_at(q, 0);
        const int64_t offset = n * output.size() + output.offset(p, q, c);
        const auto winner = load_run<WIDTH>(index + offset);
        const auto gradient = load_run<WIDTH>(dy + offset);
        for (int i = 0; i < WIDTH; ++i)
          if (winner.values[i] == r * shape.s + s) sum.values[i] += to_float(gradient.values[i]);
      }
    store_run(dx + n * input.size() + input.offset(h, w, c), sum, accumulate);
  }
}

template <class T, class Index>
void forward(const char* op, const T* x, Activation of_x, T* y, Index* index, const PoolShape& shape, Stream stream) {
  if (int64_t(shape.n) * shape.p * shape.q * shape.c == 0) return;
  constexpr int FULL = FULL_RUN<T>;
  const bool full = has_runs_of(FULL, shape.c, {x, y, index});
  launch(full ? maxpool2d_forward_kernel<FULL, T, Index> : maxpool2d_forward_kernel<1, T, Index>,
         spots(op, shape.n, {shape.p, shape.q, shape.c}, full ? FULL : 1, stream), x, of_x, y, index, shape);
}

template <class T, class Index>
void backward(const char* op, const T* dy, const Index* index, T* dx, Accumulate accumulate, const PoolShape& shape,
              Stream stream) {
  if (int64_t(shape.n) * shape.h * shape.w * shape.c == 0) return;
  constexpr int FULL = FULL_RUN<T>;
  const bool full = has_runs_of(FULL, shape.c, {dy, index, dx});
  launch(full ? maxpool2d_backward_kernel<FULL, T, Index> : maxpool2d_backward_kernel<1, T, Index>,
         spots(op, shape.n, {shape.h, shape.w, shape.c}, full ? FULL : 1, stream), dy, index, dx, accumulate, shape);
}

}  // namespace

void maxpool2d_forward(const float* x, Activation of_x, float* y, uint8_t* index, uint16_t* wide_index, PoolShape shape,
                       Stream stream) {
  wide_index ? forward("maxpool2d_forward", x, of_x, y, wide_index, shape, stream)
             : forward("maxpool2d_forward", x, of_x, y, index, shape, stream);
}

void maxpool2d_backward(const float* dy, const uint8_t* index, const uint16_t* wide_index, float* dx,
                        Accumulate accumulate, PoolShape shape, Stream stream) {
  wide_index ? backward("maxpool2d_backward", dy, wide_index, dx, accumulate, shape, stream)
             : backward("maxpool2d_backward", dy, index, dx, accumulate, shape, stream);
}

void maxpool2d_forward_bfloat16(const Bfloat16* x, Activation of_x, Bfloat16* y, uint8_t* index, PoolShape shape,
                                Stream stream) {
  forward("maxpool2d_forward_bfloat16", x, of_x, y, index, shape, stream);
}

void maxpool2d_backward_bfloat16(const Bfloat16* dy, const uint8_t* index, Bfloat16* dx, Accumulate accumulate,
                                 PoolShape shape, Stream stream) {
  backward("maxpool2d_backward_bfloat16", dy, index, dx, accumulate, shape, stream);
}

void maxpool2d_forward_float16(const Float16* x, Activation of_x, Float16* y, uint8_t* index, PoolShape shape,
                               Stream stream) {
  forward("maxpool2d_forward_float16", x, of_x, y, index, shape, stream);
}

void maxpool2d_backward_float16(const Float16* dy, const uint8_t* index, Float16* dx, Accumulate accumulate,
                                PoolShape shape, Stream stream) {
  backward("maxpool2d_backward_float16", dy, index, dx, accumulate, shape, stream);
}

}  // namespace minicnn
