// What the pooling kernels share: which thread owns which run of channels.
#pragma once
#include "check.h"
#include "device/host_device.h"
#include "device/run.h"
#include "kernels.h"
#include "launch.h"
#include "ops/taps.h"

namespace minicnn {

// One image (rows, columns, channels) of an activation.
struct ImageExtents {
  int rows, columns, channels;

  MINICNN_HOST_DEVICE int64_t size() const { return int64_t(rows) * columns * channels; }
  __device__ int offset(int row, int column, int channel) const {
    return (row * columns + column) * channels + channel;
  }
};

// What a thread owns: WIDTH channels from `channel` on, of one pixel, in the images blockIdx.y, blockIdx.y + gridDim.y,
// ...
struct Spot {
  int row, column, channel;
};

// The row is past the end for the threads of the last block that own nothing.
template <int WIDTH>
__device__ Spot spot_of_thread(const ImageExtents& image) {
  const int runs = image.channels / WIDTH;
  const int run = int(blockIdx.x * blockDim.x + threadIdx.x), pixel = run / runs;
  return {pixel / image.columns, pixel % image.columns, run % runs * WIDTH};
}

constexpr int SPOT_THREADS = 256, SPOT_BLOCKS = 4;

// One thread a run, for several images: where it stands and which windows it meets is worked out once for all of them.
inline LaunchConfig spots(const char* op, int images, const ImageExtents& image, int width, Stream stream) {
  constexpr int IMAGES_A_THREAD = 4, MOST_BLOCKS = 65535;
  constexpr int64_t MOST_ELEMENTS = (int64_t(1) << 31) - SPOT_THREADS;
  check(image.size() <= MOST_ELEMENTS, op, "an image has ", image.size(), " elements, the kernels count up to 2^31");
  const int64_t runs = image.size() / width;
  return {.op = op,
          .grid = dim3(unsigned(ceil_div<int64_t>(runs, SPOT_THREADS)),
                       unsigned(min(ceil_div(images, IMAGES_A_THREAD), MOST_BLOCKS))),
          .block = SPOT_THREADS,
          .stream = stream};
}

}  // namespace minicnn
