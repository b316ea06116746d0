// Local response normalisation across channels.
//
// s[c] = k + scale * sum of x[j]^2 over the window of c: c - below <= j <= c + above, cut off at the first and last
// channel
// Forward:  y[c] = x[c] * s[c]^-beta
// Backward: dx[c] (+)= dy[c] * s[c]^-beta - 2*scale*beta * x[c] * sum of ratio[i] over c - above <= i <= c + below,
//           ratio[i] = dy[i] * s[i]^-beta * x[i] / s[i]:  those i whose window contains c
//
// x, y, dy, dx (pixels, channels) float32.
//
// A thread owns pixels, and takes a vector of channels at a time: the windows of its lanes are the vectors that begin
// at c - below, ..., c + above, which the first-level cache has. s is computed in both directions rather than stored;
// the ratios of a pixel are kept on the stack. Bytes an element: 8 forward, 12 backward, 16 with Accumulate::add, and 4
// more where the processor reads a line before it overwrites it. FLOPs: 2 a channel of the window (3 backward), and
// about 15 for beta = 0.75 by reciprocal square roots; another beta costs a logarithm and an exponential. Bound by
// memory bandwidth as long as the window has few channels.
//
// Assumes at most 12288 channels. The window's sum is taken anew for every channel: sliding it by a subtraction would
// leave the rounding error of a large square in all sums after it.
// Source: Krizhevsky et al. 2012, section 3.3.
#include <cmath>
#include <string>

#include "check.h"
#include "native/map.h"

namespace minicnn {
namespace {

constexpr int MOST_CHANNELS = 12288;  // 96 KiB on the stack

struct Norm {
  int below, above;
  float scale, beta, k;
  int channels;
};

// s of the channels from c on, of one pixel x (channels).
Floats scales(const float* x, int c, const Norm& norm) {
  Floats sum{};
  for (int j = c - norm.below; j <= c + norm.above; ++j) {
    const Floats values = load_inside(x, j, norm.channels);
    sum += values * values;
  }
  return norm.k + norm.scale * sum;
}

// s^-beta.
Floats inverse_power(Floats s, float beta) {
  if (beta == 0.75f) {
    const Floats root = reciprocal_square_root(s);
    return root * square_root(root);
  }
  for (int i = 0; i < LANES; ++i) s[i] = std::pow(s[i], -beta);
  return s;
}

void forward(const float* x, float* y, const Norm& norm) {
  in_vectors(0, norm.channels, [&](int64_t c, auto lanes) {
    store_some(y + c, load_some(x + c, lanes) * inverse_power(scales(x, int(c), norm), norm.beta), lanes);
  });
}

// What does not depend on other channels' gradients: direct[c] = dy[c] * s[c]^-beta, and ratio[c].
void compute_ratios(const float* dy, const float* x, float* direct, float* ratio, const Norm& norm) {
  in_vectors(0, norm.channels, [&](int64_t c, auto lanes) {
    const Floats s = scales(x, int(c), norm), gradient = load_some(dy + c, lanes) * inverse_power(s, norm.beta);
    store_some(direct + c, gradient, lanes);
    store_some(ratio + c, gradient / s * load_some(x + c, lanes), lanes);
  });
}

void backward(const float* dy, const float* x, float* dx, Accumulate accumulate, const Norm& norm) {
  float direct[MOST_CHANNELS], ratio[MOST_CHANNELS];
  compute_ratios(dy, x, direct, ratio, norm);
  in_vectors(0, norm.channels, [&](int64_t c, auto lanes) {
    Floats sum{};
    for (int i = int(c) - norm.above; i <= int(c) + norm.below; ++i) sum += load_inside(ratio, i, norm.channels);
    const Floats through_s = 2 * norm.scale * norm.beta * load_some(x + c, lanes) * sum;
    write_some(dx + c, load_some(direct + c, lanes) - through_s, accumulate, lanes);
  });
}

}  // namespace

void lrn_forward(const float* x, float* y, int below, int above, float scale, float beta, float k, int64_t pixels,
                 int channels, Stream) {
  const Norm norm{std::min(below, channels), std::min(above, channels), scale, beta, k, channels};
  parallel(pixels, ceil_div<int64_t>(GRAIN / 4, channels + 1), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * channels; at < end * channels; at += channels) forward(x + at, y + at, norm);
  });
}

void lrn_backward(const float* dy, const float* x, float* dx, Accumulate accumulate, int below, int above, float scale,
                  float beta, float k, int64_t pixels, int channels, Stream) {
  check(channels <= MOST_CHANNELS, "lrn_backward",
        std::to_string(channels) + " channels, at most " + std::to_string(MOST_CHANNELS) + " are possible");
  const Norm norm{std::min(below, channels), std::min(above, channels), scale, beta, k, channels};
  parallel(pixels, ceil_div<int64_t>(GRAIN / 4, channels + 1), [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * channels; at < end * channels; at += channels)
      backward(dy + at, x + at, dx + at, accumulate, norm);
  });
}

}  // namespace minicnn
