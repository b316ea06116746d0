// Convolution as im2col and GEMM: the first rung, which builds the matrix of patches that the implicit one only
// imagines.
//
// columns[(n,p,q), (r,s,c)] = x[n, h, w, c], 0 outside of the image,   h = p*stride - padding + r*dilation, w likewise
// y = activation(columns w^T + bias),   dw (+)= dy^T columns,   dx (+)= mask <= 0 ? 0 : col2im(dy w)
// dbias[k] (+)= sum over n, p, q of dy[n,p,q,k], in a pass of its own
// col2im: dx[n,h,w,c] = sum over r, s of columns[(n,p,q), (r,s,c)], over the (p, q) whose tap (r, s) reads (h, w)
//
// x, dx (N, H, W, C), mask (N, H, W, C) or null, w, dw (K, R, S, C / groups), bias, dbias (K) or null, y, dy (N, P, Q,
// K) float32; workspace: the columns of as many images as fit into 64 MiB, of one at least: (images * P * Q, R * S * C
// / groups) float32.
//
// im2col: a thread owns an entry of the columns; col2im: a thread owns an element of dx and gathers, so that nothing is
// added by atomics. Grid ceil(count / 256), block 256 threads, no shared memory; the products are csrc/gemm's. Bytes an
// entry of the columns: 4 written and 4 read again by the product, R * S times the image each: bound by memory
// bandwidth, and the reason for the implicit rung. Groups, and images beyond a chunk, follow one another.
//
// Assumes N*H*W, N*P*Q and the columns of one image below 2^31 elements.
// Source: Chellapilla, Puri, Simard 2006, "High performance convolutional neural networks for document processing".
#include <algorithm>

#include "device/relu.h"
#include "gemm/gemm.h"
#include "launch.h"
#include "ops/conv2d.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256;
constexpr int64_t WORKSPACE_FLOATS = 16 << 20;

// A product of one chunk is not cut: the chunks cut it already, and no second workspace is needed.
constexpr Schedule UNCUT{.tile = 0, .splits = 1};

struct Columns {
  int64_t pixels_per_image, depth;
  int images;  // of a chunk

  Columns(const ConvShape& shape, Schedule schedule)
      : pixels_per_image(int64_t(shape.p) * shape.q), depth(int64_t(shape.r) * shape.s * shape.group_c()) {
    const int64_t image = max(pixels_per_image * depth, int64_t(1)),
                  fitting = max(int64_t(1), WORKSPACE_FLOATS / image);
    images = schedule.splits > 0 ? ceil_div(shape.n, schedule.splits) : int(min(int64_t(shape.n), fitting));
  }

  int64_t workspace() const { return images * pixels_per_image * depth; }
};

unsigned blocks_for(int64_t count) { return unsigned(ceil_div(count, int64_t(THREADS))); }

__global__ void im2col_kernel(const __grid_constant__ PatchMatrix x, int group, int depth, int64_t count,
                              float* columns) {
  const int64_t entry = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (entry >= count) return;
  const Pixel pixel = output_pixel(x.conv, int(entry / depth));
  const Tap tap = tap_at(x.conv, int(entry % depth), x.channels);
  const float* const source = x.at(x.image(pixel.image, group), pixel.row, pixel.column, tap);
  columns[entry] = source != nullptr ? *source : 0.0f;
}

__global__ void col2im_kernel(const float* columns, const __grid_constant__ ConvShape shape, int group, int64_t count,
                              const float* mask, float* dx, Accumulate accumulate) {
  const int64_t element = int64_t(blockIdx.x) * THREADS + threadIdx.x;
  if (element >= count) return;
  const int channels = shape.group_c(), channel = int(element % channels);
  const Pixel pixel = input_pixel(shape, int(element / channels));
  const Axis rows = shape.rows(), across = shape.columns();
  float sum = 0.0f;
  for (int r = rows.first_tap(pixel.row); r < shape.r; r += rows.tap_step()) {
    const int p = rows.output_at(pixel.row, r);
    for (int s = across.first_tap(pixel.column); p >= 0 && s < shape.s; s += across.tap_step()) {
      const int q = across.output_at(pixel.column, s);
      if (q < 0) continue;
      const int64_t row = (int64_t(pixel.image) * shape.p + p) * shape.q + q;
      sum += columns[((row * shape.r + r) * shape.s + s) * channels + channel];
    }
  }
  const int64_t offset = x_offset(shape, pixel.image, pixel.row, pixel.column, group * channels + channel);
  if (mask != nullptr) sum = relu_gradient(sum, mask[offset]);
  float& target = dx[offset];
  target = accumulate == Accumulate::add ? target + sum : sum;
}

// Calls use(first image, images as a shape, group) for every chunk of images and every group; without images once a
// group, for a gradient of no images is 0 and must be written.
template <class Use>
void for_each_chunk(const ConvShape& shape, const Columns& columns, const Use& use) {
  int first = 0;
  do {
    ConvShape chunk = shape;
    chunk.n = min(columns.images, shape.n - first);
    for (int group = 0; group < shape.groups; ++group) use(first, chunk, group);
    first += columns.images;
  } while (first < shape.n);
}

void im2col(const char* op, const float* x, const ConvShape& chunk, int group, int64_t depth, float* columns,
            Stream stream) {
  const int64_t count = int64_t(chunk.n) * chunk.p * chunk.q * depth;
  if (count == 0) return;
  launch(im2col_kernel, {.op = op, .grid = blocks_for(count), .block = THREADS, .stream = stream},
         patch_matrix(x, chunk), group, int(depth), count, columns);
}

}  // namespace

int64_t conv2d_im2col_forward_workspace(ConvShape shape, Schedule schedule) {
  return Columns(shape, schedule).workspace();
}
int64_t conv2d_im2col_backward_input_workspace(ConvShape shape, Schedule schedule) {
  return Columns(shape, schedule).workspace();
}
int64_t conv2d_im2col_backward_weight_workspace(ConvShape shape, Schedule schedule) {
  const int64_t of_bias = reduction_workspace(1, int64_t(shape.n) * shape.p * shape.q, shape.k);
  return std::max(Columns(shape, schedule).workspace(), of_bias);
}

void conv2d_im2col_forward(const float* x, const float* w, const float* bias, Activation activation, float* y,
                           float* workspace, ConvShape shape, Schedule schedule, Stream stream) {
  check_extents("conv2d_im2col_forward", shape);
  const Columns columns(shape, schedule);
  const int depth = int(columns.depth), filters = shape.group_k();
  for_each_chunk(shape, columns, [&](int first, const ConvShape& chunk, int group) {
    im2col("conv2d_im2col_forward", x + x_offset(shape, first, 0, 0, 0), chunk, group, depth, workspace, stream);
    const int pixels = chunk.n * chunk.p * chunk.q, k = group * filters;
    fused_gemm(workspace, w + int64_t(k) * depth, y + y_offset(shape, first, 0, 0, k), nullptr,
               {pixels, filters, depth, depth, depth, shape.k}, Layout::nt,
               {.bias = bias != nullptr ? bias + k : nullptr, .activation = activation}, UNCUT, stream);
  });
}

void conv2d_im2col_backward_input(const float* dy, const float* w, const float* mask, float* dx, Accumulate accumulate,
                                  float* workspace, ConvShape shape, Schedule schedule, Stream stream) {
  check_extents("conv2d_im2col_backward_input", shape);
  const Columns columns(shape, schedule);
  const int depth = int(columns.depth), filters = shape.group_k();
  for_each_chunk(shape, columns, [&](int first, const ConvShape& chunk, int group) {
    const int pixels = chunk.n * chunk.p * chunk.q, k = group * filters;
    gemm(dy + y_offset(shape, first, 0, 0, k), w + int64_t(k) * depth, nullptr, workspace, nullptr,
         {pixels, depth, filters, shape.k, depth, depth}, Layout::nn, Accumulate::overwrite, UNCUT, stream);
    const int64_t count = int64_t(chunk.n) * chunk.h * chunk.w * chunk.group_c();
    if (count == 0) return;
    launch(col2im_kernel,
           {.op = "conv2d_im2col_backward_input", .grid = blocks_for(count), .block = THREADS, .stream = stream},
           workspace, chunk, group, count, mask != nullptr ? mask + x_offset(shape, first, 0, 0, 0) : nullptr,
           dx + x_offset(shape, first, 0, 0, 0), accumulate);
  });
}

void conv2d_im2col_backward_weight(const float* dy, const float* x, float* dw, Accumulate accumulate, float* dbias,
                                   Accumulate accumulate_dbias, float* workspace, ConvShape shape, Schedule schedule,
                                   Stream stream) {
  check_extents("conv2d_im2col_backward_weight", shape);
  if (dbias != nullptr)
    sum_forward(dy, dbias, workspace, accumulate_dbias, 1.0f, 1, int64_t(shape.n) * shape.p * shape.q, shape.k, stream);
  if (dw == nullptr) return;
  const Columns columns(shape, schedule);
  const int depth = int(columns.depth), filters = shape.group_k();
  for_each_chunk(shape, columns, [&](int first, const ConvShape& chunk, int group) {
    im2col("conv2d_im2col_backward_weight", x + x_offset(shape, first, 0, 0, 0), chunk, group, depth, workspace,
           stream);
    const int pixels = chunk.n * chunk.p * chunk.q, k = group * filters;
    gemm(dy + y_offset(shape, first, 0, 0, k), workspace, nullptr, dw + int64_t(k) * depth, nullptr,
         {filters, depth, pixels, shape.k, depth, depth}, Layout::tn, first == 0 ? accumulate : Accumulate::add, UNCUT,
         stream);
  });
}

}  // namespace minicnn
