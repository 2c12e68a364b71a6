#include "cuda/kernels/knn.h"

#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

namespace {

constexpr int kDigits = 256;

// A word that orders as the float does. −0 and 0 are equal, NaNs are least.
__device__ uint32_t order_of(float v) {
  if (v != v) return 0;
  const uint32_t bits = __float_as_uint(v + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The k-th largest word of a row, digit by digit; *equal receives how many of the words equal to it belong to the k.
__device__ uint32_t select(const float* row, int64_t m, int64_t k, int64_t* equal) {
  __shared__ int count[kDigits];
  __shared__ uint32_t chosen;
  __shared__ int64_t left;
  uint32_t prefix = 0, mask = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < kDigits; i += blockDim.x) count[i] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < m; i += blockDim.x) {
      const uint32_t word = order_of(row[i]);
      if ((word & mask) == prefix) atomicAdd(&count[word >> shift & 255], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = kDigits - 1;
      while (digit > 0 && k > count[digit]) k -= count[digit--];
      chosen = static_cast<uint32_t>(digit);
      left = k;
    }
    __syncthreads();
    prefix |= chosen << shift;
    mask |= 255u << shift;
    k = left;
    __syncthreads();
  }
  *equal = k;
  return prefix;
}

// Counts of the threads before this one, and of all, for two flags at once.
struct Ranks {
  int first, second, firsts, seconds;
};
__device__ Ranks ranks_of(bool first, bool second) {
  __shared__ int part[2][kThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const unsigned a = __ballot_sync(kAllLanes, first), b = __ballot_sync(kAllLanes, second);
  __syncthreads();
  if (lane == 0) {
    part[0][warp] = __popc(a);
    part[1][warp] = __popc(b);
  }
  __syncthreads();
  const unsigned before = (1u << lane) - 1;
  Ranks r = {__popc(a & before), __popc(b & before), 0, 0};
  for (int w = 0; w < kThreads / kWarp; ++w) {
    if (w < warp) {
      r.first += part[0][w];
      r.second += part[1][w];
    }
    r.firsts += part[0][w];
    r.seconds += part[1][w];
  }
  return r;
}

// A block per query. The neighbours are listed in the order of their indices, so that the sums are always the same.
__global__ void knn_kernel(KnnArgs a) {
  const int64_t query = blockIdx.x;
  const float* row = a.similarities + query * a.m;
  int32_t* nearest = a.nearest + query * a.k;
  int64_t equal;
  const uint32_t least = select(row, a.m, a.k, &equal);
  int64_t listed = 0, taken = 0;  // neighbours so far, and those of them that equal the least
  for (int64_t begin = 0; begin < a.m; begin += kThreads) {
    const int64_t i = begin + threadIdx.x;
    const uint32_t word = i < a.m ? order_of(row[i]) : 0;
    const bool above = i < a.m && word > least, same = i < a.m && word == least;
    const Ranks r = ranks_of(above, same);
    const int64_t room = equal - taken;
    const int64_t before = r.second < room ? r.second : room;
    if (above || (same && r.second < room)) nearest[listed + r.first + before] = static_cast<int32_t>(i);
    const int64_t added = r.seconds < room ? r.seconds : room;
    listed += r.firsts + added;
    taken += added;
  }
  float* scores = a.scores + query * a.classes;
  for (int64_t c = threadIdx.x; c < a.classes; c += kThreads) scores[c] = 0;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int64_t i = 0; i < listed; ++i) {
    const int32_t label = a.labels[nearest[i]];
    if (label >= 0 && label < a.classes) scores[label] += expf(row[nearest[i]] / a.temperature);
  }
}

}  // namespace

void knn(const Launch& on, const KnnArgs& a) {
  if (a.n > 0) launch(on, dim3(static_cast<unsigned>(a.n)), dim3(kThreads), 0, knn_kernel, a);
}

}  // namespace slimclr::cuda
