#include "emulation/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <new>
#include <unordered_map>
#include <vector>

#include "emulation/detector/arena.h"
#include "emulation/detector/detector.h"
#include "emulation/runtime.h"

namespace minicnn::emulation {
namespace {

constexpr size_t ALIGNMENT = 256;
constexpr size_t MOST_RELEASED_BYTES = 256 * 1024 * 1024;  // kept for later buffers; what is more goes back at once

// [guard page][slack][buffer][slack][guard page]: `body` is what lies between the guards.
struct Buffer {
  unsigned char* body;
  size_t body_bytes;
  unsigned char* address;
  size_t bytes;
};

struct Memory {
  std::map<const void*, Buffer> live;                        // by address
  std::unordered_map<size_t, std::vector<Buffer>> released;  // by body_bytes
  size_t released_bytes = 0;
  std::vector<std::string> violations;
};

Memory& memory() {
  static Memory memory;
  return memory;
}

std::string describe(const Buffer& buffer) { return "a buffer of " + std::to_string(buffer.bytes) + " bytes"; }

void inspect(const Buffer& buffer, const unsigned char* begin, const unsigned char* end, const std::string& what) {
  const unsigned char* written = first_written(begin, end);
  if (written == end) return;
  memory().violations.push_back(what + ": byte " + std::to_string(written - buffer.address) + " of " +
                                describe(buffer));
}

void inspect_slack(const Buffer& buffer) {
  inspect(buffer, buffer.body, buffer.address, "written before its beginning");
  inspect(buffer, buffer.address + buffer.bytes, buffer.body + buffer.body_bytes, "written past its end");
}

void poison(Buffer& buffer) { std::memset(buffer.body, POISON, buffer.body_bytes); }

void* map_inaccessible(size_t bytes) {
  if constexpr (CHECKED) return detector::take_pages(bytes);
  void* mapping = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  return mapping;
}

Buffer map_buffer(size_t body_bytes) {
  const size_t page = page_bytes();
  void* mapping = map_inaccessible(body_bytes + 2 * page);
  Buffer buffer{};
  buffer.body = static_cast<unsigned char*>(mapping) + page;
  buffer.body_bytes = body_bytes;
  if (mprotect(buffer.body, body_bytes, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  poison(buffer);
  return buffer;
}

void unmap(const Buffer& buffer) {
  void* mapping = buffer.body - page_bytes();
  const size_t bytes = buffer.body_bytes + 2 * page_bytes();
  if constexpr (CHECKED)
    detector::give_back_pages(mapping, bytes);
  else
    munmap(mapping, bytes);
}

// A released buffer must still be all poison when it is looked at.
void inspect_released(Buffer& buffer) {
  const size_t before = memory().violations.size();
  inspect(buffer, buffer.body, buffer.body + buffer.body_bytes, "written after its release");
  if (memory().violations.size() != before) poison(buffer);
}

}  // namespace

const unsigned char* first_written(const unsigned char* begin, const unsigned char* end) {
  if (begin == end || (*begin == POISON && !std::memcmp(begin, begin + 1, size_t(end - begin) - 1))) return end;
  while (*begin == POISON) ++begin;
  return begin;
}

size_t page_bytes() {
  static const size_t bytes = size_t(sysconf(_SC_PAGESIZE));
  return bytes;
}

void* allocate(size_t bytes) {
  const size_t body_bytes = round_up(round_up(bytes, ALIGNMENT), page_bytes());
  auto& candidates = memory().released[body_bytes];
  Buffer buffer{};
  if (candidates.empty()) {
    buffer = map_buffer(body_bytes);
  } else {
    buffer = candidates.back();
    candidates.pop_back();
    memory().released_bytes -= body_bytes;
    inspect_released(buffer);
  }
  buffer.bytes = bytes;
  buffer.address = buffer.body + body_bytes - round_up(bytes, ALIGNMENT);
  memory().live[buffer.address] = buffer;
  if constexpr (CHECKED) detector::begin_buffer(buffer.address, bytes);
  return buffer.address;
}

void release(void* address) {
  const auto found = memory().live.find(address);
  if (found == memory().live.end())
    throw Error("release: no buffer begins at address " + std::to_string(reinterpret_cast<uintptr_t>(address)));
  Buffer buffer = found->second;
  memory().live.erase(found);
  if constexpr (CHECKED) detector::end_buffer(buffer.address, buffer.bytes);
  inspect_slack(buffer);
  if (memory().released_bytes + buffer.body_bytes > MOST_RELEASED_BYTES) return unmap(buffer);
  poison(buffer);
  memory().released_bytes += buffer.body_bytes;
  memory().released[buffer.body_bytes].push_back(buffer);
}

void mark_written([[maybe_unused]] const void* address, [[maybe_unused]] size_t bytes) {
  if constexpr (CHECKED) detector::mark_written(address, bytes);
}

void check_guards() {
  for (const auto& [address, buffer] : memory().live) inspect_slack(buffer);
  for (auto& [bytes, buffers] : memory().released)
    for (Buffer& buffer : buffers) inspect_released(buffer);
  if (memory().violations.empty()) return;
  std::string message = "memory outside of the device's buffers was written";
  for (const std::string& violation : memory().violations) message += "\n  " + violation;
  memory().violations.clear();
  for (auto& [address, buffer] : memory().live) {
    std::memset(buffer.body, POISON, size_t(buffer.address - buffer.body));
    unsigned char* end = buffer.address + buffer.bytes;
    std::memset(end, POISON, size_t(buffer.body + buffer.body_bytes - end));
  }
  throw Error(message);
}

std::string describe_address(const void* address) {
  const auto* byte = static_cast<const unsigned char*>(address);
  const auto is_near = [&](const Buffer& buffer) {
    return byte >= buffer.body - page_bytes() && byte < buffer.body + buffer.body_bytes + page_bytes();
  };
  for (const auto& [base, buffer] : memory().live)
    if (is_near(buffer)) return "byte " + std::to_string(byte - buffer.address) + " of " + describe(buffer);
  for (const auto& [bytes, buffers] : memory().released)
    for (const Buffer& buffer : buffers)
      if (is_near(buffer))
        return "byte " + std::to_string(byte - buffer.address) + " of " + describe(buffer) + ", which was released";
  return "";
}

}  // namespace minicnn::emulation
