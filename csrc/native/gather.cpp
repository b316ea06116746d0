// y and dw of few channels: windows read where they lie, none of them packed.
//
//   forward   y[n,p,q,k] = activation(bias[k] + sum over r of row[n,p,r][q*stride*C ..] . w[k,r,..])
//   weight    dw[k,r,s,c] (+)= sum over n, p, q of dy[n,p,q,k] row[n,p,r][(q*stride + s)*C + c],   dbias likewise
//
// where row[n,p,r] is row p*stride + r*dilation of the image with its padding. A row of a window, S * C floats, lies
// side by side in it, and the next pixel's row begins stride * C floats later: to the micro-kernel that is a matrix
// like any other. Where channels are few, packing each float R * S times costs more than its products.
//
//             rows of a tile                         columns (lanes)    reduction
//   forward   output pixels side by side             filters            a row of the window, R times
//   weight    taps side by side, of one or two r     filters            the pixels of a row of dy, and all such rows
//
// Each thread has its bands of output rows, and a frame: the rows that one band sees, with their padding. Forward a sum
// belongs to one thread; of dw each thread has a part, and the parts are added in order, so that the bits depend on the
// number of threads and on nothing else.
// Scratch: the filters, or the parts; for each thread a frame and a band of dy.
// Bytes: x, y and dy once, but for the rows that two bands share: bound by the micro-kernel, with lanes beyond K idle.
//
// One group, dilation_w 1, C below LANES of the widest vectors, R * S * C <= MAX_DEPTH.
#include "native/implicit.h"
#include "native/product.h"
#include "native/sum_rows.h"

namespace minicnn::implicit {
namespace {

constexpr int MAX_CHANNELS = 15, MAX_DEPTH = 512;  // longer sums are better cut, as the implicit GEMM does
constexpr int64_t BAND_FLOATS = 1 << 16;           // 256 KiB of a frame, and of y or dy: in a second-level cache

// Rows of a tile: of one vector a row, enough to hide the latency of its sums.
template <int VECTORS>
constexpr int MOST_ROWS = VECTORS == 1 && TILE_ROWS < 12 ? 12 : TILE_ROWS;

// Output rows [begin, end) of an image.
struct Band {
  int image, begin, end;

  int rows() const { return end - begin; }
};

// The images cut into bands, and the frame that holds what a band's windows see.
struct Bands {
  int of_image;  // bands
  int rows;      // of y, at most
  int frame_rows, pitch;
  int64_t count;

  explicit Bands(const ConvShape& conv) {
    const int window_rows = (conv.r - 1) * conv.dilation_h + 1;
    pitch = ((conv.q - 1) * conv.stride_w + conv.s) * conv.c;
    const int64_t fitting =
        std::min((BAND_FLOATS / pitch - window_rows) / conv.stride_h + 1, BAND_FLOATS / (int64_t(conv.q) * conv.k));
    of_image = int(ceil_div<int64_t>(conv.p, std::clamp<int64_t>(fitting, 1, conv.p)));
    rows = ceil_div(conv.p, of_image);
    frame_rows = (rows - 1) * conv.stride_h + window_rows;
    count = int64_t(conv.n) * of_image;
  }

  int64_t frame_floats() const { return int64_t(frame_rows) * pitch; }

  Band at(int64_t index, const ConvShape& conv) const {
    const Share rows_of_band = share_of(conv.p, int(index % of_image), of_image);
    return {int(index / of_image), int(rows_of_band.begin), int(rows_of_band.end)};
  }
};

// The frame of a band: x with its padding. Columns beyond the image must be 0 already.
void fill_frame(const float* x, const ConvShape& conv, const Bands& bands, const Band& band, float* frame) {
  const int first = conv.rows().input_at(band.begin, 0), last = conv.rows().input_at(band.end - 1, 0);
  const int64_t left = int64_t(conv.padding_w) * conv.c;
  const int64_t inside = std::min<int64_t>(int64_t(conv.w) * conv.c, bands.pitch - left);
  for (int h = first; h <= last + (conv.r - 1) * conv.dilation_h; ++h, frame += bands.pitch) {
    if (!conv.rows().is_inside(h)) {
      std::fill_n(frame, bands.pitch, 0.0f);
      continue;
    }
    const float* const line = x + x_offset(conv, band.image, h, 0, 0);
    in_vectors(0, inside,
               [&](int64_t i, auto lanes) { store_some(frame + left + i, load_some(line + i, lanes), lanes); });
  }
}

// use(band, frame) for the bands of one share.
template <class Use>
void each_band(const float* x, const ConvShape& conv, const Bands& bands, Share share, float* frame, const Use& use) {
  std::fill_n(frame, bands.frame_floats(), 0.0f);
  for (int64_t index = share.begin; index < share.end; ++index) {
    const Band band = bands.at(index, conv);
    fill_frame(x, conv, bands, band, frame);
    use(band);
  }
}

struct ForwardPlan {
  Bands bands;
  int shares;
  Panels filters;
  float *bias, *frames;

  ForwardPlan(const ConvShape& conv, Scratch& scratch) : bands(conv), shares(share_count(bands.count, 1)) {
    const int64_t depth = int64_t(conv.r) * conv.s * conv.c;
    filters = panels_of(scratch.take(panels_size(depth, conv.k)), depth);
    bias = scratch.take(panel_count(conv.k) * PANEL);
    frames = scratch.take(bands.frame_floats() * shares);
  }
};

// ROWS pixels side by side, from the first one's window on. PIXEL_STEP: floats between them, 0 where known only here.
template <int ROWS, int VECTORS, int PIXEL_STEP, class Finish>
[[gnu::noinline]] void pixels_tile(const float* window, const ConvShape& conv, int pitch, const float* filters,
                                   Before bias, const Finish& finish) {
  const int64_t pixel_step = PIXEL_STEP != 0 ? PIXEL_STEP : int64_t(conv.stride_w) * conv.c;
  const int64_t run = int64_t(conv.s) * conv.c, row_step = int64_t(conv.dilation_h) * pitch;
  Sums<ROWS, VECTORS> sums{};
  for (int r = 0; r < conv.r; ++r, window += row_step, filters += run * PANEL)
    multiply_steps<ROWS, VECTORS>(window, [=](int i) { return i * pixel_step; }, 1, filters, PANEL, run, sums);
  add_before<ROWS, VECTORS>(sums, bias);
  finish(0, sums);
}

// A row of output pixels, `columns` <= PANEL filters of one panel.
template <int VECTORS, int PIXEL_STEP>
void pixels_row(const float* line, const ConvShape& conv, int pitch, const float* filters, int64_t column,
                RowsOfResult& result) {
  float* const row = result.epilogue.result;
  const int tile = ceil_div(conv.q, ceil_div(conv.q, MOST_ROWS<VECTORS>));
  for (int q = 0; q < conv.q; q += tile) {
    result.epilogue.result = row + int64_t(q) * conv.k;
    with_constant<MOST_ROWS<VECTORS>>(std::min(tile, conv.q - q), [&](auto rows) {
      pixels_tile<rows, VECTORS, PIXEL_STEP>(line + int64_t(q) * conv.stride_w * conv.c, conv, pitch, filters,
                                             result.before(column), result.finish(column, nullptr));
    });
  }
  result.epilogue.result = row;
}

struct WeightPlan {
  Bands bands;
  int shares;
  int64_t depth, part_floats, bias_floats, frame_floats, copy_floats;
  float *parts, *bias_parts, *frames, *copies;

  WeightPlan(const ConvShape& conv, Scratch& scratch)
      : bands(conv),
        shares(share_count(bands.count, 1)),
        depth(int64_t(conv.r) * conv.s * conv.c),
        part_floats(panels_size(depth, conv.k)),
        bias_floats(panel_count(conv.k) * PANEL),
        frame_floats(ceil_div<int64_t>(bands.frame_floats(), Scratch::LINE) * Scratch::LINE),
        copy_floats(conv.k % LANES != 0 ? panels_size(int64_t(bands.rows) * conv.q, conv.k) : 0) {
    parts = scratch.take(part_floats * shares);
    bias_parts = scratch.take(bias_floats * shares);
    frames = scratch.take(frame_floats * shares);
    copies = scratch.take(copy_floats * shares);
  }

  float* frame(int share) const { return frames + share * frame_floats; }
  Panels part(int share) const { return panels_of(parts + share * part_floats, depth); }
  float* bias_part(int share) const { return bias_parts + share * bias_floats; }
};

// The rows of dy of a band, for one panel of filters: a pixel every `pixel_step` floats.
struct Gradients {
  const float* first;
  int64_t pixel_step;
};

// part += the sum over a band, for TAPS taps side by side, from `window` on, in each of WINDOW_ROWS rows of the window.
template <int WINDOW_ROWS, int TAPS, int VECTORS>
[[gnu::noinline]] void taps_tile(const float* window, const ConvShape& conv, const Bands& bands, const Band& band,
                                 Gradients dy, float* part, int64_t part_step) {
  constexpr int ROWS = WINDOW_ROWS * TAPS;
  const int64_t row_step = int64_t(conv.dilation_h) * bands.pitch, pixel_step = int64_t(conv.stride_w) * conv.c;
  Sums<ROWS, VECTORS> sums{};
  for (int row = 0; row < band.rows(); ++row)
    multiply_steps<ROWS, VECTORS>(
        window + int64_t(row) * conv.stride_h * bands.pitch, [=](int i) { return i / TAPS * row_step + i % TAPS; },
        pixel_step, dy.first + int64_t(row) * conv.q * dy.pixel_step, dy.pixel_step, conv.q, sums);
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < VECTORS; ++j) {
      float* const to = part + i / TAPS * part_step + i % TAPS * PANEL + j * LANES;
      store(to, load(to) + sums[i][j]);
    }
}

// One panel of filters, all taps.
template <int VECTORS>
void taps_of_panel(const float* frame, const ConvShape& conv, const Bands& bands, const Band& band, Gradients dy,
                   float* part) {
  constexpr int MOST = MOST_ROWS<VECTORS>;
  const int run = conv.s * conv.c, tiles = ceil_div(run, MOST);
  const int64_t row_step = int64_t(conv.dilation_h) * bands.pitch, part_step = int64_t(run) * PANEL;
  const bool in_pairs = run <= MOST / 2;
  for (int r = 0; r < conv.r; r += in_pairs ? 2 : 1) {
    const float* const line = frame + r * row_step;
    float* const target = part + r * part_step;
    if (in_pairs && r + 1 < conv.r) {
      with_constant<MOST / 2>(
          run, [&](auto taps) { taps_tile<2, taps, VECTORS>(line, conv, bands, band, dy, target, part_step); });
      continue;
    }
    for (int tile = 0; tile < tiles; ++tile) {
      const Share taps_of_tile = share_of(run, tile, tiles);
      with_constant<MOST>(int(taps_of_tile.end - taps_of_tile.begin), [&](auto taps) {
        taps_tile<1, taps, VECTORS>(line + taps_of_tile.begin, conv, bands, band, dy,
                                    target + taps_of_tile.begin * PANEL, part_step);
      });
    }
  }
}

// `columns` of a matrix of that pitch, or as many as a panel has, into one; zeros fill their last vector up.
void copy_columns(const float* matrix, int64_t pitch, int64_t rows, int columns, float* panel) {
  for (int first = 0; first < std::min(columns, PANEL); first += LANES)
    for (int64_t row = 0; row < rows; ++row)
      store(panel + row * PANEL + first, load_some(matrix + row * pitch + first, std::min(LANES, columns - first)));
}

// What one band adds to a share's part. Where a pixel's filters are no whole vectors, the last one also holds filters
// of the next pixel, whose sums nobody reads; only behind the last band of all there is no such pixel, and it is
// copied.
void sum_band(const float* dy, const ConvShape& conv, const WeightPlan& plan, const Band& band, int share) {
  const int64_t pixels = int64_t(band.rows()) * conv.q;
  const int64_t first_pixel = (int64_t(band.image) * conv.p + band.begin) * conv.q;
  const int64_t pixels_behind = int64_t(conv.n) * conv.p * conv.q - first_pixel - pixels;
  const bool copied = plan.copy_floats != 0 && pixels_behind * conv.k < LANES;
  const Panels copy = panels_of(plan.copies + share * plan.copy_floats, pixels), part = plan.part(share);
  const float* const rows = dy + first_pixel * conv.k;
  for (int column = 0; column < conv.k; column += PANEL) {
    Gradients gradients{rows + column, conv.k};
    if (copied) {
      copy_columns(rows + column, conv.k, pixels, conv.k - column, copy.at(0, column));
      gradients = {copy.at(0, column), PANEL};
    }
    const int vectors = conv.k - column <= LANES ? 1 : 2;
    const auto sum_taps = vectors == 1 ? taps_of_panel<1> : taps_of_panel<2>;
    sum_taps(plan.frame(share), conv, plan.bands, band, gradients, part.at(0, column));
    for (int first = 0; first < vectors * LANES; first += LANES)
      add_rows(gradients.first + first, gradients.pixel_step, pixels, plan.bias_part(share) + column + first);
  }
}

}  // namespace

bool gathers(const ConvShape& shape) {
  return shape.groups == 1 && shape.dilation_w == 1 && shape.c <= MAX_CHANNELS &&
         int64_t(shape.r) * shape.s * shape.c <= MAX_DEPTH;
}

int64_t gather_forward_workspace(const ConvShape& shape) {
  Scratch scratch(nullptr);
  ForwardPlan(shape, scratch);
  return scratch.floats();
}

int64_t gather_backward_weight_workspace(const ConvShape& shape) {
  Scratch scratch(nullptr);
  WeightPlan(shape, scratch);
  return scratch.floats();
}

void gather_forward(const float* x, const float* w, const float* bias, Activation activation, float* y,
                    float* workspace, const ConvShape& shape) {
  Scratch scratch(workspace);
  const ForwardPlan plan(shape, scratch);
  const Bands& bands = plan.bands;
  const int64_t depth = int64_t(shape.r) * shape.s * shape.c;
  pack_transposed(w, depth, depth, shape.k, plan.filters);
  if (bias != nullptr) pack(bias, 0, 1, shape.k, panels_of(plan.bias, 1));
  const bool side_by_side = shape.stride_w * shape.c == 1;
  const auto row_of_panel = [&](int column) {
    const bool one_vector = shape.k - column <= LANES;
    return side_by_side ? (one_vector ? pixels_row<1, 1> : pixels_row<2, 1>)
                        : (one_vector ? pixels_row<1, 0> : pixels_row<2, 0>);
  };
  run_shares(plan.shares, [&](int share) {
    float* const frame = plan.frames + share * bands.frame_floats();
    RowsOfResult result{
        {y, activation, nullptr, Accumulate::overwrite}, bias == nullptr ? nullptr : plan.bias, shape.k, {}};
    for (int i = 0; i < MOST_ROWS<1>; ++i) result.offsets[i] = int64_t(i) * shape.k;
    each_band(x, shape, bands, share_of(bands.count, share, plan.shares), frame, [&](const Band& band) {
      for (int column = 0; column < shape.k; column += PANEL)
        for (int p = band.begin; p < band.end; ++p) {
          result.epilogue.result = y + (int64_t(band.image) * shape.p + p) * shape.q * shape.k;
          const float* const line = frame + int64_t(p - band.begin) * shape.stride_h * bands.pitch;
          row_of_panel(column)(line, shape, bands.pitch, plan.filters.at(0, column), column, result);
        }
    });
  });
}

void gather_backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                            Accumulate accumulate_dbias, float* workspace, const ConvShape& shape) {
  Scratch scratch(workspace);
  const WeightPlan plan(shape, scratch);
  run_shares(plan.shares, [&](int share) {
    std::fill_n(plan.part(share).data, plan.part_floats, 0.0f);
    std::fill_n(plan.bias_part(share), plan.bias_floats, 0.0f);
    each_band(x, shape, plan.bands, share_of(plan.bands.count, share, plan.shares), plan.frame(share),
              [&](const Band& band) { sum_band(dy, shape, plan, band, share); });
  });
  const Epilogue weight{dw, Activation::none, nullptr, accumulate};
  for (int64_t filter = 0; filter < shape.k; ++filter)
    for (int64_t tap = 0; tap < plan.depth; ++tap) {
      float sum = 0;
      for (int share = 0; share < plan.shares; ++share) sum += *plan.part(share).at(tap, filter);
      weight.finish(sum, filter * plan.depth + tap);
    }
  add_bias_parts(plan.bias_parts, plan.bias_floats, plan.shares, shape.k, dbias, accumulate_dbias);
}

}  // namespace minicnn::implicit
