// Errors of launch functions: exceptions that carry the op's name.
#pragma once
#include <stdexcept>
#include <string>

namespace minicnn {

// A broken promise of the caller: ValueError in Python.
inline void check(bool ok, const char* op, const std::string& message) {
  if (!ok) throw std::invalid_argument(std::string(op) + ": " + message);
}

}  // namespace minicnn
