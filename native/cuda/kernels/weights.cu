#include "cuda/kernels/weights.h"

#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

namespace {

template <typename T>
__global__ void pack_weight_kernel(const float* weight, T* packed, WeightSlice s, int64_t size) {
  for (int64_t i = grid_index(); i < size; i += grid_stride()) {
    const int64_t in = i % s.padded_in, tap = i / s.padded_in % s.taps, out = i / s.padded_in / s.taps;
    const bool inside = in < s.in && out < s.out;
    packed[i] = from_float<T>(inside ? weight[(out * s.full_in + in) * s.taps + tap] : 0.0f);
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

void add_weight_gradient(const Launch& on, Elem elem, const void* packed, float* weight, const WeightSlice& slice) {
  const int64_t size = slice.out * slice.in * slice.taps;
  by_elem(elem, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    launch_flat(on, size, add_weight_gradient_kernel<T>, static_cast<const T*>(packed), weight, slice, size);
  });
}

}  // namespace slimclr::cuda
