// Sums and maxima over a warp and over a block, in an order that does not change from run to run.
#pragma once

#include <cuda_runtime.h>

namespace slimclr::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <typename T>
__device__ __forceinline__ T warp_sum(T v) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) v += __shfl_xor_sync(kAllLanes, v, lanes);
  return v;
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) v = fmaxf(v, __shfl_xor_sync(kAllLanes, v, lanes));
  return v;
}

// For blocks of one dimension in whole warps; every thread must call and receives the result.
template <typename T>
__device__ T block_sum(T v) {
  __shared__ T part[32];
  v = warp_sum(v);
  __syncthreads();  // of an earlier call
  if (threadIdx.x % kWarp == 0) part[threadIdx.x / kWarp] = v;
  __syncthreads();
  T total = 0;
  for (int i = 0; i < static_cast<int>(blockDim.x / kWarp); ++i) total += part[i];
  return total;
}

inline __device__ float block_max(float v) {
  __shared__ float part[32];
  v = warp_max(v);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) part[threadIdx.x / kWarp] = v;
  __syncthreads();
  float most = part[0];
  for (int i = 1; i < static_cast<int>(blockDim.x / kWarp); ++i) most = fmaxf(most, part[i]);
  return most;
}

}  // namespace slimclr::cuda
