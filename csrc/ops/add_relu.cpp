// The sum of two arrays of one shape through ReLU: where a residual block joins its shortcut.
//
// Forward:  y = s < 0 ? 0 : s, s = a + b     (NaN stays NaN)
// Backward: da (+)= g, db (+)= g, g = y <= 0 ? 0 : dy
//           g = dy where y is null: where those who wrote dy have seen to it
//
// a, b, y, dy, da, db (count) float32; any shape, flattened. da or db may be null, and the two may be one array if the
// second one adds. A thread owns a run of elements. An output may be the very array that an input is.
// Bytes an element: 12 forward, 16 backward (12 without y), 4 more for each of da and db with Accumulate::add, and 4
// more for each output where the processor reads a line before it overwrites it: bound by memory bandwidth.
#include "native/map.h"

namespace minicnn {

void add_relu_forward(const float* a, const float* b, float* y, int64_t count, Stream) {
  parallel(count, GRAIN, LINE, [&](int64_t begin, int64_t end) {
    in_vectors(begin, end, [&](int64_t i, auto lanes) {
      store_some(y + i, relu(load_some(a + i, lanes) + load_some(b + i, lanes)), lanes);
    });
  });
}

void add_relu_backward(const float* dy, const float* y, float* da, Accumulate accumulate_da, float* db,
                       Accumulate accumulate_db, int64_t count, Stream) {
  parallel(count, GRAIN, LINE, [&](int64_t begin, int64_t end) {
    in_vectors(begin, end, [&](int64_t i, auto lanes) {
      const Floats gradient = load_gradient(dy, y, i, lanes);
      if (da != nullptr) write_some(da + i, gradient, accumulate_da, lanes);
      if (db != nullptr) write_some(db + i, gradient, accumulate_db, lanes);
    });
  });
}

}  // namespace minicnn
