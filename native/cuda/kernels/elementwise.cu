#include "cuda/kernels/elementwise.h"

#include "core/philox.h"
#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

namespace {

// Elements of 16 bytes.
template <typename T>
constexpr int kPack = 16 / sizeof(T);

// ---- maps: y[i] = f(a[i], b[i])

template <typename A, typename Y, typename F>
__global__ void map1_kernel(const A* a, Y* y, int64_t size, F f) {
  constexpr int N = kPack<Y>;
  for (int64_t i = grid_index() * N; i < size; i += grid_stride() * N) {
    if (i + N <= size) {
      float v[N];
      load<N>(a + i, v);
#pragma unroll
      for (int k = 0; k < N; ++k) v[k] = f(v[k]);
      store<N>(y + i, v);
    } else {
      for (int64_t k = i; k < size; ++k) y[k] = from_float<Y>(f(to_float(a[k])));
    }
  }
}

template <typename T, typename F>
__global__ void map2_kernel(const T* a, const T* b, T* y, int64_t size, F f) {
  constexpr int N = kPack<T>;
  for (int64_t i = grid_index() * N; i < size; i += grid_stride() * N) {
    if (i + N <= size) {
      float u[N], v[N];
      load<N>(a + i, u);
      load<N>(b + i, v);
#pragma unroll
      for (int k = 0; k < N; ++k) v[k] = f(u[k], v[k]);
      store<N>(y + i, v);
    } else {
      for (int64_t k = i; k < size; ++k) y[k] = from_float<T>(f(to_float(a[k]), to_float(b[k])));
    }
  }
}

template <typename A, typename Y, typename F>
void map1(const Launch& on, const void* a, void* y, int64_t size, F f) {
  launch_flat(on, (size + kPack<Y> - 1) / kPack<Y>, map1_kernel<A, Y, F>, static_cast<const A*>(a), static_cast<Y*>(y),
              size, f);
}

template <typename F>
void map1_of(const Launch& on, Elem elem, const void* a, void* y, int64_t size, F f) {
  by_elem(elem, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    map1<T, T>(on, a, y, size, f);
  });
}

template <typename F>
void map2_of(const Launch& on, Elem elem, const void* a, const void* b, void* y, int64_t size, F f) {
  by_elem(elem, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    launch_flat(on, (size + kPack<T> - 1) / kPack<T>, map2_kernel<T, F>, static_cast<const T*>(a),
                static_cast<const T*>(b), static_cast<T*>(y), size, f);
  });
}

struct Identity {
  __device__ float operator()(float v) const { return v; }
};
struct Relu {
  __device__ float operator()(float v) const { return v < 0.0f ? 0.0f : v; }
};
struct ReluBackward {
  __device__ float operator()(float y, float dy) const { return y <= 0.0f ? 0.0f : dy; }
};
struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Scale {
  float factor;
  const float* scalar;
  __device__ float operator()(float v) const { return v * (scalar ? factor * *scalar : factor); }
};

__global__ void broadcast_kernel(float* y, const float* scalar, float factor, int64_t size) {
  const float v = scalar ? *scalar * factor : factor;
  for (int64_t i = grid_index(); i < size; i += grid_stride()) y[i] = v;
}

// One thread per stored element of y, whose neighbours are neighbours in memory.
template <typename X, typename Y>
__global__ void relayout_kernel(const X* x, Act from, Y* y, Act to, int64_t size) {
  const int64_t hw = from.h * from.w;
  for (int64_t i = grid_index(); i < size; i += grid_stride()) {
    const int64_t lane = i % to.block, pixel = i / to.block % hw, plane = i / to.block / hw;
    const int64_t n = plane / to.blocks(), c = plane % to.blocks() * to.block + lane;
    float v = 0;
    if (c < from.c) v = to_float(x[((n * from.blocks() + c / from.block) * hw + pixel) * from.block + c % from.block]);
    y[i] = from_float<Y>(v);
  }
}

__global__ void randn_kernel(float* y, int64_t size, uint64_t seed, uint64_t stream, uint64_t offset, float mean,
                             float std) {
  for (int64_t block = grid_index(); block * 4 < size; block += grid_stride()) {
    const Normal4 z = philox_normal(philox(seed, stream, offset + static_cast<uint64_t>(block)));
    // Two roundings, as on the CPU.
    for (int64_t i = block * 4; i < block * 4 + 4 && i < size; ++i) y[i] = __fadd_rn(mean, __fmul_rn(std, z.v[i & 3]));
  }
}

// ---- reductions

// Block b adds the elements of its share; the shares depend on the size alone.
template <typename T>
__global__ void partial_sums_kernel(const T* x, int64_t size, double* partial) {
  const int64_t begin = size * blockIdx.x / gridDim.x, end = size * (blockIdx.x + 1) / gridDim.x;
  double total = 0;
  for (int64_t i = begin + threadIdx.x; i < end;) {
    float part = 0;
    for (int k = 0; k < 64 && i < end; ++k, i += blockDim.x) part += to_float(x[i]);
    total += static_cast<double>(part);
  }
  total = block_sum(total);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

__global__ void total_kernel(const double* partial, int parts, double factor, float* y) {
  const double total = block_sum(static_cast<int>(threadIdx.x) < parts ? partial[threadIdx.x] : 0.0);
  if (threadIdx.x == 0) *y = static_cast<float>(factor * total);
}

// ---- rows: a warp each

__global__ void l2_normalize_kernel(const float* x, float* y, float* norm, int64_t n, int64_t d, float eps) {
  const int64_t row = grid_index() / kWarp, lane = threadIdx.x % kWarp;
  if (row >= n) return;
  float squares = 0;
  for (int64_t i = lane; i < d; i += kWarp) squares += x[row * d + i] * x[row * d + i];
  const float length = static_cast<float>(sqrt(static_cast<double>(warp_sum(squares))));
  const float inverse = 1.0f / (length < eps ? eps : length);
  if (lane == 0) norm[row] = length;
  for (int64_t i = lane; i < d; i += kWarp) y[row * d + i] = x[row * d + i] * inverse;
}

__global__ void l2_normalize_backward_kernel(const float* y, const float* norm, const float* dy, float* dx, int64_t n,
                                             int64_t d, float eps) {
  const int64_t row = grid_index() / kWarp, lane = threadIdx.x % kWarp;
  if (row >= n) return;
  const bool clamped = norm[row] < eps;
  float along = 0;
  for (int64_t i = lane; i < d; i += kWarp) along += y[row * d + i] * dy[row * d + i];
  along = warp_sum(along);
  if (clamped) along = 0;
  const float inverse = 1.0f / (clamped ? eps : norm[row]);
  for (int64_t i = lane; i < d; i += kWarp) dx[row * d + i] = (dy[row * d + i] - y[row * d + i] * along) * inverse;
}

// One warp per row, whole blocks.
unsigned row_blocks(int64_t n) { return static_cast<unsigned>((n * kWarp + kThreads - 1) / kThreads); }

__global__ void add_bias_kernel(const float* bias, float* y, int64_t size, int64_t c) {
  for (int64_t i = grid_index(); i < size; i += grid_stride()) y[i] += bias[i % c];
}

// A block takes 32 columns; its 8 warps share the rows.
__global__ void column_sums_kernel(const float* dy, float* sums, int64_t n, int64_t c) {
  constexpr int kRows = kThreads / kWarp;
  __shared__ float part[kRows][kWarp];
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
  float total = 0;
  if (column < c)
    for (int64_t row = first; row < n; row += kRows) total += dy[row * c + column];
  part[first][lane] = total;
  __syncthreads();
  if (first != 0 || column >= c) return;
  for (int r = 1; r < kRows; ++r) total += part[r][lane];
  sums[column] += total;
}

}  // namespace

void relu(const Launch& on, Elem elem, const void* x, void* y, int64_t size) { map1_of(on, elem, x, y, size, Relu{}); }

void relu_backward(const Launch& on, Elem elem, const void* y, const void* dy, void* dx, int64_t size) {
  map2_of(on, elem, y, dy, dx, size, ReluBackward{});
}

void add(const Launch& on, Elem elem, const void* a, const void* b, void* y, int64_t size) {
  map2_of(on, elem, a, b, y, size, Add{});
}

void scale(const Launch& on, Elem elem, const void* x, float factor, const float* scalar, void* y, int64_t size) {
  map1_of(on, elem, x, y, size, Scale{factor, scalar});
}

void fill(const Launch& on, float* y, float value, int64_t size) { broadcast(on, y, nullptr, value, size); }

void broadcast(const Launch& on, float* y, const float* scalar, float factor, int64_t size) {
  launch_flat(on, size, broadcast_kernel, y, scalar, factor, size);
}

void convert(const Launch& on, Elem from, const void* x, Elem to, void* y, int64_t size) {
  by_elem(from, [&](auto* a) {
    by_elem(to, [&](auto* b) {
      map1<std::remove_pointer_t<decltype(a)>, std::remove_pointer_t<decltype(b)>>(on, x, y, size, Identity{});
    });
  });
}

void from_uint8(const Launch& on, const uint8_t* x, float* y, int64_t size) {
  map1<uint8_t, float>(on, x, y, size, Identity{});
}

void from_int32(const Launch& on, const int32_t* x, float* y, int64_t size) {
  map1<int32_t, float>(on, x, y, size, Identity{});
}

void relayout(const Launch& on, const Act& x, const Act& y) {
  by_elem(x.elem, [&](auto* a) {
    by_elem(y.elem, [&](auto* b) {
      using X = std::remove_pointer_t<decltype(a)>;
      using Y = std::remove_pointer_t<decltype(b)>;
      launch_flat(on, y.stored(), relayout_kernel<X, Y>, static_cast<const X*>(x.data), x, static_cast<Y*>(y.data), y,
                  y.stored());
    });
  });
}

void randn(const Launch& on, float* y, int64_t size, uint64_t seed, uint64_t stream, uint64_t offset, float mean,
           float std) {
  launch_flat(on, (size + 3) / 4, randn_kernel, y, size, seed, stream, offset, mean, std);
}

void sum(const Launch& on, Elem elem, const void* x, double factor, float* y, int64_t size, double* partial) {
  int64_t parts = (size + 4095) / 4096;
  parts = parts < 1 ? 1 : parts > kSumParts ? kSumParts : parts;
  by_elem(elem, [&](auto* t) {
    using T = std::remove_pointer_t<decltype(t)>;
    launch(on, dim3(static_cast<unsigned>(parts)), dim3(kThreads), 0, partial_sums_kernel<T>, static_cast<const T*>(x),
           size, partial);
  });
  static_assert(kSumParts <= kThreads);
  launch(on, dim3(1), dim3(kThreads), 0, total_kernel, partial, static_cast<int>(parts), factor, y);
}

void l2_normalize(const Launch& on, const float* x, float* y, float* norm, int64_t n, int64_t d, float eps) {
  if (n > 0) launch(on, dim3(row_blocks(n)), dim3(kThreads), 0, l2_normalize_kernel, x, y, norm, n, d, eps);
}

void l2_normalize_backward(const Launch& on, const float* y, const float* norm, const float* dy, float* dx, int64_t n,
                           int64_t d, float eps) {
  if (n > 0)
    launch(on, dim3(row_blocks(n)), dim3(kThreads), 0, l2_normalize_backward_kernel, y, norm, dy, dx, n, d, eps);
}

void add_bias(const Launch& on, const float* bias, float* y, int64_t n, int64_t c) {
  launch_flat(on, n * c, add_bias_kernel, bias, y, n * c, c);
}

void column_sums(const Launch& on, const float* dy, float* sums, int64_t n, int64_t c) {
  if (c > 0)
    launch(on, dim3(static_cast<unsigned>((c + kWarp - 1) / kWarp)), dim3(kThreads), 0, column_sums_kernel, dy, sums, n,
           c);
}

}  // namespace slimclr::cuda
