// The emulation's own functions in Python: memory and schedules.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "emulation/detector/order.h"
#include "emulation/memory.h"
#include "emulation/options.h"
#include "emulation/recording.h"

namespace minicnn::emulation {

using Names = std::array<const char*, 3>;
inline constexpr Names ORDERS = {"forward", "reverse", "random"};   // as in Order
inline constexpr Names ASYNCHRONIES = {"early", "late", "random"};  // as in Asynchrony

inline size_t index_of(const std::string& name, const Names& names, const std::string& what) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end())
    throw pybind11::value_error(what + " is '" + names[0] + "', '" + names[1] + "' or '" + names[2] + "', not '" +
                                name + "'");
  return size_t(found - names.begin());
}

inline void configure(const std::string& order, uint64_t seed, int workers, const std::string& asynchrony,
                      int capability) {
  const auto chosen = Order(index_of(order, ORDERS, "order"));
  if (workers < 1) throw pybind11::value_error("workers is at least 1, not " + std::to_string(workers));
  options() = {chosen, seed, workers, Asynchrony(index_of(asynchrony, ASYNCHRONIES, "asynchrony")), capability};
}

// What configure() takes.
inline pybind11::dict configuration() {
  const Options& now = options();
  return pybind11::dict(pybind11::arg("order") = ORDERS[size_t(now.order)], pybind11::arg("seed") = now.seed,
                        pybind11::arg("workers") = now.workers,
                        pybind11::arg("asynchrony") = ASYNCHRONIES[size_t(now.asynchrony)],
                        pybind11::arg("capability") = now.capability);
}

// (launches, accesses): tuples (op, kernel, grid, block, shared_bytes), and a SharedAccess after the other as bytes.
inline pybind11::tuple stop_recording_for_python() {
  const Recording recording = stop_recording();
  pybind11::list launches;
  const auto triple = [](const dim3& size) { return pybind11::make_tuple(size.x, size.y, size.z); };
  for (const RecordedLaunch& launch : recording.launches)
    launches.append(
        pybind11::make_tuple(launch.op, launch.kernel, triple(launch.grid), triple(launch.block), launch.shared_bytes));
  const auto& accesses = recording.accesses;
  return pybind11::make_tuple(launches, pybind11::bytes(reinterpret_cast<const char*>(accesses.data()),
                                                        accesses.size() * sizeof(SharedAccess)));
}

inline void bind_emulation(pybind11::module_& m) {
  m.attr("checked") = CHECKED;
  m.def("allocate", [](size_t bytes) { return reinterpret_cast<uintptr_t>(allocate(bytes)); });
  m.def("release", [](uintptr_t address) { release(reinterpret_cast<void*>(address)); });
  m.def("check_guards", check_guards);
  m.def("mark_written",
        [](uintptr_t address, size_t bytes) { mark_written(reinterpret_cast<const void*>(address), bytes); });
  m.def("start_recording", start_recording);
  m.def("stop_recording", stop_recording_for_python);
  m.def("configuration", configuration);
  m.def("configure", configure, pybind11::arg("order") = "forward", pybind11::arg("seed") = 0,
        pybind11::arg("workers") = 1, pybind11::arg("asynchrony") = "late", pybind11::arg("capability") = 90);
}

}  // namespace minicnn::emulation
