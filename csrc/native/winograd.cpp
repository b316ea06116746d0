// y = activation(bias + conv(x, w)) and dx (+)= conv(dy, the filters turned round), by F(4x4, 3x3) or F(2x2, 5x5).
//
// The filters of a group are transformed once into U, 36 matrices (channels, filters). Each thread then takes its share
// of the tiles in blocks: transforms their inputs into V, 36 matrices (tiles, channels), multiplies M = V U, 36 times,
// and transforms M back, with bias, ReLU, mask and accumulation before the only store.
//
// Blocks: V and M take 144 (C + K) bytes a tile. While channels are few they stay in a second-level cache; where there
// are many, U is the larger stream, 144 C K bytes once a block, and a block has at least so many tiles that its
// products, 72 C K FLOPs a tile, outlast it. Scratch: U, 36 C K floats, and V and M of each thread.
//
// The gradient of the input is the convolution of dy with padding R - 1 - padding, filters and channels exchanged.
#include "native/winograd.h"

#include "native/patches.h"
#include "native/product.h"
#include "native/winograd_tiles.h"

namespace minicnn::winograd {
namespace {

constexpr int64_t CACHE_FLOATS = 384 << 10;  // of V and M: 1.5 MiB of a second-level cache

enum class Pass { forward, backward_input };

int64_t block_tiles(int64_t c, int64_t k) {
  const int64_t in_cache = CACHE_FLOATS / (PLANES * (c + k));
  const int64_t at_least = c * k >= 512 * 512 ? 112 : c * k >= 192 * 256 ? 64 : 28;
  return std::clamp<int64_t>(in_cache, at_least, 256);
}

struct Plan {
  TileGrid grid;
  int64_t tiles;  // of a block
  int shares;
  int64_t v_floats, m_floats;
  Planes filters;
  float* blocks;

  Plan(const ConvShape& conv, Scratch& scratch)
      : grid(conv, outputs_of(conv.r)), tiles(block_tiles(conv.group_c(), conv.group_k())) {
    shares = share_count(grid.count, 1);
    tiles = std::min(tiles, ceil_div<int64_t>(grid.count, shares));
    v_floats = Planes::size(tiles, conv.group_c());
    m_floats = Planes::size(tiles, conv.group_k());
    filters = Planes::of(scratch.take(Planes::size(conv.group_c(), conv.group_k())), conv.group_c(), conv.group_k());
    blocks = scratch.take((v_floats + m_floats) * shares);
  }
};

// LANES filters side by side (`count` of them), TAPS * TAPS taps: of the product's column `filter` on, row `channel`.
template <int TAPS, Pass PASS>
void load_filters(const float* w, const ConvShape& conv, int group, int channel, int filter, int count,
                  Floats (&taps)[TAPS * TAPS]) {
  constexpr int COUNT = TAPS * TAPS;
  for (int tap = 0; tap < COUNT; ++tap) {
    if constexpr (PASS == Pass::forward) {
      const int64_t pitch = int64_t(COUNT) * conv.group_c();
      const float* const first = w + (group * conv.group_k() + filter) * pitch + tap * conv.group_c() + channel;
      Floats values{};
      for (int lane = 0; lane < count; ++lane) values[lane] = first[lane * pitch];
      taps[tap] = values;
    } else {  // of w, conv's channel is the filter and conv's filter the channel, and the window is turned round
      const int64_t row = int64_t(group * conv.group_c() + channel) * COUNT + COUNT - 1 - tap;
      taps[tap] = load_some(w + row * conv.group_k() + filter, count);
    }
  }
}

template <int TAPS, Pass PASS>
void transform_filters(const float* w, const ConvShape& conv, int group, const Planes& to) {
  const int vectors = ceil_div(conv.group_k(), LANES);
  parallel(int64_t(vectors) * conv.group_c(), LANES, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int filter = int(item / conv.group_c()) * LANES, channel = int(item % conv.group_c());
      Floats taps[TAPS * TAPS], transformed[PLANES];
      load_filters<TAPS, PASS>(w, conv, group, channel, filter, std::min(LANES, conv.group_k() - filter), taps);
      both_ways<TransformFilter<TAPS>, TAPS, POINTS>(taps, transformed);
      to.store_all(channel, filter, transformed);
    }
  });
}

// A^T m A of one tile, finished.
template <int TAPS>
void transform_output(const Planes& m, int64_t row, const ConvShape& conv, int group, const TileGrid& grid,
                      int64_t tile, const float* bias, const Epilogue& epilogue) {
  constexpr int OUTPUTS = outputs_of(TAPS);
  const auto pixels = grid.square<OUTPUTS>(tile, {}, conv.p, conv.q, conv.k);
  for (int filter = 0; filter < conv.group_k(); filter += LANES) {
    const int count = std::min(LANES, conv.group_k() - filter), k = group * conv.group_k() + filter;
    Floats products[PLANES], sums[OUTPUTS * OUTPUTS];
    m.load_all(row, filter, products);
    both_ways<TransformOutput<OUTPUTS>, POINTS, OUTPUTS>(products, sums);
    const Floats bias_of_filter = bias != nullptr ? load_some(bias + k, count) : Floats{};
    for (int i = 0; i < OUTPUTS * OUTPUTS; ++i)
      if (pixels.offsets[i] != pixels.OUTSIDE)
        epilogue.finish(epilogue.activated(sums[i] + bias_of_filter), pixels.offsets[i] + k, count);
  }
}

// The tiles [tiles.begin, tiles.end) of one block.
template <int TAPS>
void convolve_block(const float* x, const ConvShape& conv, int group, const Plan& plan, Share tiles, float* block,
                    const float* bias, const Epilogue& epilogue) {
  const int64_t count = tiles.end - tiles.begin;
  const Planes v = Planes::of(block, count, conv.group_c());
  const Planes m = Planes::of(block + plan.v_floats, count, conv.group_k());
  for (int64_t row = 0; row < count; ++row) transform_input(x, conv, group, plan.grid, tiles.begin + row, v, row);
  for (int plane = 0; plane < PLANES; ++plane)
    for (int64_t panel = 0; panel < panel_count(conv.group_k()); ++panel)
      multiply_panel<Along::reduction>(v[plane], count, plan.filters[plane].panel(panel), conv.group_c(),
                                       conv.group_k() - panel * PANEL, Before{nullptr, 0},
                                       StoreInPanel{m[plane].panel(panel)});
  for (int64_t row = 0; row < count; ++row)
    transform_output<TAPS>(m, row, conv, group, plan.grid, tiles.begin + row, bias, epilogue);
}

template <int TAPS, Pass PASS>
void convolve(const float* x, const float* w, const float* bias, const Epilogue& epilogue, float* workspace,
              const ConvShape& conv) {
  Scratch scratch(workspace);
  const Plan plan(conv, scratch);
  for (int group = 0; group < conv.groups; ++group) {
    transform_filters<TAPS, PASS>(w, conv, group, plan.filters);
    run_shares(plan.shares, [&](int share) {
      const Share all = share_of(plan.grid.count, share, plan.shares);
      const int blocks = int(ceil_div<int64_t>(all.end - all.begin, plan.tiles));
      for (int index = 0; index < blocks; ++index) {
        const Share part = share_of(all.end - all.begin, index, blocks);
        convolve_block<TAPS>(x, conv, group, plan, {all.begin + part.begin, all.begin + part.end},
                             plan.blocks + share * (plan.v_floats + plan.m_floats), bias, epilogue);
      }
    });
  }
}

ConvShape gradient_of_input(const ConvShape& shape) {
  return ascending(gradient_shape(shape, gradient_axis(shape.rows(), 0), gradient_axis(shape.columns(), 0)));
}

}  // namespace

bool supports(const ConvShape& shape) {
  return shape.r == shape.s && (shape.r == 3 || shape.r == 5) && shape.stride_h == 1 && shape.stride_w == 1 &&
         shape.dilation_h == 1 && shape.dilation_w == 1;
}

int64_t forward_workspace(const ConvShape& shape) {
  Scratch scratch(nullptr);
  Plan(shape, scratch);
  return scratch.floats();
}

int64_t backward_input_workspace(const ConvShape& shape) { return forward_workspace(gradient_of_input(shape)); }

void forward(const float* x, const float* w, const float* bias, Activation activation, float* y, float* workspace,
             const ConvShape& shape) {
  const Epilogue epilogue{y, activation, nullptr, Accumulate::overwrite};
  if (shape.r == 3)
    convolve<3, Pass::forward>(x, w, bias, epilogue, workspace, shape);
  else
    convolve<5, Pass::forward>(x, w, bias, epilogue, workspace, shape);
}

void backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                    float* workspace, const ConvShape& shape) {
  const Epilogue epilogue{dx, Activation::none, mask, accumulate};
  const ConvShape conv = gradient_of_input(shape);
  if (shape.r == 3)
    convolve<3, Pass::backward_input>(dy, w, nullptr, epilogue, workspace, conv);
  else
    convolve<5, Pass::backward_input>(dy, w, nullptr, epilogue, workspace, conv);
}

}  // namespace minicnn::winograd
