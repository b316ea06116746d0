// Instruction sets. Each file of kernels is compiled once a set, and the kernels of one set with the bindings are a
// module of their own: minicnn._native_baseline, _native_avx2, _native_avx512. So no code of one set can be reached
// from another's, not even an inline function of the standard library, which a linker would take from any file that has
// it. Python imports the baseline, which every processor runs, asks it what this one has, and imports the best.
#pragma once
#include <string>
#include <vector>

namespace minicnn {

// The sets that this processor and its operating system can run, the best first; "baseline" is the last.
std::vector<std::string> instruction_sets();

// The set that this module's kernels were compiled for, with what the baseline is: "avx512", "baseline (neon)".
const char* instruction_set();

}  // namespace minicnn
