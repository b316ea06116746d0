#include "emulation/faults.h"

#include <iterator>
#include <vector>

#include "emulation/worker.h"

namespace minicnn::emulation {
namespace {

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS};  // a guard page raises the first on Linux, the second on macOS
struct sigaction previous_actions[std::size(SIGNALS)];
thread_local Worker* worker_here = nullptr;

void restore() {
  for (size_t i = 0; i < std::size(SIGNALS); ++i) sigaction(SIGNALS[i], &previous_actions[i], nullptr);
}

void on_fault(int, siginfo_t* info, void*) {
  if (is_in_kernel()) worker_here->abandon_block(info->si_addr);
  restore();  // not ours: the access is tried again and reaches the previous handler
}

// A thread that overflowed its stack has no room for the handler: each OS thread gets a stack for it.
class SignalStack {
 public:
  SignalStack() {
    stack_t stack{};
    stack.ss_sp = bytes_.data();
    stack.ss_size = bytes_.size();
    sigaltstack(&stack, nullptr);
  }
  ~SignalStack() {
    stack_t now{};
    sigaltstack(nullptr, &now);
    if (now.ss_sp != bytes_.data()) return;  // somebody put another one in its place
    now.ss_flags = SS_DISABLE;
    sigaltstack(&now, nullptr);
  }

 private:
  std::vector<char> bytes_ = std::vector<char>(64 * 1024);
};

}  // namespace

FaultHandler::FaultHandler() {
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // the handler does not return after a kernel's fault
  for (size_t i = 0; i < std::size(SIGNALS); ++i) sigaction(SIGNALS[i], &action, &previous_actions[i]);
}

FaultHandler::~FaultHandler() { restore(); }

void assign_faults(Worker& worker) {
  static thread_local const SignalStack stack;
  worker_here = &worker;
}

bool is_in_kernel() { return worker_here && worker_here->is_in_kernel(); }

}  // namespace minicnn::emulation
