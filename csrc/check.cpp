#include "check.h"

#include <stdexcept>
#include <string>

namespace minicnn {

void refuse(const char* op, std::initializer_list<MessagePart> message) {
  std::string text = std::string(op) + ": ";
  for (const MessagePart& part : message) text += part.text != nullptr ? part.text : std::to_string(part.number);
  throw std::invalid_argument(text);
}

void fail(const char* op, const char* why) { throw std::runtime_error(std::string(op) + ": " + why); }

}  // namespace minicnn
