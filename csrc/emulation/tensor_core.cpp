#include "emulation/tensor_core.h"

#include "device/float16.h"
#include "emulation/options.h"

namespace minicnn::emulation {
namespace {

// What a lane hands in.
struct Fragments {
  float* d;
  const uint32_t *a, *b;
};

// The numbers in a register.
template <class Number>
struct Pair {
  static constexpr int COUNT = 2;
  static double number(uint32_t word, int i) { return to_float(Number{uint16_t(word >> 16 * i)}); }
};
struct Tf32 {
  static constexpr int COUNT = 1;
  static constexpr uint32_t ZEROS = (1 << 13) - 1;
  static double number(uint32_t word, int) { return std::bit_cast<float>(word); }
};

// d (16, 8) += a (16, K) b (K, 8), where a row of a and a column of b are WORDS registers.
template <class Word, int WORDS>
void multiply(uint32_t, void* const operands[32]) {
  constexpr int K = WORDS * Word::COUNT;
  double a[16][K], b[K][8], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& [of_d, of_a, of_b] = *static_cast<const Fragments*>(operands[lane]);
    const int group = lane / 4, member = lane % 4;
    for (int i = 0; i < WORDS / 2; ++i)
      for (int j = 0; j < Word::COUNT; ++j)
        a[group + 8 * (i % 2)][Word::COUNT * (member + 4 * (i / 2)) + j] = Word::number(of_a[i], j);
    for (int i = 0; i < WORDS / 4; ++i)
      for (int j = 0; j < Word::COUNT; ++j) b[Word::COUNT * (member + 4 * i) + j][group] = Word::number(of_b[i], j);
    for (int i = 0; i < 4; ++i) d[group + 8 * (i / 2)][2 * member + i % 2] = of_d[i];
  }
  for (int k = 0; k < K; ++k)
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      static_cast<const Fragments*>(operands[lane])->d[i] = float(d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2]);
}

struct Instruction {
  const char* name;
  Operation operation;
  int capability;  // of the GPUs that have it
};

constexpr Instruction INSTRUCTIONS[] = {
    // by Mma
    {"mma_m16n8k16_bf16", multiply<Pair<Bfloat16>, 8>, 80},
    {"mma_m16n8k16_f16", multiply<Pair<Float16>, 8>, 80},
    {"mma_m16n8k8_f16", multiply<Pair<Float16>, 4>, 75},
    {"mma_m16n8k8_tf32", multiply<Tf32, 8>, 80},
};

void check_tf32(const char* operand, const uint32_t* registers, int count, Where where) {
  for (int i = 0; i < count; ++i)
    if (registers[i] & Tf32::ZEROS)
      fail("mma_m16n8k8_tf32: register " + std::to_string(i) + " of " + operand +
               " is no TF32 number, its last 13 bits are not 0: float_to_tf32 makes one",
           where);
}

}  // namespace

void mma(Mma mma, float* d, const uint32_t* a, const uint32_t* b, Where where) {
  if (mma == Mma::m16n8k8_tf32) {
    check_tf32("a", a, 4, where);
    check_tf32("b", b, 2, where);
  }
  const auto& [name, operation, capability] = INSTRUCTIONS[int(mma)];
  if (options().capability < capability)
    fail(std::string(name) + ": there is no such instruction below sm_" + std::to_string(capability), where);
  Fragments mine{d, a, b};
  synchronize_warp(name, ~0u, operation, &mine, where);
}

}  // namespace minicnn::emulation
