# The kernels for the CPU, from the same sources once an instruction set (csrc/native/cpu.h says why each set is a module
# of its own). What knows no vectors is compiled once, for the baseline.
include(CheckCXXSourceCompiles)
find_package(Threads REQUIRED)

get_filename_component(NATIVE_ROOT "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)
file(GLOB NATIVE CONFIGURE_DEPENDS "${NATIVE_ROOT}/ops/*.cpp" "${NATIVE_ROOT}/gemm/*.cpp" "${NATIVE_ROOT}/native/*.cpp")
set(NATIVE_COMMON "${NATIVE_ROOT}/native/cpu.cpp" "${NATIVE_ROOT}/native/threads.cpp")
set(NATIVE_MODULE "${NATIVE_ROOT}/native/module.cpp")
list(REMOVE_ITEM NATIVE ${NATIVE_COMMON} ${NATIVE_MODULE})

set(INSTRUCTION_SETS baseline)
set(FLAGS_baseline "")
set(FLAGS_avx2 -mavx2 -mfma)
set(FLAGS_avx512 ${FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
check_cxx_source_compiles("
  #ifndef __x86_64__
  #error another architecture
  #endif
  int main() {}" MINICNN_X86_64)
if(MINICNN_X86_64)
  list(APPEND INSTRUCTION_SETS avx2 avx512)
endif()

function(minicnn_native_objects name)
  add_library(${name} OBJECT ${ARGN})
  target_include_directories(${name} PRIVATE "${NATIVE_ROOT}")
  target_compile_definitions(${name} PRIVATE MINICNN_NATIVE)
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wno-missing-field-initializers -Wno-psabi)
  target_link_libraries(${name} PUBLIC Threads::Threads)
  set_target_properties(${name} PROPERTIES
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
endfunction()

# native_<set>: the objects of one set.
function(minicnn_native_kernels set)
  minicnn_native_objects(native_${set} ${NATIVE})
  # NaN and infinities are values as everywhere; that no one reads errno or traps them is what vectors need.
  target_compile_options(native_${set} PRIVATE ${FLAGS_${set}} -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math)
endfunction()
