// bind(module, name, function): a function of C++ becomes one of Python.
//
// What differs between functions is data, a row of parameter types and an address; only functions of one signature have
// code of their own. A template of pybind11 for each would be most of the time that a module takes to compile.
#pragma once
#include <cstddef>
#include <span>
#include <utility>

#include "bindings/parameter.h"

namespace minicnn {

// The value of a parameter, whichever its type.
struct alignas(8) Value {
  std::byte bytes[sizeof(ConvShape)];

  template <class T>
  T& as() {
    static_assert(sizeof(T) <= sizeof(Value) && alignof(T) <= alignof(Value) && std::is_trivially_copyable_v<T>);
    return *reinterpret_cast<T*>(bytes);
  }
};

struct ParameterType {
  const char* name;
  bool (*load)(py::handle source, Value& value);
};

template <class T>
constexpr ParameterType parameter_type = {
    Parameter<T>::name, [](py::handle source, Value& value) { return Parameter<T>::load(source, value.as<T>()); }};

struct Function {
  const char* name;
  std::span<const ParameterType> parameters;
  void (*address)();
  py::object (*call)(void (*address)(), Value* values);
};

constexpr size_t MOST_PARAMETERS = 24;

inline py::object call(const Function& function, const py::args& arguments) {
  const size_t count = function.parameters.size();
  if (arguments.size() != count)
    throw py::type_error(std::string(function.name) + " takes " + std::to_string(count) + " arguments, not " +
                         std::to_string(arguments.size()));
  Value values[MOST_PARAMETERS];
  for (size_t i = 0; i < count; ++i) {
    const ParameterType& parameter = function.parameters[i];
    const py::handle argument = PyTuple_GET_ITEM(arguments.ptr(), py::ssize_t(i));
    if (!parameter.load(argument, values[i]))
      throw py::type_error(std::string(function.name) + ": argument " + std::to_string(i) + " must be " +
                           parameter.name + ", not " + std::string(py::repr(argument)));
  }
  return function.call(function.address, values);
}

// While native kernels compute, other threads of Python run: those that prepare the next batch.
template <class Result, class... Parameters, size_t... I>
py::object call_as(Result (*function)(Parameters...), Value* values, std::index_sequence<I...>) {
  const auto run = [&] { return function(values[I].as<std::remove_cvref_t<Parameters>>()...); };
  if constexpr (std::is_base_of_v<py::object, Result>) {
    return run();
  } else if constexpr (!std::is_void_v<Result>) {
    return py::cast(run());
  } else {
#ifdef MINICNN_NATIVE
    py::gil_scoped_release release;
#endif
    run();
  }
  return py::none();
}

inline void define(py::module_& module, const Function& function) {
  module.def(function.name, [function](const py::args& arguments) { return call(function, arguments); });
  py::tuple signature(function.parameters.size());
  for (size_t i = 0; i < signature.size(); ++i) signature[i] = function.parameters[i].name;
  module.attr("signatures")[function.name] = signature;
}

template <class Result, class... Parameters>
void bind(py::module_& module, const char* name, Result (*function)(Parameters...)) {
  constexpr size_t count = sizeof...(Parameters);
  static_assert(count <= MOST_PARAMETERS);
  static constexpr std::array<ParameterType, count> parameters = {parameter_type<std::remove_cvref_t<Parameters>>...};
  define(module, {name, parameters, reinterpret_cast<void (*)()>(function), [](void (*address)(), Value* values) {
                    return call_as(reinterpret_cast<Result (*)(Parameters...)>(address), values,
                                   std::make_index_sequence<count>());
                  }});
}

}  // namespace minicnn
