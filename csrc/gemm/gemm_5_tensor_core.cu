// GEMM, rung 5: tensor cores, fed by asynchronous copies through swizzled shared memory.
//
// c[i,j] (+)= bias[j] + sum over k of op(a)[i,k] op(b)[k,j]
//
// a (m, k) or (k, m), b (k, n) or (n, k) float32, Bfloat16 or Float16; bias (n) float32 or null; c (m, n) float32, or
// in the format of a and b; rows lda, ldb, ldc apart. workspace (splits, m, n) float32 where the reduction is cut.
#include "gemm/gemm.h"
#include "gemm/tensor_core.h"
#include "launch.h"

namespace minicnn {
namespace {

template <class Arithmetic, int TILE, Copies COPIES, class A, class B>
__global__ void __launch_bounds__(TENSOR_CORE_THREADS)
    gemm_5_tensor_core_kernel(A a, B b, TensorCoreDestination<typename Arithmetic::Element> c, int64_t pitch, int k) {
  using Element = typename Arithmetic::Element;
  using ACursor = MatrixChunks<SliceLayout<Element, TILE, A::along>, COPIES>;
  using BCursor = MatrixChunks<SliceLayout<Element, TILE, B::along>, COPIES>;
  const int column_tiles = ceil_div(b.extent, TILE);
  const int first_row = blockIdx.x / column_tiles * TILE, first_column = blockIdx.x % column_tiles * TILE;
  const PartOfReduction part = part_of_reduction(k, gridDim.z, blockIdx.z, ACursor::Layout::DEPTH);
  WarpSums<TILE> sums;
  multiply_on_tensor_cores<Arithmetic>(ACursor(a, first_row, part.first_k, k),
                                       BCursor(b, first_column, part.first_k, k), part.slices,
                                       shared_memory<TensorCoreStorage<TILE>>(), sums);
  write_sums(sums, c.results, c.epilogue, MatrixRows{blockIdx.z * c.part_stride, pitch}, first_row, a.extent,
             first_column, b.extent);
}

template <class T, Along ALONG>
bool lies_in_chunks(const Operand<ALONG, T>& operand, int k) {
  constexpr int CHUNK = sizeof(Chunk) / sizeof(T);
  const int along_memory = ALONG == Along::reduction ? k : operand.extent;
  return is_aligned(operand.data) && operand.pitch % CHUNK == 0 && along_memory % CHUNK == 0;
}

template <class Arithmetic, class Element>
void multiply(const char* op, const Element* a, const Element* b, Results<Element> c, float* workspace, GemmShape shape,
              Layout layout, const EpilogueOf<Element>& epilogue, Schedule schedule, Stream stream) {
  check_capability<Arithmetic>(op);
  const Product product{shape.m, shape.n, shape.k, 1};
  schedule = choose_schedule(op, product, schedule);
  if (shape.m == 0 || shape.n == 0) return;
  const auto target = destination(c, workspace, product.m * product.n, epilogue, schedule);
  const int64_t pitch = has_second_pass(epilogue, schedule) ? shape.n : shape.ldc;
  with_operands(a, b, shape, layout, [&](auto a_operand, auto b_operand) {
    const bool in_chunks = lies_in_chunks(a_operand, shape.k) && lies_in_chunks(b_operand, shape.k);
    launch_tensor_core_tiles(
        op, product, schedule, in_chunks ? Copies::chunks : Copies::elements, stream,
        [&](auto tile, auto copies, const LaunchConfig& config) {
          launch(gemm_5_tensor_core_kernel<Arithmetic, tile, copies, decltype(a_operand), decltype(b_operand)>, config,
                 a_operand, b_operand, target, pitch, shape.k);
        });
  });
  if (has_second_pass(epilogue, schedule))
    sum_parts(op, workspace, schedule.splits, shape.m, shape.n, epilogue, c, shape.ldc, stream);
}

}  // namespace

void gemm_5_fused(const float* a, const float* b, float* c, float* workspace, GemmShape shape, Layout layout,
                  const Epilogue& epilogue, Schedule schedule, Stream stream) {
  const auto multiply_as_asked =
      schedule.math == Math::tf32 ? multiply<Tf32Arithmetic, float> : multiply<Tf32x3Arithmetic, float>;
  multiply_as_asked("gemm_5_tensor_core", a, b, {c, nullptr}, workspace, shape, layout, epilogue, schedule, stream);
}

void gemm_5_tensor_core(const float* a, const float* b, const float* bias, float* c, float* workspace, GemmShape shape,
                        Layout layout, Accumulate accumulate, Schedule schedule, Stream stream) {
  gemm_5_fused(a, b, c, workspace, shape, layout, {.bias = bias, .accumulate = accumulate}, schedule, stream);
}

void gemm_bfloat16(const Bfloat16* a, const Bfloat16* b, const float* bias, Bfloat16* c, float* wide_c,
                   float* workspace, GemmShape shape, Layout layout, Accumulate accumulate, Schedule schedule,
                   Stream stream) {
  multiply<Bfloat16Arithmetic, Bfloat16>("gemm_bfloat16", a, b, {wide_c, c}, workspace, shape, layout,
                                         {.bias = bias, .accumulate = accumulate}, schedule, stream);
}

void gemm_float16(const Float16* a, const Float16* b, const float* bias, Float16* c, float* wide_c, float* workspace,
                  GemmShape shape, Layout layout, Accumulate accumulate, Schedule schedule, Stream stream) {
  multiply<Float16Arithmetic, Float16>("gemm_float16", a, b, {wide_c, c}, workspace, shape, layout,
                                       {.bias = bias, .accumulate = accumulate}, schedule, stream);
}

}  // namespace minicnn
