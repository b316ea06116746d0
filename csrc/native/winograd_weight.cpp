// dw = G^T [ sum over tiles of (A dy A^T) * (B^T d B) ] G and dbias, by F(4x4, 3x3) or F(2x2, 5x5).
//
// Tiles are taken in chunks: their gradients become 36 matrices D (tiles, filters), their inputs V (tiles, channels),
// and 36 products D^T V are added to U (filters, channels) each; U transformed back is dw. The plane of the points (1,
// 1) of D holds the plain sums of dy, so adding up its rows gives dbias.
//
// Two ways to share the work, by the size of U:
//   by tiles    36 C K floats fit a second-level cache: each thread has chunks and a U of its own, added in order
//   by planes   else: all threads transform one large chunk, then each multiplies its share of the planes' rows, so
//   that
//               U is read and written once a chunk of at least MIN_CHUNK tiles
// The bits depend on the number of threads by tiles, and do not by planes. Scratch: U, once a thread by tiles;
// 36 (C + K) floats a tile of a chunk, which has at most CACHE_FLOATS (1.5 MiB) a thread by tiles, and CHUNK_FLOATS
// (32 MiB) or MIN_CHUNK tiles by planes.
#include "native/patches.h"
#include "native/product.h"
#include "native/sum_rows.h"
#include "native/winograd.h"
#include "native/winograd_tiles.h"

namespace minicnn::winograd {
namespace {

constexpr int64_t CACHE_FLOATS = 384 << 10;
constexpr int64_t CHUNK_FLOATS = 8 << 20;
constexpr int64_t MIN_CHUNK = 192;
constexpr int64_t BY_TILES_LIMIT = 128 * 128;  // of C K
constexpr int DEPTH = 128;  // tiles multiplied at a time: a panel of V, 16 KiB, stays in the first cache

struct Plan {
  TileGrid grid;
  bool by_tiles;
  int shares;  // of the tiles: 1 by planes
  int64_t tiles, d_floats, v_floats, u_floats, bias_floats;
  int64_t c, k;
  float *chunks, *u, *bias;

  Plan(const ConvShape& conv, Scratch& scratch) : grid(conv, outputs_of(conv.r)), c(conv.group_c()), k(conv.group_k()) {
    by_tiles = c * k <= BY_TILES_LIMIT;
    shares = by_tiles ? share_count(grid.count, 1) : 1;
    const int64_t tile_floats = PLANES * (c + k);
    tiles = by_tiles ? std::max<int64_t>(CACHE_FLOATS / tile_floats, 3 * TILE_ROWS)
                     : std::max<int64_t>(CHUNK_FLOATS / tile_floats, MIN_CHUNK);
    tiles = std::clamp<int64_t>(tiles, 1, std::max<int64_t>(ceil_div<int64_t>(grid.count, shares), 1));
    d_floats = Planes::size(tiles, k);
    v_floats = Planes::size(tiles, c);
    u_floats = Planes::size(k, c);
    bias_floats = panel_count(k) * PANEL;
    chunks = scratch.take((d_floats + v_floats) * shares);
    u = scratch.take(u_floats * shares);
    bias = scratch.take(bias_floats * shares);
  }

  Planes d_of(int share, int64_t count) const { return Planes::of(chunks + share * (d_floats + v_floats), count, k); }
  Planes v_of(int share, int64_t count) const {
    return Planes::of(chunks + share * (d_floats + v_floats) + d_floats, count, c);
  }
  Planes u_of(int share) const { return Planes::of(u + share * u_floats, k, c); }
  float* bias_of(int share) const { return bias + share * bias_floats; }
};

// A dy A^T of one tile of a group's filters, into row `row` of the planes; 0 outside of dy.
template <int TAPS>
void transform_gradient(const float* dy, const ConvShape& conv, int group, const TileGrid& grid, int64_t tile,
                        const Planes& to, int64_t row) {
  constexpr int OUTPUTS = outputs_of(TAPS);
  const auto pixels = grid.square<OUTPUTS>(tile, {}, conv.p, conv.q, conv.k);
  for (int filter = 0; filter < conv.group_k(); filter += LANES) {
    Floats gradient[OUTPUTS * OUTPUTS], transformed[PLANES];
    pixels.load_all(dy + group * conv.group_k() + filter, std::min(LANES, conv.group_k() - filter), gradient);
    both_ways<TransformGradient<OUTPUTS>, OUTPUTS, POINTS>(gradient, transformed);
    to.store_all(row, filter, transformed);
  }
}

// Panels [panels.begin, panels.end) of filters of one plane: u (+)= d^T v.
void multiply_plane(Panels d, Panels v, int64_t tiles, const Plan& plan, Share panels, bool is_first, Panels u) {
  for (int64_t first = 0; first < tiles; first += DEPTH) {
    const int64_t depth = std::min<int64_t>(DEPTH, tiles - first), row = panels.begin * PANEL;
    const int64_t rows = std::min(panels.end * PANEL, plan.k) - row;
    for (int64_t panel = 0; panel < panel_count(plan.c); ++panel) {
      float* const sums = u.panel(panel) + row * PANEL;
      multiply_panel<Along::outer>({d.panel(panels.begin) + first * PANEL, d.stride}, rows,
                                   v.panel(panel) + first * PANEL, depth, plan.c - panel * PANEL,
                                   Before{is_first && first == 0 ? nullptr : sums, PANEL}, StoreInPanel{sums});
    }
  }
}

template <int TAPS>
void transform_tiles(const float* dy, const float* x, const ConvShape& conv, int group, const Plan& plan, Share tiles,
                     const Planes& d, const Planes& v, int64_t first_row) {
  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const int64_t row = first_row + tile - tiles.begin;
    transform_gradient<TAPS>(dy, conv, group, plan.grid, tile, d, row);
    transform_input(x, conv, group, plan.grid, tile, v, row);
  }
}

// Each thread its own tiles.
template <int TAPS>
void sum_by_tiles(const float* dy, const float* x, const ConvShape& conv, int group, const Plan& plan) {
  const Share filters = {0, panel_count(plan.k)};
  run_shares(plan.shares, [&](int share) {
    const Share all = share_of(plan.grid.count, share, plan.shares);
    const Planes u = plan.u_of(share);
    for (Share tiles = {all.begin, 0}; tiles.begin < all.end; tiles.begin = tiles.end) {
      tiles.end = std::min(tiles.begin + plan.tiles, all.end);
      const int64_t count = tiles.end - tiles.begin;
      const Planes d = plan.d_of(share, count), v = plan.v_of(share, count);
      transform_tiles<TAPS>(dy, x, conv, group, plan, tiles, d, v, 0);
      for (int plane = 0; plane < PLANES; ++plane)
        multiply_plane(d[plane], v[plane], count, plan, filters, tiles.begin == all.begin, u[plane]);
      add_rows(d[SUM_PLANE], count, plan.k, plan.bias_of(share));
    }
  });
}

// All threads one chunk after another.
template <int TAPS>
void sum_by_planes(const float* dy, const float* x, const ConvShape& conv, int group, const Plan& plan) {
  const int64_t panels = panel_count(plan.k);
  for (int64_t begin = 0; begin < plan.grid.count; begin += plan.tiles) {
    const int64_t count = std::min(plan.tiles, plan.grid.count - begin);
    const Planes d = plan.d_of(0, count), v = plan.v_of(0, count), u = plan.u_of(0);
    parallel(count, 1, [&](int64_t first, int64_t last) {
      transform_tiles<TAPS>(dy, x, conv, group, plan, {begin + first, begin + last}, d, v, first);
    });
    parallel(PLANES * panels, 1, [&](int64_t first, int64_t last) {
      for (int64_t item = first; item < last;) {
        const int plane = int(item / panels);
        const Share of_plane = {item % panels, std::min(panels, item % panels + last - item)};
        multiply_plane(d[plane], v[plane], count, plan, of_plane, begin == 0, u[plane]);
        item += of_plane.end - of_plane.begin;
      }
    });
    add_rows(d[SUM_PLANE], count, plan.k, plan.bias_of(0));
  }
}

// LANES channels of one filter: G^T U G, the shares' U added in order.
template <int TAPS>
void store_weight_gradient(const Plan& plan, int64_t filter, int64_t channel, const Epilogue& dw) {
  Floats sums[PLANES], taps[TAPS * TAPS];
  plan.u_of(0).load_all(filter, channel, sums);
  for (int share = 1; share < plan.shares; ++share) {
    Floats more[PLANES];
    plan.u_of(share).load_all(filter, channel, more);
    for (int plane = 0; plane < PLANES; ++plane) sums[plane] += more[plane];
  }
  both_ways<TransformFilterGradient<TAPS>, POINTS, TAPS>(sums, taps);
  for (int tap = 0; tap < TAPS * TAPS; ++tap)
    dw.finish(taps[tap], (filter * TAPS * TAPS + tap) * plan.c + channel,
              int(std::min<int64_t>(LANES, plan.c - channel)));
}

template <int TAPS>
void gradient(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
              Accumulate accumulate_dbias, float* workspace, const ConvShape& conv) {
  Scratch scratch(workspace);
  const Plan plan(conv, scratch);
  for (int group = 0; group < conv.groups; ++group) {
    std::fill_n(plan.bias, plan.bias_floats * plan.shares, 0.0f);
    if (plan.by_tiles)
      sum_by_tiles<TAPS>(dy, x, conv, group, plan);
    else
      sum_by_planes<TAPS>(dy, x, conv, group, plan);
    const Epilogue weight{dw + group * plan.k * TAPS * TAPS * plan.c, Activation::none, nullptr, accumulate};
    parallel(plan.k, 1, [&](int64_t begin, int64_t end) {
      for (int64_t filter = begin; filter < end; ++filter)
        for (int64_t channel = 0; channel < plan.c; channel += LANES)
          store_weight_gradient<TAPS>(plan, filter, channel, weight);
    });
    add_bias_parts(plan.bias, plan.bias_floats, plan.shares, plan.k,
                   dbias != nullptr ? dbias + group * plan.k : nullptr, accumulate_dbias);
  }
}

}  // namespace

int64_t backward_weight_workspace(const ConvShape& shape) {
  Scratch scratch(nullptr);
  Plan(shape, scratch);
  return scratch.floats();
}

void backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                     Accumulate accumulate_dbias, float* workspace, const ConvShape& shape) {
  if (shape.r == 3)
    gradient<3>(dy, x, dw, accumulate, dbias, accumulate_dbias, workspace, shape);
  else
    gradient<5>(dy, x, dw, accumulate, dbias, accumulate_dbias, workspace, shape);
}

}  // namespace minicnn::winograd
