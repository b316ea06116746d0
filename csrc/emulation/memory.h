// The emulated device's global memory: guarded buffers.
#pragma once
#include <cstddef>
#include <string>

namespace minicnn::emulation {

constexpr unsigned char POISON = 0xFF;

constexpr size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

size_t page_bytes();

// A buffer aligned to 256 bytes, as on a GPU, every byte of it and of the slack around it 0xFF (NaN in every
// floating-point format). An inaccessible page begins at most 255 bytes behind it.
void* allocate(size_t bytes);

// Takes a buffer back and fills it with 0xFF again. Its memory is kept for later buffers, the last released first.
void release(void* address);

// The host has written [address, address + bytes): what the checked module cannot see. Without this it takes a value
// that is all 0xFF for one that nobody wrote.
void mark_written(const void* address, size_t bytes);

// Throws Error if the slack of any buffer was written, or a buffer after its release, since the last call.
void check_guards();

// The first byte in [begin, end) that is not POISON; end where all are.
const unsigned char* first_written(const unsigned char* begin, const unsigned char* end);

// "byte 404 of a buffer of 400 bytes", or nothing where the address belongs to no buffer.
std::string describe_address(const void* address);

}  // namespace minicnn::emulation
