// The operands of a convolution as gemm/tensor_core_tile.h brings them: patches by rows and by columns, and filters, in
// chunks of 16 bytes. A block works on one group, blockIdx.y.
#pragma once
#include "gemm/tensor_core_tile.h"
#include "ops/conv2d.h"
#include "ops/conv2d_implicit.h"

namespace minicnn {

// What PatchMatrix of conv2d.h is, of any element.
template <class T>
struct Patches {
  const T* x;
  ConvShape conv;
  int channels;        // of a group
  int image_elements;  // H * W * C, below 2^31; of a batch there may be more
  bool in_chunks;

  // Of the group that the block works on, whose number no register has to keep.
  __device__ const T* at(int image, int h, int w, int channel) const {
    return x + int64_t(image) * image_elements + ((h * conv.w + w) * conv.c + int(blockIdx.y) * channels + channel);
  }
};

template <class T>
Patches<T> patches_of(const T* x, const ConvShape& conv, bool in_chunks) {
  return {x, conv, conv.group_c(), conv.h * conv.w * conv.c, in_chunks};
}

// By chunks where all channel counts and pointers allow it, whatever the pass.
template <class T>
bool lies_in_chunks(const ConvShape& shape, const T* a, const T* b) {
  constexpr int CHUNK = sizeof(Chunk) / sizeof(T);
  return shape.group_c() % CHUNK == 0 && shape.group_k() % CHUNK == 0 && is_aligned(a) && is_aligned(b);
}

// Patches as rows: the outer index is the output pixel, the reduction runs along the patch. All chunks of a thread are
// of one tap.
template <class Arithmetic, int TILE, Copies COPIES, class Order = MemoryOrder>
class PatchRowChunks {
 public:
  using Mine = SliceChunks<Arithmetic, TILE, Along::reduction>;
  using Layout = typename Mine::Layout;
  using T = typename Arithmetic::Element;

  __device__ PatchRowChunks(const Patches<T>& patches, int first_row, int first_k)
      : patches_(patches),
        tap_(tap_at(patches.conv, first_k + Mine::k(COPIES == Copies::chunks || patches.in_chunks), patches.channels)) {
    const ConvShape& conv = patches.conv;
#pragma unroll
    for (int i = 0; i < Mine::EACH; ++i) {
      const Pixel place = Order::pixel(conv, first_row + Mine::outer() + i * Mine::ROWS_APART);
      image_[i] = place.image;
      h_[i] = place.image < conv.n ? conv.rows().input_at(place.row, 0) : FAR_OUTSIDE;
      w_[i] = conv.columns().input_at(place.column, 0);
    }
  }

  __device__ void bring(int i, Chunk& chunk) const {
    if (COPIES == Copies::chunks || patches_.in_chunks) {
      const T* const source = at(i, tap_);
      async_copy_or_zero<16>(&chunk, source, source != nullptr);
    } else {
      bring_elements<T>(chunk, [this, i, tap = tap_](int) mutable {
        const T* const element = at(i, tap);
        tap = tap_after(tap, Mine::ELEMENT_STEP, patches_.conv.s, patches_.channels);
        return element;
      });
    }
  }

  __device__ void advance() { tap_ = tap_after(tap_, Layout::DEPTH, patches_.conv.s, patches_.channels); }

 private:
  static constexpr int FAR_OUTSIDE = -(1 << 30);  // pixels behind the last one: zeros all along

  __device__ const T* at(int i, const Tap& tap) const {
    const ConvShape& conv = patches_.conv;
    const int h = h_[i] + tap.r * conv.dilation_h, w = w_[i] + tap.s * conv.dilation_w;
    const bool inside = tap.r < conv.r && conv.rows().is_inside(h) && conv.columns().is_inside(w);
    return inside ? patches_.at(image_[i], h, w, tap.channel) : nullptr;
  }

  const Patches<T>& patches_;
  Tap tap_;
  int image_[Mine::EACH], h_[Mine::EACH], w_[Mine::EACH];  // that tap (0, 0) of each pixel reads
};

// Patches as columns: the outer index runs along the patch, the reduction over the output pixels. All chunks of a
// thread are of one tap, each of the pixel ROWS_APART behind the last one's.
template <class Arithmetic, int TILE, Copies COPIES>
class PatchColumnChunks {
 public:
  using Mine = SliceChunks<Arithmetic, TILE, Along::outer>;
  using Layout = typename Mine::Layout;
  using T = typename Arithmetic::Element;

  __device__ PatchColumnChunks(const Patches<T>& patches, int first_entry, int first_pixel)
      : patches_(patches),
        tap_(tap_at(patches.conv, first_entry + Mine::outer(COPIES == Copies::chunks || patches.in_chunks),
                    patches.channels)),
        pixel_(output_pixel(patches.conv, first_pixel + Mine::k())) {}

  __device__ void bring(int, Chunk& chunk) {
    if (COPIES == Copies::chunks || patches_.in_chunks) {
      const T* const source = at(tap_);
      async_copy_or_zero<16>(&chunk, source, source != nullptr);
    } else {
      bring_elements<T>(chunk, [this, tap = tap_](int) mutable {
        const T* const element = at(tap);
        tap = tap_after(tap, Mine::ELEMENT_STEP, patches_.conv.s, patches_.channels);
        return element;
      });
    }
    pixel_ = pixel_after(pixel_, Mine::ROWS_APART, patches_.conv.p, patches_.conv.q);
  }

  __device__ void advance() {}  // the last chunk's pixel is ROWS_APART before the next slice's first

 private:
  __device__ const T* at(const Tap& tap) const {
    const ConvShape& conv = patches_.conv;
    const int h = conv.rows().input_at(pixel_.row, tap.r), w = conv.columns().input_at(pixel_.column, tap.s);
    const bool inside =
        tap.r < conv.r && pixel_.image < conv.n && conv.rows().is_inside(h) && conv.columns().is_inside(w);
    return inside ? patches_.at(pixel_.image, h, w, tap.channel) : nullptr;
  }

  const Patches<T>& patches_;
  Tap tap_;
  Pixel pixel_;
};

// The filters of a group as an operand: the outer index is the channel, the reduction runs over (tap of the class,
// filter).
template <class Arithmetic, int TILE, Copies COPIES>
class FilterChunks {
 public:
  using Mine = SliceChunks<Arithmetic, TILE, Along::outer>;
  using Layout = typename Mine::Layout;
  using T = typename Arithmetic::Element;

  __device__ FilterChunks(const T* w, const ResidueClass& residue, const Patches<T>& dy, int channels,
                          int first_channel, int first_k)
      : residue_(residue),
        dy_(dy),
        w_(w),
        channels_(channels),
        channel_(first_channel + Mine::outer(COPIES == Copies::chunks || dy.in_chunks)),
        tap_(tap_at(dy.conv, first_k + Mine::k(), dy.channels)) {}

  __device__ void bring(int, Chunk& chunk) {
    const int r = residue_.rows.first_tap + residue_.rows.tap_step * tap_.r;
    const int s = residue_.columns.first_tap + residue_.columns.tap_step * tap_.s;
    const int filter_row =
        ((int(blockIdx.y) * dy_.channels + tap_.channel) * residue_.shape.r + r) * residue_.shape.s + s;
    const T* const source = w_ + (filter_row * channels_ + channel_);
    const int count = tap_.r < dy_.conv.r ? channels_ - channel_ : 0;
    if (COPIES == Copies::chunks || dy_.in_chunks)
      async_copy_or_zero<16>(&chunk, source, count > 0);
    else
      bring_elements<T>(chunk, [=](int e) { return e < count ? source + e : nullptr; });
    tap_ = tap_after(tap_, Mine::ROWS_APART, dy_.conv.s, dy_.channels);
  }

  __device__ void advance() {}  // as with PatchColumnChunks

 private:
  const ResidueClass& residue_;
  const Patches<T>& dy_;
  const T* w_;  // elements of it are counted in 32 bits
  int channels_, channel_;
  Tap tap_;
};

}  // namespace minicnn
