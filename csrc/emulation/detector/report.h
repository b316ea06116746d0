// What the detector found, in words.
#pragma once
#include <cstdint>
#include <string>

#include "emulation/detector/shadow.h"
#include "emulation/runtime.h"

namespace minicnn::emulation::detector {

// Any byte of the module: places in its code are distances from here.
extern const char code_origin;

enum class Access : uint8_t { read, write, update, exchange };

// A place in the code of this module as a number, and back as "relu.cu:25", with the line of the function inlined there
// in which the access is written: "relu.cu:25 (vec4.h:49)".
inline uint32_t code_number(const void* return_address) {
  return uint32_t(reinterpret_cast<uintptr_t>(return_address) - reinterpret_cast<uintptr_t>(&code_origin));
}
std::string code_place(uint32_t code);

struct Finding {
  enum class Fault : uint8_t { none, race, unwritten, bounds, index, alignment };
  struct Party {
    Access access;
    Trace trace;
    uint64_t block;  // its number in the grid
  };

  Fault fault = Fault::none;
  uintptr_t address = 0;
  Party mine{}, other{};
  int64_t number = 0;           // the index, or what the address should be divisible by
  const char* array = nullptr;  // its type, in quotation marks

  explicit operator bool() const { return fault != Fault::none; }

  // "race on byte 128 of ..., in block (0,0,0), thread (31,0,0)".
  std::string describe(const Block& block) const;
};

}  // namespace minicnn::emulation::detector
