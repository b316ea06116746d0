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
// A thread owns four neighbouring channels and, in its block's chunk of rows, each row that is its lane modulo the
// lanes.
// Block (quads, lanes) of 256 threads, quads at most 16; grid (tiles of the channels, chunks), about 1024 blocks.
// Sums cross the lanes in shared memory (12 KiB) as a tree, and the chunks in a second kernel of grid (tiles): a fixed
// order, without atomics.
// Bytes an element: statistics 4, forward 8, sums 8, input gradient 12 (16 with Accumulate::add); the last two read 4
// more each where y is not null. ReLU as an op of its own is 8 more forward, 12 more backward. Bound by memory
// bandwidth.
//
// The sum of squares never meets a large mean: a thread takes eight rows into registers and works on x - x[0], sums
// first, squared deviations second; such groups are then merged.
// Source of the merge: Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
// variances".
#include <algorithm>
#include <bit>

#include "device/gradient.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;
constexpr int MAX_QUADS = 16;
constexpr int ROWS_A_GROUP = 8;
constexpr int BLOCKS_TO_FILL_A_CARD = 1024;
constexpr int SUMS_BLOCKS = 5;  // of the gradient's sums on a multiprocessor: their 48 registers, y or no y

// How the array is cut among blocks.
struct Tiling {
  dim3 block, grid;
  int64_t chunk_rows;
};

int count_quads(int channels) { return std::min(MAX_QUADS, int(std::bit_ceil(unsigned(ceil_div(channels, 4))))); }

// Rows of a chunk: as many chunks as have a group of rows for every lane, and no more than fill a card.
int64_t count_chunk_rows(int64_t rows, int lanes, int tiles) {
  const int64_t most_chunks = std::max(1, BLOCKS_TO_FILL_A_CARD / tiles);
  const int64_t chunks = std::clamp<int64_t>(ceil_div<int64_t>(rows, lanes * ROWS_A_GROUP), 1, most_chunks);
  return ceil_div(rows, chunks);
}

Tiling tiling(int64_t rows, int channels) {
  rows = std::max<int64_t>(rows, 1);  // of an empty batch the sums are still zeros that somebody must write
  const int quads = count_quads(channels);
  const int lanes = THREADS / quads, tiles = ceil_div(channels, 4 * quads);
  const int64_t chunk_rows = count_chunk_rows(rows, lanes, tiles);
  return {dim3(quads, lanes), dim3(tiles, unsigned(ceil_div(rows, chunk_rows))), chunk_rows};
}

// What a thread owns: channels [channel, channel + 4) of the rows row, row + step, ... below stop.
struct Place {
  int channel, step;
  int64_t row, stop;
};

__device__ int own_channel() { return 4 * (blockIdx.x * blockDim.x + threadIdx.x); }

__device__ Place own_place(int64_t rows, int64_t chunk_rows) {
  const int64_t begin = blockIdx.y * chunk_rows;
  return {own_channel(), int(blockDim.y), begin + threadIdx.y, min(begin + chunk_rows, rows)};
}

// The mean and the sum of squared deviations of `count` rows, for four channels.
struct Moments {
  Vec4 mean, squares;
  float count;
};

__device__ Moments merged(const Moments& a, const Moments& b) {
  Moments result;
  result.count = a.count + b.count;
  const float share = result.count > 0.0f ? b.count / result.count : 0.0f;
  for (int i = 0; i < 4; ++i) {
    const float delta = b.mean.values[i] - a.mean.values[i];
    result.mean.values[i] = a.mean.values[i] + delta * share;
    result.squares.values[i] = a.squares.values[i] + b.squares.values[i] + delta * delta * a.count * share;
  }
  return result;
}

// What each thread of a block has, field by field: neighbours read and write neighbours, without a conflict of banks.
template <class Partial>
struct Storage;

template <>
struct Storage<Moments> {
  Vec4 mean[THREADS], squares[THREADS];
  float count[THREADS];

  __device__ Moments load(unsigned thread) const { return {mean[thread], squares[thread], count[thread]}; }
  __device__ void store(unsigned thread, const Moments& moments) {
    mean[thread] = moments.mean;
    squares[thread] = moments.squares;
    count[thread] = moments.count;
  }
};

// Sums over rows of dy and of dy * z, for four channels.
struct Sums {
  Vec4 dy, dy_z;
};

__device__ Sums merged(const Sums& a, const Sums& b) {
  Sums result;
  for (int i = 0; i < 4; ++i) {
    result.dy.values[i] = a.dy.values[i] + b.dy.values[i];
    result.dy_z.values[i] = a.dy_z.values[i] + b.dy_z.values[i];
  }
  return result;
}

template <>
struct Storage<Sums> {
  Vec4 dy[THREADS], dy_z[THREADS];

  __device__ Sums load(unsigned thread) const { return {dy[thread], dy_z[thread]}; }
  __device__ void store(unsigned thread, const Sums& sums) {
    dy[thread] = sums.dy;
    dy_z[thread] = sums.dy_z;
  }
};

// Merges the block's lanes; lane 0 (threadIdx.y == 0) gets the result. To be called by all threads.
template <class Partial>
__device__ Partial merge_lanes(const Partial& own) {
  auto& partials = shared_memory<Storage<Partial>>();
  const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
  Partial result = own;
  partials.store(thread, result);
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y >= half) continue;
    result = merged(result, partials.load(thread + half * blockDim.x));
    partials.store(thread, result);
  }
  return result;
}

// Moments of x - origin over the thread's next `count` rows, at most ROWS_A_GROUP, from `row` on.
__device__ Moments group_moments(const float* x, const Vec4& origin, const Place& place, int64_t row, int count,
                                 int channels) {
  Vec4 values[ROWS_A_GROUP];
  Moments result;
  result.count = float(count);
#pragma unroll
  for (int r = 0; r < ROWS_A_GROUP; ++r)
    if (r < count) values[r] = load_vec4(x + (row + int64_t(r) * place.step) * channels, place.channel, channels);
  for (int i = 0; i < 4; ++i) {
    float sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (int r = 0; r < ROWS_A_GROUP; ++r)
      if (r < count) sum += values[r].values[i] - origin.values[i];
    const float mean = sum / float(count);
#pragma unroll
    for (int r = 0; r < ROWS_A_GROUP; ++r) {
      const float deviation = r < count ? (values[r].values[i] - origin.values[i]) - mean : 0.0f;
      squares += deviation * deviation;
    }
    result.mean.values[i] = mean;
    result.squares.values[i] = squares;
  }
  return result;
}

__global__ void __launch_bounds__(THREADS)
    batch_norm_statistics_kernel(const float* x, float* workspace, int64_t rows, int channels, int64_t chunk_rows) {
  const Place place = own_place(rows, chunk_rows);
  const Vec4 origin = load_vec4(x, place.channel, channels);
  Moments moments{};
  for (int64_t row = place.row; row < place.stop; row += ROWS_A_GROUP * place.step) {
    const int64_t left = ceil_div<int64_t>(place.stop - row, place.step);
    const int count = left < ROWS_A_GROUP ? int(left) : ROWS_A_GROUP;
    moments = merged(moments, group_moments(x, origin, place, row, count, channels));
  }
  moments = merge_lanes(moments);
  if (threadIdx.y > 0) return;
  float* chunk = workspace + int64_t(blockIdx.y) * 2 * channels;
  store_vec4(chunk, place.channel, channels, moments.mean);
  store_vec4(chunk + channels, place.channel, channels, moments.squares);
}

// running <- (1 - momentum) * running + momentum * batch, where it is kept.
__device__ void follow(float* running, const Vec4& batch, float momentum, int channel, int channels) {
  if (running == nullptr) return;
  Vec4 value = load_vec4(running, channel, channels);
  for (int i = 0; i < 4; ++i) value.values[i] = (1.0f - momentum) * value.values[i] + momentum * batch.values[i];
  store_vec4(running, channel, channels, value);
}

__global__ void __launch_bounds__(THREADS)
    batch_norm_finish_kernel(const float* x, const float* workspace, float* mean, float* variance, float* running_mean,
                             float* running_variance, float momentum, int64_t rows, int channels, int64_t chunk_rows) {
  const int channel = own_channel();
  Moments moments{};
  for (int64_t chunk = threadIdx.y; chunk * chunk_rows < rows; chunk += blockDim.y) {
    const float* partial = workspace + chunk * 2 * channels;
    moments = merged(moments, {.mean = load_vec4(partial, channel, channels),
                               .squares = load_vec4(partial + channels, channel, channels),
                               .count = float(min(chunk_rows, rows - chunk * chunk_rows))});
  }
  moments = merge_lanes(moments);
  if (threadIdx.y > 0) return;
  const Vec4 origin = load_vec4(x, channel, channels);
  Vec4 unbiased;
  for (int i = 0; i < 4; ++i) {
    moments.mean.values[i] += origin.values[i];
    unbiased.values[i] = moments.squares.values[i] / float(rows - 1);
    moments.squares.values[i] /= float(rows);
  }
  store_vec4(mean, channel, channels, moments.mean);
  store_vec4(variance, channel, channels, moments.squares);
  follow(running_mean, moments.mean, momentum, channel, channels);
  follow(running_variance, unbiased, momentum, channel, channels);
}

// z = (x - mean) * inverse_std for four channels.
struct Normalizer {
  Vec4 mean, inverse_std;

  __device__ float operator()(float x, int i) const { return (x - mean.values[i]) * inverse_std.values[i]; }
};

__device__ Normalizer load_normalizer(const float* mean, const float* variance, float eps, int channel, int channels) {
  Normalizer result = {load_vec4(mean, channel, channels), load_vec4(variance, channel, channels)};
  for (float& value : result.inverse_std.values) value = 1.0f / sqrtf(value + eps);
  return result;
}

__device__ Vec4 load_or(const float* array, float otherwise, int channel, int channels) {
  return array == nullptr ? Vec4{otherwise, otherwise, otherwise, otherwise} : load_vec4(array, channel, channels);
}

__global__ void __launch_bounds__(THREADS)
    batch_norm_forward_kernel(const float* x, const float* mean, const float* variance, const float* weight,
                              const float* bias, Activation activation, float* y, float eps, int64_t rows, int channels,
                              int64_t chunk_rows) {
  const Place place = own_place(rows, chunk_rows);
  const Normalizer normalized = load_normalizer(mean, variance, eps, place.channel, channels);
  const Vec4 scale = load_or(weight, 1.0f, place.channel, channels);
  const Vec4 shift = load_or(bias, 0.0f, place.channel, channels);
  for (int64_t row = place.row; row < place.stop; row += place.step) {
    Vec4 value = load_vec4(x + row * channels, place.channel, channels);
    for (int i = 0; i < 4; ++i) value.values[i] = normalized(value.values[i], i) * scale.values[i] + shift.values[i];
    if (activation == Activation::relu)
      for (float& element : value.values) element = relu(element);
    store_vec4(y + row * channels, place.channel, channels, value);
  }
}

// g in the thread's channels of a row.
__device__ Vec4 load_row_gradient(const float* dy, const float* y, int64_t row, const Place& place, int channels) {
  const int64_t begin = row * channels;
  return load_gradient(dy + begin, y == nullptr ? nullptr : y + begin, place.channel, channels);
}

__global__ void __launch_bounds__(THREADS, blocks_with_room(THREADS, SUMS_BLOCKS))
    batch_norm_backward_sums_kernel(const float* dy, const float* y, const float* x, const float* mean,
                                    const float* variance, float* workspace, float eps, int64_t rows, int channels,
                                    int64_t chunk_rows) {
  const Place place = own_place(rows, chunk_rows);
  const Normalizer normalized = load_normalizer(mean, variance, eps, place.channel, channels);
  Sums sums{};
  for (int64_t row = place.row; row < place.stop; row += place.step) {
    const Vec4 gradient = load_row_gradient(dy, y, row, place, channels);
    const Vec4 value = load_vec4(x + row * channels, place.channel, channels);
    for (int i = 0; i < 4; ++i) {
      sums.dy.values[i] += gradient.values[i];
      sums.dy_z.values[i] += gradient.values[i] * normalized(value.values[i], i);
    }
  }
  sums = merge_lanes(sums);
  if (threadIdx.y > 0) return;
  float* chunk = workspace + int64_t(blockIdx.y) * 2 * channels;
  store_vec4(chunk, place.channel, channels, sums.dy);
  store_vec4(chunk + channels, place.channel, channels, sums.dy_z);
}

__global__ void __launch_bounds__(THREADS)
    batch_norm_backward_finish_kernel(const float* workspace, float* sums, float* dweight,
                                      Accumulate accumulate_dweight, float* dbias, Accumulate accumulate_dbias,
                                      int64_t chunks, int channels) {
  const int channel = own_channel();
  Sums total{};
  for (int64_t chunk = threadIdx.y; chunk < chunks; chunk += blockDim.y) {
    const float* partial = workspace + chunk * 2 * channels;
    total = merged(total, {load_vec4(partial, channel, channels), load_vec4(partial + channels, channel, channels)});
  }
  total = merge_lanes(total);
  if (threadIdx.y > 0) return;
  store_vec4(sums, channel, channels, total.dy);
  store_vec4(sums + channels, channel, channels, total.dy_z);
  write_gradient(dweight, accumulate_dweight, total.dy_z, channel, channels);
  write_gradient(dbias, accumulate_dbias, total.dy, channel, channels);
}

__global__ void __launch_bounds__(THREADS)
    batch_norm_backward_input_kernel(const float* dy, const float* y, const float* x, const float* mean,
                                     const float* variance, const float* weight, const float* sums, float* dx,
                                     Accumulate accumulate, float eps, int64_t rows, int channels, int64_t chunk_rows) {
  const Place place = own_place(rows, chunk_rows);
  const Normalizer normalized = load_normalizer(mean, variance, eps, place.channel, channels);
  const Vec4 scale = load_or(weight, 1.0f, place.channel, channels);
  const Vec4 sum_dy = load_or(sums, 0.0f, place.channel, channels);
  const Vec4 sum_dy_z = load_or(sums == nullptr ? nullptr : sums + channels, 0.0f, place.channel, channels);
  const float share = 1.0f / float(rows);
  for (int64_t row = place.row; row < place.stop; row += place.step) {
    Vec4 gradient = load_row_gradient(dy, y, row, place, channels);
    const Vec4 value = load_vec4(x + row * channels, place.channel, channels);
    for (int i = 0; i < 4; ++i) {
      const float through_batch = (sum_dy.values[i] + normalized(value.values[i], i) * sum_dy_z.values[i]) * share;
      gradient.values[i] = scale.values[i] * normalized.inverse_std.values[i] * (gradient.values[i] - through_batch);
    }
    write_gradient(dx + row * channels, accumulate, gradient, place.channel, channels);
  }
}

LaunchConfig config(const char* op, dim3 grid, const Tiling& tiles, size_t shared_bytes, Stream stream) {
  return {.op = op, .grid = grid, .block = tiles.block, .shared_bytes = shared_bytes, .stream = stream};
}

}  // namespace

int64_t batch_norm_workspace(int64_t rows, int channels) {
  return int64_t(tiling(rows, channels).grid.y) * 2 * channels;
}

void batch_norm_statistics(const float* x, float* workspace, float* mean, float* variance, float* running_mean,
                           float* running_variance, float momentum, int64_t rows, int channels, Stream stream) {
  constexpr const char* op = "batch_norm_statistics";
  check(rows >= 2, op, "a variance needs at least 2 rows, got ", rows);
  const Tiling tiles = tiling(rows, channels);
  launch(batch_norm_statistics_kernel, config(op, tiles.grid, tiles, sizeof(Storage<Moments>), stream), x, workspace,
         rows, channels, tiles.chunk_rows);
  launch(batch_norm_finish_kernel, config(op, tiles.grid.x, tiles, sizeof(Storage<Moments>), stream), x, workspace,
         mean, variance, running_mean, running_variance, momentum, rows, channels, tiles.chunk_rows);
}

void batch_norm_forward(const float* x, const float* mean, const float* variance, const float* weight,
                        const float* bias, Activation activation, float* y, float eps, int64_t rows, int channels,
                        Stream stream) {
  if (rows == 0) return;
  const Tiling tiles = tiling(rows, channels);
  launch(batch_norm_forward_kernel, config("batch_norm_forward", tiles.grid, tiles, 0, stream), x, mean, variance,
         weight, bias, activation, y, eps, rows, channels, tiles.chunk_rows);
}

void batch_norm_backward_sums(const float* dy, const float* y, const float* x, const float* mean, const float* variance,
                              float* workspace, float* sums, float* dweight, Accumulate accumulate_dweight,
                              float* dbias, Accumulate accumulate_dbias, float eps, int64_t rows, int channels,
                              Stream stream) {
  constexpr const char* op = "batch_norm_backward_sums";
  const Tiling tiles = tiling(rows, channels);
  launch(batch_norm_backward_sums_kernel, config(op, tiles.grid, tiles, sizeof(Storage<Sums>), stream), dy, y, x, mean,
         variance, workspace, eps, rows, channels, tiles.chunk_rows);
  launch(batch_norm_backward_finish_kernel, config(op, tiles.grid.x, tiles, sizeof(Storage<Sums>), stream), workspace,
         sums, dweight, accumulate_dweight, dbias, accumulate_dbias, tiles.grid.y, channels);
}

void batch_norm_backward_input(const float* dy, const float* y, const float* x, const float* mean,
                               const float* variance, const float* weight, const float* sums, float* dx,
                               Accumulate accumulate, float eps, int64_t rows, int channels, Stream stream) {
  if (rows == 0) return;
  const Tiling tiles = tiling(rows, channels);
  launch(batch_norm_backward_input_kernel, config("batch_norm_backward_input", tiles.grid, tiles, 0, stream), dy, y, x,
         mean, variance, weight, sums, dx, accumulate, eps, rows, channels, tiles.chunk_rows);
}

}  // namespace minicnn
