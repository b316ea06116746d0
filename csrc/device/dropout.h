// The mask of dropout, inverted: factor(i) = keeps(i) ? scale : 0, scale = 1 / (1 - p), keeps(i) by Philox
// (device/philox.h): word i % 4 of quad i / 4 of the stream (seed, step = drawn[1], layer = drawn[0]).
#pragma once
#include "device/philox.h"
#include "device/vec4.h"

namespace minicnn {

struct DropoutMask {
  uint64_t seed = 0;
  const int64_t* drawn = nullptr;  // (2): layer and step; null where nothing is dropped
  float p = 0.0f, scale = 1.0f;
};

// values[i] *= factor(begin + i). Where `begin` is a multiple of four, one call of Philox decides; else four do.
__device__ inline void drop(Vec4& values, const DropoutMask& mask, int64_t begin) {
  const PhiloxStream stream = {.seed = mask.seed, .step = uint32_t(mask.drawn[1]), .layer = uint32_t(mask.drawn[0])};
  PhiloxWords random = philox_words(stream, uint64_t(begin) / 4);
  for (int i = 0; i < 4; ++i) {
    uint32_t word = random.words[i];
    if (begin % 4 != 0) {
      random = philox_words(stream, uint64_t(begin + i) / 4);
      for (int place = 0; place < 4; ++place)  // no variable can index registers
        if (place == (begin + i) % 4) word = random.words[place];
    }
    values.values[i] *= philox_keeps(word, mask.p) ? mask.scale : 0.0f;
  }
}

}  // namespace minicnn
