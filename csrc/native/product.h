// c (m, n) = a b, a packed block by block by those who multiply it, b packed beforehand for all of them.
//
// Blocks of a, 256 KiB, stay in a second-level cache of 1 to 2 MiB while all panels of
// b pass by, each 64 KiB of 512 rows, the upper half of which a first-level cache keeps for the next tile. A
// longer reduction is cut into equal parts; in between, the sums of the block wait in scratch.
//
// The rows of c are shared among the threads, and the panels of its columns too where rows are few. Each sum belongs to
// one thread, so the bits do not depend on their number.
#pragma once
#include <algorithm>

#include "kernels.h"
#include "native/micro_kernel.h"
#include "native/threads.h"

namespace minicnn {

// A block of a: whole panels of it where a is transposed.
struct Block {
  int rows, depth;
};
constexpr Block LONG_IN_DEPTH{128, 512};
constexpr Block LONG_IN_ROWS{512, 128};  // for a large transposed a, whose rows of the product are neighbours in memory
constexpr int MAX_BLOCK_ROWS = LONG_IN_ROWS.rows;

// What becomes of finished sums before they are stored at result + offset: y (+)= mask <= 0 ? 0 : activation(sum).
struct Epilogue {
  float* result;
  Activation activation;
  const float* mask;  // laid out as result, or null
  Accumulate accumulate;

  Floats activated(Floats sum) const { return activation == Activation::relu ? (sum < 0 ? Floats{} : sum) : sum; }

  bool only_stores() const { return mask == nullptr && accumulate == Accumulate::overwrite; }

  // The first `count` lanes.
  void finish(Floats value, int64_t offset, int count) const {
    if (mask != nullptr) value = load_some(mask + offset, count) <= 0 ? Floats{} : value;
    if (accumulate == Accumulate::add) value += load_some(result + offset, count);
    store_some(result + offset, value, count);
  }
  void finish(float value, int64_t offset) const {
    if (activation == Activation::relu && value < 0) value = 0;
    if (mask != nullptr && mask[offset] <= 0) value = 0;
    result[offset] = accumulate == Accumulate::add ? result[offset] + value : value;
  }
};

// The results of a block: row i lies at result + offsets[i]. They are added to `bias` (in whole panels), or null.
struct RowsOfResult {
  Epilogue epilogue;
  const float* bias;
  int64_t columns;
  int64_t offsets[MAX_BLOCK_ROWS];

  Before before(int64_t column) const { return {bias == nullptr ? nullptr : bias + column, 0}; }

  struct Finish {
    const RowsOfResult& rows;
    int64_t column;

    template <int ROWS, int VECTORS>
    void operator()(int64_t first_row, Sums<ROWS, VECTORS>& sums) const {
      const Epilogue& epilogue = rows.epilogue;
      if (epilogue.activation == Activation::relu) {
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
          for (int j = 0; j < VECTORS; ++j) sums[i][j] = epilogue.activated(sums[i][j]);
      }
      const int64_t* const offsets = rows.offsets + first_row;
      const int64_t left = rows.columns - column;
      const auto count = [&](int j) { return int(std::min<int64_t>(LANES, left - j * LANES)); };
      if (!epilogue.only_stores()) {
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
          for (int j = 0; j < VECTORS; ++j) epilogue.finish(sums[i][j], offsets[i] + column + j * LANES, count(j));
      } else if (left >= VECTORS * LANES) {
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
          for (int j = 0; j < VECTORS; ++j) store(epilogue.result + offsets[i] + column + j * LANES, sums[i][j]);
      } else {
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
          for (int j = 0; j < VECTORS; ++j)
            store_some(epilogue.result + offsets[i] + column + j * LANES, sums[i][j], count(j));
      }
    }
  };
  Finish finish(int64_t column, float*) const { return {*this, column}; }
  void end_block(Share, Share, Panels) const {}
};

// The product's extents, and the room that each thread has.
struct Product {
  int64_t m, n, k;
  Block limits;
  int row_shares, column_shares;
  int64_t block_floats, waiting_floats;  // of one share: a block of a, the sums of its rows
  float* scratch;

  // As many shares of the rows as there are tiles for, the other threads along the columns.
  static Product plan(int64_t m, int64_t n, int64_t k, Block block, Scratch& scratch) {
    Product product{.m = m, .n = n, .k = k, .limits = block};
    product.row_shares = share_count(m, TILE_ROWS);
    product.column_shares =
        int(std::clamp<int64_t>(thread_count() / product.row_shares, 1, std::max<int64_t>(panel_count(n), 1)));
    const int64_t share_panels = ceil_div<int64_t>(panel_count(n), product.column_shares);
    product.block_floats = block.rows * std::min<int64_t>(panel_count(k) * PANEL, block.depth);
    product.waiting_floats = block.rows * share_panels * PANEL;
    product.scratch =
        scratch.take((product.block_floats + product.waiting_floats) * product.row_shares * product.column_shares);
    return product;
  }

  float* block(int share) const { return scratch + share * (block_floats + waiting_floats); }
  Panels waiting(int share) const { return panels_of(block(share) + block_floats, limits.rows); }
};

// A block of rows, for one share of the panels. Result: before(column) is what the sums of a panel are added to,
// finish(column, waiting) what takes them.
template <Along ALONG, class PackA, class Result>
void multiply_block(const Product& product, int share, const PackA& pack_a, Panels b, const Result& result, Share rows,
                    Share panels) {
  const int64_t count = rows.end - rows.begin;
  const int parts = int(std::max<int64_t>(1, ceil_div<int64_t>(product.k, product.limits.depth)));
  for (int part = 0; part < parts; ++part) {
    const auto [k_begin, k_end] = share_of(product.k, part, parts, PANEL);
    const int64_t depth = k_end - k_begin;
    const Panels a = panels_of(product.block(share), ALONG == Along::outer ? depth : count);
    pack_a(rows, Share{k_begin, k_end}, a);
    for (int64_t index = panels.begin; index < panels.end; ++index) {
      const int64_t column = index * PANEL, columns = std::min<int64_t>(PANEL, product.n - column);
      float* const waiting = product.waiting(share).panel(index - panels.begin);
      const Before before = part == 0 ? result.before(column) : Before{waiting, PANEL};
      const float* const b_rows = b.at(k_begin, column);
      if (part + 1 < parts)
        multiply_panel<ALONG>(a, count, b_rows, depth, columns, before, StoreInPanel{waiting});
      else
        multiply_panel<ALONG>(a, count, b_rows, depth, columns, before, result.finish(column, waiting));
    }
  }
}

// The whole product. pack_a(rows, ks, panels) packs a block of a into panels (rows, ks), or (ks, rows) for
// Along::outer. make_result() gives each share a Result; its begin_block(rows) and end_block(rows, panels, waiting)
// frame each block.
template <Along ALONG, class PackA, class MakeResult>
void multiply(const Product& product, const PackA& pack_a, Panels b, const MakeResult& make_result) {
  constexpr int UNIT = ALONG == Along::outer ? PANEL : 1;
  run_shares(product.row_shares * product.column_shares, [&](int share) {
    const Share rows = share_of(product.m, share % product.row_shares, product.row_shares, UNIT);
    const Share panels = share_of(panel_count(product.n), share / product.row_shares, product.column_shares);
    auto result = make_result();
    const int blocks = int(ceil_div<int64_t>(rows.end - rows.begin, product.limits.rows));
    for (int block = 0; block < blocks; ++block) {
      const Share part = share_of(rows.end - rows.begin, block, blocks, UNIT);
      const Share block_rows = {rows.begin + part.begin, rows.begin + part.end};
      result.begin_block(block_rows);
      multiply_block<ALONG>(product, share, pack_a, b, result, block_rows, panels);
      result.end_block(block_rows, panels, product.waiting(share));
    }
  });
}

}  // namespace minicnn
