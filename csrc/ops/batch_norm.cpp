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
// of threads. It reads its rows from front to back. Bytes an element: statistics 4, forward 8, sums 8, input gradient
// 12 (16 with Accumulate::add), and 4 more where the processor reads a line before it overwrites it, as results that
// are not stored past the caches have it; the last two read 4 more each where y is not null. ReLU as an op of its own
// is 8 more forward, 12 more backward. Bound by memory bandwidth.
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
constexpr int BLOCK = 512;                             // channels whose states fit into the first-level cache
constexpr int RUN = 256;                               // floats of narrow rows that are met together
constexpr int AHEAD = 1024;                            // floats: a page

int64_t chunk_rows(int64_t rows) { return std::max(FEWEST_ROWS, ceil_div(rows, MOST_CHUNKS)); }

// Of an empty batch the sums are still zeros that somebody must write.
int64_t count_chunks(int64_t rows) { return std::max<int64_t>(1, ceil_div(rows, chunk_rows(rows))); }

// What is read from front to back: no processor by itself looks ahead over the end of a page.
template <class Lanes>
Floats load_next(const float* from, Lanes lanes) {
  __builtin_prefetch(from + AHEAD);
  return load_some(from, lanes);
}
template <class Lanes>
Floats load_next_gradient(const float* dy, const float* y, int64_t at, Lanes lanes) {
  const Floats gradient = load_next(dy + at, lanes);
  return y == nullptr ? gradient : relu_gradient(gradient, load_next(y + at, lanes));
}

template <class Lanes>
Floats load_or(const float* array, float otherwise, int64_t c, Lanes lanes) {
  return array == nullptr ? broadcast(otherwise) : load_some(array + c, lanes);
}

// Rows in which a vector of channels is taken at once, its state in registers: a run of narrow ones, one wide one.
int rows_together(int channels) { return std::max(1, RUN / channels); }

// What a pass keeps of each vector of channels while rows pass by: made by make(c, lanes).
template <class State>
class Block {
 public:
  template <class Make>
  Block(int first, int channels, const Make& make) : first_(first), last_(std::min(channels, first + BLOCK)) {
    each([&](int64_t c, State& state, auto lanes) { state = make(c, lanes); });
  }

  // step(c, state, lanes) for each vector of channels.
  template <class Step>
  void each(const Step& step) {
    in_vectors(first_, last_, [&](int64_t c, auto lanes) { step(c, states_[(c - first_) / LANES], lanes); });
  }

 private:
  int first_, last_;
  State states_[BLOCK / LANES];
};

// A pass that looks at rows for the second time begins with the last ones, which the caches still hold.
enum class Order { forwards, backwards };

// body(chunk, begin, end, block) for each chunk of rows and each block of channels: one block for all chunks that a
// thread takes.
template <class Make, class Body>
void each_chunk(Order order, int64_t rows, int channels, const Make& make, const Body& body) {
  const int64_t size = chunk_rows(rows);
  parallel(count_chunks(rows), ceil_div(GRAIN, size * (channels + 1)), [&](int64_t begin, int64_t end) {
    for (int first = 0; first < channels; first += BLOCK) {
      Block<decltype(make(0, Whole{}))> block(first, channels, make);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t chunk = order == Order::forwards ? i : begin + end - 1 - i;
        body(chunk, chunk * size, std::min(rows, (chunk + 1) * size), block);
      }
    }
  });
}

// step(at, constants, lanes) for each vector of channels in each row; what step() stores may go past the caches.
template <class Make, class Step>
void each_row(int64_t rows, int channels, const Make& make, const Step& step) {
  each_chunk(Order::backwards, rows, channels, make, [&](int64_t, int64_t begin, int64_t end, auto& block) {
    for (int64_t row = begin; row < end; row += rows_together(channels)) {
      const int64_t last = std::min(row + rows_together(channels), end);
      block.each([&](int64_t c, const auto& state, auto lanes) {
        const auto constants = state;
        for (int64_t at = row * channels + c; at < last * channels; at += channels) step(at, constants, lanes);
      });
    }
    fence_stores_past_caches();
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
  for (int r = 0; r < count; ++r) sum += load_next(x + int64_t(r) * channels, lanes) - origin;
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

// z = (x - mean) * inverse_std.
struct Normalizer {
  Floats mean, inverse_std;

  template <class Lanes>
  static Normalizer of(const float* means, const float* variances, float eps, int64_t c, Lanes lanes) {
    return {load_some(means + c, lanes), 1.0f / square_root(load_some(variances + c, lanes) + eps)};
  }

  Floats operator()(Floats x) const { return (x - mean) * inverse_std; }
};

}  // namespace

int64_t batch_norm_workspace(int64_t rows, int channels) { return count_chunks(rows) * 2 * channels; }

void batch_norm_statistics(const float* x, float* workspace, float* mean, float* variance, float* running_mean,
                           float* running_variance, float momentum, int64_t rows, int channels, Stream) {
  struct State {
    Floats origin;
    Moments moments;
  };
  each_chunk(
      Order::forwards, rows, channels, [&](int64_t c, auto lanes) { return State{load_some(x + c, lanes)}; },
      [&](int64_t chunk, int64_t begin, int64_t end, auto& block) {
        for (int64_t row = begin; row < end; row += ROWS_A_GROUP) {
          const int count = int(std::min<int64_t>(ROWS_A_GROUP, end - row));
          block.each([&](int64_t c, State& state, auto lanes) {
            const float* const group = x + row * channels + c;
            state.moments = merged(state.moments, group_moments(group, state.origin, count, channels, lanes));
          });
        }
        block.each([&](int64_t c, State& state, auto lanes) {
          store_some(workspace + 2 * chunk * channels + c, state.moments.mean, lanes);
          store_some(workspace + (2 * chunk + 1) * channels + c, state.moments.squares, lanes);
          state = State{state.origin};
        });
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
  struct Constants {
    Normalizer normalized;
    Floats scale, shift;
  };
  const bool past_caches = is_stored_past_caches(y, rows, channels);
  each_row(
      rows, channels,
      [&](int64_t c, auto lanes) {
        return Constants{Normalizer::of(mean, variance, eps, c, lanes), load_or(weight, 1.0f, c, lanes),
                         load_or(bias, 0.0f, c, lanes)};
      },
      [&](int64_t at, const Constants& of, auto lanes) {
        const Floats affine = of.normalized(load_next(x + at, lanes)) * of.scale + of.shift;
        const Floats value = activation == Activation::relu ? relu(affine) : affine;
        if (past_caches)
          store_past_caches(y + at, value, lanes);
        else
          store_some(y + at, value, lanes);
      });
}

void batch_norm_backward_sums(const float* dy, const float* y, const float* x, const float* mean, const float* variance,
                              float* workspace, float* sums, float* dweight, Accumulate accumulate_dweight,
                              float* dbias, Accumulate accumulate_dbias, float eps, int64_t rows, int channels,
                              Stream) {
  struct State {
    Normalizer normalized;
    Floats group_dy, group_dy_z, sum_dy, sum_dy_z;
  };
  each_chunk(
      Order::forwards, rows, channels,
      [&](int64_t c, auto lanes) { return State{Normalizer::of(mean, variance, eps, c, lanes)}; },
      [&](int64_t chunk, int64_t begin, int64_t end, auto& block) {
        for (int64_t group = begin; group < end; group += ROWS_A_GROUP) {
          const int64_t group_end = std::min(group + ROWS_A_GROUP, end);
          for (int64_t row = group; row < group_end; row += rows_together(channels)) {
            const int64_t last = std::min(row + rows_together(channels), group_end);
            block.each([&](int64_t c, State& state, auto lanes) {
              Floats sum_dy = state.group_dy, sum_dy_z = state.group_dy_z;
              for (int64_t at = row * channels + c; at < last * channels; at += channels) {
                const Floats gradient = load_next_gradient(dy, y, at, lanes);
                sum_dy += gradient;
                sum_dy_z += gradient * state.normalized(load_next(x + at, lanes));
              }
              state.group_dy = sum_dy, state.group_dy_z = sum_dy_z;
            });
          }
          block.each([&](int64_t, State& of, auto) {
            of = State{of.normalized, {}, {}, of.sum_dy + of.group_dy, of.sum_dy_z + of.group_dy_z};
          });
        }
        block.each([&](int64_t c, State& state, auto lanes) {
          store_some(workspace + 2 * chunk * channels + c, state.sum_dy, lanes);
          store_some(workspace + (2 * chunk + 1) * channels + c, state.sum_dy_z, lanes);
          state = State{state.normalized};
        });
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
  struct Constants {
    Normalizer normalized;
    Floats scale, mean_dy, mean_dy_z;
  };
  const bool past_caches = accumulate == Accumulate::overwrite && is_stored_past_caches(dx, rows, channels);
  each_row(
      rows, channels,
      [&](int64_t c, auto lanes) {
        const Normalizer normalized = Normalizer::of(mean, variance, eps, c, lanes);
        return Constants{normalized, load_or(weight, 1.0f, c, lanes) * normalized.inverse_std,
                         load_or(sums, 0.0f, c, lanes) * share,
                         load_or(sums == nullptr ? nullptr : sums + channels, 0.0f, c, lanes) * share};
      },
      [&](int64_t at, const Constants& of, auto lanes) {
        const Floats through_batch = of.mean_dy + of.normalized(load_next(x + at, lanes)) * of.mean_dy_z;
        const Floats gradient = of.scale * (load_next_gradient(dy, y, at, lanes) - through_batch);
        if (past_caches)
          store_past_caches(dx + at, gradient, lanes);
        else
          write_some(dx + at, gradient, accumulate, lanes);
      });
}

}  // namespace minicnn
