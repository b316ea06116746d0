// Random numbers as a pure function of what they are for: Philox4x32-10, plain C++ for host and device.
//
// What dropout asks for element `index` of layer `layer` at step `step` is word `index % 4` of
//   philox4x32(counter, key),  key = (seed low, seed high),  counter = (index / 4 low, index / 4 high, step, layer)
// with 32-bit words throughout. The step counts micro-batches, so that no two forward passes share a mask; the layer is
// its number in the model, so that two layers of one width drop different units. minicnn.data.philox.random_words(seed,
// step, index // 4, layer) is the same function in Python.
//
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
#pragma once
#include <cstdint>

#include "device/host_device.h"

namespace minicnn {

struct PhiloxWords {
  uint32_t words[4];
};

struct PhiloxKey {
  uint32_t words[2];
};

MINICNN_HOST_DEVICE inline PhiloxWords philox4x32(PhiloxWords counter, PhiloxKey key) {
  constexpr uint64_t MULTIPLIERS[2] = {0xD2511F53, 0xCD9E8D57};
  constexpr uint32_t KEY_INCREMENTS[2] = {0x9E3779B9, 0xBB67AE85};
  constexpr int ROUNDS = 10;
  for (int round = 0; round < ROUNDS; ++round) {
    const uint64_t product0 = MULTIPLIERS[0] * counter.words[0], product1 = MULTIPLIERS[1] * counter.words[2];
    counter = {{uint32_t(product1 >> 32) ^ counter.words[1] ^ key.words[0], uint32_t(product1),
                uint32_t(product0 >> 32) ^ counter.words[3] ^ key.words[1], uint32_t(product0)}};
    key = {{key.words[0] + KEY_INCREMENTS[0], key.words[1] + KEY_INCREMENTS[1]}};
  }
  return counter;
}

// Whose random numbers.
struct PhiloxStream {
  uint64_t seed;
  uint32_t step, layer;
};

// The words of elements 4 * quad .. 4 * quad + 3.
MINICNN_HOST_DEVICE inline PhiloxWords philox_words(const PhiloxStream& stream, uint64_t quad) {
  return philox4x32({{uint32_t(quad), uint32_t(quad >> 32), stream.step, stream.layer}},
                    {{uint32_t(stream.seed), uint32_t(stream.seed >> 32)}});
}

// Uniform in [0, 1): a multiple of 2^-24, exact in float32 and so the same on every device.
MINICNN_HOST_DEVICE inline float philox_uniform(uint32_t word) { return float(word >> 8) * 0x1p-24f; }

// Whether a unit that is dropped with probability `p` stays: always at p = 0, never at p = 1.
MINICNN_HOST_DEVICE inline bool philox_keeps(uint32_t word, float p) { return philox_uniform(word) >= p; }

}  // namespace minicnn
