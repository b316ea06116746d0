// Functions of windows: the poolings, and the preparation of images.
#include <algorithm>

#include "driver.h"

namespace driver {
namespace {

struct Case {
  const char* name;
  int n, h, w, c, window, stride, padding;
};
constexpr Case CASES[] = {{"AlexNet 3/2", 3, 27, 29, 96, 3, 2, 0},
                          {"LeNet 2/2, few channels", 40, 28, 28, 6, 2, 2, 0},
                          {"3/2 padded", 2, 14, 15, 67, 3, 2, 1},
                          {"7/3 padded", 3, 9, 11, 5, 7, 3, 3}};
constexpr Case WIDE{"17/2 padded", 2, 21, 23, 9, 17, 2, 5};  // more than 255 places in a window

PoolShape shape_of(const Case& pool) {
  const auto outputs = [&](int extent) { return (extent + 2 * pool.padding - pool.window) / pool.stride + 1; };
  return {pool.n,          pool.h,          pool.w,      pool.c,      pool.window,  pool.window,
          outputs(pool.h), outputs(pool.w), pool.stride, pool.stride, pool.padding, pool.padding};
}

int64_t x_count(const PoolShape& shape) { return int64_t(shape.n) * shape.h * shape.w * shape.c; }
int64_t y_count(const PoolShape& shape) { return int64_t(shape.n) * shape.p * shape.q * shape.c; }

// visit(i, from, place): output i sees input `from` at that place of its window.
void each_tap(const PoolShape& shape, const std::function<void(int64_t, int64_t, int)>& visit) {
  for (int64_t i = 0; i < y_count(shape); ++i) {
    const int c = int(i % shape.c), q = int(i / shape.c % shape.q), p = int(i / shape.c / shape.q % shape.p);
    const int64_t n = i / shape.c / shape.q / shape.p;
    for (int r = 0; r < shape.r; ++r)
      for (int s = 0; s < shape.s; ++s) {
        const int h = shape.rows().input_at(p, r), w = shape.columns().input_at(q, s);
        if (h < 0 || h >= shape.h || w < 0 || w >= shape.w) continue;
        visit(i, ((n * shape.h + h) * shape.w + w) * shape.c + c, r * shape.s + s);
      }
  }
}

template <class Index>
void verify_maxpool(const Case& pool, Activation of_x) {
  const PoolShape shape = shape_of(pool);
  const Array x = integers(x_count(shape), 1), dy = integers(y_count(shape), 2);
  std::vector<double> y(y_count(shape), -INFINITY), place(y_count(shape));
  std::vector<int64_t> winner(y_count(shape));
  each_tap(shape, [&](int64_t i, int64_t from, int at) {
    if (x[from] > y[i]) y[i] = x[from], place[i] = at, winner[i] = from;
  });
  std::vector<double> dx(x_count(shape));
  for (int64_t i = 0; i < y_count(shape); ++i) {
    if (of_x == Activation::relu && y[i] <= 0)
      place[i] = Index(-1);
    else
      dx[winner[i]] += dy[i];
  }

  ArrayOf<Index> index(y_count(shape));
  const auto narrow = [&] {
    return sizeof(Index) == 1 ? reinterpret_cast<uint8_t*>(static_cast<Index*>(index)) : nullptr;
  };
  const auto wide = [&] {
    return sizeof(Index) == 2 ? reinterpret_cast<uint16_t*>(static_cast<Index*>(index)) : nullptr;
  };
  const std::string variant = pool.name + std::string(of_x == Activation::relu ? " of a ReLU" : "");
  verify("maxpool2d_forward", variant, {{"y", y, EXACT}, {"index", place, EXACT}}, [&] {
    Array to = unwritten(y_count(shape));
    maxpool2d_forward(x, of_x, to, narrow(), wide(), shape, nullptr);
    return std::vector{to, Array(index.begin(), index.end())};
  });
  verify_gradient("maxpool2d_backward", variant, dx, EXACT, [&](float* to, Accumulate mode) {
    maxpool2d_backward(dy, narrow(), wide(), to, mode, shape, nullptr);
  });
}

// Where a mask says so, nothing passes.
std::vector<double> masked(std::vector<double> dx, const Array& mask) {
  for (int64_t i = 0; i < int64_t(dx.size()); ++i)
    if (mask[i] <= 0) dx[i] = 0;
  return dx;
}

void verify_avgpool(const Case& pool, bool count_padding) {
  const PoolShape shape = shape_of(pool);
  const Array x = integers(x_count(shape), 1), dy = integers(y_count(shape), 2), mask = integers(x_count(shape), 3);
  std::vector<double> y(y_count(shape)), count(y_count(shape)), dx(x_count(shape));
  each_tap(shape, [&](int64_t i, int64_t from, int) { y[i] += x[from], ++count[i]; });
  if (count_padding)
    for (int64_t i = 0; i < y_count(shape); ++i) {
      const int q = int(i / shape.c % shape.q), p = int(i / shape.c / shape.q % shape.p);
      const int h = shape.rows().input_at(p, 0), w = shape.columns().input_at(q, 0);
      count[i] = double(std::min(h + shape.r, shape.h + pool.padding) - h) *
                 (std::min(w + shape.s, shape.w + pool.padding) - w);
    }
  for (int64_t i = 0; i < y_count(shape); ++i) y[i] /= count[i];
  each_tap(shape, [&](int64_t i, int64_t from, int) { dx[from] += dy[i] / count[i]; });
  const std::string variant = pool.name + std::string(count_padding ? " padding counted" : "");
  verify("avgpool2d_forward", variant, y, ROUNDED,
         [&](float* to) { avgpool2d_forward(x, to, count_padding, shape, nullptr); });
  verify_gradient("avgpool2d_backward", variant, masked(dx, mask), ROUNDED, [&](float* to, Accumulate mode) {
    avgpool2d_backward(dy, mask, to, mode, count_padding, shape, nullptr);
  });
}

void verify_adaptive_avgpool(int n, int h, int w, int c, int p, int q) {
  const int64_t x_size = int64_t(n) * h * w * c, y_size = int64_t(n) * p * q * c;
  const Array x = integers(x_size, 1), dy = integers(y_size, 2), mask = integers(x_size, 3);
  std::vector<double> y(y_size), dx(x_size);
  for (int64_t i = 0; i < y_size; ++i) {
    const int channel = int(i % c), column = int(i / c % q), row = int(i / c / q % p);
    const int top = row * h / p, bottom = ((row + 1) * h + p - 1) / p;
    const int left = column * w / q, right = ((column + 1) * w + q - 1) / q;
    const double count = double(bottom - top) * (right - left);
    for (int at_h = top; at_h < bottom; ++at_h)
      for (int at_w = left; at_w < right; ++at_w) {
        const int64_t from = ((i / c / q / p * h + at_h) * w + at_w) * c + channel;
        y[i] += x[from] / count;
        dx[from] += dy[i] / count;
      }
  }
  const std::string variant = std::to_string(h) + "x" + std::to_string(w) + " to " + std::to_string(p);
  verify("adaptive_avgpool2d_forward", variant, y, ROUNDED,
         [&](float* to) { adaptive_avgpool2d_forward(x, to, n, h, w, c, p, q, nullptr); });
  verify_gradient("adaptive_avgpool2d_backward", variant, masked(dx, mask), ROUNDED, [&](float* to, Accumulate mode) {
    adaptive_avgpool2d_backward(dy, mask, to, mode, n, h, w, c, p, q, nullptr);
  });
}

// Crops of 40 out of 43 images in some other order, some beyond the borders, some mirrored.
void verify_images() {
  constexpr int M = 43, N = 40, H = 31, W = 33, C = 3, P = 28, Q = 29;
  const Array numbers_of_bytes = integers(int64_t(M) * H * W * C, 1);
  ArrayOf<uint8_t> images(numbers_of_bytes.count());
  for (int64_t i = 0; i < images.count(); ++i) images[i] = uint8_t(int(i * 41) + int(numbers_of_bytes[i]));
  ArrayOf<int64_t> windows(4 * N);
  for (int n = 0; n < N; ++n) {
    windows[4 * n] = (7 * n + 3) % M, windows[4 * n + 1] = n % 11 - 3, windows[4 * n + 2] = n % 9 - 2;
    windows[4 * n + 3] = n % 2;
  }
  const Array scale = integers(C, 2), offset = integers(N * C, 3);
  const auto expected = map(int64_t(N) * P * Q * C, [&](int64_t i) {
    const int64_t c = i % C, q = i / C % Q, p = i / C / Q % P, n = i / C / Q / P;
    const int64_t image = windows[4 * n], h = windows[4 * n + 1] + p;
    const int64_t w = windows[4 * n + 2] + (windows[4 * n + 3] ? Q - 1 - q : q);
    const double pixel = h >= 0 && h < H && w >= 0 && w < W ? images[((image * H + h) * W + w) * C + c] : 0;
    return pixel * scale[c] + offset[n * C + c];
  });
  verify("prepare_images", "", expected, EXACT,
         [&](float* y) { prepare_images(images, windows, scale, offset, y, N, H, W, C, P, Q, nullptr); });
}

}  // namespace

void verify_windows() {
  for (const Case& pool : CASES) {
    for (const Activation of_x : {Activation::none, Activation::relu}) verify_maxpool<uint8_t>(pool, of_x);
    for (const bool count_padding : {false, true}) verify_avgpool(pool, count_padding);
  }
  for (const Activation of_x : {Activation::none, Activation::relu}) verify_maxpool<uint16_t>(WIDE, of_x);
  verify_adaptive_avgpool(5, 13, 11, 67, 6, 6);
  verify_adaptive_avgpool(3, 4, 5, 9, 6, 7);  // more outputs than inputs
  verify_images();
}

}  // namespace driver
