// What the compiler calls where the next step of a file that it compiles with -fsanitize=bounds-strict,alignment would
// be undefined: an index outside of its array, on the stack as well, or an access whose address its type forbids, which
// an x86 would bear and a GPU does not. The library that usually answers is not linked. No exception may leave these
// functions, and none returns.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "emulation/detector/detector.h"
#include "emulation/faults.h"

namespace detector = minicnn::emulation::detector;

namespace {

// What the compiler says of the place, as compiler-rt declares it (ubsan_value.h, ubsan_handlers.h).
struct Place {
  const char* file;
  uint32_t line, column;
};
struct Type {
  uint16_t kind;
  uint16_t integer;  // twice the binary logarithm of its bits, and 1 where it has a sign

  const char* name() const { return reinterpret_cast<const char*>(this + 1); }  // in quotation marks
};
struct Index {
  Place place;
  const Type *array, *index;
};
struct Access {
  Place place;
  const Type* type;
  uint8_t log_alignment, kind;
};

// Clang extends negative numbers by zeros.
int64_t value_of(uintptr_t number, const Type& type) {
  const unsigned unused = 64 - (1u << type.integer / 2);
  return type.integer % 2 ? int64_t(number << unused) >> unused : int64_t(number);
}

// The host's part of a kernel file has no launch to end.
void require_kernel(const Place& place, const char* what) {
  if (minicnn::emulation::is_in_kernel()) return;
  std::fprintf(stderr, "%s:%u: %s, in code of the host\n", place.file, place.line, what);
  std::abort();
}

}  // namespace

extern "C" {

[[noreturn]] void __ubsan_handle_out_of_bounds_abort(const Index* fault, uintptr_t index) {
  require_kernel(fault->place, "an index is outside of its array");
  detector::refuse_index(value_of(index, *fault->index), fault->array->name(), __builtin_return_address(0));
}

[[noreturn]] void __ubsan_handle_type_mismatch_v1_abort(const Access* fault, uintptr_t address) {
  require_kernel(fault->place, "an address is not aligned");
  detector::refuse_address(address, 1u << fault->log_alignment, __builtin_return_address(0));
}

}  // extern "C"
