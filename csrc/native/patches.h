// The patches that filters see, packed into panels: row (n, p, q) of the matrix (N * P * Q, R * S * C / groups) is
//
//   entry (r, s, c) = x[n, h, w, c],   h = rows().input_at(p, r), w = columns().input_at(q, s);   0 outside of the
//   image
//
// Entries come in runs that lie side by side in memory: a whole row of a window, S * C of them, where its taps are
// neighbours and there is one group, else the channels of one tap. A run is cut where a panel ends, and each piece is
// copied for all pixels of a row of the image at once, so that what belongs to the piece is computed once a row.
#pragma once
#include "native/panels.h"
#include "native/threads.h"
#include "shapes.h"

namespace minicnn {

struct Patches {
  const float* x;
  ConvShape conv;
  int group;

  int64_t pixels() const { return int64_t(conv.n) * conv.p * conv.q; }
  int64_t depth() const { return int64_t(conv.r) * conv.s * conv.group_c(); }

  // The entries [ks.begin, ks.end) of the patches of the pixels [rows.begin, rows.end), from a panel's column 0 on.
  void pack(Share rows, Share ks, Panels to) const {
    Pixel pixel = output_pixel(conv, int(rows.begin));
    for (int64_t row = rows.begin; row < rows.end;) {
      const int count = int(std::min<int64_t>(rows.end - row, conv.q - pixel.column));
      pack_line(pixel, count, ks, to.from_row(row - rows.begin));
      row += count;
      pixel = pixel_after(pixel, count, conv.p, conv.q);
    }
  }

 private:
  bool taps_are_neighbours() const { return conv.groups == 1 && conv.dilation_w == 1; }

  // `count` pixels of one row of the output.
  void pack_line(const Pixel& first, int count, Share ks, Panels to) const {
    const int run = taps_are_neighbours() ? conv.s * conv.c : conv.group_c();
    const int runs_of_row = taps_are_neighbours() ? 1 : conv.s;
    const int first_run = int(ks.begin) / run, depth = int(ks.end - ks.begin);
    int r = first_run / runs_of_row, s = first_run % runs_of_row, in_run = int(ks.begin) % run;
    for (int place = 0; place < depth;) {
      const int length = std::min({run - in_run, PANEL - place % PANEL, depth - place});
      pack_piece(first, count, r, s, in_run, length, to.at(0, place));
      place += length;
      in_run += length;
      if (in_run < run) continue;
      in_run = 0;
      if (++s == runs_of_row) s = 0, ++r;
    }
  }

  // A piece of the run of tap (r, s), from its element `in_run` on. Positions are elements of a row of the image.
  void pack_piece(const Pixel& first, int count, int r, int s, int in_run, int length, float* to) const {
    const int h = conv.rows().input_at(first.row, r);
    if (!conv.rows().is_inside(h)) return zero_runs(to, PANEL, count, length);
    const float* const line = x + x_offset(conv, first.image, h, 0, 0);
    const int end = conv.w * conv.c, step = conv.stride_w * conv.c;
    int position = conv.columns().input_at(first.column, s) * conv.c + group * conv.group_c() + in_run, i = 0;
    for (; i < count && position < 0; ++i, position += step) copy_inside(line, end, position, length, to + i * PANEL);
    const int fitting = position + length <= end ? std::min(count - i, (end - length - position) / step + 1) : 0;
    copy_runs(line + position, step, to + i * PANEL, PANEL, fitting, length);
    for (i += fitting, position += fitting * step; i < count; ++i, position += step)
      copy_inside(line, end, position, length, to + i * PANEL);
  }

  // The elements [position, position + length) of a line of `end`, 0 outside of it.
  static void copy_inside(const float* line, int end, int position, int length, float* to) {
    const int begin = std::clamp(-position, 0, length), stop = std::clamp(end - position, begin, length);
    zero_runs(to, PANEL, 1, length);
    copy_runs(line + position + begin, 0, to + begin, PANEL, 1, stop - begin);
  }
};

// The same convolution with its taps in ascending order of what they read: gradient_shape's run backwards.
inline ConvShape ascending(ConvShape conv) {
  if (conv.dilation_h < 0) {
    conv.dilation_h = -conv.dilation_h;
    conv.padding_h += (conv.r - 1) * conv.dilation_h;
  }
  if (conv.dilation_w < 0) {
    conv.dilation_w = -conv.dilation_w;
    conv.padding_w += (conv.s - 1) * conv.dilation_w;
  }
  return conv;
}

}  // namespace minicnn
