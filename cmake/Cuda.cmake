# The CUDA backend: SLIMCLR_HAS_CUDA and cuda_sources; slimclr_add_cuda(TARGET) compiles the kernels into a target.
# Looked for: nvcc and the headers and libraries of CUDA 12.1 or newer, cuDNN 9.8 or newer and cuBLASLt, each in CUDA_PATH and CUDNN_ROOT
# (variables or environment), beside the nvcc on PATH, in conda, in NVIDIA's Python wheels (site-packages/nvidia of this
# folder's .venv, the active environment and the python3 on PATH) and in /usr/local/cuda. cudart is linked statically;
# cuDNN and cuBLASLt are loaded at run time.
set(SLIMCLR_CUDA_ARCHITECTURES "80;86;89;90a;100;120" CACHE STRING
  "GPU architectures to compile for; those that nvcc does not know are left out")
set(SLIMCLR_HAS_CUDA OFF)
set(cuda_sources native/no_cuda/*.cpp)
if(SLIMCLR_CUDA STREQUAL "off")
  message(STATUS "slimclr: CUDA off (SLIMCLR_CUDA=off)")
  return()
endif()

# ---- where to look
set(prefixes "")
foreach(name CUDA_PATH CUDNN_ROOT CUDA_HOME)
  foreach(value "${${name}}" "$ENV{${name}}")
    if(value)
      list(APPEND prefixes "${value}")
    endif()
  endforeach()
endforeach()
if(DEFINED ENV{CONDA_PREFIX})
  list(APPEND prefixes "$ENV{CONDA_PREFIX}/targets/${CMAKE_SYSTEM_PROCESSOR}-linux" "$ENV{CONDA_PREFIX}")
endif()
find_program(SLIMCLR_PYTHON NAMES python3)
mark_as_advanced(SLIMCLR_PYTHON)
set(python_folders "")
if(SLIMCLR_PYTHON)
  execute_process(
    COMMAND "${SLIMCLR_PYTHON}" -c
      "import site, sysconfig; print(';'.join([sysconfig.get_paths()['platlib'], site.getusersitepackages()]))"
    OUTPUT_VARIABLE python_folders OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
foreach(environment "${CMAKE_SOURCE_DIR}/.venv" "$ENV{VIRTUAL_ENV}")
  if(environment)
    file(GLOB folders "${environment}/lib/python3*/site-packages")
    list(PREPEND python_folders ${folders})
  endif()
endforeach()
foreach(folder ${python_folders})
  file(GLOB wheels "${folder}/nvidia/cu1*" "${folder}/nvidia/cuda_*" "${folder}/nvidia/cudnn" "${folder}/nvidia/cublas")
  list(APPEND prefixes ${wheels})
endforeach()
find_program(SLIMCLR_NVCC_ON_PATH nvcc)
mark_as_advanced(SLIMCLR_NVCC_ON_PATH)
if(SLIMCLR_NVCC_ON_PATH)
  get_filename_component(folder "${SLIMCLR_NVCC_ON_PATH}" REALPATH)
  get_filename_component(folder "${folder}" DIRECTORY)
  get_filename_component(folder "${folder}" DIRECTORY)
  list(APPEND prefixes "${folder}")
endif()
list(APPEND prefixes /usr/local/cuda "/usr/local/cuda/targets/${CMAKE_SYSTEM_PROCESSOR}-linux" /usr)

# Looked for afresh each time, so that changed folders are seen. The first that is missing is told.
set(cuda_missing "")
macro(find_cuda kind variable what)
  unset(${variable} CACHE)
  if(${kind} STREQUAL "file")
    find_path(${variable} ${ARGN} PATHS ${prefixes} PATH_SUFFIXES include include/cccl NO_DEFAULT_PATH)
  elseif(${kind} STREQUAL "program")
    find_program(${variable} ${ARGN} PATHS ${prefixes} PATH_SUFFIXES bin NO_DEFAULT_PATH)
  else()
    find_library(${variable} NAMES ${ARGN} PATHS ${prefixes}
      PATH_SUFFIXES lib64 lib lib/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu NO_DEFAULT_PATH)
  endif()
  mark_as_advanced(${variable})
  if(NOT ${variable} AND NOT cuda_missing)
    set(cuda_missing "${what} is missing")
  endif()
endmacro()
find_cuda(program CUDA_NVCC "nvcc" nvcc)
find_cuda(file CUDA_INCLUDE "CUDA's header cuda_runtime_api.h" cuda_runtime_api.h)
find_cuda(file CUDA_CRT_INCLUDE "CUDA's header crt/host_defines.h" crt/host_defines.h)
find_cuda(file CUDA_CCCL_INCLUDE "CUDA's header nv/target" nv/target) # in include/cccl since CUDA 13
find_cuda(library CUDA_CUDART "CUDA's libcudart_static.a" cudart_static)
find_cuda(file CUBLAS_INCLUDE "cuBLASLt's header" cublasLt.h)
find_cuda(file CUDNN_INCLUDE "cuDNN's header" cudnn.h)

if(NOT cuda_missing)
  execute_process(COMMAND "${CUDA_NVCC}" --version OUTPUT_VARIABLE nvcc_says)
  string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" found "${nvcc_says}")
  set(cuda_version "${CMAKE_MATCH_1}")
  file(STRINGS "${CUDNN_INCLUDE}/cudnn_version.h" lines REGEX "#define CUDNN_(MAJOR|MINOR) ")
  string(REGEX REPLACE "[^0-9;]" "" numbers "${lines}")
  string(REPLACE ";" "." cudnn_version "${numbers}")
  if(cuda_version VERSION_LESS 12.1)
    set(cuda_missing "nvcc ${cuda_version} (${CUDA_NVCC}) is too old: 12.1 or newer is needed")
  elseif(cudnn_version VERSION_LESS 9.8) # the first to describe a device that is not there
    set(cuda_missing "cuDNN ${cudnn_version} (${CUDNN_INCLUDE}) is too old: 9.8 or newer is needed")
  endif()
endif()
if(cuda_missing AND NOT SLIMCLR_CUDA STREQUAL "auto")
  message(FATAL_ERROR
    "SLIMCLR_CUDA=${SLIMCLR_CUDA}, but ${cuda_missing}. Install CUDA 12.1 or newer and cuDNN 9.8 or newer from\n"
    "  https://developer.nvidia.com/cuda-downloads and https://developer.nvidia.com/cudnn-downloads\n"
    "or NVIDIA's Python wheels into this folder's .venv:\n"
    "  scripts/install-cuda-wheels\n"
    "or name their folders in CUDA_PATH and CUDNN_ROOT; SLIMCLR_CUDA=off builds without.\n")
elseif(cuda_missing)
  message(STATUS "slimclr: CUDA off (${cuda_missing})")
  return()
endif()

set(cuda_includes "${CUDA_INCLUDE}" "${CUDA_CRT_INCLUDE}" "${CUDA_CCCL_INCLUDE}" "${CUBLAS_INCLUDE}" "${CUDNN_INCLUDE}")
list(REMOVE_DUPLICATES cuda_includes)

if(SLIMCLR_CUDA STREQUAL "emulate")
  message(STATUS "slimclr: CUDA emulated on the CPU, for tests")
  include("${CMAKE_SOURCE_DIR}/test/native/emulator/Emulator.cmake")
  return()
endif()

# ---- architectures that this nvcc knows, and PTX of the newest for GPUs to come
execute_process(COMMAND "${CUDA_NVCC}" --list-gpu-code OUTPUT_VARIABLE known)
set(architecture_flags "")
set(architectures "")
foreach(architecture ${SLIMCLR_CUDA_ARCHITECTURES})
  string(REGEX REPLACE "[a-z]$" "" base "${architecture}") # nvcc lists 90, not 90a
  if(known MATCHES "sm_${base}[\r\n]")
    list(APPEND architectures "${architecture}")
    list(APPEND architecture_flags "-gencode=arch=compute_${architecture},code=sm_${architecture}")
    if(NOT architecture MATCHES "[a-z]")
      set(newest "${architecture}")
    endif()
  endif()
endforeach()
if(newest)
  list(APPEND architecture_flags "-gencode=arch=compute_${newest},code=compute_${newest}")
endif()
if(NOT architectures)
  message(FATAL_ERROR "nvcc ${cuda_version} knows none of the architectures ${SLIMCLR_CUDA_ARCHITECTURES}")
endif()
list(JOIN architectures ", " names)
message(STATUS "slimclr: CUDA ${cuda_version} (${CUDA_NVCC}), cuDNN ${cudnn_version}, for sm ${names}")
set(SLIMCLR_HAS_CUDA ON)
set(cuda_sources native/cuda/*.cpp)

# The folder of a library that is loaded at run time, beside the headers that it was compiled with; empty where it is not
# there.
function(find_run_time_folder variable include pattern)
  get_filename_component(prefix "${include}" DIRECTORY)
  file(GLOB libraries "${prefix}/lib64/${pattern}" "${prefix}/lib/${pattern}"
    "${prefix}/lib/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu/${pattern}")
  set(folder "")
  if(libraries)
    list(GET libraries 0 library)
    get_filename_component(folder "${library}" DIRECTORY)
  endif()
  set(${variable} "${folder}" PARENT_SCOPE)
endfunction()
find_run_time_folder(cudnn_folder "${CUDNN_INCLUDE}" "libcudnn.so.9")
find_run_time_folder(cublas_folder "${CUBLAS_INCLUDE}" "libcublasLt.so.*")

# What the C++ sources of native/cuda are compiled with.
function(slimclr_use_cuda target)
  target_include_directories(${target} SYSTEM PRIVATE ${cuda_includes})
  target_compile_definitions(${target} PRIVATE
    SLIMCLR_CUDNN_FOLDER="${cudnn_folder}" SLIMCLR_CUBLAS_FOLDER="${cublas_folder}")
  target_link_libraries(${target} PRIVATE ${CMAKE_DL_LIBS})
endfunction()

# Compiles the kernels with nvcc, called directly: CMake's own CUDA language wants a toolkit laid out in one folder.
function(slimclr_add_cuda target)
  find_package(Threads REQUIRED)
  set(host_flags "-fPIC,-fvisibility=hidden")
  set(warnings "")
  if(SLIMCLR_WERROR)
    set(warnings "-Werror=all-warnings")
    string(APPEND host_flags ",-Wall,-Wextra,-Werror")
  endif()
  set(system_includes "")
  foreach(folder ${cuda_includes})
    list(APPEND system_includes -isystem "${folder}")
  endforeach()
  file(GLOB kernels CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/native/cuda/kernels/*.cu")
  foreach(kernel ${kernels})
    get_filename_component(name "${kernel}" NAME_WE)
    set(object "${CMAKE_BINARY_DIR}/cuda/${name}.o")
    # The bytes of augmentations are the CPU's: no product is fused with a sum.
    set(own_flags "")
    if(name STREQUAL "augment")
      set(own_flags -fmad=false)
    endif()
    add_custom_command(OUTPUT "${object}"
      COMMAND ${CMAKE_COMMAND} -E make_directory "${CMAKE_BINARY_DIR}/cuda"
      COMMAND "${CUDA_NVCC}" -c "${kernel}" -o "${object}" -std=c++20 -O3 -lineinfo ${own_flags} ${warnings}
        ${architecture_flags} -ccbin "${CMAKE_CXX_COMPILER}" "-Xcompiler=${host_flags}"
        -I "${CMAKE_SOURCE_DIR}/native" ${system_includes} -MD -MF "${object}.d"
      DEPENDS "${kernel}" DEPFILE "${object}.d" VERBATIM
      COMMENT "nvcc ${name}.cu")
    target_sources(${target} PRIVATE "${object}")
    set_source_files_properties("${object}" PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  endforeach()
  slimclr_use_cuda(${target})
  target_link_libraries(${target} PRIVATE "${CUDA_CUDART}" Threads::Threads rt)
endfunction()
