# OpenMP as the target OpenMP::OpenMP_CXX. Apple's clang brings none: Homebrew's libomp serves.
if(APPLE AND NOT OpenMP_ROOT)
  find_path(LIBOMP_ROOT include/omp.h PATHS /opt/homebrew/opt/libomp /usr/local/opt/libomp NO_DEFAULT_PATH)
  if(LIBOMP_ROOT)
    set(OpenMP_ROOT "${LIBOMP_ROOT}")
  endif()
endif()
find_package(OpenMP QUIET COMPONENTS CXX)
if(NOT OpenMP_CXX_FOUND)
  message(FATAL_ERROR
    "${CMAKE_CXX_COMPILER} compiles no OpenMP. Install what is missing:\n"
    "  Debian, Ubuntu: sudo apt-get install g++    (with clang: libomp-dev)\n"
    "  Fedora:         sudo dnf install gcc-c++    (with clang: libomp-devel)\n"
    "  macOS:          brew install libomp\n")
endif()
