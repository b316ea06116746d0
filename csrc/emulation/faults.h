// Illegal accesses of a kernel become errors instead of the end of the process.
#pragma once
#include <csignal>
#include <iterator>

namespace minicnn::emulation {

class Worker;

// While it lives, a fault in a kernel abandons the worker's block; any other goes to the handler that was there before.
class FaultHandler {
 public:
  FaultHandler();
  ~FaultHandler();
  FaultHandler(const FaultHandler&) = delete;
  FaultHandler& operator=(const FaultHandler&) = delete;
};

// Says whose faults those of this OS thread are from now on.
void assign_faults(Worker& worker);

// Whether this OS thread runs a kernel.
bool is_in_kernel();

}  // namespace minicnn::emulation
