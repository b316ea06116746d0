// Local response normalisation across channels.
//
// s[c] = k + scale * sum of x[j]^2 over the window of c: c - below <= j <= c + above, cut off at the first and last
// channel Forward:  y[c] = x[c] * s[c]^-beta Backward: dx[c] (+)= dy[c] * s[c]^-beta - 2*scale*beta * x[c] * sum of
// ratio[i] over c - above <= i <= c + below,
//           ratio[i] = dy[i] * s[i]^-beta * x[i] / s[i]:  those i whose window contains c
//           Where a ReLU made x, dx[c] (+)= 0 where x[c] <= 0: then dx is the gradient of what the ReLU was given.
//
// y, dy (pixels, channels) float32; x, dx (pixels, channels) float32, Bfloat16 or Float16. Sums are float32, dx is
// rounded once.
//
// A thread owns four consecutive channels (one where channels % 4 != 0) of a pixel, or several such runs of it where
// the pixel has more than 256. Windows overlap those of the neighbouring threads: x is found again in the first-level
// cache, the ratios are passed on in shared memory. s is computed in both directions rather than stored. Grid
// ceil(pixels / rows of the block); block (runs of a pixel, as many pixels as make about 256 threads); shared memory
// none forward, 8 bytes an element of the block's pixels backward.
// Bytes an element: 8 forward, 12 backward, 16 with Accumulate::add; where x is of 16 bits, 6, 8 and 10. FLOPs: 2 a
// channel of the window (3 backward), one reciprocal square root and one square root for beta = 0.75, a power
// otherwise. Floor for (128, 55, 55, 96) at 3 TB/s: 0.099 ms forward, 0.149 ms backward: bound by memory bandwidth as
// long as the window has few channels.
//
// Assumes at most 12288 channels. The window's sum is taken anew for every channel: sliding it by a subtraction would
// leave the rounding error of a large square in all sums after it.
// Source: Krizhevsky et al. 2012, section 3.3.
#include "check.h"
#include "device/host_device.h"
#include "device/relu.h"
#include "device/run.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;
constexpr int MOST_CHANNELS = 12288;  // two floats each in the 96 KiB that every GPU from sm_80 on gives a block

struct Norm {
  int below, above;
  float scale, beta, k;
  int64_t pixels;
  int channels;
};

// sums[i] = sum of terms[j] over channel + i - below <= j <= channel + i + above; `term(j)` gives the run at j.
template <int WIDTH, class Term>
__device__ Run<float, WIDTH> window_sums(Term term, int channel, int channels, int below, int above) {
  Run<float, WIDTH> sums{};
  const int first = max(channel - below, 0) / WIDTH * WIDTH;
  const int last = min(channel + WIDTH - 1 + above, channels - 1);
  for (int j = first; j <= last; j += WIDTH) {
    const Run<float, WIDTH> terms = term(j);
    for (int t = 0; t < WIDTH; ++t)
      for (int i = 0; i < WIDTH; ++i) {
        const int distance = j + t - (channel + i);
        if (-below <= distance && distance <= above) sums.values[i] += terms.values[t];
      }
  }
  return sums;
}

// The run at x in float32.
template <int WIDTH, class T>
__device__ Run<float, WIDTH> load_floats(const T* x) {
  return run_of<float>(load_run<WIDTH>(x));
}

// s of the channels from `channel` on, of one pixel x (channels).
template <int WIDTH, class T>
__device__ Run<float, WIDTH> scales(const T* x, int channel, const Norm& norm) {
  const auto squares = [x](int j) {
    auto run = load_floats<WIDTH>(x + j);
    for (float& value : run.values) value *= value;
    return run;
  };
  auto s = window_sums<WIDTH>(squares, channel, norm.channels, norm.below, norm.above);
  for (float& value : s.values) value = norm.k + norm.scale * value;
  return s;
}

// s^-beta.
__device__ inline float inverse_power(float s, float beta) {
  if (beta != 0.75f) return powf(s, -beta);
  const float root = rsqrtf(s);
  return root * sqrtf(root);
}

template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS) lrn_forward_kernel(const T* x, float* y, Norm norm) {
  const int64_t pixel = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  if (pixel >= norm.pixels) return;
  x += pixel * norm.channels;
  y += pixel * norm.channels;
  for (int c = int(threadIdx.x) * WIDTH; c < norm.channels; c += int(blockDim.x) * WIDTH) {
    const auto s = scales<WIDTH>(x, c, norm);
    auto result = load_floats<WIDTH>(x + c);
    for (int i = 0; i < WIDTH; ++i) result.values[i] *= inverse_power(s.values[i], norm.beta);
    store_run(y + c, result);
  }
}

// What does not depend on other channels' gradients: direct[c] = dy[c] * s[c]^-beta, and ratio[c].
template <int WIDTH, class T>
__device__ void share_ratios(const float* dy, const T* x, float* direct, float* ratio, int c, const Norm& norm) {
  const auto s = scales<WIDTH>(x, c, norm);
  auto gradient = load_run<WIDTH>(dy + c), value = load_floats<WIDTH>(x + c);
  for (int i = 0; i < WIDTH; ++i) {
    gradient.values[i] *= inverse_power(s.values[i], norm.beta);
    value.values[i] *= gradient.values[i] / s.values[i];
  }
  store_run(direct + c, gradient);
  store_run(ratio + c, value);
}

// The windows that contain c reach as far above it as those of c reach below, and the other way round.
template <int WIDTH, class T>
__device__ Run<float, WIDTH> gradient_of(const T* x, Activation of_x, const float* direct, const float* ratio, int c,
                                         const Norm& norm) {
  const auto sums = window_sums<WIDTH>([ratio](int j) { return load_run<WIDTH>(ratio + j); }, c, norm.channels,
                                       norm.above, norm.below);
  const auto value = load_floats<WIDTH>(x + c);
  auto gradient = load_run<WIDTH>(direct + c);
  for (int i = 0; i < WIDTH; ++i) {
    gradient.values[i] -= 2 * norm.scale * norm.beta * value.values[i] * sums.values[i];
    if (of_x == Activation::relu) gradient.values[i] = relu_gradient(gradient.values[i], value.values[i]);
  }
  return gradient;
}

template <int WIDTH, class T>
__global__ void __launch_bounds__(THREADS)
    lrn_backward_kernel(const float* dy, const T* x, Activation of_x, T* dx, Accumulate accumulate, Norm norm) {
  const int64_t pixel = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const bool owns = pixel < norm.pixels;
  const int64_t offset = pixel * norm.channels;
  const int begin = int(threadIdx.x) * WIDTH, step = int(blockDim.x) * WIDTH;
  float* direct = &shared_memory<float>() + int(threadIdx.y) * norm.channels;
  float* ratio = direct + int(blockDim.y) * norm.channels;

  for (int c = begin; owns && c < norm.channels; c += step)
    share_ratios<WIDTH>(dy + offset, x + offset, direct, ratio, c, norm);
  __syncthreads();
  for (int c = begin; owns && c < norm.channels; c += step)
    store_run(dx + offset + c, gradient_of<WIDTH>(x + offset, of_x, direct, ratio, c, norm), accumulate);
}

LaunchConfig pixels_of_runs(const char* op, const Norm& norm, int width, Stream stream) {
  const int runs = norm.channels / width, threads_x = min(runs, THREADS), threads_y = THREADS / threads_x;
  return {.op = op,
          .grid = unsigned(ceil_div<int64_t>(norm.pixels, threads_y)),
          .block = dim3(unsigned(threads_x), unsigned(threads_y)),
          .stream = stream};
}

template <class T>
void forward(const char* op, const T* x, float* y, const Norm& norm, Stream stream) {
  if (norm.pixels * norm.channels == 0) return;
  const bool fours = has_runs_of(4, norm.channels, {x, y});
  launch(fours ? lrn_forward_kernel<4, T> : lrn_forward_kernel<1, T>, pixels_of_runs(op, norm, fours ? 4 : 1, stream),
         x, y, norm);
}

template <class T>
void backward(const char* op, const float* dy, const T* x, Activation of_x, T* dx, Accumulate accumulate,
              const Norm& norm, Stream stream) {
  if (norm.pixels * norm.channels == 0) return;
  check(norm.channels <= MOST_CHANNELS, op, norm.channels, " channels, at most ", MOST_CHANNELS, " are possible");
  const bool fours = has_runs_of(4, norm.channels, {dy, x, dx});
  LaunchConfig config = pixels_of_runs(op, norm, fours ? 4 : 1, stream);
  config.shared_bytes = 2 * sizeof(float) * config.block.y * size_t(norm.channels);
  launch(fours ? lrn_backward_kernel<4, T> : lrn_backward_kernel<1, T>, config, dy, x, of_x, dx, accumulate, norm);
}

}  // namespace

void lrn_forward(const float* x, float* y, int below, int above, float scale, float beta, float k, int64_t pixels,
                 int channels, Stream stream) {
  forward("lrn_forward", x, y, {below, above, scale, beta, k, pixels, channels}, stream);
}

void lrn_forward_bfloat16(const Bfloat16* x, float* y, int below, int above, float scale, float beta, float k,
                          int64_t pixels, int channels, Stream stream) {
  forward("lrn_forward_bfloat16", x, y, {below, above, scale, beta, k, pixels, channels}, stream);
}

void lrn_forward_float16(const Float16* x, float* y, int below, int above, float scale, float beta, float k,
                         int64_t pixels, int channels, Stream stream) {
  forward("lrn_forward_float16", x, y, {below, above, scale, beta, k, pixels, channels}, stream);
}

void lrn_backward(const float* dy, const float* x, Activation of_x, float* dx, Accumulate accumulate, int below,
                  int above, float scale, float beta, float k, int64_t pixels, int channels, Stream stream) {
  backward("lrn_backward", dy, x, of_x, dx, accumulate, {below, above, scale, beta, k, pixels, channels}, stream);
}

void lrn_backward_bfloat16(const float* dy, const Bfloat16* x, Activation of_x, Bfloat16* dx, Accumulate accumulate,
                           int below, int above, float scale, float beta, float k, int64_t pixels, int channels,
                           Stream stream) {
  backward("lrn_backward_bfloat16", dy, x, of_x, dx, accumulate, {below, above, scale, beta, k, pixels, channels},
           stream);
}

void lrn_backward_float16(const float* dy, const Float16* x, Activation of_x, Float16* dx, Accumulate accumulate,
                          int below, int above, float scale, float beta, float k, int64_t pixels, int channels,
                          Stream stream) {
  backward("lrn_backward_float16", dy, x, of_x, dx, accumulate, {below, above, scale, beta, k, pixels, channels},
           stream);
}

}  // namespace minicnn
