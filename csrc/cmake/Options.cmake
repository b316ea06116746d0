# Each option is read from the environment when it is set there, and remembered by the build folder.
function(minicnn_option name default help)
  if(DEFINED ENV{${name}})
    set(${name} "$ENV{${name}}" CACHE STRING "${help}" FORCE)
  else()
    set(${name} "${default}" CACHE STRING "${help}")
  endif()
endfunction()

minicnn_option(MINICNN_CUDA auto "auto, off, on, or 13 (nvcc 13 from the Python package index)")
minicnn_option(MINICNN_CUDA_ARCHITECTURES "" "empty: the GPU that answers, else the list in FindCuda.cmake")
minicnn_option(MINICNN_CXX auto "auto, or off: nothing is compiled")
minicnn_option(MINICNN_CHECKED 0 "1: the emulated kernels a second time, for the detector of races (pytest --checked)")
minicnn_option(MINICNN_PROBES 0 "1: the CUDA module gets the probes of single instructions, for the tests on a GPU")
minicnn_option(MINICNN_STRICT 0 "1: warnings are errors, and what cannot be built ends the build")

minicnn_option(MINICNN_FALLBACK 0 "1: set by the build backend when a build of more has failed before this one")
minicnn_option(MINICNN_SOURCE_DIGEST "" "set by the build backend: the state of the checkout that this is built from")
set(MINICNN_FALLBACK_REASON
  "the compilation failed when minicnn was built (MINICNN_STRICT=1 pip install -v . shows the errors)")

# Whoever asks for an editable install wants to compile: there too, what cannot be built ends the build.
set(MINICNN_MUST_COMPILE ${MINICNN_STRICT})
if(SKBUILD_STATE STREQUAL "editable")
  set(MINICNN_MUST_COMPILE 1)
endif()

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_COMPILE_WARNING_AS_ERROR ${MINICNN_STRICT})
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE}")
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${CCACHE}")
endif()
