// Starts kernels: on which stream, for which op, with how many blocks.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <tuple>
#include <utility>

#include "cuda/status.h"

namespace slimclr::cuda {

struct Launch {
  const char* op;  // named in errors
  cudaStream_t stream;
  int processors;  // multiprocessors of the device
};

// A kernel in dynamic shared memory beyond 48 KiB must say so first.
template <typename... P>
void allow_shared(const Launch& on, void (*kernel)(P...), size_t bytes) {
  check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)),
             on.op);
}

template <typename... P, typename... A>
void launch(const Launch& on, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A&&... args) {
  std::tuple<P...> values(std::forward<A>(args)...);
  std::apply(
      [&](auto&... value) {
        void* pointers[] = {&value...};
        check_cuda(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, pointers, shared, on.stream),
                   on.op);
      },
      values);
}

constexpr int kThreads = 256;

// Blocks of a kernel that strides over `items` with kThreads threads a block.
inline int64_t blocks_for(const Launch& on, int64_t items) {
  int64_t blocks = (items + kThreads - 1) / kThreads, most = static_cast<int64_t>(on.processors) * 32;
  return blocks < most ? blocks : most;
}

// For kernels whose threads stride over `items`; does nothing where there are none.
template <typename... P, typename... A>
void launch_flat(const Launch& on, int64_t items, void (*kernel)(P...), A&&... args) {
  if (items <= 0) return;
  launch(on, dim3(static_cast<unsigned>(blocks_for(on, items))), dim3(kThreads), 0, kernel, std::forward<A>(args)...);
}

}  // namespace slimclr::cuda
