// The sum over the parts of a reduction that was cut.
//
// sum[i,j] = bias[j] + parts[0,i,j] + parts[1,i,j] + ...     always in this order
// result[i,j] (+)= mask[i,j] <= 0 ? 0 : activation(sum[i,j]) * dropout[i,j]
//
// parts (splits, m, n), bias (n) or null, result (m, n) and mask (m, n) or null, rows `pitch` apart, float32.
//
// A thread owns four neighbours of a row of the result.
// Grid ceil(m * ceil(n / 4) / 256), block 256 threads, no shared memory.
// Bytes an element: 4 * splits + 4, 4 more with Accumulate::add and with a mask; one addition a part: bound by
// memory bandwidth, where the parts have not stayed in the second-level cache.
//
// Assumes nothing of alignment: off a 16-byte boundary the accesses are 4 bytes wide.
#include "gemm/schedule.h"
#include "gemm/tensor_core.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;

// An H100 has 132 processors. Smaller cards get more than they need, which costs little.
constexpr int64_t PROCESSORS = 132;

// A part shorter than this spends its time on filling the pipeline and on the second pass.
constexpr int64_t SHORTEST_PART = 256;

int64_t count_tiles(const Product& product, int64_t tile) {
  return ceil_div(product.m, tile) * ceil_div(product.n, tile) * product.batch;
}

// As many parts as give every processor `blocks_per_processor` blocks, if they are not too short.
int64_t count_parts(const Product& product, int64_t tiles, int64_t blocks_per_processor) {
  if (tiles >= PROCESSORS) return 1;
  const int64_t wanted = ceil_div(PROCESSORS * blocks_per_processor, max(tiles, int64_t(1)));
  return max(int64_t(1), min(wanted, product.k / SHORTEST_PART));
}

template <class T>
__global__ void __launch_bounds__(THREADS) sum_parts_kernel(const float* parts, int splits, int64_t m, int n,
                                                            EpilogueOf<T> epilogue, T* result, int64_t pitch) {
  const int quads = ceil_div(n, 4);
  const int64_t quad = int64_t(blockIdx.x) * THREADS + threadIdx.x, row = quad / quads;
  if (row >= m) return;
  const int column = 4 * int(quad % quads);
  Vec4 sum = epilogue.bias != nullptr ? load_vec4(epilogue.bias, column, n) : Vec4{};
  for (int part = 0; part < splits; ++part) {
    const Vec4 value = load_vec4(parts + (part * m + row) * n, column, n);
    for (int i = 0; i < 4; ++i) sum.values[i] += value.values[i];
  }
  if (epilogue.activation == Activation::relu)
    for (float& value : sum.values) value = relu(value);
  if (epilogue.dropout.drawn != nullptr) drop(sum, epilogue.dropout, row * n + column);
  const int64_t first = row * pitch + column;
  if (epilogue.mask != nullptr) {
    const Vec4 y = load_vec4(epilogue.mask + first, 0, n - column);
    for (int i = 0; i < 4; ++i) sum.values[i] = relu_gradient(sum.values[i], y.values[i]);
  }
  if (epilogue.accumulate == Accumulate::add) {
    const Vec4 earlier = load_vec4(result + first, 0, n - column);
    for (int i = 0; i < 4; ++i) sum.values[i] += earlier.values[i];
  }
  store_vec4(result + first, 0, n - column, sum);
}

}  // namespace

Schedule choose_schedule(const char* op, const Product& product, Schedule asked) {
  check(asked.tile == 0 || asked.tile == 64 || asked.tile == 128, op,
        "a tile is 64 or 128, or 0 to have it chosen, not ", asked.tile);
  check(asked.math >= Math::float32 && asked.math <= Math::tf32x3, op,
        "math is 0 (float32), 1 (tf32) or 2 (tf32x3), not ", int(asked.math));
  check(asked.splits >= 0, op, "splits is at least 1, or 0 to have it chosen, not ", asked.splits);
  Schedule chosen = asked;
  if (chosen.tile == 0) {
    const int64_t large = count_tiles(product, 128);
    const bool fills = large * count_parts(product, large, tile_blocks_per_sm<128>()) >= PROCESSORS;
    chosen.tile = product.m > 64 && product.n > 64 && fills ? 128 : 64;
  }
  if (chosen.splits == 0) {
    const int64_t blocks = chosen.tile == 128 ? tile_blocks_per_sm<128>() : tile_blocks_per_sm<64>();
    chosen.splits = int(count_parts(product, count_tiles(product, chosen.tile), blocks));
  }
  return chosen;
}

dim3 tile_grid(const char* op, const Product& product, Schedule schedule) {
  const int64_t tiles = ceil_div(product.m, int64_t(schedule.tile)) * ceil_div(product.n, int64_t(schedule.tile));
  check(tiles <= INT32_MAX, op, tiles, " tiles are more than a grid can have: use a smaller batch");
  check(product.batch <= 65535 && schedule.splits <= 65535, op, product.batch, " groups in ", schedule.splits,
        " parts are more than a grid can have (65535 each)");
  return dim3(unsigned(tiles), unsigned(product.batch), unsigned(schedule.splits));
}

template <class T>
void sum_parts(const char* op, const float* parts, int splits, int64_t m, int n, const EpilogueOf<T>& epilogue,
               T* result, int64_t pitch, Stream stream) {
  const int64_t quads = m * ceil_div(n, 4);
  launch(sum_parts_kernel<T>,
         {.op = op, .grid = unsigned(ceil_div(quads, int64_t(THREADS))), .block = THREADS, .stream = stream}, parts,
         splits, m, n, epilogue, result, pitch);
}

template void sum_parts(const char*, const float*, int, int64_t, int, const Epilogue&, float*, int64_t, Stream);
template void sum_parts(const char*, const float*, int, int64_t, int, const EpilogueOf<Bfloat16>&, Bfloat16*, int64_t,
                        Stream);
template void sum_parts(const char*, const float*, int, int64_t, int, const EpilogueOf<Float16>&, Float16*, int64_t,
                        Stream);

}  // namespace minicnn
