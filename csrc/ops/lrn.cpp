// Local response normalisation across channels.
//
// s[c] = k + scale * sum of x[j]^2 over the window of c: c - below <= j <= c + above, cut off at the first and last
// channel
// Forward:  y[c] = x[c] * s[c]^-beta
// Backward: dx[c] (+)= dy[c] * s[c]^-beta - 2*scale*beta * x[c] * sum of ratio[i] over c - above <= i <= c + below,
//           ratio[i] = dy[i] * s[i]^-beta * x[i] / s[i]:  those i whose window contains c
//           Where a ReLU made x, dx[c] (+)= 0 where x[c] <= 0: then dx is the gradient of what the ReLU was given.
//
// x, y, dy, dx (pixels, channels) float32.
//
// A thread owns pixels, some of them at a time: their squares go in a line on the stack, zeros between the pixels, so
// that the windows of a vector of channels are the vectors that begin at its place in the line and beside it. Backward
// the ratios do the same in a second line. s is computed in both directions rather than stored. Bytes an element: 8
// forward, 12 backward, 16 with Accumulate::add, and 4 more where the processor reads a line before it overwrites it.
// FLOPs: 1 a channel of the window (2 backward), and about 20 for beta = 0.75 by reciprocal square roots; another beta
// is the C library's power, one element at a time. Bound by memory bandwidth as long as the window has few channels and
// the cores are many; by arithmetic on one.
//
// The window's sum is taken anew for every channel: sliding it by a subtraction would
// leave the rounding error of a large square in all sums after it.
// Source: Krizhevsky et al. 2012, section 3.3.
#include <cmath>
#include <vector>

#include "native/map.h"

namespace minicnn {
namespace {

constexpr int FLOATS_AT_A_TIME = 2048;  // several pixels; their lines stay in the first-level cache

struct Norm {
  int below, above;
  float scale, beta, k;
  int channels;

  int halo() const { return std::max(below, above); }  // zeros on both sides of each pixel
  int pitch() const { return channels + halo(); }      // from one pixel to the next
  int64_t pixels_at_a_time() const { return std::max(1, FLOATS_AT_A_TIME / pitch()); }
};

// The terms of several pixels. A vector of them may begin within `halo` of any channel.
struct Line {
  std::vector<float> floats;

  explicit Line(const Norm& norm) : floats(norm.halo() + norm.pixels_at_a_time() * norm.pitch() + LANES) {}

  float* pixel(const Norm& norm, int64_t i) { return floats.data() + norm.halo() + i * norm.pitch(); }
};

// The sums of the terms from c - below to c + above, for a vector of channels c.
Floats window_sums(const float* terms, int below, int above) {
  Floats sum = load(terms - below);
  for (int j = 1 - below; j <= above; ++j) sum += load(terms + j);
  return sum;
}

// s^-beta.
Floats inverse_power(Floats s, float beta) {
  if (beta == 0.75f) {
    constexpr float SMALLEST = 0x1p-126f;  // of an infinite s the root is 0, whose own root would be infinite
    const Floats root = reciprocal_square_root(s);
    return root * root * reciprocal_square_root(maximum(root, broadcast(SMALLEST)));
  }
  for (int i = 0; i < LANES; ++i) s[i] = std::pow(s[i], -beta);
  return s;
}

// visit(at, terms, lanes) for the vectors of channels of `pixels` pixels: `at` their offset, `terms` their place in a
// line.
template <class Visit>
void each_vector(int64_t pixels, const Norm& norm, Line& line, const Visit& visit) {
  for (int64_t i = 0; i < pixels; ++i) {
    float* terms = line.pixel(norm, i);
    in_vectors(0, norm.channels, [&](int64_t c, auto lanes) { visit(i * norm.channels + c, terms + c, lanes); });
  }
}

void write_squares(const float* x, int64_t pixels, const Norm& norm, Line& squares) {
  each_vector(pixels, norm, squares, [&](int64_t at, float* terms, auto lanes) {
    const Floats value = load_some(x + at, lanes);
    store_some(terms, value * value, lanes);
  });
}

void forward(const float* x, float* y, int64_t pixels, const Norm& norm, Line& squares) {
  write_squares(x, pixels, norm, squares);
  each_vector(pixels, norm, squares, [&](int64_t at, const float* terms, auto lanes) {
    const Floats s = norm.k + norm.scale * window_sums(terms, norm.below, norm.above);
    store_some(y + at, load_some(x + at, lanes) * inverse_power(s, norm.beta), lanes);
  });
}

struct BackwardLines {
  Line squares, ratios;
  std::vector<float> direct;  // dy[c] * s[c]^-beta

  explicit BackwardLines(const Norm& norm)
      : squares(norm), ratios(norm), direct(norm.pixels_at_a_time() * norm.channels) {}
};

// The windows that contain c reach as far above it as those of c reach below, and the other way round.
void backward(const float* dy, const float* x, Activation of_x, float* dx, Accumulate accumulate, int64_t pixels,
              const Norm& norm, BackwardLines& lines) {
  const float* squares = lines.squares.floats.data();
  float* ratios = lines.ratios.floats.data();
  float* direct = lines.direct.data();
  write_squares(x, pixels, norm, lines.squares);
  each_vector(pixels, norm, lines.squares, [&](int64_t at, const float* terms, auto lanes) {
    const Floats s = norm.k + norm.scale * window_sums(terms, norm.below, norm.above);
    const Floats gradient = load_some(dy + at, lanes) * inverse_power(s, norm.beta);
    store_some(direct + at, gradient, lanes);
    store_some(ratios + (terms - squares), gradient / s * load_some(x + at, lanes), lanes);
  });
  const float* mask = of_x == Activation::relu ? x : nullptr;
  const float factor = 2 * norm.scale * norm.beta;
  each_vector(pixels, norm, lines.ratios, [&](int64_t at, const float* terms, auto lanes) {
    const Floats through_s = factor * load_some(x + at, lanes) * window_sums(terms, norm.above, norm.below);
    write_some(dx + at, load_some(direct + at, lanes) - through_s, mask == nullptr ? nullptr : mask + at, accumulate,
               lanes);
  });
}

// body(offset of the first, pixels, lines) for all pixels, as many at a time as fill a line.
template <class Lines, class Body>
void each_line(int64_t pixels, const Norm& norm, const Body& body) {
  if (norm.channels == 0) return;
  parallel(pixels, ceil_div<int64_t>(GRAIN / 4, norm.channels), [&](int64_t begin, int64_t end) {
    Lines lines(norm);
    for (; begin < end; begin += norm.pixels_at_a_time())
      body(begin * norm.channels, std::min(norm.pixels_at_a_time(), end - begin), lines);
  });
}

Norm norm_of(int below, int above, float scale, float beta, float k, int channels) {
  const int most = std::max(channels - 1, 0);  // beyond, there is no channel
  return {std::min(below, most), std::min(above, most), scale, beta, k, channels};
}

}  // namespace

void lrn_forward(const float* x, float* y, int below, int above, float scale, float beta, float k, int64_t pixels,
                 int channels, Stream) {
  const Norm norm = norm_of(below, above, scale, beta, k, channels);
  each_line<Line>(pixels, norm,
                  [&](int64_t at, int64_t count, Line& squares) { forward(x + at, y + at, count, norm, squares); });
}

void lrn_backward(const float* dy, const float* x, Activation of_x, float* dx, Accumulate accumulate, int below,
                  int above, float scale, float beta, float k, int64_t pixels, int channels, Stream) {
  const Norm norm = norm_of(below, above, scale, beta, k, channels);
  each_line<BackwardLines>(pixels, norm, [&](int64_t at, int64_t count, BackwardLines& lines) {
    backward(dy + at, x + at, of_x, dx + at, accumulate, count, norm, lines);
  });
}

}  // namespace minicnn
