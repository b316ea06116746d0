# Sets MINICNN_HAS_CXX, and where it is False MINICNN_CXX_WHY. The language is enabled only once its compiler has
# proved to work: a machine without one still gets the NumPy path.
include(CheckLanguageAgain)
find_package(Python REQUIRED COMPONENTS Interpreter)

# Asked before find_package() looks for headers: it fails where their folder is there without them, as Debian's NumPy
# leaves it.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c "import sysconfig; print(sysconfig.get_path('include'), end='')"
  OUTPUT_VARIABLE python_include COMMAND_ERROR_IS_FATAL ANY)
if(EXISTS "${python_include}/Python.h")
  find_package(Python COMPONENTS Interpreter Development.Module)
endif()

set(MINICNN_CXX_WHY "")
if(MINICNN_CXX STREQUAL "off" AND MINICNN_FALLBACK)
  set(MINICNN_CXX_WHY "${MINICNN_FALLBACK_REASON}")
elseif(MINICNN_CXX STREQUAL "off")
  set(MINICNN_CXX_WHY "minicnn was built with MINICNN_CXX=off")
else()
  minicnn_check_language(CXX)
  if(NOT CMAKE_CXX_COMPILER)
    set(MINICNN_CXX_WHY "no C++ compiler was found (Debian and Ubuntu: apt install g++ python3-dev)")
  elseif(NOT Python_Development.Module_FOUND)
    set(MINICNN_CXX_WHY "Python.h was not found (Debian and Ubuntu: apt install python3-dev)")
  else()
    enable_language(CXX)
    include(CheckCXXSourceCompiles)
    set(CMAKE_CXX_STANDARD 20)
    check_cxx_source_compiles("
      #include <concepts>
      #include <source_location>
      template <std::integral T> T line(T, std::source_location where = std::source_location::current()) {
        return static_cast<T>(where.line());
      }
      int main() { return line(0) < 0; }" MINICNN_CXX20_WORKS)
    if(NOT MINICNN_CXX20_WORKS)
      set(MINICNN_CXX_WHY
        "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} is too old for C++20 (g++ 11 or clang 16 will do)")
    endif()
  endif()
endif()

if(MINICNN_CXX_WHY)
  set(MINICNN_HAS_CXX False)
  if(MINICNN_MUST_COMPILE AND NOT MINICNN_CXX STREQUAL "off")
    message(FATAL_ERROR "minicnn: nothing can be compiled: ${MINICNN_CXX_WHY}")
  endif()
else()
  set(MINICNN_HAS_CXX True)
endif()
message(STATUS "minicnn: C++ ${MINICNN_HAS_CXX} ${MINICNN_CXX_WHY}")
