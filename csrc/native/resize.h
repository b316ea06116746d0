// What the data pipeline does in C++: no kernel of a device, and without a gradient. It is compiled with the native
// kernels because it wants what they want, the processor's own vectors; the threads and processes that decode images
// call it, each for itself, and other threads of Python run meanwhile.
#pragma once
#include <cstdint>

namespace minicnn {

// y (P, Q, C) uint8: the box of x (H, W, C) uint8, in pixels and parts of them, resized; with mirrored (0 or 1) left
// and right are swapped then. C is 1 or 3; the box is not empty and lies in x.
void resize(const uint8_t* x, int h, int w, int c, float left, float top, float right, float bottom, int mirrored,
            uint8_t* y, int p, int q);

}  // namespace minicnn
