// Errors of launch functions: exceptions that carry the op's name.
//
// The standard library's strings and exceptions stay out of kernel files, which nvcc reads twice an architecture: what
// throws is in check.cpp, one to a module.
#pragma once
#include <cstdint>
#include <initializer_list>

namespace minicnn {

// A piece of a message: text or a number.
struct MessagePart {
  const char* text = nullptr;
  int64_t number = 0;

  MessagePart(const char* text) : text(text) {}
  MessagePart(int64_t number) : number(number) {}
  MessagePart(int number) : number(number) {}
};

// Throws std::invalid_argument, which is ValueError in Python: "op: message".
[[noreturn]] void refuse(const char* op, std::initializer_list<MessagePart> message);

// Throws std::runtime_error: "op: why".
[[noreturn]] void fail(const char* op, const char* why);

// A broken promise of the caller. The parts of the message are put together only where it is broken.
template <class... Parts>
void check(bool ok, const char* op, const Parts&... message) {
  if (!ok) refuse(op, {message...});
}

}  // namespace minicnn
