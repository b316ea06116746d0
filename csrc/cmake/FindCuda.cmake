# Sets MINICNN_HAS_CUDA, and where it is False MINICNN_CUDA_WHY. minicnn/toolchain.py chooses the compiler and the
# architectures. There is no find_package(CUDAToolkit): with the static runtime the module needs no CUDA library, and
# imports on a machine without a driver.
set(MINICNN_HAS_CUDA False)

function(minicnn_ask_toolchain)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
      "${PROJECT_SOURCE_DIR}/minicnn/toolchain.py" "${MINICNN_CUDA}" "${MINICNN_CUDA_ARCHITECTURES}"
    OUTPUT_VARIABLE answer COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE ";" "," answer "${answer}")
  string(REPLACE "\n" ";" answer "${answer}")
  list(GET answer 0 nvcc)
  list(GET answer 1 libraries)
  list(GET answer 2 architectures)
  list(GET answer 3 options)
  list(GET answer 4 why)
  set(MINICNN_NVCC "${nvcc}" PARENT_SCOPE)
  set(MINICNN_NVCC_LIBRARIES "${libraries}" PARENT_SCOPE)
  set(MINICNN_CUDA_ARCHITECTURE_LIST "${architectures}" PARENT_SCOPE)
  set(MINICNN_CUDA_CODE "${options}" PARENT_SCOPE)
  if(MINICNN_FALLBACK AND MINICNN_CUDA STREQUAL "off")
    set(why "${MINICNN_FALLBACK_REASON}")
  endif()
  set(MINICNN_CUDA_WHY "${why}" PARENT_SCOPE)
endfunction()

if(NOT MINICNN_HAS_CXX)
  set(MINICNN_CUDA_WHY "${MINICNN_CXX_WHY}")
else()
  minicnn_ask_toolchain()
endif()

if(NOT MINICNN_CUDA_WHY)
  set(ENV{CUDACXX} "${MINICNN_NVCC}")
  string(REPLACE "," ";" CMAKE_CUDA_ARCHITECTURES "${MINICNN_CUDA_ARCHITECTURE_LIST}")
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  if(MINICNN_NVCC_LIBRARIES)  # the wheels have lib where nvcc looks for lib64
    set(CMAKE_CUDA_FLAGS_INIT "-L${MINICNN_NVCC_LIBRARIES}")
    set(ENV{CUDAFLAGS} "$ENV{CUDAFLAGS} ${CMAKE_CUDA_FLAGS_INIT}")
  endif()
  minicnn_check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(MINICNN_HAS_CUDA True)
  else()
    set(MINICNN_CUDA_WHY "${MINICNN_NVCC} does not compile on this machine (a host compiler newer than it knows?)")
  endif()
endif()

if(NOT MINICNN_HAS_CUDA AND MINICNN_CUDA MATCHES "^(on|13)$")
  message(FATAL_ERROR "minicnn: MINICNN_CUDA=${MINICNN_CUDA}, but ${MINICNN_CUDA_WHY}")
endif()
message(STATUS "minicnn: CUDA ${MINICNN_HAS_CUDA} ${MINICNN_CUDA_ARCHITECTURE_LIST} ${MINICNN_CUDA_WHY}")
