// y[n,p,q,k]  = activation(bias[k] + sum over r, s, c of x[n, h, w, c] w[k,r,s,c]), and the gradient of x
//
// The products, of one group (product.h): patches, packed in blocks of 128 pixels, times filters, packed beforehand.
//
//             rows                          columns     reduction
//   forward   output pixels                 filters     taps x channels
//   input     input pixels of one residue   channels    the taps that can read them x filters
//
// The gradient of the input at stride s is s * s convolutions of dy at stride 1, one for each residue of (h, w)
// (gradient_shape in shapes.h): no zero is multiplied, and what no tap reads becomes 0.
//
// Scratch: the packed filters, and a block of patches with its sums for each thread (Product::plan).
#include "native/implicit.h"

#include "native/patches.h"
#include "native/product.h"

namespace minicnn::implicit {
namespace {

// One convolution at a time: a whole layer's, or that of a residue.
struct Plan {
  Panels filters;
  float* bias;
  Product product;

  Plan(const ConvShape& conv, Scratch& scratch) {
    const int64_t depth = int64_t(conv.r) * conv.s * conv.group_c();
    filters = panels_of(scratch.take(panels_size(depth, conv.group_k())), depth);
    bias = scratch.take(panel_count(conv.group_k()) * PANEL);
    product = Product::plan(int64_t(conv.n) * conv.p * conv.q, conv.group_k(), depth, LONG_IN_DEPTH, scratch);
  }
};

// The pixels that a convolution writes: every stride-th row and column of the result, from a first one on.
struct ResultPixels {
  int rows, columns, first_row, first_column, row_stride, column_stride, channels;

  int64_t offset(const Pixel& pixel) const {
    const int64_t row = int64_t(pixel.image) * rows + first_row + int64_t(row_stride) * pixel.row;
    return (row * columns + first_column + int64_t(column_stride) * pixel.column) * channels;
  }
};

struct PixelRows : RowsOfResult {
  ConvShape conv;
  ResultPixels pixels;

  void begin_block(Share rows) {
    Pixel pixel = output_pixel(conv, int(rows.begin));
    for (int64_t row = rows.begin; row < rows.end; ++row, pixel = pixel_after(pixel, 1, conv.p, conv.q))
      offsets[row - rows.begin] = pixels.offset(pixel);
  }
};

void convolve(const float* x, const ConvShape& conv, int group, const Plan& plan, const float* bias,
              const Epilogue& epilogue, const ResultPixels& pixels) {
  const Patches patches{x, conv, group};
  multiply<Along::reduction>(
      plan.product, [&](Share rows, Share ks, Panels to) { patches.pack(rows, ks, to); }, plan.filters,
      [&] { return PixelRows{{epilogue, bias, conv.group_k(), {}}, conv, pixels}; });
}

// The filters of a group as (taps x channels, filters).
void pack_filters(const float* w, const ConvShape& shape, int group, Panels to) {
  const int64_t depth = int64_t(shape.r) * shape.s * shape.group_c();
  const float* const filters = w + group * shape.group_k() * depth;
  parallel(panel_count(shape.group_k()), 1, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * PANEL, last = std::min<int64_t>(end * PANEL, shape.group_k());
    pack_transposed(filters + first * depth, depth, depth, last - first, {to.panel(begin), to.stride});
  });
}

// The filters of a group as (taps of the class x filters, channels), the taps as ascending() has them.
void pack_filters_of_residue(const float* w, const ConvShape& shape, const GradientAxis& rows,
                             const GradientAxis& columns, int group, Panels to) {
  const int64_t filter = int64_t(shape.r) * shape.s * shape.group_c();
  const float* const filters = w + group * shape.group_k() * filter;
  parallel(int64_t(std::max(rows.taps, 0)) * std::max(columns.taps, 0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t tap = begin; tap < end; ++tap) {
      const int r = rows.first_tap + rows.tap_step * (rows.taps - 1 - int(tap / columns.taps));
      const int s = columns.first_tap + columns.tap_step * (columns.taps - 1 - int(tap % columns.taps));
      pack(filters + (r * shape.s + s) * shape.group_c(), filter, shape.group_k(), shape.group_c(),
           to.from_row(tap * shape.group_k()));
    }
  });
}

// use(rows, columns, convolution) for every residue of (h, w).
template <class Use>
void for_each_residue(const ConvShape& shape, const Use& use) {
  for (int h = 0; h < std::min(shape.stride_h, shape.h); ++h)
    for (int w = 0; w < std::min(shape.stride_w, shape.w); ++w) {
      const GradientAxis rows = gradient_axis(shape.rows(), h), columns = gradient_axis(shape.columns(), w);
      use(rows, columns, ascending(gradient_shape(shape, rows, columns)));
    }
}

}  // namespace

int64_t forward_workspace(const ConvShape& shape) {
  Scratch scratch(nullptr);
  Plan(shape, scratch);
  return scratch.floats();
}

int64_t backward_input_workspace(const ConvShape& shape) {
  int64_t floats = 0;
  for_each_residue(shape, [&](const GradientAxis&, const GradientAxis&, const ConvShape& conv) {
    floats = std::max(floats, forward_workspace(conv));
  });
  return floats;
}

void forward(const float* x, const float* w, const float* bias, Activation activation, float* y, float* workspace,
             const ConvShape& shape) {
  Scratch scratch(workspace);
  const Plan plan(shape, scratch);
  const ResultPixels all{shape.p, shape.q, 0, 0, 1, 1, shape.k};
  for (int group = 0; group < shape.groups; ++group) {
    const int first = group * shape.group_k();
    pack_filters(w, shape, group, plan.filters);
    if (bias != nullptr) pack(bias + first, 0, 1, shape.group_k(), panels_of(plan.bias, 1));
    convolve(x, shape, group, plan, bias != nullptr ? plan.bias : nullptr,
             {y + first, activation, nullptr, Accumulate::overwrite}, all);
  }
}

void backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                    float* workspace, const ConvShape& shape) {
  for_each_residue(shape, [&](const GradientAxis& rows, const GradientAxis& columns, const ConvShape& conv) {
    Scratch scratch(workspace);
    const Plan plan(conv, scratch);
    const ResultPixels of_residue{shape.h,        shape.w,        rows.residue, columns.residue,
                                  shape.stride_h, shape.stride_w, shape.c};
    for (int group = 0; group < shape.groups; ++group) {
      const int first = group * shape.group_c();
      pack_filters_of_residue(w, shape, rows, columns, group, plan.filters);
      convolve(dy, conv, group, plan, nullptr,
               {dx + first, Activation::none, mask != nullptr ? mask + first : nullptr, accumulate}, of_residue);
    }
  });
}

}  // namespace minicnn::implicit
