// Sum and maximum over a run of neighbouring axes.
//
//   sum:           y[o, i] (+)= scale * sum over r of x[o, r, i]
//   max:           y[o, i]    = max over r of x[o, r, i];  index[o, i] = the first r where it stands; NaN beats all
//   max backward:  dx[o, r, i] (+)= r == index[o, i] ? dy[o, i] : 0
//
// x, dx (outer, reduced, inner) float32; y, dy (outer, inner) float32; index (outer, inner) int32.
// workspace (reduction_workspace(outer, reduced, inner)) float32: the partial sums. The maxima need none.
//
// A pass of the sum cuts `reduced` into chunks of 256 rows, of which a thread adds a strip of 64 bytes times four;
// where inner is 1, a row is such a strip. The partial sums are the input of the next pass, until one chunk is left.
// That follows from the extents alone: the same bits with any number of threads. Maxima: a thread owns outputs, and
// goes through all that they are the maximum of.
//
// Error of a sum: eight rows are added one after the other, then such sums as a tree, then the lanes of vectors: no
// element goes through more than 20 rounded additions a pass, so |y - exact| <= (20 * passes + 1) * 2^-24 * |scale| *
// sum |x|, to first order, with two passes up to 65536 rows.
//
// Bytes an element of x: 4 forward; 4 backward, 8 with Accumulate::add. One addition: bound by memory bandwidth.
#include <string>

#include "check.h"
#include "native/map.h"

namespace minicnn {
namespace {

constexpr int WIDTH = 4;              // vectors in a strip
constexpr int STRIP = WIDTH * LANES;  // floats
constexpr int ROWS_IN_TURN = 8, CHUNK_ROWS = 256;

// A pass over x (outer, rows, inner) writes (outer, chunks, inner). A row of inner = 1 is (rows, STRIP) with a rest.
struct Pass {
  int64_t outer, reduced, inner;

  int64_t chunk() const { return inner == 1 ? CHUNK_ROWS * STRIP : CHUNK_ROWS; }  // of `reduced`
  int64_t chunks() const { return std::max<int64_t>(1, ceil_div(reduced, chunk())); }
};

// Neighbouring floats, of which the first vectors are used.
struct Strip {
  Floats vectors[WIDTH] = {};
};

// The sum of `rows` strips, `step` floats apart: of both halves, down to eight rows.
template <class Lanes>
Strip sum_of_strips(const float* x, int64_t rows, int64_t step, int vectors, Lanes lanes) {
  Strip sum;
  if (rows <= ROWS_IN_TURN) {
    for (int64_t row = 0; row < rows; ++row)
      for (int j = 0; j < vectors; ++j) sum.vectors[j] += load_some(x + row * step + j * LANES, lanes);
    return sum;
  }
  sum = sum_of_strips(x, rows / 2, step, vectors, lanes);
  const Strip second = sum_of_strips(x + rows / 2 * step, rows - rows / 2, step, vectors, lanes);
  for (int j = 0; j < vectors; ++j) sum.vectors[j] += second.vectors[j];
  return sum;
}

// The sum of neighbouring elements.
float sum_of_run(const float* x, int64_t count) {
  const int64_t rows = count / STRIP;
  Strip strip = sum_of_strips(x, rows, STRIP, WIDTH, Whole{});
  Floats(&total)[WIDTH] = strip.vectors;
  in_vectors(rows * STRIP, count, [&](int64_t i, auto lanes) { total[i / LANES % WIDTH] += load_some(x + i, lanes); });
  return sum_of_lanes((total[0] + total[1]) + (total[2] + total[3]));
}

struct SumOutput {
  float* y;
  Accumulate accumulate;
  float scale;
};

void sum_rows(const float* x, const SumOutput& output, const Pass& pass) {
  const int64_t chunk = pass.chunk(), chunks = pass.chunks();
  parallel(pass.outer * chunks, ceil_div(GRAIN, std::min(chunk, pass.reduced + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t o = i / chunks, first = i % chunks * chunk;
      const float sum = sum_of_run(x + o * pass.reduced + first, std::min(chunk, pass.reduced - first));
      output.y[i] = output.scale * sum + (output.accumulate == Accumulate::add ? output.y[i] : 0.0f);
    }
  });
}

void sum_columns(const float* x, const SumOutput& output, const Pass& pass) {
  const int64_t chunk = pass.chunk(), chunks = pass.chunks(), strips = ceil_div<int64_t>(pass.inner, STRIP);
  const int64_t elements = std::min(chunk, pass.reduced + 1) * std::min<int64_t>(STRIP, pass.inner);
  parallel(pass.outer * chunks * strips, ceil_div(GRAIN, elements), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t row = item / strips, column = item % strips * STRIP;
      const int64_t first = row % chunks * chunk, rows = std::min(chunk, pass.reduced - first);
      const float* from = x + (row / chunks * pass.reduced + first) * pass.inner + column;
      float* to = output.y + row * pass.inner + column;
      const int columns = int(std::min<int64_t>(STRIP, pass.inner - column)), whole = columns / LANES;
      const Strip sum = whole == WIDTH ? sum_of_strips(from, rows, pass.inner, WIDTH, Whole{})
                                       : sum_of_strips(from, rows, pass.inner, whole, Whole{});
      for (int j = 0; j < whole; ++j)
        write_some(to + j * LANES, output.scale * sum.vectors[j], output.accumulate, Whole{});
      if (const int rest = columns % LANES) {
        const Strip narrow = sum_of_strips(from + whole * LANES, rows, pass.inner, 1, rest);
        write_some(to + whole * LANES, output.scale * narrow.vectors[0], output.accumulate, rest);
      }
    }
  });
}

void sum_pass(const float* x, const SumOutput& output, const Pass& pass) {
  pass.inner == 1 ? sum_rows(x, output, pass) : sum_columns(x, output, pass);
}

struct Best {
  Floats value;
  Ints index;

  void meet(Floats x, Ints at) {
    const Ints wins = (x > value) | ((x != x) & (value == value));
    value = wins ? x : value;
    index = wins ? at : index;
  }
};

// The best of the first `count` lanes, the smallest index of equals.
void join_lanes(const Best& best, int count, float& value, int& index) {
  value = best.value[0];
  index = best.index[0];
  for (int i = 1; i < count; ++i) {
    const float x = best.value[i];
    const bool first = best.index[i] < index, is_nan = x != x, has_nan = value != value;
    const bool wins = is_nan ? !has_nan || first : x > value || (x == value && first);
    if (!wins) continue;
    value = x;
    index = best.index[i];
  }
}

void max_of_row(const float* x, int reduced, float& y, int& index) {
  Best best{fill(load_some(x, std::min(reduced, LANES)), std::min(reduced, LANES), -INFINITY), lane_numbers()};
  in_vectors(std::min(reduced, LANES), reduced, [&](int64_t r, auto lanes) {
    best.meet(fill(load_some(x + r, lanes), lanes, -INFINITY), lane_numbers() + int(r));
  });
  join_lanes(best, std::min(reduced, LANES), y, index);
}

template <class Lanes>
void max_of_columns(const float* x, int reduced, int64_t inner, float* y, int* index, Lanes lanes) {
  Best best{load_some(x, lanes), Ints{}};
  for (int r = 1; r < reduced; ++r) best.meet(load_some(x + r * inner, lanes), broadcast(r));
  store_some(y, best.value, lanes);
  for (int i = 0; i < lane_count(lanes); ++i) index[i] = best.index[i];
}

}  // namespace

int64_t reduction_workspace(int64_t outer, int64_t reduced, int64_t inner) {
  int64_t elements = 0;
  for (Pass pass{outer, reduced, inner}; pass.chunks() > 1; pass.reduced = pass.chunks())
    elements += outer * pass.chunks() * inner;
  return elements;
}

void sum_forward(const float* x, float* y, float* workspace, Accumulate accumulate, float scale, int64_t outer,
                 int64_t reduced, int64_t inner, Stream) {
  if (outer * inner == 0) return;
  Pass pass{outer, reduced, inner};
  for (; pass.chunks() > 1; pass.reduced = pass.chunks()) {
    sum_pass(x, {workspace, Accumulate::overwrite, 1.0f}, pass);
    x = workspace;
    workspace += outer * pass.chunks() * inner;
  }
  sum_pass(x, {y, accumulate, scale}, pass);
}

void max_forward(const float* x, float* y, int* index, float*, int*, int64_t outer, int64_t reduced, int64_t inner,
                 Stream) {
  check(reduced > 0 && reduced < INT32_MAX, "max_forward", "reduces 1 to 2^31 - 2 elements, not ", reduced);
  if (inner == 1) {
    parallel(outer, ceil_div(GRAIN, reduced), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) max_of_row(x + o * reduced, int(reduced), y[o], index[o]);
    });
    return;
  }
  const int64_t strips = ceil_div<int64_t>(inner, LANES);
  parallel(outer * strips, ceil_div(GRAIN, reduced * LANES), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t o = item / strips, i = item % strips * LANES;
      in_vectors(i, std::min(i + LANES, inner), [&](int64_t column, auto lanes) {
        max_of_columns(x + o * reduced * inner + column, int(reduced), inner, y + o * inner + column,
                       index + o * inner + column, lanes);
      });
    }
  });
}

void max_backward(const float* dy, const int* index, float* dx, Accumulate accumulate, int64_t outer, int64_t reduced,
                  int64_t inner, Stream) {
  parallel(outer * reduced, ceil_div(GRAIN, inner + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t o = row / reduced;
      const int r = int(row % reduced);
      for (int64_t i = 0; i < inner; ++i) {
        const float gradient = index[o * inner + i] == r ? dy[o * inner + i] : 0.0f;
        float& target = dx[row * inner + i];
        target = accumulate == Accumulate::add ? target + gradient : gradient;
      }
    }
  });
}

}  // namespace minicnn
