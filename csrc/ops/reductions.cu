// Sum and maximum over a run of neighbouring axes.
//
//   sum:           y[o, i] (+)= scale * sum over r of x[o, r, i]
//   max:           y[o, i]    = max over r of x[o, r, i];  index[o, i] = the first r where it stands; NaN beats all
//   max backward:  dx[o, r, i] (+)= r == index[o, i] ? dy[o, i] : 0
//
// x, dx (outer, reduced, inner) float32; y, dy (outer, inner) float32; index (outer, inner) int32.
// workspace, index_workspace (reduction_workspace(outer, reduced, inner)) float32, int32: the partial results.
//
// A pass cuts `reduced` into chunks; lanes of a block share a chunk of one output, or of four neighbouring ones, each
// takes up to 16 elements of it in turn, and a tree in shared memory joins the lanes. The partial results are the input
// of the next pass, until one chunk is left. All of that follows from the extents alone: the same bits on every device.
//
// reduce_rows_kernel     inner = 1: a lane takes four neighbouring elements at a time; chunks of up to 4096
// reduce_columns_kernel  a lane takes four neighbouring columns, every `lanes`-th row of them; chunks of 128 to 4096
//
// Grid: blocks of 256 threads = lanes x outputs (rows) or lanes x groups of four outputs (columns), for each chunk.
// Shared: a value a thread (rows) or four (columns); 1 or 4 KiB for sums, twice that for maxima.
//
// Error of a sum: no element goes through more than 23 rounded additions a pass, and a pass divides `reduced` by 128 at
// least, so |y - exact| <= (23 * passes + 1) * 2^-24 * |scale| * sum |x|, to first order: one pass up to 128 elements,
// two up to 16384, three up to 2 million. Summed one after another the factor would be `reduced`.
//
// Bytes an element of x: 4 forward; 4 backward, 8 with Accumulate::add. One addition: bound by memory bandwidth.
// Nothing is assumed of alignment. Source: Harris 2007, "Optimizing parallel reduction in CUDA".
#include "device/vec4.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;
constexpr int PER_LANE = 16;  // elements of one output that a lane takes in turn
constexpr int WIDTH = 32;     // groups of columns side by side in a block: 512 contiguous bytes

struct Summation {
  using Value = float;
  struct Input {
    const float* x;
  };
  struct Output {
    float* y;
    Accumulate accumulate;
    float scale;
  };
  static __device__ Value identity() { return 0.0f; }
  static __device__ Value element(const Input&, int64_t, float x, int64_t) { return x; }
  static __device__ Value combine(Value a, Value b) { return a + b; }
  static __device__ void store(const Output& output, int64_t at, Value value) {
    value *= output.scale;
    output.y[at] = output.accumulate == Accumulate::add ? output.y[at] + value : value;
  }
};

struct Maximum {
  struct Value {
    float value;
    int index;
  };
  struct Input {
    const float* x;
    const int* index;  // what an earlier pass found; null in the first
  };
  struct Output {
    float* y;
    int* index;
  };
  static __device__ Value identity() { return {-INFINITY, INT32_MAX}; }
  static __device__ Value element(const Input& input, int64_t at, float x, int64_t r) {
    return {x, input.index == nullptr ? int(r) : input.index[at]};
  }
  static __device__ Value combine(Value a, Value b) {
    const bool b_first = b.index < a.index, a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
    const bool b_wins = b_is_nan ? !a_is_nan || b_first : b.value > a.value || (b.value == a.value && b_first);
    return b_wins ? b : a;
  }
  static __device__ void store(const Output& output, int64_t at, Value value) {
    output.y[at] = value.value;
    output.index[at] = value.index;
  }
};

// How a pass over x (outer, reduced, inner) is shared out. Its output is (outer, chunks, inner).
struct Pass {
  int64_t outer, reduced, inner;
  int64_t chunk, chunks;  // elements of `reduced` in a chunk, number of chunks
  int lanes;              // threads that share a chunk: a power of two

  MINICNN_HOST_DEVICE int64_t groups() const { return ceil_div<int64_t>(inner, 4); }
};

template <class Reduction, int COUNT>
struct Storage {
  typename Reduction::Value values[COUNT][THREADS];
};

// Joins `values` over the lanes of a chunk, whose threads stand `stride` apart; lane 0 comes back with the result.
template <class Reduction, int COUNT>
__device__ void join_lanes(typename Reduction::Value (&values)[COUNT], int lane, int lanes, int stride) {
  auto& shared = shared_memory<Storage<Reduction, COUNT>>().values;
  for (int j = 0; j < COUNT; ++j) shared[j][threadIdx.x] = values[j];
  for (int half = lanes / 2; half > 0; half /= 2) {
    __syncthreads();
    if (lane < half) {
      for (int j = 0; j < COUNT; ++j) {
        values[j] = Reduction::combine(values[j], shared[j][threadIdx.x + half * stride]);
        shared[j][threadIdx.x] = values[j];
      }
    }
  }
}

template <class Reduction>
__global__ void __launch_bounds__(THREADS)
    reduce_rows_kernel(typename Reduction::Input input, typename Reduction::Output output, Pass pass) {
  const int lane = threadIdx.x % pass.lanes;
  const int64_t o = blockIdx.x / pass.chunks * (THREADS / pass.lanes) + threadIdx.x / pass.lanes;
  const int64_t chunk = blockIdx.x % pass.chunks, begin = chunk * pass.chunk;
  const int64_t end = min(begin + pass.chunk, pass.reduced);

  typename Reduction::Value result[1] = {Reduction::identity()};
  if (o < pass.outer) {
    for (int64_t r = begin + 4 * lane; r < end; r += 4 * pass.lanes) {
      const int64_t row = o * pass.reduced;
      const Vec4 x = load_vec4(input.x + row, r, end);
      typename Reduction::Value four[4];
      for (int j = 0; j < 4; ++j)
        four[j] = r + j < end ? Reduction::element(input, row + r + j, x.values[j], r + j) : Reduction::identity();
      const auto left = Reduction::combine(four[0], four[1]), right = Reduction::combine(four[2], four[3]);
      result[0] = Reduction::combine(result[0], Reduction::combine(left, right));
    }
  }
  join_lanes<Reduction>(result, lane, pass.lanes, 1);
  if (lane == 0 && o < pass.outer) Reduction::store(output, o * pass.chunks + chunk, result[0]);
}

template <class Reduction>
__global__ void __launch_bounds__(THREADS)
    reduce_columns_kernel(typename Reduction::Input input, typename Reduction::Output output, Pass pass) {
  const int width = THREADS / pass.lanes, lane = threadIdx.x / width;
  const int64_t group = blockIdx.x / pass.chunks * width + threadIdx.x % width;
  const int64_t o = group / pass.groups(), i = group % pass.groups() * 4;
  const int64_t chunk = blockIdx.x % pass.chunks, begin = chunk * pass.chunk;
  const int64_t end = min(begin + pass.chunk, pass.reduced);

  typename Reduction::Value results[4];
  for (auto& result : results) result = Reduction::identity();
  if (o < pass.outer) {
#pragma unroll 4
    for (int64_t r = begin + lane; r < end; r += pass.lanes) {
      const int64_t row = (o * pass.reduced + r) * pass.inner;
      const Vec4 x = load_vec4(input.x + row, i, pass.inner);
      for (int j = 0; j < 4; ++j)
        if (i + j < pass.inner)
          results[j] = Reduction::combine(results[j], Reduction::element(input, row + i + j, x.values[j], r));
    }
  }
  join_lanes<Reduction>(results, lane, pass.lanes, width);
  if (lane == 0 && o < pass.outer)
    for (int j = 0; j < 4; ++j)
      if (i + j < pass.inner) Reduction::store(output, (o * pass.chunks + chunk) * pass.inner + i + j, results[j]);
}

// A thread owns four consecutive elements of dx.
__global__ void __launch_bounds__(THREADS)
    max_backward_kernel(const float* dy, const int* index, float* dx, Accumulate accumulate, int64_t reduced,
                        int64_t inner, int64_t count) {
  const int64_t begin = vec4_begin();
  int64_t i = begin % inner, r = begin / inner % reduced, o = begin / inner / reduced;
  Vec4 gradient = accumulate == Accumulate::add ? load_vec4(dx, begin, count) : Vec4{};
  for (int j = 0; j < 4 && begin + j < count; ++j) {
    const int64_t at = o * inner + i;
    if (index[at] == r) gradient.values[j] += dy[at];
    if (++i < inner) continue;
    i = 0;
    if (++r < reduced) continue;
    r = 0;
    ++o;
  }
  store_vec4(dx, begin, count, gradient);
}

int next_power_of_two(int64_t value, int limit) {
  int power = 1;
  while (power < value && power < limit) power *= 2;
  return power;
}

// Lanes that share an output, a power of two: as many as find work, and, along columns, leave a line of memory
// together.
int count_lanes(const Pass& pass) {
  if (pass.inner == 1) return next_power_of_two(ceil_div<int64_t>(pass.reduced, 4), THREADS);
  const int width = next_power_of_two(pass.outer * pass.groups(), WIDTH);
  return next_power_of_two(ceil_div<int64_t>(pass.reduced, PER_LANE), THREADS / width);
}

Pass plan(int64_t outer, int64_t reduced, int64_t inner) {
  Pass pass{.outer = outer, .reduced = reduced, .inner = inner, .chunk = 0, .chunks = 1, .lanes = 1};
  pass.lanes = count_lanes(pass);
  pass.chunk = PER_LANE * pass.lanes;
  if (reduced > pass.chunk) pass.chunks = ceil_div(reduced, pass.chunk);
  return pass;
}

template <class Reduction>
void launch_pass(const char* op, typename Reduction::Input input, typename Reduction::Output output, const Pass& pass,
                 Stream stream) {
  const bool rows = pass.inner == 1;
  const int64_t outputs = pass.outer * pass.groups();
  const int64_t blocks = ceil_div<int64_t>(outputs, THREADS / pass.lanes) * pass.chunks;
  launch(rows ? reduce_rows_kernel<Reduction> : reduce_columns_kernel<Reduction>,
         {.op = op,
          .grid = unsigned(blocks),
          .block = THREADS,
          .shared_bytes = rows ? sizeof(Storage<Reduction, 1>) : sizeof(Storage<Reduction, 4>),
          .stream = stream},
         input, output, pass);
}

}  // namespace

int64_t reduction_workspace(int64_t outer, int64_t reduced, int64_t inner) {
  int64_t elements = 0;
  for (Pass pass = plan(outer, reduced, inner); pass.chunks > 1; pass = plan(outer, pass.chunks, inner))
    elements += outer * pass.chunks * inner;
  return elements;
}

void sum_forward(const float* x, float* y, float* workspace, Accumulate accumulate, float scale, int64_t outer,
                 int64_t reduced, int64_t inner, Stream stream) {
  if (outer * inner == 0) return;
  Pass pass = plan(outer, reduced, inner);
  for (; pass.chunks > 1; pass = plan(outer, pass.chunks, inner)) {
    launch_pass<Summation>("sum_forward", {x}, {workspace, Accumulate::overwrite, 1.0f}, pass, stream);
    x = workspace;
    workspace += outer * pass.chunks * inner;
  }
  launch_pass<Summation>("sum_forward", {x}, {y, accumulate, scale}, pass, stream);
}

void max_forward(const float* x, float* y, int* index, float* workspace, int* index_workspace, int64_t outer,
                 int64_t reduced, int64_t inner, Stream stream) {
  check(reduced > 0 && reduced < INT32_MAX, "max_forward", "reduces 1 to 2^31 - 2 elements, not ", reduced);
  if (outer * inner == 0) return;
  const int* found = nullptr;
  Pass pass = plan(outer, reduced, inner);
  for (; pass.chunks > 1; pass = plan(outer, pass.chunks, inner)) {
    launch_pass<Maximum>("max_forward", {x, found}, {workspace, index_workspace}, pass, stream);
    x = workspace;
    found = index_workspace;
    workspace += outer * pass.chunks * inner;
    index_workspace += outer * pass.chunks * inner;
  }
  launch_pass<Maximum>("max_forward", {x, found}, {y, index}, pass, stream);
}

void max_backward(const float* dy, const int* index, float* dx, Accumulate accumulate, int64_t outer, int64_t reduced,
                  int64_t inner, Stream stream) {
  const int64_t count = outer * reduced * inner;
  if (count == 0) return;
  launch(max_backward_kernel,
         {.op = "max_backward", .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, dy, index, dx,
         accumulate, reduced, inner, count);
}

}  // namespace minicnn
