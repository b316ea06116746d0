// The innermost product: a tile of TILE_ROWS x PANEL sums kept in registers.
//
//   sums[i][j] = before[i][j] + (sum over k < depth of a(i, k) b(k, j))
//
// What was there before is added last: a reduction that comes in parts is summed part by part, with the smaller error
// of short chains.
//
// Each step of k loads a row of b's panel, two vectors, and multiplies it by one element of each of the tile's rows,
// which the instruction broadcasts from memory. The sizes follow from the registers: TILE_ROWS x 2 sums, the two
// vectors of b and one to broadcast into: 14 * 2 + 3 of 32 (AVX-512; NEON has as many), 6 * 2 + 3 of 16 (AVX2, SSE).
// The 28 (12) independent sums hide the latency of a fused multiply-add, 4 cycles on 2 units; per step 28 FMAs, 14
// cycles, stand against 16 loads, 8 cycles. Where a panel has at most LANES columns left, its second vector is left
// out.
//
// Source: Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication"; broadcasting tiles as in
// BLIS (Van Zee and van de Geijn 2015).
#pragma once
#include <algorithm>
#include <utility>

#include "native/panels.h"

namespace minicnn {

#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int TILE_ROWS = 14;
#else
constexpr int TILE_ROWS = 6;
#endif

// How operand a lies in its panels: as (row of the product, reduction), or as (reduction, row of the product), which is
// the transposed.
enum class Along { reduction, outer };

template <int ROWS, int VECTORS>
using Sums = Floats[ROWS][VECTORS];

// What a product is added to: rows `pitch` apart, with pitch 0 one row for all (a bias); nothing where data is null.
struct Before {
  const float* data;
  int pitch;

  Before from_row(int64_t row) const { return {data == nullptr ? nullptr : data + row * pitch, pitch}; }
};

template <int ROWS, int VECTORS>
inline void add_before(Sums<ROWS, VECTORS>& sums, Before before) {
  if (before.data == nullptr) return;
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < VECTORS; ++j) sums[i][j] += load(before.data + i * before.pitch + j * LANES);
}

// `steps` of the reduction. From one step to the next a_step and b_step floats; `row(i)` from a's first row to row i.
// What of them the caller has as constants, the addresses of the instructions hold.
template <int ROWS, int VECTORS, class Row>
[[gnu::always_inline]] inline void multiply_steps(const float* a, const Row& row, int64_t a_step, const float* b,
                                                  int64_t b_step, int64_t steps, Sums<ROWS, VECTORS>& sums) {
  for (int64_t k = 0; k < steps; ++k) {
    Floats columns[VECTORS];
#pragma GCC unroll 2
    for (int j = 0; j < VECTORS; ++j) columns[j] = load(b + k * b_step + j * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const float element = a[row(i) + k * a_step];
#pragma GCC unroll 2
      for (int j = 0; j < VECTORS; ++j) sums[i][j] += element * columns[j];
    }
  }
}

// One tile: a points at its first element, b at the panel; finish(first_row, sums) takes the sums.
template <Along ALONG, int ROWS, int VECTORS, class Finish>
[[gnu::noinline]] void multiply_tile(const float* a, int64_t a_stride, const float* b, int64_t depth, Before before,
                                     int64_t first_row, const Finish& finish) {
  Sums<ROWS, VECTORS> sums{};
  if constexpr (ALONG == Along::outer) {
    multiply_steps<ROWS, VECTORS>(a, [](int i) { return i; }, PANEL, b, PANEL, depth, sums);
  } else {
    for (; depth > 0; depth -= PANEL, a += a_stride, b += PANEL * PANEL)
      multiply_steps<ROWS, VECTORS>(
          a, [](int i) { return i * PANEL; }, 1, b, PANEL, std::min<int64_t>(depth, PANEL), sums);
  }
  add_before<ROWS, VECTORS>(sums, before);
  finish(first_row, sums);
}

// body(std::integral_constant<int, value>()) for 1 <= value <= MOST, each a kernel of its own.
template <int MOST, class Body>
void with_constant(int value, const Body& body) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
    (void)((value == I + 1 && (body(std::integral_constant<int, I + 1>()), true)) || ...);
  }(std::make_integer_sequence<int, MOST>());
}

// `rows` rows of one panel of the result, in tiles as equal as possible. `before` belongs to the first row.
template <Along ALONG, int VECTORS, class Finish>
void multiply_rows(Panels a, int64_t rows, const float* b, int64_t depth, Before before, int64_t first_row,
                   const Finish& finish) {
  const int64_t tiles = ceil_div<int64_t>(rows, TILE_ROWS);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const int64_t begin = rows * tile / tiles, end = rows * (tile + 1) / tiles;
    const float* const a_tile = ALONG == Along::outer ? a.data + begin : a.data + begin * PANEL;
    with_constant<TILE_ROWS>(int(end - begin), [&](auto count) {
      multiply_tile<ALONG, count, VECTORS>(a_tile, a.stride, b, depth, before.from_row(begin), first_row + begin,
                                           finish);
    });
  }
}

// One panel of the result: `columns` <= PANEL of it count. For Along::outer, the rows of the product are the columns of
// a, and no tile reaches over the end of a panel of a.
template <Along ALONG, class Finish>
void multiply_panel(Panels a, int64_t rows, const float* b, int64_t depth, int64_t columns, Before before,
                    const Finish& finish) {
  const int64_t run = ALONG == Along::outer ? PANEL : std::max<int64_t>(rows, 1);
  for (int64_t first = 0; first < rows; first += run) {
    const Panels of_run = ALONG == Along::outer ? Panels{a.panel(first / PANEL), a.stride} : a;
    const int64_t count = std::min(run, rows - first);
    if (columns > LANES)
      multiply_rows<ALONG, 2>(of_run, count, b, depth, before.from_row(first), first, finish);
    else
      multiply_rows<ALONG, 1>(of_run, count, b, depth, before.from_row(first), first, finish);
  }
}

// Finish: the sums as they are, into one panel.
struct StoreInPanel {
  float* panel;
  template <int ROWS, int VECTORS>
  void operator()(int64_t first_row, Sums<ROWS, VECTORS>& sums) const {
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < VECTORS; ++j) store(panel + (first_row + i) * PANEL + j * LANES, sums[i][j]);
  }
};

}  // namespace minicnn
