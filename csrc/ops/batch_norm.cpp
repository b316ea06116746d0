// Batch normalisation over the rows of (rows, C): rows are all axes but the last.
//
// Statistics: mean[c] = sum_r x[r, c] / rows, variance[c] = sum_r (x[r, c] - mean[c])^2 / rows
//             running_mean[c]     = (1 - momentum) * running_mean[c] + momentum * mean[c]
//             running_variance[c] = (1 - momentum) * running_variance[c] + momentum * variance[c] * rows / (rows - 1)
// Forward:    y = activation(z * weight + bias), z = (x - mean) / sqrt(variance + eps)
// Backward:   dweight (+)= sum_r g * z, dbias (+)= sum_r g, g = y <= 0 ? 0 : dy
//             dx (+)= weight / sqrt(variance + eps) * (g - sum_r g / rows - z * (sum_r g * z) / rows)
//             without the two sums where mean and variance were constants (`sums` is null); g = dy where y is null:
//             without ReLU, and where those who wrote dy have seen to it
//
// x, y, dy, dx (rows, C) float32;
// mean, variance, running_mean, running_variance, weight, bias, dweight, dbias (C) float32;
// sums (2, C) float32: of g, of g * z; workspace (chunks, 2, C) float32.
// The running statistics, weight, bias, dweight and dbias may be null.
//
// A thread owns chunks of rows, at most 64 chunks, which follow from the extents alone: the same bits with any number
// of threads. In its rows it takes a vector of channels at a time. Bytes an element: statistics 4, forward 8, sums 8,
// input gradient 12 (16 with Accumulate::add), and 4 more where the processor reads a line before it overwrites it; the
// last two read 4 more each where y is not null. ReLU as an op of its own is 8 more forward, 12 more backward. Bound by
// memory bandwidth.
//
// The sum of squares never meets a large mean: eight rows at a time are taken from x - x[0], sums first, squared
// deviations second; such groups are then merged.
// Source of the merge: Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
// variances".
#include "native/map.h"

namespace minicnn {
namespace {

constexpr int ROWS_A_GROUP = 8;
constexpr int64_t MOST_CHUNKS = 64, FEWEST_ROWS = 64;  // of a chunk
constexpr int64_t ROWS_IN_REACH = 16;  // of one vector after the other, so that all lines of a row are met together

int64_t chunk_rows(int64_t rows) { return std::max(FEWEST_ROWS, ceil_div(rows, MOST_CHUNKS)); }

// Of an empty batch the sums are still zeros that somebody must write.
int64_t count_chunks(int64_t rows) { return std::max<int64_t>(1, ceil_div(rows, chunk_rows(rows))); }

// body(chunk, begin, end, c, lanes) for each chunk of `size` rows and each vector of channels in it.
template <class Body>
void each_chunk(int64_t rows, int64_t size, int channels, const Body& body) {
  const int64_t chunks = std::max<int64_t>(1, ceil_div(rows, size));
  parallel(chunks, ceil_div(GRAIN, size * (channels + 1)), [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk)
      in_vectors(0, channels, [&](int64_t c, auto lanes) {
        body(chunk, chunk * size, std::min(rows, (chunk + 1) * size), c, lanes);
      });
  });
}

// The mean and the sum of squared deviations of `count` rows.
struct Moments {
  Floats mean, squares;
  float count;
};

Moments merged(const Moments& a, const Moments& b) {
  const float count = a.count + b.count, share = count > 0.0f ? b.count / count : 0.0f;
  const Floats delta = b.mean - a.mean;
  return {a.mean + delta * share, a.squares + b.squares + delta * delta * (a.count * share), count};
}

// Moments of x - origin over `count` rows, at most ROWS_A_GROUP.
template <class Lanes>
Moments group_moments(const float* x, Floats origin, int count, int channels, Lanes lanes) {
  Floats sum{}, squares{};
  for (int r = 0; r < count; ++r) sum += load_some(x + int64_t(r) * channels, lanes) - origin;
  const Floats mean = sum / float(count);
  for (int r = 0; r < count; ++r) {
    const Floats deviation = (load_some(x + int64_t(r) * channels, lanes) - origin) - mean;
    squares += deviation * deviation;
  }
  return {mean, squares, float(count)};
}

// running <- (1 - momentum) * running + momentum * batch, where it is kept.
template <class Lanes>
void follow(float* running, Floats batch, float momentum, int64_t c, Lanes lanes) {
  if (running == nullptr) return;
  store_some(running + c, (1.0f - momentum) * load_some(running + c, lanes) + momentum * batch, lanes);
}

template <class Lanes>
Floats load_or(const float* array, float otherwise, int64_t c, Lanes lanes) {
  return array == nullptr ? broadcast(otherwise) : load_some(array + c, lanes);
}

// z = (x - mean) * inverse_std.
struct Normalizer {
  Floats mean, inverse_std;

  template <class Lanes>
  Normalizer(const float* means, const float* variances, float eps, int64_t c, Lanes lanes)
      : mean(load_some(means + c, lanes)), inverse_std(1.0f / square_root(load_some(variances + c, lanes) + eps)) {}

  Floats operator()(Floats x) const { return (x - mean) * inverse_std; }
};

}  // namespace

int64_t batch_norm_workspace(int64_t rows, int channels) { return count_chunks(rows) * 2 * channels; }

void batch_norm_statistics(const float* x, float* workspace, float* mean, float* variance, float* running_mean,
                           float* running_variance, float momentum, int64_t rows, int channels, Stream) {
  each_chunk(rows, chunk_rows(rows), channels, [&](int64_t chunk, int64_t begin, int64_t end, int64_t c, auto lanes) {
    const Floats origin = load_some(x + c, lanes);
    Moments moments{};
    for (int64_t row = begin; row < end; row += ROWS_A_GROUP) {
      const int count = int(std::min<int64_t>(ROWS_A_GROUP, end - row));
      moments = merged(moments, group_moments(x + row * channels + c, origin, count, channels, lanes));
    }
    store_some(workspace + 2 * chunk * channels + c, moments.mean, lanes);
    store_some(workspace + (2 * chunk + 1) * channels + c, moments.squares, lanes);
  });
  in_vectors(0, channels, [&](int64_t c, auto lanes) {
    const int64_t size = chunk_rows(rows);
    Moments moments{};
    for (int64_t chunk = 0; chunk < count_chunks(rows); ++chunk)
      moments = merged(moments, {load_some(workspace + 2 * chunk * channels + c, lanes),
                                 load_some(workspace + (2 * chunk + 1) * channels + c, lanes),
                                 float(std::min(size, rows - chunk * size))});
    moments.mean += load_some(x + c, lanes);
    store_some(mean + c, moments.mean, lanes);
    store_some(variance + c, moments.squares / float(rows), lanes);
    follow(running_mean, moments.mean, momentum, c, lanes);
    follow(running_variance, moments.squares / float(rows - 1), momentum, c, lanes);
  });
}

void batch_norm_forward(const float* x, const float* mean, const float* variance, const float* weight,
                        const float* bias, Activation activation, float* y, float eps, int64_t rows, int channels,
                        Stream) {
  each_chunk(rows, ROWS_IN_REACH, channels, [&](int64_t, int64_t begin, int64_t end, int64_t c, auto lanes) {
    const Normalizer normalized(mean, variance, eps, c, lanes);
    const Floats scale = load_or(weight, 1.0f, c, lanes), shift = load_or(bias, 0.0f, c, lanes);
    for (int64_t at = begin * channels + c; at < end * channels; at += channels) {
      const Floats value = normalized(load_some(x + at, lanes)) * scale + shift;
      store_some(y + at, activation == Activation::relu ? relu(value) : value, lanes);
    }
  });
}

void batch_norm_backward_sums(const float* dy, const float* y, const float* x, const float* mean, const float* variance,
                              float* workspace, float* sums, float* dweight, Accumulate accumulate_dweight,
                              float* dbias, Accumulate accumulate_dbias, float eps, int64_t rows, int channels,
                              Stream) {
  each_chunk(rows, chunk_rows(rows), channels, [&](int64_t chunk, int64_t begin, int64_t end, int64_t c, auto lanes) {
    const Normalizer normalized(mean, variance, eps, c, lanes);
    Floats sum_dy{}, sum_dy_z{};
    for (; begin < end; begin += ROWS_A_GROUP) {
      Floats group_dy{}, group_dy_z{};
      for (int64_t row = begin; row < std::min(begin + ROWS_A_GROUP, end); ++row) {
        const Floats gradient = load_gradient(dy, y, row * channels + c, lanes);
        group_dy += gradient;
        group_dy_z += gradient * normalized(load_some(x + row * channels + c, lanes));
      }
      sum_dy += group_dy;
      sum_dy_z += group_dy_z;
    }
    store_some(workspace + 2 * chunk * channels + c, sum_dy, lanes);
    store_some(workspace + (2 * chunk + 1) * channels + c, sum_dy_z, lanes);
  });
  in_vectors(0, channels, [&](int64_t c, auto lanes) {
    Floats sum_dy{}, sum_dy_z{};
    for (int64_t chunk = 0; chunk < count_chunks(rows); ++chunk) {
      sum_dy += load_some(workspace + 2 * chunk * channels + c, lanes);
      sum_dy_z += load_some(workspace + (2 * chunk + 1) * channels + c, lanes);
    }
    store_some(sums + c, sum_dy, lanes);
    store_some(sums + channels + c, sum_dy_z, lanes);
    if (dweight != nullptr) write_some(dweight + c, sum_dy_z, accumulate_dweight, lanes);
    if (dbias != nullptr) write_some(dbias + c, sum_dy, accumulate_dbias, lanes);
  });
}

void batch_norm_backward_input(const float* dy, const float* y, const float* x, const float* mean,
                               const float* variance, const float* weight, const float* sums, float* dx,
                               Accumulate accumulate, float eps, int64_t rows, int channels, Stream) {
  const float share = 1.0f / float(rows);
  each_chunk(rows, ROWS_IN_REACH, channels, [&](int64_t, int64_t begin, int64_t end, int64_t c, auto lanes) {
    const Normalizer normalized(mean, variance, eps, c, lanes);
    const Floats scale = load_or(weight, 1.0f, c, lanes) * normalized.inverse_std;
    const Floats mean_dy = load_or(sums, 0.0f, c, lanes) * share;
    const Floats mean_dy_z = load_or(sums == nullptr ? nullptr : sums + channels, 0.0f, c, lanes) * share;
    for (int64_t at = begin * channels + c; at < end * channels; at += channels) {
      const Floats through_batch = mean_dy + normalized(load_some(x + at, lanes)) * mean_dy_z;
      write_some(dx + at, scale * (load_gradient(dy, y, at, lanes) - through_batch), accumulate, lanes);
    }
  });
}

}  // namespace minicnn
