// An exam for a race detector: small kernels, each with one known fault or none.
//
// README.md says by which rules a question is labelled. How a question is written: question.h.
#pragma once
#include <vector>

#include "kernels.h"

namespace minicnn::exam {

// Both buffers of a question: ints, all zero before each question, aligned to 256 bytes.
constexpr int BUFFER_INTS = 4096;

struct Question {
  const char* family;
  const char* name;  // unique within its family
  bool racy;         // a data race or a divergent barrier, on every schedule
  const char* why;   // the two accesses that race, or what orders them
  void (*ask)(int* global, int* other, Stream stream);
};

// All questions, family by family.
const std::vector<Question>& questions();

// Enters a question; returns true, so that a namespace-scope variable can do it.
bool add(const Question& question);

}  // namespace minicnn::exam
