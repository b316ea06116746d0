// dx (+)= the gradient of the input where channels are few: windows summed, then added where they lie.
//
// Where C is much smaller than a vector, a product whose columns are channels leaves lanes empty, and one over all
// input pixels also multiplies the zeros around dy. Here the columns are whole rows of a window, S * C neighbours in
// dx:
//
//   window[n,p,q][r, (s, c)] = sum over k of dy[n,p,q,k] w[k,r,s,c]       rows output pixels, reduction filters
//   dx[n, p*stride - padding + r*dilation, q*stride - padding + s, c] += window[n,p,q][r, (s, c)]
//
// Each thread has its images: blocks of BLOCK_ROWS windows, added into a frame, the image with its padding, so that no
// window reaches over its border; the frame is finished into dx (mask, accumulation) once. Row r of the windows is in
// panels of its own, filled up with zeros, which the frame has room for at its end. The order of all sums is fixed.
// Scratch: the filters; for each thread a block of dy, its windows and a frame. One group, dilation_w 1.
// Source of the idea: col2im (Chellapilla et al. 2006; Jia et al. 2014, "Caffe"), kept in a cache.
#include "native/implicit.h"
#include "native/product.h"

namespace minicnn::implicit {
namespace {

struct Plan {
  int run, run_panels;          // S * C, and the panels that it takes
  int frame_rows, frame_pitch;  // floats from one row of the frame to the next
  int64_t frame_floats, share_floats;
  int shares;
  Panels filters;
  float* blocks;

  Plan(const ConvShape& shape, Scratch& scratch) : run(shape.s * shape.c), run_panels(int(panel_count(run))) {
    const int covered_h = (shape.p - 1) * shape.stride_h + (shape.r - 1) * shape.dilation_h + 1;
    const int covered_w = (shape.q - 1) * shape.stride_w + shape.s;
    frame_rows = std::max(covered_h, shape.padding_h + shape.h);
    frame_pitch = std::max(covered_w, shape.padding_w + shape.w) * shape.c;
    frame_floats = int64_t(frame_rows) * frame_pitch + run_panels * PANEL;
    shares = share_count(shape.n, 1);
    share_floats = ceil_div<int64_t>(frame_floats, PANEL) * PANEL + panels_size(BLOCK_ROWS, shape.k) +
                   panels_size(BLOCK_ROWS, columns(shape));
    filters = panels_of(scratch.take(panels_size(shape.k, columns(shape))), shape.k);
    blocks = scratch.take(share_floats * shares);
  }

  int64_t columns(const ConvShape& shape) const { return int64_t(shape.r) * run_panels * PANEL; }
};

// w (K, R, S, C) as (filters, R rows of a window).
void pack_window_rows(const float* w, const ConvShape& shape, const Plan& plan) {
  const int64_t pitch = int64_t(shape.r) * plan.run;
  for (int r = 0; r < shape.r; ++r)
    pack(w + r * plan.run, pitch, shape.k, plan.run, {plan.filters.panel(r * plan.run_panels), plan.filters.stride});
}

// The windows of the output pixels [first, first + count) of an image, added into its frame.
void add_windows(Panels windows, int first, int count, const ConvShape& shape, const Plan& plan, float* frame) {
  Pixel pixel = pixel_at(first, shape.p, shape.q);
  for (int row = 0; row < count; ++row, pixel = pixel_after(pixel, 1, shape.p, shape.q)) {
    float* corner = frame + int64_t(pixel.row) * shape.stride_h * plan.frame_pitch +
                    int64_t(pixel.column) * shape.stride_w * shape.c;
    for (int r = 0; r < shape.r; ++r, corner += int64_t(shape.dilation_h) * plan.frame_pitch)
      for (int element = 0; element < plan.run; element += LANES) {
        const float* const window = windows.at(row, int64_t(r) * plan.run_panels * PANEL + element);
        store(corner + element, load(corner + element) + load(window));
      }
  }
}

void sum_frame(const float* dy, const ConvShape& shape, const Plan& plan, float* frame, float* block) {
  std::fill_n(frame, plan.frame_floats, 0.0f);
  const int pixels = shape.p * shape.q, panels = shape.r * plan.run_panels;
  for (int first = 0; first < pixels; first += BLOCK_ROWS) {
    const int count = std::min(BLOCK_ROWS, pixels - first);
    const Panels gradients = panels_of(block, count);
    const Panels windows = panels_of(block + panels_size(BLOCK_ROWS, shape.k), count);
    pack(dy + int64_t(first) * shape.k, shape.k, count, shape.k, gradients);
    for (int panel = 0; panel < panels; ++panel) {
      const int columns = std::min(PANEL, plan.run - panel % plan.run_panels * PANEL);
      multiply_panel<Along::reduction>(gradients, count, plan.filters.panel(panel), shape.k, columns,
                                       Before{nullptr, 0}, StoreInPanel{windows.panel(panel)});
    }
    add_windows(windows, first, count, shape, plan, frame);
  }
}

}  // namespace

int64_t scatter_workspace(const ConvShape& shape) {
  Scratch scratch(nullptr);
  Plan(shape, scratch);
  return scratch.floats();
}

void scatter_backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                            float* workspace, const ConvShape& shape) {
  Scratch scratch(workspace);
  const Plan plan(shape, scratch);
  const Epilogue epilogue{dx, Activation::none, mask, accumulate};
  pack_window_rows(w, shape, plan);
  run_shares(plan.shares, [&](int share) {
    const Share images = share_of(shape.n, share, plan.shares);
    float* const frame = plan.blocks + share * plan.share_floats;
    float* const block = frame + ceil_div<int64_t>(plan.frame_floats, PANEL) * PANEL;
    for (int64_t n = images.begin; n < images.end; ++n) {
      sum_frame(dy + n * shape.p * shape.q * shape.k, shape, plan, frame, block);
      for (int h = 0; h < shape.h; ++h) {
        const float* const line = frame + int64_t(shape.padding_h + h) * plan.frame_pitch + shape.padding_w * shape.c;
        const int64_t offset = x_offset(shape, int(n), h, 0, 0);
        in_vectors(0, int64_t(shape.w) * shape.c, [&](int64_t i, auto lanes) {
          epilogue.finish(load_some(line + i, lanes), offset + i, lane_count(lanes));
        });
      }
    }
  });
}

}  // namespace minicnn::implicit
