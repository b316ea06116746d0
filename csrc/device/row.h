// One block a row: what softmax and its like share.
#pragma once
#include <algorithm>

#include "device/reduce.h"
#include "device/run.h"
#include "launch.h"

namespace minicnn {

constexpr int MAX_ROW_THREADS = 256;

// The elements along the middle axis of an array (outer, reduced, inner).
struct Row {
  int64_t begin;
  int stride;

  __device__ int64_t at(int i) const { return begin + int64_t(i) * stride; }
};

// Row number `row` of the outer * inner ones.
__device__ inline Row row_of(int64_t row, int reduced, int inner) {
  return {row / inner * reduced * inner + row % inner, inner};
}

// The runs of WIDTH elements that a thread takes of a row: use(first element, its offset).
template <int WIDTH, class Use>
__device__ inline void for_each_run(const Row& row, int elements, const Use& use) {
  for (int i = int(threadIdx.x) * WIDTH; i < elements; i += int(blockDim.x) * WIDTH) use(i, row.at(i));
}

// A row's maximum, and the sum of exp(x - maximum) over it.
struct ExpSum {
  float peak, sum;
};

// To be called by all threads of the row's block.
template <int WIDTH>
__device__ inline ExpSum exp_sum(const float* x, const Row& row, int elements, BlockReduceStorage& storage) {
  float peak = -INFINITY;
  for_each_run<WIDTH>(row, elements, [&](int, int64_t at) {
    const auto run = load_run<WIDTH>(x + at);
    for (const float value : run.values) peak = Max::combine(peak, value);
  });
  peak = block_max(peak, storage);
  float sum = 0.0f;
  for_each_run<WIDTH>(row, elements, [&](int, int64_t at) {
    const auto run = load_run<WIDTH>(x + at);
    for (const float value : run.values) sum += expf(value - peak);
  });
  return {peak, block_sum(sum, storage)};
}

// Whether rows of so many elements in these arrays (outer, elements, inner) divide into aligned runs of four.
inline bool has_rows_of_fours(int elements, int inner, std::initializer_list<const void*> arrays) {
  return inner == 1 && has_runs_of(4, elements, arrays);
}

// Warps enough to give a thread about four elements, eight at most.
inline int count_threads(int elements) {
  return std::clamp(ceil_div(elements, 4 * WARP_SIZE) * WARP_SIZE, WARP_SIZE, MAX_ROW_THREADS);
}

// A block for each row of `elements`.
inline LaunchConfig row_config(const char* op, int64_t rows, int elements, Stream stream) {
  check(rows <= INT32_MAX, op, "at most 2^31 - 1 rows, got ", rows);
  return {.op = op,
          .grid = unsigned(rows),
          .block = unsigned(count_threads(elements)),
          .shared_bytes = sizeof(BlockReduceStorage),
          .stream = stream};
}

}  // namespace minicnn
