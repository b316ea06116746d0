// Arithmetic of two operands with broadcasting.
//
//   add, sub, mul, div:  y = a op b
//   gradients, in the shape of y; whoever was broadcast sums them to its own (csrc/ops/reductions.cu):
//     mul:  da (+)= dy * b    db (+)= dy * a
//     div:  da (+)= dy / b    db (+)= -(dy / b) * (a / b)
//   (those of add and sub are dy and -dy: csrc/ops/strided_copy.cu)
//
// a, b           float32 at the strides of the walk, 0 along the axes that they repeat; a null pointer means `scalar`
// y, dy, da, db  float32, contiguous, of the walk's extents
//
// A thread owns four consecutive elements of the output. Grid ceil(count / 1024), block 256 threads, no shared memory.
// Equal shapes and scalars are a walk along one axis: no division, 16-byte accesses only. Otherwise one integer
// division an axis finds the place of four elements if the innermost extent is a multiple of 4, of one element if not.
// Bytes an element, equal shapes: 12 forward, at most 16 backward, 20 with Accumulate::add: bound by memory bandwidth.
// Assumes nothing of alignment. The output may be the very array that an input of its shape is.
#include "device/strided.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;

struct Add {
  static __device__ float value(float a, float b) { return a + b; }
};

struct Sub {
  static __device__ float value(float a, float b) { return a - b; }
};

struct Mul {
  static __device__ float value(float a, float b) { return a * b; }
};

struct Div {
  static __device__ float value(float a, float b) { return a / b; }
};

struct MulGradientA {
  static __device__ float value(float dy, float, float b) { return dy * b; }
};

struct MulGradientB {
  static __device__ float value(float dy, float a, float) { return dy * a; }
};

struct DivGradientA {
  static __device__ float value(float dy, float, float b) { return dy / b; }
};

struct DivGradientB {
  static __device__ float value(float dy, float a, float b) { return -(dy / b) * (a / b); }
};

struct Operands {
  const float* a;
  const float* b;
  float scalar;
};

__device__ Vec4 load_operand_a(const Operands& operands, const Place4& places) {
  const float s = operands.scalar;
  return operands.a == nullptr ? Vec4{s, s, s, s} : load_a(operands.a, places);
}

__device__ Vec4 load_operand_b(const Operands& operands, const Place4& places) {
  const float s = operands.scalar;
  return operands.b == nullptr ? Vec4{s, s, s, s} : load_b(operands.b, places);
}

template <class Function>
__global__ void __launch_bounds__(THREADS)
    arithmetic_forward_kernel(Operands operands, float* y, const __grid_constant__ Walk walk, int64_t count) {
  const int64_t begin = vec4_begin();
  const Place4 places = locate4(walk, begin, count);
  const Vec4 a = load_operand_a(operands, places), b = load_operand_b(operands, places);
  Vec4 result;
  for (int i = 0; i < 4; ++i) result.values[i] = Function::value(a.values[i], b.values[i]);
  store_vec4(y, begin, count, result);
}

template <class Gradient>
__global__ void __launch_bounds__(THREADS)
    arithmetic_backward_kernel(const float* dy, Operands operands, float* gradient, Accumulate accumulate,
                               const __grid_constant__ Walk walk, int64_t count) {
  const int64_t begin = vec4_begin();
  const Place4 places = locate4(walk, begin, count);
  const Vec4 a = load_operand_a(operands, places), b = load_operand_b(operands, places);
  Vec4 result = load_vec4(dy, begin, count);
  for (int i = 0; i < 4; ++i) result.values[i] = Gradient::value(result.values[i], a.values[i], b.values[i]);
  if (accumulate == Accumulate::add) {
    const Vec4 earlier = load_vec4(gradient, begin, count);
    for (int i = 0; i < 4; ++i) result.values[i] += earlier.values[i];
  }
  store_vec4(gradient, begin, count, result);
}

template <class Function>
void forward(const char* op, const Operands& operands, float* y, const Walk& walk, Stream stream) {
  const int64_t count = walk_count(walk);
  if (count == 0) return;
  launch(arithmetic_forward_kernel<Function>,
         {.op = op, .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, operands, y, walk, count);
}

template <class Gradient>
void backward(const char* op, const float* dy, const Operands& operands, float* gradient, Accumulate accumulate,
              const Walk& walk, Stream stream) {
  const int64_t count = walk_count(walk);
  if (count == 0) return;
  launch(arithmetic_backward_kernel<Gradient>,
         {.op = op, .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream}, dy, operands, gradient,
         accumulate, walk, count);
}

}  // namespace

void add_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream stream) {
  forward<Add>("add_forward", {a, b, scalar}, y, {extents, a_strides, b_strides}, stream);
}

void sub_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream stream) {
  forward<Sub>("sub_forward", {a, b, scalar}, y, {extents, a_strides, b_strides}, stream);
}

void mul_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream stream) {
  forward<Mul>("mul_forward", {a, b, scalar}, y, {extents, a_strides, b_strides}, stream);
}

void div_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream stream) {
  forward<Div>("div_forward", {a, b, scalar}, y, {extents, a_strides, b_strides}, stream);
}

void mul_backward_a(const float* dy, const float* a, const float* b, float scalar, float* da, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream stream) {
  backward<MulGradientA>("mul_backward_a", dy, {a, b, scalar}, da, accumulate, {extents, a_strides, b_strides}, stream);
}

void mul_backward_b(const float* dy, const float* a, const float* b, float scalar, float* db, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream stream) {
  backward<MulGradientB>("mul_backward_b", dy, {a, b, scalar}, db, accumulate, {extents, a_strides, b_strides}, stream);
}

void div_backward_a(const float* dy, const float* a, const float* b, float scalar, float* da, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream stream) {
  backward<DivGradientA>("div_backward_a", dy, {a, b, scalar}, da, accumulate, {extents, a_strides, b_strides}, stream);
}

void div_backward_b(const float* dy, const float* a, const float* b, float scalar, float* db, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream stream) {
  backward<DivGradientB>("div_backward_b", dy, {a, b, scalar}, db, accumulate, {extents, a_strides, b_strides}, stream);
}

}  // namespace minicnn
