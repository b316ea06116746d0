// What both convolutions share: the patches that filters see, as the operand of a product.
#pragma once
#include "check.h"
#include "gemm/tile.h"
#include "kernels.h"

namespace minicnn {

// The patch of output pixel (n, p, q), for the filters of one group, is a row of a matrix (N * P * Q, R * S *
// channels):
//   entry (r, s, channel) = x[n, rows().input_at(p, r), columns().input_at(q, s), channel],  0 outside of the image
// The gradient of the input is a convolution of dy (gradient_shape in shapes.h), so the same code reads its patches.
struct PatchMatrix {
  const float* x;
  ConvShape conv;
  int channels;        // of a group
  int image_elements;  // H * W * C, below 2^31; of a batch there may be more

  // (n, 0, 0, first channel of the group)
  __device__ const float* image(int n, int group) const { return x + int64_t(n) * image_elements + group * channels; }

  // An entry, null where it is 0.
  __device__ const float* at(const float* image, int p, int q, const Tap& tap) const {
    const Axis rows = conv.rows(), columns = conv.columns();
    const int h = rows.input_at(p, tap.r), w = columns.input_at(q, tap.s);
    const bool inside = tap.r < conv.r && rows.is_inside(h) && columns.is_inside(w);
    return inside ? image + ((h * conv.w + w) * conv.c + tap.channel) : nullptr;
  }

  // Four entries, from `tap` on. Access::quads wants them in one tap: a multiple of 4 channels.
  template <Access ACCESS>
  __device__ Vec4 quad(const float* image, int p, int q, Tap tap) const {
    Vec4 result{};
    if constexpr (ACCESS == Access::quads) {
      const float* const entries = at(image, p, q, tap);
      if (entries != nullptr) result = *reinterpret_cast<const Vec4*>(entries);
    } else {
      for (float& value : result.values) {
        const float* const entry = at(image, p, q, tap);
        if (entry != nullptr) value = *entry;
        tap = tap_after(tap, 1, conv.s, channels);
      }
    }
    return result;
  }
};

// Which pixel of y a row of the product is: as they lie in memory.
struct MemoryOrder {
  static __device__ Pixel pixel(const ConvShape& conv, int row) { return output_pixel(conv, row); }
};

// Patches as rows: the outer index is the output pixel, the reduction runs along the patch.
template <Access ACCESS, class Order = MemoryOrder>
class PatchRowCursor {
 public:
  static constexpr Along along = Along::reduction;

  __device__ PatchRowCursor(const PatchMatrix& patches, int group, int row, int k)
      : patches_(patches), tap_(tap_at(patches.conv, k, patches.channels)) {
    const Pixel place = Order::pixel(patches.conv, row);
    image_ = patches.image(place.image, group);
    p_ = place.row;
    q_ = place.column;
    if (place.image >= patches.conv.n) tap_.r = patches.conv.r;  // behind the last row: zeros all along
  }

  __device__ Vec4 load() const { return patches_.template quad<ACCESS>(image_, p_, q_, tap_); }

  __device__ void advance() { tap_ = tap_after(tap_, TILE_K, patches_.conv.s, patches_.channels); }

 private:
  const PatchMatrix& patches_;
  Tap tap_;
  const float* image_;
  int p_, q_;
};

// Patches as columns: the outer index runs along the patch, the reduction over the output pixels.
template <Access ACCESS>
class PatchColumnCursor {
 public:
  static constexpr Along along = Along::outer;

  __device__ PatchColumnCursor(const PatchMatrix& patches, int group, int entry, int pixel)
      : patches_(patches),
        group_(group),
        tap_(tap_at(patches.conv, entry, patches.channels)),
        pixel_(output_pixel(patches.conv, pixel)) {}

  __device__ Vec4 load() const {
    if (pixel_.image >= patches_.conv.n) return Vec4{};
    return patches_.template quad<ACCESS>(patches_.image(pixel_.image, group_), pixel_.row, pixel_.column, tap_);
  }

  __device__ void advance() { pixel_ = pixel_after(pixel_, TILE_K, patches_.conv.p, patches_.conv.q); }

 private:
  const PatchMatrix& patches_;
  int group_;
  Tap tap_;
  Pixel pixel_;
};

inline PatchMatrix patch_matrix(const float* x, const ConvShape& conv) {
  return {x, conv, conv.group_c(), conv.h * conv.w * conv.c};
}

// Throws where 32 bits do not suffice for what the kernels count in them.
inline void check_extents(const char* op, const ConvShape& shape) {
  const auto below_2_31 = [op](int64_t count, const char* what) {
    check(count <= INT32_MAX, op, count, " ", what, ", more than 2^31 - 1: use a smaller batch or image");
  };
  below_2_31(int64_t(shape.n) * shape.h * shape.w, "input pixels");
  below_2_31(int64_t(shape.n) * shape.p * shape.q, "output pixels");
  below_2_31(int64_t(shape.h) * shape.w * shape.c, "elements in one image of x");
  below_2_31(int64_t(shape.p) * shape.q * shape.k, "elements in one image of y");
  below_2_31(int64_t(shape.k) * shape.r * shape.s * shape.group_c(), "elements in w");
}

}  // namespace minicnn
