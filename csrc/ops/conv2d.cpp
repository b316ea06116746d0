// Convolution, element by element: a thread owns images, channels or filters of the result.
#include "native/map.h"

namespace minicnn {
namespace {

// visit(n, h, w, c, k, r, s, p, q) for what multiplies x[n,h,w,c] by w[k,r,s,c] into y[n,p,q,k], one group's filter k.
template <class Visit>
void each_tap(const ConvShape& shape, int n, int k, const Visit& visit) {
  const int channels = shape.group_c(), first = k / shape.group_k() * channels;
  for (int p = 0; p < shape.p; ++p)
    for (int q = 0; q < shape.q; ++q)
      for (int r = 0; r < shape.r; ++r)
        for (int s = 0; s < shape.s; ++s) {
          const int h = shape.rows().input_at(p, r), w = shape.columns().input_at(q, s);
          if (!shape.rows().is_inside(h) || !shape.columns().is_inside(w)) continue;
          visit(x_offset(shape, n, h, w, first), w_offset(shape, k, r, s, 0), y_offset(shape, n, p, q, k), channels);
        }
}

}  // namespace

int64_t conv2d_implicit_forward_workspace(ConvShape, Schedule) { return 0; }
int64_t conv2d_implicit_backward_input_workspace(ConvShape, Schedule) { return 0; }
int64_t conv2d_implicit_backward_weight_workspace(ConvShape, Schedule) { return 0; }

void conv2d_implicit_forward(const float* x, const float* w, const float* bias, float* y, float*, ConvShape shape,
                             Schedule, Stream) {
  parallel(shape.n, 1, [&](int64_t begin, int64_t end) {
    for (int n = int(begin); n < end; ++n)
      for (int k = 0; k < shape.k; ++k) {
        for (int i = 0; i < shape.p * shape.q; ++i)
          y[(int64_t(n) * shape.p * shape.q + i) * shape.k + k] = bias == nullptr ? 0.0f : bias[k];
        each_tap(shape, n, k, [&](int64_t x_at, int64_t w_at, int64_t y_at, int channels) {
          for (int c = 0; c < channels; ++c) y[y_at] += x[x_at + c] * w[w_at + c];
        });
      }
  });
}

void conv2d_implicit_backward_input(const float* dy, const float* w, float* dx, Accumulate accumulate, float*,
                                    ConvShape shape, Schedule, Stream) {
  const int64_t image = int64_t(shape.h) * shape.w * shape.c;
  parallel(shape.n, 1, [&](int64_t begin, int64_t end) {
    for (int n = int(begin); n < end; ++n) {
      for (int64_t i = 0; i < image && accumulate == Accumulate::overwrite; ++i) dx[n * image + i] = 0.0f;
      for (int k = 0; k < shape.k; ++k)
        each_tap(shape, n, k, [&](int64_t x_at, int64_t w_at, int64_t y_at, int channels) {
          for (int c = 0; c < channels; ++c) dx[x_at + c] += dy[y_at] * w[w_at + c];
        });
    }
  });
}

void conv2d_implicit_backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float*,
                                     ConvShape shape, Schedule, Stream) {
  const int64_t filter = int64_t(shape.r) * shape.s * shape.group_c();
  parallel(shape.k, 1, [&](int64_t begin, int64_t end) {
    for (int k = int(begin); k < end; ++k) {
      for (int64_t i = 0; i < filter && accumulate == Accumulate::overwrite; ++i) dw[k * filter + i] = 0.0f;
      for (int n = 0; n < shape.n; ++n)
        each_tap(shape, n, k, [&](int64_t x_at, int64_t w_at, int64_t y_at, int channels) {
          for (int c = 0; c < channels; ++c) dw[w_at + c] += dy[y_at] * x[x_at + c];
        });
    }
  });
}

}  // namespace minicnn
