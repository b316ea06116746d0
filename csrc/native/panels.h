// The one layout of the matrix kernels' scratch: a matrix cut into panels of PANEL columns.
//
//            column 0 .. PANEL-1     PANEL .. 2*PANEL-1
//   row 0    |0 1 2 .. PANEL-1|      |stride ..       |     element (row, column) lies at
//   row 1    |PANEL ..        |      |                |     column / PANEL * stride + row * PANEL + column % PANEL
//
// A tile of a product reads and writes its panels from end to end, whatever the pitch of the arrays they came from: no
// two rows compete for one set of the cache, and every row begins on a cache line. The last panel is filled up with
// zeros where it is read as columns of a product; what stands there in a result is never used.
#pragma once
#include <algorithm>
#include <cstdint>

#include "device/host_device.h"
#include "native/simd.h"

namespace minicnn {

constexpr int PANEL = 2 * LANES;

constexpr int64_t panel_count(int64_t columns) { return ceil_div<int64_t>(columns, PANEL); }

struct Panels {
  float* data;
  int64_t stride;  // floats from one panel to the next

  float* panel(int64_t index) const { return data + index * stride; }
  float* at(int64_t row, int64_t column) const { return panel(column / PANEL) + row * PANEL + column % PANEL; }
  Panels from_row(int64_t row) const { return {data + row * PANEL, stride}; }
};

constexpr int64_t panels_size(int64_t rows, int64_t columns) { return panel_count(columns) * rows * PANEL; }
inline Panels panels_of(float* data, int64_t rows) { return {data, rows * PANEL}; }

// Room taken piece by piece from a workspace, each piece on a cache line. Over a null pointer it only counts, so that
// one function says how much a pass needs and where it lies.
class Scratch {
 public:
  static constexpr int64_t LINE = 16;  // floats of a cache line, and of the widest vector

  explicit Scratch(float* workspace) : begin_(aligned(workspace)), next_(begin_) {}

  float* take(int64_t floats) {
    float* const piece = reinterpret_cast<float*>(next_);
    next_ += ceil_div(floats, LINE) * LINE * sizeof(float);
    return piece;
  }

  // What a workspace must hold wherever it begins.
  int64_t floats() const { return int64_t((next_ - begin_) / sizeof(float)) + LINE; }

 private:
  static uintptr_t aligned(const float* address) {
    return ceil_div<uintptr_t>(reinterpret_cast<uintptr_t>(address), LINE * sizeof(float)) * LINE * sizeof(float);
  }
  uintptr_t begin_, next_;
};

// `rows` runs of `count` <= PANEL floats, source_pitch and target_pitch apart.
inline void copy_runs(const float* source, int64_t source_pitch, float* target, int64_t target_pitch, int64_t rows,
                      int count) {
  if (count == PANEL)
    for (int64_t row = 0; row < rows; ++row, source += source_pitch, target += target_pitch) {
      store(target, load(source));
      store(target + LANES, load(source + LANES));
    }
  else if (count > LANES)
    for (int64_t row = 0; row < rows; ++row, source += source_pitch, target += target_pitch) {
      store(target, load(source));
      store_some(target + LANES, load_some(source + LANES, count - LANES), count - LANES);
    }
  else
    for (int64_t row = 0; row < rows; ++row, source += source_pitch, target += target_pitch)
      store_some(target, load_some(source, count), count);
}

inline void zero_runs(float* target, int64_t target_pitch, int64_t rows, int count) {
  const int first = std::min(count, LANES), second = count - first;
  for (int64_t row = 0; row < rows; ++row, target += target_pitch) {
    store_some(target, Floats{}, first);
    store_some(target + first, Floats{}, second);
  }
}

// What stands behind the last of `columns` in its panel.
inline void zero_tail(Panels to, int64_t rows, int64_t columns) {
  if (const int used = int(columns % PANEL); used != 0) zero_runs(to.at(0, columns), PANEL, rows, PANEL - used);
}

// A row-major matrix (rows, columns), its rows `pitch` apart, into panels. It is read row by row, and the next row is
// asked for ahead: rows far apart begin on other pages, where no processor prefetches by itself.
inline void pack(const float* matrix, int64_t pitch, int64_t rows, int64_t columns, Panels to) {
  for (int64_t row = 0; row < rows; ++row, matrix += pitch)
    for (int64_t column = 0; column < columns; column += PANEL) {
      for (int line = 0; line < PANEL; line += Scratch::LINE) __builtin_prefetch(matrix + pitch + column + line);
      copy_runs(matrix + column, 0, to.at(row, column), 0, 1, int(std::min<int64_t>(PANEL, columns - column)));
    }
  zero_tail(to, rows, columns);
}

// The transposed of a row-major matrix (columns, rows), its rows `pitch` apart, into panels (rows, columns).
inline void pack_transposed(const float* matrix, int64_t pitch, int64_t rows, int64_t columns, Panels to) {
  for (int64_t first = 0; first < columns; first += PANEL) {
    const int count = int(std::min<int64_t>(PANEL, columns - first));
    float* const panel = to.at(0, first);
    for (int64_t row = 0; row < rows; ++row)
      for (int column = 0; column < count; ++column)
        panel[row * PANEL + column] = matrix[(first + column) * pitch + row];
  }
  zero_tail(to, rows, columns);
}

}  // namespace minicnn
