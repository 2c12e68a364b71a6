# oneDNN 2.6 or newer as the target DNNL::dnnl. Looked for in ONEDNN_ROOT (variable or environment), then in
# CMAKE_PREFIX_PATH and the system's folders. Headers and library are found by name, not through dnnl-config.cmake:
# Debian's asks for OpenCL's headers as well, which nothing here needs, and Intel's Python wheel has none.
if(NOT ONEDNN_ROOT AND DEFINED ENV{ONEDNN_ROOT})
  set(ONEDNN_ROOT "$ENV{ONEDNN_ROOT}")
endif()
if(APPLE)
  list(APPEND CMAKE_PREFIX_PATH /opt/homebrew /usr/local)
endif()

# Looked for afresh each time, so that a changed ONEDNN_ROOT is seen.
unset(ONEDNN_INCLUDE_DIR CACHE)
unset(ONEDNN_LIBRARY CACHE)
find_path(ONEDNN_INCLUDE_DIR oneapi/dnnl/dnnl.hpp HINTS "${ONEDNN_ROOT}" PATH_SUFFIXES include)
find_library(ONEDNN_LIBRARY dnnl HINTS "${ONEDNN_ROOT}" PATH_SUFFIXES lib lib64 lib/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu)
if(NOT ONEDNN_INCLUDE_DIR OR NOT ONEDNN_LIBRARY)
  message(FATAL_ERROR
    "oneDNN (its headers and libdnnl) is missing. Install it:\n"
    "  Debian, Ubuntu: sudo apt-get install libdnnl-dev\n"
    "  Fedora:         sudo dnf install onednn-devel\n"
    "  macOS:          brew install onednn libomp\n"
    "  elsewhere:      your system's oneDNN package, or build https://github.com/uxlfoundation/oneDNN; then set\n"
    "                  ONEDNN_ROOT to the folder that holds its include and lib\n")
endif()

file(STRINGS "${ONEDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h" version_lines REGEX "#define DNNL_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "[^0-9;]" "" version_numbers "${version_lines}")
string(REPLACE ";" "." ONEDNN_VERSION "${version_numbers}")
if(ONEDNN_VERSION VERSION_LESS 2.6)
  message(FATAL_ERROR
    "oneDNN ${ONEDNN_VERSION} (${ONEDNN_INCLUDE_DIR}) is too old: slimclr needs 2.6 or newer. Install a newer one and set "
    "ONEDNN_ROOT to the folder that holds its include and lib\n")
endif()
message(STATUS "slimclr: oneDNN ${ONEDNN_VERSION} (${ONEDNN_LIBRARY})")

add_library(DNNL::dnnl UNKNOWN IMPORTED)
set_target_properties(DNNL::dnnl PROPERTIES
  IMPORTED_LOCATION "${ONEDNN_LIBRARY}"
  INTERFACE_INCLUDE_DIRECTORIES "${ONEDNN_INCLUDE_DIR}")
