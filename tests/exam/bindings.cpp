// The exam as a Python module of its own, with an emulation and a detector of its own.
#include "emulation/bindings.h"

#include "exam.h"

namespace py = pybind11;

namespace minicnn::exam {
namespace {

py::list described() {
  py::list list;
  for (const Question& question : questions())
    list.append(py::make_tuple(question.family, question.name, question.racy, question.why));
  return list;
}

void ask(size_t number, uintptr_t global, uintptr_t other) {
  questions().at(number).ask(reinterpret_cast<int*>(global), reinterpret_cast<int*>(other), nullptr);
}

}  // namespace
}  // namespace minicnn::exam

PYBIND11_MODULE(_exam, m) {
  using namespace minicnn;
  emulation::bind_emulation(m);
  m.attr("buffer_ints") = exam::BUFFER_INTS;
  m.def("questions", exam::described);  // [(family, name, racy, why), ...]
  m.def("ask", exam::ask);              // (number of the question, addresses of both buffers)
}
