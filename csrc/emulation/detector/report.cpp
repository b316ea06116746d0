#include "emulation/detector/report.h"

#include <dlfcn.h>

#include <cstdio>
#include <vector>

#include "emulation/detector/detector.h"
#include "emulation/memory.h"
#include "emulation/worker.h"

namespace minicnn::emulation::detector {
namespace {

Dl_info this_module() {
  Dl_info module{};
  dladdr(reinterpret_cast<const void*>(&this_module), &module);
  return module;
}

// What addr2line calls a place.
uintptr_t offset_in_file(uint32_t code) {
  const auto origin = reinterpret_cast<uintptr_t>(&code_origin);
  return origin + uintptr_t(int32_t(code)) - reinterpret_cast<uintptr_t>(this_module().dli_fbase);
}

// "path:line" of the functions inlined there, from the inmost; empty where nothing can tell.
std::vector<std::string> inlined_places(uint32_t code) {
  char address[40];
  std::snprintf(address, sizeof address, " 0x%zx 2>/dev/null", size_t(offset_in_file(code) - 1));  // in the call itself
  const std::string command = std::string("addr2line -i -e '") + this_module().dli_fname + "'" + address;
  std::vector<std::string> places;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return places;
  for (char line[4096]; std::fgets(line, sizeof line, pipe);) {
    std::string place = line;
    place.resize(place.find_first_of(" \n"));
    if (place.find(":?") == std::string::npos && place.find(":0") != place.size() - 2) places.push_back(place);
  }
  pclose(pipe);
  return places;
}

// Whether a file is the kernel's author's rather than the emulation's or the compiler's.
bool is_of_kernel(const std::string& place) {
  const std::string path = place.substr(0, place.rfind(':'));
  if (path.find("/csrc/emulation/") != std::string::npos && path.ends_with(".h")) return false;
  for (const char* wrapper :
       {"/csrc/launch.h", "/csrc/device/async_copy.h", "/csrc/device/ldmatrix.h", "/csrc/device/named_barrier.h"})
    if (path.ends_with(wrapper)) return false;
  return path.find("/include/c++/") == std::string::npos && path.find("/usr/") != 0;
}

std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string triple(const uint3& index) {
  char text[40];
  std::snprintf(text, sizeof text, "(%u,%u,%u)", index.x, index.y, index.z);
  return text;
}

uint3 index_in(const dim3& size, uint64_t number) {
  return {unsigned(number % size.x), unsigned(number / size.x % size.y), unsigned(number / size.x / size.y)};
}

// "byte 12 of a buffer of 400 bytes".
std::string describe_memory(uintptr_t address, const Block& block) {
  const auto* byte = reinterpret_cast<const unsigned char*>(address);
  const unsigned char* shared_end = block.shared + round_up(block.shared_bytes, SHARED_ALIGNMENT);
  if (byte >= shared_end - MAX_SHARED_BYTES && byte < shared_end + page_bytes())
    return "byte " + std::to_string(byte - block.shared) + " of the block's " + std::to_string(block.shared_bytes) +
           " bytes of shared memory";
  const std::string buffer = describe_address(byte);
  return buffer.empty() ? "address " + std::to_string(address) : buffer;
}

const char* verb(const Finding::Party& party) {
  const Kind kind = party.trace.epoch.kind();
  const bool is_copy = kind == Kind::copy || kind == Kind::waited_copy;
  if (party.trace.epoch.is_atomic())
    return party.trace.epoch.is_in_block_scope() ? "updated by a block's atomic" : "updated by an atomic";
  if (party.access == Access::write) return is_copy ? "written by an asynchronous copy started" : "written";
  return is_copy ? "read by an asynchronous copy started" : "read";
}

std::string describe(const Finding::Party& party) {
  return std::string(verb(party)) + " at " + code_place(party.trace.code);
}

}  // namespace

const char code_origin = 0;

std::string code_place(uint32_t code) {
  std::string outmost, inmost;
  for (const std::string& place : inlined_places(code)) {
    if (!is_of_kernel(place)) continue;
    if (inmost.empty()) inmost = name_of(place);
    outmost = name_of(place);
  }
  if (outmost.empty()) {
    char text[40];
    std::snprintf(text, sizeof text, "0x%zx of ", size_t(offset_in_file(code)));
    return text + name_of(this_module().dli_fname);
  }
  return outmost == inmost ? outmost : outmost + " (" + inmost + ")";
}

std::string Finding::describe(const Block& block) const {
  const auto thread = [&](const Party& party) { return triple(index_in(block.size, party.trace.epoch.thread())); };
  const auto block_of = [&](const Party& party) { return triple(index_in(block.grid, party.block)); };
  const std::string place = describe_memory(address, block);
  std::string text;
  if (fault == Fault::race) {
    text = "race on " + place + ": " + detector::describe(mine) + ", " + detector::describe(other) + " by thread " +
           thread(other) + (other.block == mine.block ? "" : " of block " + block_of(other)) +
           ", and nothing orders the two";
  } else if (fault == Fault::unwritten) {
    text = code_place(mine.trace.code) + ": read of " + place + ", which nothing has written";
  } else if (fault == Fault::index) {
    text = code_place(mine.trace.code) + ": index " + std::to_string(number) + " is outside of " + array;
  } else if (fault == Fault::alignment) {
    text = code_place(mine.trace.code) + ": access to " + place + ", whose address is divisible by " +
           std::to_string(address & -address) + ", not by " + std::to_string(number);
  } else {
    text = code_place(mine.trace.code) + ": illegal access to " + place;
  }
  return text + ", in block " + block_of(mine) + ", thread " + thread(mine);
}

}  // namespace minicnn::emulation::detector
