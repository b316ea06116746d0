// Dropout, inverted: a linear map with a random diagonal, so forward and backward are one kernel.
//
// Draw:  drawn = (layer, counter), counter <- counter + 1
// Apply: y[i] (+)= x[i] * (keeps(i) ? scale : 0), scale = 1 / (1 - p), keeps(i) by Philox (device/philox.h):
//        word i % 4 of quad i / 4 of the stream (seed, step = drawn[1], layer = drawn[0]); 0 where mask[i] <= 0
//
// x, y (count) float32, mask (count) float32 or null, any shape, flattened; layer, counter (1) int64; drawn (2) int64.
//
// A thread owns a run of elements, and takes sixty-four at a time: first their random words, then the elements.
// Bytes an element: 8, 4 more with Accumulate::add and with a mask; about 25 integer operations, in vectors: bound by
// arithmetic.
//
// Backward draws the mask again instead of reading a saved one. A dropped NaN or infinity becomes NaN, as in PyTorch.
#include "device/philox.h"
#include "native/map.h"

namespace minicnn {
namespace {

constexpr int QUADS = 16, ELEMENTS = 4 * QUADS;

struct Factors {
  float values[ELEMENTS];
};

// What the elements of `QUADS` quads are multiplied by.
Factors draw(const PhiloxStream& stream, uint64_t first_quad, float p, float scale) {
  Factors factors;
  for (int quad = 0; quad < QUADS; ++quad) {
    const PhiloxWords random = philox_words(stream, first_quad + quad);
    for (int i = 0; i < 4; ++i) factors.values[4 * quad + i] = philox_keeps(random.words[i], p) ? scale : 0.0f;
  }
  return factors;
}

}  // namespace

void dropout_draw(const int64_t* layer, int64_t* counter, int64_t* drawn, Stream) {
  drawn[0] = *layer;
  drawn[1] = *counter;
  *counter += 1;
}

void dropout_apply(const float* x, const float* mask, float* y, Accumulate accumulate, uint64_t seed,
                   const int64_t* drawn, float p, float scale, int64_t count, Stream) {
  const PhiloxStream stream = {.seed = seed, .step = uint32_t(drawn[1]), .layer = uint32_t(drawn[0])};
  parallel(count, GRAIN / 8, ELEMENTS, [&](int64_t begin, int64_t end) {
    for (; begin < end; begin += ELEMENTS) {
      const Factors factors = draw(stream, uint64_t(begin) / 4, p, scale);
      in_vectors(0, std::min<int64_t>(ELEMENTS, end - begin), [&](int64_t i, auto lanes) {
        const Floats values = load_some(x + begin + i, lanes) * load(factors.values + i);
        write_some(y + begin + i, values, mask == nullptr ? nullptr : mask + begin + i, accumulate, lanes);
      });
    }
  });
}

}  // namespace minicnn
