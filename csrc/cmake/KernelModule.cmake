find_package(pybind11 CONFIG REQUIRED)

# The kernels are compiled apart from the bindings: they see neither Python nor pybind11, so that their objects stay
# valid when those move (each isolated build has them in a new folder). bindings.cpp is never given to nvcc.
# A module is named before its kernels: ninja begins in this order, and the bindings take long.
function(minicnn_kernel_module name kernels)
  # NO_EXTRAS: pybind11 would turn on link-time optimisation, which multiplies the time of a rebuild by six.
  pybind11_add_module(${name} MODULE NO_EXTRAS
    "${PROJECT_SOURCE_DIR}/csrc/bindings.cpp" "${PROJECT_SOURCE_DIR}/csrc/check.cpp")
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/csrc")
  target_compile_features(${name} PRIVATE cxx_std_20)
  target_compile_definitions(${name} PRIVATE MINICNN_MODULE=${name})
  target_compile_options(${name} PRIVATE -O1 -Wall -Wextra)  # -O3 takes half as long again, for code that only calls
  target_link_libraries(${name} PRIVATE ${kernels})
  install(TARGETS ${name} LIBRARY DESTINATION minicnn)
endfunction()
function(minicnn_kernel_objects name)
  add_library(${name} OBJECT ${ARGN})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/csrc")
  set_target_properties(${name} PROPERTIES
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF CXX_VISIBILITY_PRESET hidden
    CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF CUDA_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)
endfunction()

file(GLOB MINICNN_KERNELS CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/csrc/ops/*.cu" "${PROJECT_SOURCE_DIR}/csrc/gemm/*.cu")
