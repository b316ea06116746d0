// GEMM, rung 7: whole matrices out of shared memory, by ldmatrix.
//
// c[i,j] (+)= bias[j] + sum over k of op(a)[i,k] op(b)[k,j], the elements of a and b rounded to TF32
//
// a (m, k) or (k, m), b (k, n) or (n, k), bias (n) or null, c (m, n) float32; rows lda, ldb, ldc apart.
//
// A block owns a 128 x 128 tile of c, each of its eight warps 64 x 32 elements of it (gemm/warp_tile.h).
// Grid ceil(m / 128) x ceil(n / 128), block 256 threads, 32,768 bytes shared.
// FLOPs an element of c: 2k. Bytes from global memory: k / 16.
//
// Idea: one instruction brings four matrices of 8 x 4 numbers as the tensor cores want them: 6 loads for 16 products of
// a warp in place of 24. It reads 16 bytes along the reduction at once, so slices lie as global memory does, 64 bytes
// deep, and quads are stored whole; in rows of 64 bytes, chunks above one another share their banks, which the swizzle
// of gemm/tensor_core_layout.h undoes. Copies go through two stages as below. Predicted, not measured, for both
// operands along the reduction (nt), in clocks of an SM for 8 of the reduction as in rung 6: the same 234 for the
// products and 256 for shared memory, since as many bytes are read; 220 in place of 310 to issue 110 instructions a
// warp. So shared memory bounds it: at 4096^3 on an H100 0.58 ms. In nn only a comes by ldmatrix, in tn nothing: it
// does not transpose numbers of 32 bits, which are read one by one as in rung 6, and take so many registers that one
// block has an SM.
//
// Assumes nothing of alignment or sizes: off a 16-byte boundary, and at tails, the accesses are 4 bytes wide. From
// sm_80 on.
// Source of the idea: Thakkar et al., CUTLASS, "Efficient GEMM in CUDA".
#include "gemm/tensor_core.h"
#include "gemm/warp_tile.h"

namespace minicnn {
namespace {

constexpr int TILE = 128, THREADS = tile_threads<TILE>();

template <Along ALONG>
using SliceOf = SliceLayout<float, TILE, ALONG>;
constexpr int DEPTH = SliceOf<Along::outer>::DEPTH;

struct Storage {
  Chunk a[2][TILE * DEPTH / 4], b[2][TILE * DEPTH / 4];
};

// The quads that a thread carries of each slice: two of a cursor's steps.
template <Along ALONG>
class SliceQuads {
 public:
  __device__ SliceQuads(const Operand<ALONG>& operand, int first_outer, int k_end)
      : cursor_(operand, first_outer + place().outer, place().k, k_end) {}

  __device__ void load() {
    for (Vec4& quad : quads_) {
      quad = cursor_.load();
      cursor_.advance();
    }
  }

  __device__ void store(Chunk* slice) const {
    for (int i = 0; i < 2; ++i)
      reinterpret_cast<Vec4&>(slice[SliceOf<ALONG>::offset(place().outer, place().k + i * TILE_K) / 4]) = quads_[i];
  }

 private:
  // Along the reduction, eight lanes bring two chunks each of four rows. Of rows next to one another some would share
  // their banks: these are rows 0, 1, 4 and 5 of eight, or 2, 3, 6 and 7.
  __device__ static QuadPlace place() {
    QuadPlace place = quad_place<TILE, ALONG>();
    if (ALONG == Along::reduction) place.outer = (place.outer & ~6) | (place.outer & 2) << 1 | (place.outer & 4) >> 1;
    return place;
  }

  MatrixCursor<ALONG, Access::any> cursor_;
  Vec4 quads_[2];
};

template <class A, class B>
__device__ void multiply_slice(const Chunk* a, const Chunk* b, WarpTile& sums) {
#pragma unroll
  for (int step = 0; step < DEPTH / 8; ++step) {
    WarpFragments bits;
    for (int i = 0; i < WarpTile::ROWS; ++i)
      load_fragments<Side::a, A>(bits.rows[i], a, WarpTile::first_row() + 16 * i, step);
    for (int j = 0; j < WarpTile::COLUMNS / 2; ++j)
      load_fragments<Side::b, B>(bits.columns[j], b, WarpTile::first_column() + 16 * j, step);
    multiply(bits, sums);
  }
}

template <class A, class B>
__global__ void __launch_bounds__(THREADS)
    gemm_7_ldmatrix_kernel(A a, B b, const float* bias, float* c, GemmShape shape, Accumulate accumulate) {
  auto& shared = shared_memory<Storage>();
  const int first_row = blockIdx.x * TILE, first_column = blockIdx.y * TILE;
  SliceQuads<A::along> a_quads(a, first_row, shape.k);
  SliceQuads<B::along> b_quads(b, first_column, shape.k);
  const auto store = [&](int stage) {
    a_quads.store(shared.a[stage]);
    b_quads.store(shared.b[stage]);
    __syncthreads();  // the slice is there for all, and nobody reads the other stage any more
  };
  WarpTile sums;
  a_quads.load();
  b_quads.load();
  store(0);
  int stage = 0;
  for (int first_k = 0; first_k < shape.k; first_k += DEPTH) {
    a_quads.load();  // on their way while the warps multiply; zeros behind the last slice
    b_quads.load();
    multiply_slice<SliceOf<A::along>, SliceOf<B::along>>(shared.a[stage], shared.b[stage], sums);
    stage = 1 - stage;
    store(stage);
  }
  write_warp_tile(sums, bias, c, shape, accumulate, first_row, first_column);
}

}  // namespace

void gemm_7_ldmatrix(const float* a, const float* b, const float* bias, float* c, GemmShape shape, Layout layout,
                     Accumulate accumulate, Stream stream) {
  check_capability<Tf32Arithmetic>("gemm_7_ldmatrix");
  if (shape.m == 0 || shape.n == 0) return;
  with_operands(a, b, shape, layout, [&](auto a_operand, auto b_operand) {
    launch(gemm_7_ldmatrix_kernel<decltype(a_operand), decltype(b_operand)>,
           {.op = "gemm_7_ldmatrix",
            .grid = dim3(ceil_div(shape.m, TILE), ceil_div(shape.n, TILE)),
            .block = THREADS,
            .shared_bytes = sizeof(Storage),
            .stream = stream},
           a_operand, b_operand, bias, c, shape, accumulate);
  });
}

}  // namespace minicnn
