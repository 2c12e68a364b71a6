#include "cuda/kernels/weights.h"

#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

namespace {

// Element i of the packed slice.
__device__ __forceinline__ float packed_element(const float* weight, const WeightSlice& s, int64_t i) {
  const int64_t in = i % s.padded_in, tap = i / s.padded_in % s.taps, out = i / s.padded_in / s.taps;
  return in < s.in && out < s.out ? weight[(out * s.full_in + in) * s.taps + tap] : 0.0f;
}

template <typename T>
__global__ void pack_weight_kernel(const float* weight, T* packed, WeightSlice s, int64_t size) {
  for (int64_t i = grid_index(); i < size; i += grid_stride()) packed[i] = from_float<T>(packed_element(weight, s, i));
}

template <typename T>
__global__ void pack_weights_kernel(ListOf<PackItem> list) {
  for (int64_t chunk = blockIdx.x; chunk < list.chunks; chunk += gridDim.x) {
    const PackItem& item = list.item_of(chunk);
    const int64_t begin = (chunk - item.begin) * kChunk;
    const int64_t end = begin + kChunk < item.size ? begin + kChunk : item.size;
    T* packed = static_cast<T*>(item.packed);
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
      packed[i] = from_float<T>(packed_element(item.weight, item.slice, i));
  }
}

template <typename T>
__global__ void add_weight_gradient_kernel(const T* packed, float* weight, WeightSlice s, int64_t size) {
  for (int64_t i = grid_index(); i < size; i += grid_stride()) {
    const int64_t tap = i % s.taps, in = i / s.taps % s.in, out = i / s.taps / s.in;
    weight[(out * s.full_in + in) * s.taps + tap] += to_float(packed[(out * s.taps + tap) * s.padded_in + in]);
  }
}

}  // namespace

void pack_weight(const Launch& on, const float* weight, Elem elem, void* packed, const WeightSlice& slice) {
  by_elem(elem, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    launch_flat(on, slice.packed(), pack_weight_kernel<T>, weight, static_cast<T*>(packed), slice, slice.packed());
  });
}

void pack_weights(const Launch& on, Elem elem, const ListOf<PackItem>& list) {
  by_elem(elem, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    launch(on, dim3(list.blocks(on.processors)), dim3(kThreads), 0, pack_weights_kernel<T>, list);
  });
}

void add_weight_gradient(const Launch& on, Elem elem, const void* packed, float* weight, const WeightSlice& slice) {
  const int64_t size = slice.out * slice.in * slice.taps;
  by_elem(elem, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    launch_flat(on, size, add_weight_gradient_kernel<T>, static_cast<const T*>(packed), weight, slice, size);
  });
}

}  // namespace slimclr::cuda
