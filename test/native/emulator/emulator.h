// Runs the kernels of native/cuda on the CPU, thread by thread, so that their results can be checked on a machine
// without a GPU: every thread of a block is a fiber; a barrier or a warp's shuffle is where fibers take turns. Included
// before everything else when a kernel file is compiled as C++. What this cannot show: races between warps that the
// order of the fibers hides (odd blocks run backwards, to show some), registers, alignment of vector loads is checked
// by UBSan only.
#pragma once

#define __host__
#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(...)

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulator {

struct Place {
  uint3 thread, block;
  dim3 threads, blocks;
  int lane, warp;
};
const Place& here();

void block_barrier();
// All 32 lanes must come; each leaves a word and reads another lane's.
uint64_t exchange(uint64_t word, int lane);
unsigned ballot(bool predicate);
void warp_barrier();

}  // namespace emulator

#define threadIdx (emulator::here().thread)
#define blockIdx (emulator::here().block)
#define blockDim (emulator::here().threads)
#define gridDim (emulator::here().blocks)

inline void __syncthreads() { emulator::block_barrier(); }
inline void __syncwarp() { emulator::warp_barrier(); }
inline unsigned __ballot_sync(unsigned, bool predicate) { return emulator::ballot(predicate); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  static_assert(sizeof(T) <= 8);
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  word = emulator::exchange(word, emulator::here().lane ^ mask);
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// Fibers change only at barriers.
template <typename T>
T atomicAdd(T* p, T v) {
  T old = *p;
  *p = old + v;
  return old;
}
template <typename T>
T atomicMin(T* p, T v) {
  T old = *p;
  if (v < old) *p = v;
  return old;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline uint32_t __float_as_uint(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  return bits;
}
