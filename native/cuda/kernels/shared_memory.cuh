// A kernel's dynamic shared memory.
#pragma once

#include <cuda_runtime.h>

namespace slimclr::cuda {

template <typename T>
__device__ T& shared_memory() {
  extern __shared__ __align__(128) unsigned char bytes[];
  return *reinterpret_cast<T*>(bytes);
}

}  // namespace slimclr::cuda
