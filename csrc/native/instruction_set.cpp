#include "native/cpu.h"

namespace minicnn {

const char* instruction_set() {
#if defined(__AVX512F__)
  return "avx512";
#elif defined(__AVX2__)
  return "avx2";
#elif defined(__ARM_NEON)
  return "baseline (neon)";
#elif defined(__SSE2__)
  return "baseline (sse2)";
#else
  return "baseline";
#endif
}

}  // namespace minicnn
