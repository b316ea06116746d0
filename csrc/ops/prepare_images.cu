// From the bytes of images to what a network sees, in one pass: crop, mirror, normalise, colour.
//
// y[n,p,q,c] = pixel * scale[c] + offset[n,c], where pixel is
// images[image_n, top_n + p, left_n + (mirrored_n ? Q - 1 - q : q), c], and 0, black, outside of the image.
//
// images (M, H, W, C) uint8; windows (N, 4) int64: image, in [0, M), top, left, mirrored (0 or 1); scale (C) float32;
// offset (N, C) float32; y (N, P, Q, C) float32, Bfloat16 or Float16: of 16 bits the nearest to what is float32.
//
// A thread owns four consecutive elements of y. Grid ceil(N*P*Q*C / 1024), block 256 threads, no shared memory.
// Bytes an element: 5 (1 read, 4 written), of 16 bits 3; 2 FLOPs: bound by memory bandwidth. Separate passes over
// float32 for each of the four steps would move 29, and one that narrows y 6 more.
// Assumes nothing of alignment: four elements are one access of 16 bytes, of 16 bits one of 8, where they lie so.
// A warp reads one or two rows of an image; a mirrored one backwards, the same lines.
#include <climits>

#include "check.h"
#include "device/quad.h"
#include "kernels.h"
#include "launch.h"

namespace minicnn {
namespace {

constexpr int THREADS = 256, BLOCKS_A_PROCESSOR = 8;  // all that it has room for, at 32 registers a thread

struct Images {
  const uint8_t* pixels;
  int h, w, c;

  // The byte at (image, row, column, channel); 0 outside of the image.
  __device__ float at(int64_t image, int64_t row, int64_t column, int channel) const {
    if (row < 0 || row >= h || column < 0 || column >= w) return 0.0f;
    return pixels[((image * h + row) * w + column) * c + channel];
  }
};

template <class T>
__global__ void __launch_bounds__(THREADS, blocks_with_room(THREADS, BLOCKS_A_PROCESSOR))
    prepare_images_kernel(Images images, const int64_t* windows, const float* scale, const float* offset, T* y, int p,
                          int q, int64_t count) {
  const int64_t begin = vec4_begin();
  const int c = images.c;
  Pixel pixel = pixel_at(int(begin / c), p, q);
  int channel = int(begin % c);
  Vec4 result{};
  for (int i = 0; i < 4 && begin + i < count; ++i) {
    const int64_t* window = windows + 4 * int64_t(pixel.image);
    const int column = window[3] ? q - 1 - pixel.column : pixel.column;
    const float value = images.at(window[0], window[1] + pixel.row, window[2] + column, channel);
    result.values[i] = value * scale[channel] + offset[int64_t(pixel.image) * c + channel];
    if (++channel == c) {
      channel = 0;
      pixel = pixel_after(pixel, 1, p, q);
    }
  }
  store_vec4(y, begin, count, result);
}

template <class T>
void prepare(const char* op, Images images, const int64_t* windows, const float* scale, const float* offset, T* y,
             int n, int p, int q, Stream stream) {
  const int64_t pixels = int64_t(n) * p * q, count = pixels * images.c;
  if (count == 0) return;
  check(pixels <= INT_MAX, op, pixels, " pixels: there must be fewer than 2^31");
  launch(prepare_images_kernel<T>, {.op = op, .grid = vec4_blocks(count, THREADS), .block = THREADS, .stream = stream},
         images, windows, scale, offset, y, p, q, count);
}

}  // namespace

void prepare_images(const uint8_t* images, const int64_t* windows, const float* scale, const float* offset, float* y,
                    int n, int h, int w, int c, int p, int q, Stream stream) {
  prepare("prepare_images", {images, h, w, c}, windows, scale, offset, y, n, p, q, stream);
}

void prepare_images_bfloat16(const uint8_t* images, const int64_t* windows, const float* scale, const float* offset,
                             Bfloat16* y, int n, int h, int w, int c, int p, int q, Stream stream) {
  prepare("prepare_images_bfloat16", {images, h, w, c}, windows, scale, offset, y, n, p, q, stream);
}

void prepare_images_float16(const uint8_t* images, const int64_t* windows, const float* scale, const float* offset,
                            Float16* y, int n, int h, int w, int c, int p, int q, Stream stream) {
  prepare("prepare_images_float16", {images, h, w, c}, windows, scale, offset, y, n, p, q, stream);
}

}  // namespace minicnn
