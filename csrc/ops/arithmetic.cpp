// Arithmetic of two operands with broadcasting.
//
//   add, sub, mul, div:  y = a op b
//   gradients, in the shape of y; whoever was broadcast sums them to its own (csrc/ops/reductions.cpp):
//     mul:  da (+)= dy * b    db (+)= dy * a
//     div:  da (+)= dy / b    db (+)= -(dy / b) * (a / b)
//   (those of add and sub are dy and -dy: csrc/ops/strided_copy.cpp)
//
// a, b           float32 at the strides of the walk, 0 along the axes that they repeat; a null pointer means `scalar`
// y, dy, da, db  float32, contiguous, of the walk's extents
//
// A thread owns a run of the output's elements, and takes it row by row of the innermost axis.
// Bytes an element, equal shapes: 12 forward, at most 16 backward, 20 with Accumulate::add, and 4 more where the
// processor reads a line before it overwrites it: bound by memory bandwidth. Steps of neither 0 nor 1 along the
// innermost axis are taken one element at a time. The output may be the very array that an input of its shape is.
#include "native/walk.h"

namespace minicnn {
namespace {

constexpr int INNERMOST = PerAxis::COUNT - 1;

struct Add {
  static Floats value(Floats a, Floats b) { return a + b; }
};

struct Sub {
  static Floats value(Floats a, Floats b) { return a - b; }
};

struct Mul {
  static Floats value(Floats a, Floats b) { return a * b; }
};

struct Div {
  static Floats value(Floats a, Floats b) { return a / b; }
};

struct MulGradientA {
  static Floats value(Floats dy, Floats, Floats b) { return dy * b; }
};

struct MulGradientB {
  static Floats value(Floats dy, Floats a, Floats) { return dy * a; }
};

struct DivGradientA {
  static Floats value(Floats dy, Floats, Floats b) { return dy / b; }
};

struct DivGradientB {
  static Floats value(Floats dy, Floats a, Floats b) { return -(dy / b) * (a / b); }
};

struct Operands {
  const float* a;
  const float* b;
  float scalar;
};

// step(at, lanes, a, b) for the vectors of the walk.
template <class Step>
void walk_operands(const Operands& operands, Walk walk, const Step& step) {
  if (operands.a == nullptr) walk.a_strides = {};
  if (operands.b == nullptr) walk.b_strides = {};
  const float* a = operands.a == nullptr ? &operands.scalar : operands.a;
  const float* b = operands.b == nullptr ? &operands.scalar : operands.b;
  const int64_t a_step = walk.a_strides[INNERMOST], b_step = walk.b_strides[INNERMOST];
  walk_runs(walk, [&](const Place& place, int64_t at, int64_t count) {
    in_vectors(0, count, [&](int64_t i, auto lanes) {
      step(at + i, lanes, load_stepping(a + place.a + i * a_step, a_step, lanes),
           load_stepping(b + place.b + i * b_step, b_step, lanes));
    });
  });
}

template <class Function>
void forward(const Operands& operands, float* y, const Walk& walk) {
  walk_operands(operands, walk,
                [&](int64_t at, auto lanes, Floats a, Floats b) { store_some(y + at, Function::value(a, b), lanes); });
}

template <class Gradient>
void backward(const float* dy, const Operands& operands, float* gradient, Accumulate accumulate, const Walk& walk) {
  walk_operands(operands, walk, [&](int64_t at, auto lanes, Floats a, Floats b) {
    write_some(gradient + at, Gradient::value(load_some(dy + at, lanes), a, b), accumulate, lanes);
  });
}

}  // namespace

void add_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream) {
  forward<Add>({a, b, scalar}, y, {extents, a_strides, b_strides});
}

void sub_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream) {
  forward<Sub>({a, b, scalar}, y, {extents, a_strides, b_strides});
}

void mul_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream) {
  forward<Mul>({a, b, scalar}, y, {extents, a_strides, b_strides});
}

void div_forward(const float* a, const float* b, float scalar, float* y, PerAxis extents, PerAxis a_strides,
                 PerAxis b_strides, Stream) {
  forward<Div>({a, b, scalar}, y, {extents, a_strides, b_strides});
}

void mul_backward_a(const float* dy, const float* a, const float* b, float scalar, float* da, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream) {
  backward<MulGradientA>(dy, {a, b, scalar}, da, accumulate, {extents, a_strides, b_strides});
}

void mul_backward_b(const float* dy, const float* a, const float* b, float scalar, float* db, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream) {
  backward<MulGradientB>(dy, {a, b, scalar}, db, accumulate, {extents, a_strides, b_strides});
}

void div_backward_a(const float* dy, const float* a, const float* b, float scalar, float* da, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream) {
  backward<DivGradientA>(dy, {a, b, scalar}, da, accumulate, {extents, a_strides, b_strides});
}

void div_backward_b(const float* dy, const float* a, const float* b, float scalar, float* db, Accumulate accumulate,
                    PerAxis extents, PerAxis a_strides, PerAxis b_strides, Stream) {
  backward<DivGradientB>(dy, {a, b, scalar}, db, accumulate, {extents, a_strides, b_strides});
}

}  // namespace minicnn
