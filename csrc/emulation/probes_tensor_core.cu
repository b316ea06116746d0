#include "device/float16.h"
#include "device/ldmatrix.h"
#include "device/mma.h"
#include "device/reduce.h"
#include "emulation/probes.h"
#include "launch.h"

namespace minicnn::probes {
namespace {

__global__ void narrow_kernel(const float* x, Bfloat16* bf16, Float16* f16, uint32_t* tf32, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  bf16[i] = float_to_bf16(x[i]);
  f16[i] = float_to_f16(x[i]);
  tf32[i] = float_to_tf32(x[i]);
}

template <class Number>
__global__ void widen_kernel(const Number* x, float* y, int64_t count) {
  const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) y[i] = to_float(x[i]);
}

constexpr int ROWS = 64;

struct alignas(16) Rows {
  uint16_t elements[8 * ROWS];
};

template <int MATRICES, bool TRANSPOSED>
__global__ void load_matrices_kernel(const uint16_t* x, const int* offsets, uint32_t* y, int left_out) {
  Rows& shared = shared_memory<Rows>();
  const int lane = threadIdx.x;
  for (int i = lane; i < 8 * ROWS; i += WARP_SIZE) shared.elements[i] = x[i];
  if (left_out != 1) __syncwarp();
  const unsigned char* row = reinterpret_cast<const unsigned char*>(shared.elements) + offsets[lane];
  uint32_t registers[MATRICES];
  if constexpr (TRANSPOSED)
    ldmatrix_trans(registers, row);
  else
    ldmatrix(registers, row);
  if (left_out != 2) __syncwarp();
  for (int i = lane; i < 8 * ROWS; i += WARP_SIZE) shared.elements[i] = 0;
  for (int i = 0; i < MATRICES; ++i) y[MATRICES * lane + i] = registers[i];
}

__global__ void load_matrices_in_half_a_warp_kernel() {
  if (threadIdx.x >= 16) return;
  uint32_t registers[4];
  ldmatrix(registers, &shared_memory<Rows>());
}

// The instructions, and what ldmatrix takes for a row of their operands: pieces of 16 bytes.
struct M16N8K16Bf16 {
  using Number = Bfloat16;
  static constexpr int K = 16, PIECES = 2;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k16_bf16(d, a, b);
  }
};
struct M16N8K16F16 {
  using Number = Float16;
  static constexpr int K = 16, PIECES = 2;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k16_f16(d, a, b);
  }
};
struct M16N8K8F16 {
  using Number = Float16;
  static constexpr int K = 8, PIECES = 1;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) {
    mma_m16n8k8_f16(d, a, b);
  }
};
struct M16N8K8Tf32 {
  using Number = uint32_t;
  static constexpr int K = 8, PIECES = 2;
  static __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k8_tf32(d, a, b);
  }
};

template <class Instruction>
__global__ void mma_kernel(const uint32_t* a, const uint32_t* b, float* d) {
  constexpr int OF_A = 2 * Instruction::PIECES, OF_B = Instruction::PIECES;
  const int lane = threadIdx.x;
  uint32_t mine_a[OF_A], mine_b[OF_B];
  float mine_d[4];
  for (int i = 0; i < OF_A; ++i) mine_a[i] = a[OF_A * lane + i];
  for (int i = 0; i < OF_B; ++i) mine_b[i] = b[OF_B * lane + i];
  for (int i = 0; i < 4; ++i) mine_d[i] = d[4 * lane + i];
  Instruction::multiply(mine_d, mine_a, mine_b);
  for (int i = 0; i < 4; ++i) d[4 * lane + i] = mine_d[i];
}

__global__ void diverge_at_mma_kernel() {
  const uint32_t a[4] = {}, b[2] = {};
  float d[4] = {};
  if (threadIdx.x < 16)
    mma_m16n8k16_bf16(d, a, b);
  else
    mma_m16n8k16_f16(d, a, b);
}

template <class Instruction>
struct Tiles {
  static constexpr int K = Instruction::K;
  alignas(16) typename Instruction::Number a[16 * K];  // (16, K)
  alignas(16) typename Instruction::Number b[8 * K];   // (8, K) or by rows (K, 8)
};

// What the tensor core takes for an element of the array.
template <class Number>
__device__ Number operand(Number x) {
  return x;
}
__device__ uint32_t operand(float x) { return float_to_tf32(x); }

template <class Instruction, bool B_BY_ROWS, class T>
__device__ void load_tiles(Tiles<Instruction>& tiles, const T* a, const T* b, int begin, int k) {
  constexpr int K = Instruction::K;
  for (int i = threadIdx.x; i < 16 * K; i += WARP_SIZE) tiles.a[i] = operand(a[i / K * k + begin + i % K]);
  for (int i = threadIdx.x; i < 8 * K; i += WARP_SIZE)
    tiles.b[i] = operand(b[B_BY_ROWS ? 8 * begin + i : i / K * k + begin + i % K]);
}

template <class Instruction, bool B_BY_ROWS, class T>
__global__ void warp_gemm_kernel(const T* a, const T* b, float* d, int k) {
  constexpr int K = Instruction::K, PIECES = Instruction::PIECES, PIECE = K / PIECES;
  auto& tiles = shared_memory<Tiles<Instruction>>();
  const int lane = threadIdx.x;
  float sums[4] = {};
  for (int begin = 0; begin < k; begin += K) {
    load_tiles<Instruction, B_BY_ROWS>(tiles, a, b, begin, k);
    __syncwarp();
    uint32_t of_a[2 * PIECES], of_b[PIECES];
    ldmatrix(of_a, &tiles.a[lane % 16 * K + lane / 16 % PIECES * PIECE]);
    if constexpr (B_BY_ROWS)
      ldmatrix_trans(of_b, &tiles.b[lane % K * 8]);
    else
      ldmatrix(of_b, &tiles.b[lane % 8 * K + lane / 8 % PIECES * PIECE]);
    Instruction::multiply(sums, of_a, of_b);
    __syncwarp();
  }
  for (int i = 0; i < 4; ++i) d[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

template <class Instruction, bool B_BY_ROWS, class T>
void warp_gemm(const T* a, const T* b, float* d, int k, Stream stream) {
  launch(warp_gemm_kernel<Instruction, B_BY_ROWS, T>,
         {.op = "warp_gemm", .grid = 1, .block = 32, .shared_bytes = sizeof(Tiles<Instruction>), .stream = stream}, a,
         b, d, k);
}

template <int MATRICES>
void load_matrices_of(const uint16_t* x, const int* offsets, uint32_t* y, int transposed, int left_out, Stream stream) {
  launch(transposed ? load_matrices_kernel<MATRICES, true> : load_matrices_kernel<MATRICES, false>,
         {.op = "load_matrices", .grid = 1, .block = 32, .shared_bytes = sizeof(Rows), .stream = stream}, x, offsets, y,
         left_out);
}

LaunchConfig one_thread_a_number(const char* op, int64_t count, Stream stream) {
  return {.op = op, .grid = unsigned(ceil_div<int64_t>(count, 256)), .block = 256, .stream = stream};
}

}  // namespace

void narrow(const float* x, Bfloat16* bf16, Float16* f16, uint32_t* tf32, int64_t count, Stream stream) {
  launch(narrow_kernel, one_thread_a_number("narrow", count, stream), x, bf16, f16, tf32, count);
}

void widen_bf16(const Bfloat16* x, float* y, int64_t count, Stream stream) {
  launch(widen_kernel<Bfloat16>, one_thread_a_number("widen_bf16", count, stream), x, y, count);
}

void widen_f16(const Float16* x, float* y, int64_t count, Stream stream) {
  launch(widen_kernel<Float16>, one_thread_a_number("widen_f16", count, stream), x, y, count);
}

void load_matrices(const uint16_t* x, const int* offsets, uint32_t* y, int matrices, int transposed, int left_out,
                   Stream stream) {
  if (matrices == 1) load_matrices_of<1>(x, offsets, y, transposed, left_out, stream);
  if (matrices == 2) load_matrices_of<2>(x, offsets, y, transposed, left_out, stream);
  if (matrices == 4) load_matrices_of<4>(x, offsets, y, transposed, left_out, stream);
}

void load_matrices_in_half_a_warp(Stream stream) {
  launch(
      load_matrices_in_half_a_warp_kernel,
      {.op = "load_matrices_in_half_a_warp", .grid = 1, .block = 32, .shared_bytes = sizeof(Rows), .stream = stream});
}

void mma(const uint32_t* a, const uint32_t* b, float* d, int instruction, Stream stream) {
  constexpr decltype(&mma_kernel<M16N8K16Bf16>) KERNELS[] = {mma_kernel<M16N8K16Bf16>, mma_kernel<M16N8K16F16>,
                                                             mma_kernel<M16N8K8F16>, mma_kernel<M16N8K8Tf32>};
  launch(KERNELS[instruction], {.op = "mma", .grid = 1, .block = 32, .stream = stream}, a, b, d);
}

void diverge_at_mma(Stream stream) {
  launch(diverge_at_mma_kernel, {.op = "diverge_at_mma", .grid = 1, .block = 32, .stream = stream});
}

void warp_gemm_bf16(const Bfloat16* a, const Bfloat16* b, float* d, int k, int b_by_rows, Stream stream) {
  (b_by_rows ? warp_gemm<M16N8K16Bf16, true, Bfloat16> : warp_gemm<M16N8K16Bf16, false, Bfloat16>)(a, b, d, k, stream);
}

void warp_gemm_f16(const Float16* a, const Float16* b, float* d, int k, int b_by_rows, int instruction_k,
                   Stream stream) {
  if (instruction_k == 16)
    (b_by_rows ? warp_gemm<M16N8K16F16, true, Float16> : warp_gemm<M16N8K16F16, false, Float16>)(a, b, d, k, stream);
  else
    (b_by_rows ? warp_gemm<M16N8K8F16, true, Float16> : warp_gemm<M16N8K8F16, false, Float16>)(a, b, d, k, stream);
}

void warp_gemm_tf32(const float* a, const float* b, float* d, int k, Stream stream) {
  warp_gemm<M16N8K8Tf32, false>(a, b, d, k, stream);
}

}  // namespace minicnn::probes
