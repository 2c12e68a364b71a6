#include "cuda/kernels/pool.h"

#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

namespace {

// A thread owns N neighbouring lanes of one pixel.
struct Pixel {
  int64_t plane, y, x, lane;
};
template <int N>
__device__ Pixel pixel_of(int64_t i, const Act& a) {
  const int64_t lanes = a.block / N, lane = i % lanes * N;
  i /= lanes;
  return {i / a.w / a.h, i / a.w % a.h, i % a.w, lane};
}
__device__ int64_t offset_of(const Act& a, int64_t plane, int64_t y, int64_t x, int64_t lane) {
  return ((plane * a.h + y) * a.w + x) * a.block + lane;
}

template <int N, typename T>
__global__ void max_pool_forward_kernel(Act x, Act y, uint8_t* argmax, PoolWindow window, int64_t items) {
  for (int64_t i = grid_index(); i < items; i += grid_stride()) {
    const Pixel at = pixel_of<N>(i, y);
    const int64_t top = at.y * window.stride - window.padding, left = at.x * window.stride - window.padding;
    float best[N] = {};
    uint8_t index[N] = {};
    bool first = true;
    for (int64_t k = top < 0 ? -top : 0; k < window.kernel && top + k < x.h; ++k)
      for (int64_t l = left < 0 ? -left : 0; l < window.kernel && left + l < x.w; ++l) {
        float v[N];
        load<N>(static_cast<const T*>(x.data) + offset_of(x, at.plane, top + k, left + l, at.lane), v);
#pragma unroll
        for (int n = 0; n < N; ++n)
          if (first || v[n] > best[n] || v[n] != v[n]) {
            best[n] = v[n];
            index[n] = static_cast<uint8_t>(k * window.kernel + l);
          }
        first = false;
      }
    const int64_t out = offset_of(y, at.plane, at.y, at.x, at.lane);
    store<N>(static_cast<T*>(y.data) + out, best);
#pragma unroll
    for (int n = 0; n < N; ++n) argmax[out + n] = index[n];
  }
}

// Every input position gathers from the windows that hold it: no conflicts.
template <int N, typename T>
__global__ void max_pool_backward_kernel(Act dy, const uint8_t* argmax, Act dx, PoolWindow window, int64_t items) {
  for (int64_t i = grid_index(); i < items; i += grid_stride()) {
    const Pixel at = pixel_of<N>(i, dx);
    const int64_t row_end = at.y + window.padding - window.kernel + 1;
    const int64_t column_end = at.x + window.padding - window.kernel + 1;
    float sum[N] = {};
    for (int64_t r = row_end <= 0 ? 0 : (row_end + window.stride - 1) / window.stride;
         r < dy.h && r * window.stride <= at.y + window.padding; ++r)
      for (int64_t c = column_end <= 0 ? 0 : (column_end + window.stride - 1) / window.stride;
           c < dy.w && c * window.stride <= at.x + window.padding; ++c) {
        const int64_t in = offset_of(dy, at.plane, r, c, at.lane);
        const int64_t me =
            (at.y + window.padding - r * window.stride) * window.kernel + at.x + window.padding - c * window.stride;
        float v[N];
        load<N>(static_cast<const T*>(dy.data) + in, v);
#pragma unroll
        for (int n = 0; n < N; ++n)
          if (argmax[in + n] == me) sum[n] += v[n];
      }
    store<N>(static_cast<T*>(dx.data) + offset_of(dx, at.plane, at.y, at.x, at.lane), sum);
  }
}

// A warp per image and channel in NCHW; in NHWC a thread per image and channel, its neighbours side by side.
template <typename T>
__global__ void global_avg_pool_forward_kernel(Act x, float* y) {
  const int64_t hw = x.h * x.w;
  const float inverse = 1.0f / static_cast<float>(hw);
  if (x.block == 1) {
    const int64_t plane = grid_index() / kWarp;
    if (plane >= x.n * x.c) return;
    const T* p = static_cast<const T*>(x.data) + plane * hw;
    float total = 0;
    for (int64_t i = threadIdx.x % kWarp; i < hw; i += kWarp) total += to_float(p[i]);
    total = warp_sum(total);
    if (threadIdx.x % kWarp == 0) y[plane] = total * inverse;
    return;
  }
  const int64_t i = grid_index();
  if (i >= x.n * x.c) return;
  const int64_t n = i / x.c, c = i % x.c;
  const T* p = static_cast<const T*>(x.data) + (n * x.blocks() + c / x.block) * hw * x.block + c % x.block;
  float total = 0;
  for (int64_t k = 0; k < hw; ++k) total += to_float(p[k * x.block]);
  y[i] = total * inverse;
}

template <typename T>
__global__ void global_avg_pool_backward_kernel(const float* dy, Act dx, int64_t size) {
  const int64_t hw = dx.h * dx.w;
  const float inverse = 1.0f / static_cast<float>(hw);
  for (int64_t i = grid_index(); i < size; i += grid_stride()) {
    const int64_t plane = i / dx.block / hw, n = plane / dx.blocks();
    const int64_t c = plane % dx.blocks() * dx.block + i % dx.block;
    static_cast<T*>(dx.data)[i] = from_float<T>(c < dx.c ? dy[n * dx.c + c] * inverse : 0.0f);
  }
}

// Calls f with the element type and a pack that divides the block.
template <typename F>
void by_pack(const Act& a, F f) {
  by_elem(a.elem, [&](auto* t) {
    if (a.block % 8 == 0)
      f(t, std::integral_constant<int, 8>{});
    else
      f(t, std::integral_constant<int, 1>{});
  });
}

}  // namespace

void max_pool_forward(const Launch& on, const Act& x, const Act& y, uint8_t* argmax, const PoolWindow& window) {
  by_pack(x, [&](auto* t, auto pack) {
    using T = std::remove_pointer_t<decltype(t)>;
    constexpr int N = decltype(pack)::value;
    launch_flat(on, y.stored() / N, max_pool_forward_kernel<N, T>, x, y, argmax, window, y.stored() / N);
  });
}

void max_pool_backward(const Launch& on, const Act& dy, const uint8_t* argmax, const Act& dx,
                       const PoolWindow& window) {
  by_pack(dx, [&](auto* t, auto pack) {
    using T = std::remove_pointer_t<decltype(t)>;
    constexpr int N = decltype(pack)::value;
    launch_flat(on, dx.stored() / N, max_pool_backward_kernel<N, T>, dy, argmax, dx, window, dx.stored() / N);
  });
}

void global_avg_pool_forward(const Launch& on, const Act& x, float* y) {
  const int64_t threads = x.n * x.c * (x.block == 1 ? kWarp : 1);
  by_elem(x.elem, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    launch(on, dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)), dim3(kThreads), 0,
           global_avg_pool_forward_kernel<T>, x, y);
  });
}

void global_avg_pool_backward(const Launch& on, const float* dy, const Act& dx) {
  by_elem(dx.elem, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    launch_flat(on, dx.stored(), global_avg_pool_backward_kernel<T>, dy, dx, dx.stored());
  });
}

}  // namespace slimclr::cuda
