// dw[k,r,s,c] (+)= sum over n, p, q of dy[n,p,q,k] x[n, h, w, c],   dbias[k] (+)= sum over n, p, q of dy[n,p,q,k]
//
// The product of one group: rows are filters, columns taps x channels, the reduction runs over the output pixels, in
// blocks of BLOCK_PIXELS. Of each block dy is packed whole, the patches one panel after another: such a panel, 32 KiB,
// is used by all filters while a first-level cache has it.
//
// Threads share the pixels while their own sums take at most PART_FLOATS (16 MiB) together, and the panels of columns
// beyond: each part is summed by one thread, then the parts are added in order. So the bits depend on the number of
// threads, and on nothing else. Scratch: the parts; for each thread a block of dy and a panel of patches.
#include "native/implicit.h"
#include "native/patches.h"
#include "native/product.h"
#include "native/sum_rows.h"

namespace minicnn::implicit {
namespace {

constexpr int BLOCK_PIXELS = 256;
constexpr int64_t PART_FLOATS = 4 << 20;

struct Plan {
  int64_t filters, depth, pixels;
  int pixel_shares, column_shares;
  int64_t part_floats, bias_floats, block_floats;
  float *parts, *bias_parts, *blocks;

  Plan(const ConvShape& shape, Scratch& scratch)
      : filters(shape.group_k()),
        depth(int64_t(shape.r) * shape.s * shape.group_c()),
        pixels(int64_t(shape.n) * shape.p * shape.q) {
    part_floats = panels_size(filters, depth);
    bias_floats = panel_count(filters) * PANEL;
    block_floats = panels_size(BLOCK_PIXELS, filters) + BLOCK_PIXELS * PANEL;
    pixel_shares = std::min<int>(share_count(pixels, BLOCK_PIXELS), std::max<int64_t>(PART_FLOATS / part_floats, 1));
    column_shares = int(std::clamp<int64_t>(thread_count() / pixel_shares, 1, panel_count(depth)));
    parts = scratch.take(part_floats * pixel_shares);
    bias_parts = scratch.take(bias_floats * pixel_shares);
    blocks = scratch.take(block_floats * pixel_shares * column_shares);
  }

  Panels part(int pixel_share) const { return panels_of(parts + pixel_share * part_floats, filters); }
  float* bias_part(int pixel_share) const { return bias_parts + pixel_share * bias_floats; }
};

// What one share sums: some pixels, some panels of columns.
void sum_share(const float* dy, const Patches& patches, const Plan& plan, int pixel_share, int column_share,
               float* block) {
  const ConvShape& conv = patches.conv;
  const Share pixels = share_of(plan.pixels, pixel_share, plan.pixel_shares);
  const Share panels = share_of(panel_count(plan.depth), column_share, plan.column_shares);
  const Panels part = plan.part(pixel_share), dy_block = panels_of(block, BLOCK_PIXELS);
  const Panels patch_panel = panels_of(block + panels_size(BLOCK_PIXELS, plan.filters), BLOCK_PIXELS);
  if (pixels.begin == pixels.end) std::fill_n(part.data, plan.part_floats, 0.0f);
  if (column_share == 0) std::fill_n(plan.bias_part(pixel_share), plan.bias_floats, 0.0f);
  for (Share rows = {pixels.begin, 0}; rows.begin < pixels.end; rows.begin = rows.end) {
    rows.end = std::min(rows.begin + BLOCK_PIXELS, pixels.end);
    const int64_t count = rows.end - rows.begin;
    pack(dy + rows.begin * conv.k + patches.group * plan.filters, conv.k, count, plan.filters, dy_block);
    if (column_share == 0) add_rows(dy_block, count, plan.filters, plan.bias_part(pixel_share));
    for (int64_t index = panels.begin; index < panels.end; ++index) {
      const Share columns = {index * PANEL, std::min<int64_t>((index + 1) * PANEL, plan.depth)};
      patches.pack(rows, columns, patch_panel);
      zero_tail(patch_panel, count, columns.end - columns.begin);
      const Before before = {rows.begin == pixels.begin ? nullptr : part.panel(index), PANEL};
      multiply_panel<Along::outer>(dy_block, plan.filters, patch_panel.data, count, columns.end - columns.begin, before,
                                   StoreInPanel{part.panel(index)});
    }
  }
}

// dw of a group (+)= the parts, in order.
void add_parts(const Plan& plan, float* dw, Accumulate accumulate) {
  const Epilogue weight{dw, Activation::none, nullptr, accumulate};
  parallel(plan.filters, 1, [&](int64_t begin, int64_t end) {
    for (int64_t filter = begin; filter < end; ++filter)
      for (int64_t column = 0; column < plan.depth; column += LANES) {
        Floats sum{};
        for (int part = 0; part < plan.pixel_shares; ++part) sum += load(plan.part(part).at(filter, column));
        weight.finish(sum, filter * plan.depth + column, int(std::min<int64_t>(LANES, plan.depth - column)));
      }
  });
}

}  // namespace

int64_t backward_weight_workspace(const ConvShape& shape) {
  Scratch scratch(nullptr);
  Plan(shape, scratch);
  return scratch.floats();
}

void backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                     Accumulate accumulate_dbias, float* workspace, const ConvShape& shape) {
  Scratch scratch(workspace);
  const Plan plan(shape, scratch);
  for (int group = 0; group < shape.groups; ++group) {
    const Patches patches{x, shape, group};
    run_shares(plan.pixel_shares * plan.column_shares, [&](int share) {
      sum_share(dy, patches, plan, share % plan.pixel_shares, share / plan.pixel_shares,
                plan.blocks + share * plan.block_floats);
    });
    add_parts(plan, dw + group * plan.filters * plan.depth, accumulate);
    add_bias_parts(plan.bias_parts, plan.bias_floats, plan.pixel_shares, plan.filters,
                   dbias != nullptr ? dbias + group * plan.filters : nullptr, accumulate_dbias);
  }
}

}  // namespace minicnn::implicit
