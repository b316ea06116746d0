// How parameters of launch functions arrive from Python.
//
// Parameter<T> has
//   name                 what `signatures` calls a T
//   load(source, value)  value = source; false where that is no T. Of the right type but without meaning: ValueError
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <bit>
#include <cstdint>
#include <string>
#include <type_traits>

#include "kernels.h"
#include "shapes.h"

namespace minicnn {

namespace py = pybind11;

template <class T>
constexpr const char* dtype_name() {
  if constexpr (std::is_same_v<T, Bfloat16>) return "bfloat16";
  if constexpr (std::is_same_v<T, Float16>) return "float16";
  if constexpr (std::is_same_v<T, float>) return "float32";
  if constexpr (std::is_same_v<T, double>) return "float64";
  if constexpr (std::is_same_v<T, uint8_t>) return "uint8";
  if constexpr (std::is_same_v<T, uint16_t>) return "uint16";
  if constexpr (std::is_same_v<T, uint32_t>) return "uint32";
  if constexpr (std::is_same_v<T, uint64_t>) return "uint64";
  if constexpr (std::is_same_v<T, int32_t>) return "int32";
  if constexpr (std::is_same_v<T, int64_t>) return "int64";
}

// As pybind11 converts it: integers from what Python takes for an index, no number by rounding.
template <class T>
bool load_number(py::handle source, T& value) {
  py::detail::make_caster<T> caster;
  if (!caster.load(source, true)) return false;
  value = py::detail::cast_op<T>(caster);
  return true;
}

template <class T, class Enable = void>
struct Parameter {
  static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>, "a parameter of this type has no form in Python");
  static constexpr const char* name = std::is_integral_v<T> ? "int" : "float";
  static bool load(py::handle source, T& value) { return load_number(source, value); }
};

// A contiguous NumPy array, an address, or None for null. NumPy has no bfloat16, whose bits it holds as uint16.
inline bool load_address(py::handle source, char kind, size_t size, void*& address) {
  address = nullptr;
  if (source.is_none()) return true;
  if (!py::isinstance<py::array>(source)) {
    py::detail::make_caster<uintptr_t> caster;
    if (!caster.load(source, false)) return false;
    address = reinterpret_cast<void*>(py::detail::cast_op<uintptr_t>(caster));
    return true;
  }
  const auto elements = py::reinterpret_borrow<py::array>(source);
  const py::dtype type = elements.dtype();
  address = const_cast<void*>(elements.data());
  return type.kind() == kind && size_t(type.itemsize()) == size &&
         (type.byteorder() == '=' || type.byteorder() == '|') && (elements.flags() & py::array::c_style);
}

template <class T>
struct Parameter<T*> {
  using Element = std::remove_const_t<T>;
  static constexpr const char* name = dtype_name<Element>();
  static bool load(py::handle source, T*& value) {
    constexpr char kind = std::is_same_v<Element, Bfloat16> ? 'u' : name[0];
    void* address;
    if (!load_address(source, kind, sizeof(Element), address)) return false;
    value = static_cast<T*>(address);
    return true;
  }
};

template <>
struct Parameter<Stream> {
  static constexpr const char* name = "stream";
  static bool load(py::handle source, Stream& value) {
    uintptr_t handle;
    if (!load_number(source, handle)) return false;
    value = reinterpret_cast<Stream>(handle);
    return true;
  }
};

// One of the numbers from 0 on that `meanings` lists in words.
template <class Enum>
bool load_enum(py::handle source, int count, const char* meanings, Enum& value) {
  int number;
  if (!load_number(source, number)) return false;
  if (number < 0 || number >= count) throw py::value_error(std::string(meanings) + ", not " + std::to_string(number));
  value = Enum(number);
  return true;
}

template <>
struct Parameter<Accumulate> {
  static constexpr const char* name = "accumulate";
  static bool load(py::handle source, Accumulate& value) {
    return load_enum(source, 2, "accumulate is 0 (overwrite) or 1 (add)", value);
  }
};

template <>
struct Parameter<Activation> {
  static constexpr const char* name = "activation";
  static bool load(py::handle source, Activation& value) {
    return load_enum(source, 2, "activation is 0 (none) or 1 (relu)", value);
  }
};

template <>
struct Parameter<SgdRule> {
  static constexpr const char* name = "sgd_rule";
  static bool load(py::handle source, SgdRule& value) {
    return load_enum(source, 3, "the rule of SGD is 0 (torch), 1 (nesterov) or 2 (paper)", value);
  }
};

template <>
struct Parameter<Layout> {
  static constexpr const char* name = "layout";
  static bool load(py::handle source, Layout& value) {
    return load_enum(source, 3, "layout is 0 (nn), 1 (nt) or 2 (tn)", value);
  }
};

// Shapes as sequences of ints.
template <class Shape>
struct Parameter<Shape, std::void_t<decltype(ShapeFields<Shape>::fields)>> {
  using Fields = ShapeFields<Shape>;
  static constexpr size_t count = Fields::fields.size();
  static constexpr const char* name = Fields::name;

  static bool load(py::handle source, Shape& value) {
    static_assert(sizeof(Shape) == count * sizeof(int), "a field of the shape is not named, or is no int");
    if (!py::isinstance<py::sequence>(source)) return false;
    const auto values = py::reinterpret_borrow<py::sequence>(source);
    if (values.size() > count || values.size() < least())
      throw py::value_error(std::string(name) + " has " + std::to_string(count) + " fields (" + joined() + "), not " +
                            std::to_string(values.size()));
    std::array<int, count> fields{};
    for (size_t i = 0; i < values.size(); ++i) {
      const py::object field = values[i];
      if (!load_number(field, fields[i]))
        throw py::type_error(std::string(name) + "." + Fields::fields[i] + " must be an integer of 32 bits, not " +
                             std::string(py::repr(field)));
    }
    value = std::bit_cast<Shape>(fields);
    return true;
  }

  // Of a schedule the last fields may be left out: 0 leaves them to the kernel.
  static constexpr size_t least() { return std::is_same_v<Shape, Schedule> ? 2 : count; }

  static std::string joined() {
    std::string text;
    for (const char* field : Fields::fields) text += (text.empty() ? "" : " ") + std::string(field);
    return text;
  }
};

}  // namespace minicnn
