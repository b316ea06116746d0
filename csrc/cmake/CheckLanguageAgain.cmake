include(CheckLanguage)

# Tries the compiler in a project of its own, so that a broken one does not end this one: afterwards
# CMAKE_<lang>_COMPILER says whether enable_language() will do. A compiler that was missing last time is looked for again.
macro(minicnn_check_language lang)
  if(NOT CMAKE_${lang}_COMPILER)
    unset(CMAKE_${lang}_COMPILER)
    unset(CMAKE_${lang}_COMPILER CACHE)
  endif()
  check_language(${lang})
endmacro()
