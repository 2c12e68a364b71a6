# SLIMCLR_CUDA=emulate: native/cuda with its kernels compiled as C++ and run on the CPU, thread by thread, beside the CPU
# backend at the baseline instruction set; build/Emulated/slimclr.node. Needs CUDA's headers only.
set(emulator "${CMAKE_SOURCE_DIR}/test/native/emulator")
file(GLOB emulated_kernels CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/native/cuda/kernels/*.cu")
file(GLOB cuda_sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/native/cuda/*.cpp" "${emulator}/*.cpp")
list(FILTER cuda_sources EXCLUDE REGEX "/native/cuda/(convolution_plan|gemm|library)\\.cpp$")
list(APPEND cuda_sources ${emulated_kernels})
set_source_files_properties(${emulated_kernels} PROPERTIES LANGUAGE CXX
  COMPILE_OPTIONS "-xc++;-include;${emulator}/emulator.h;-O2;-fno-strict-aliasing;-Wno-unknown-pragmas")
include_directories(BEFORE "${emulator}")
include_directories(SYSTEM ${cuda_includes})
