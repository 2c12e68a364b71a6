// Every status of CUDA becomes an exception that names the op.
#pragma once

#include <cuda_runtime_api.h>

#include "core/error.h"

namespace slimclr::cuda {

inline void check_cuda(cudaError_t status, const char* op) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears what is not sticky
  if (status == cudaErrorMemoryAllocation)
    fail(ErrorKind::range, op, "out of memory on the CUDA device; use a smaller batch, image or queue");
  fail(ErrorKind::runtime, op, "CUDA failed: ", cudaGetErrorString(status), " (", cudaGetErrorName(status),
       "). If it comes again, start the process anew");
}

}  // namespace slimclr::cuda
