// Bound by memory bandwidth: one pass for the statistics and one for the result, each thread reading packs of channels
// of the rows it strides over.
#include "cuda/kernels/batch_norm.h"

#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

BatchNormGrid batch_norm_grid(int64_t rows, int64_t pitch, int processors) {
  BatchNormGrid g;
  g.pack = pitch % 8 == 0 ? 8 : 1;
  const int64_t packs = (pitch + g.pack - 1) / g.pack;
  g.across = 1;
  while (g.across < 32 && g.across < packs) g.across *= 2;
  g.down = kThreads / g.across;
  g.columns = (packs + g.across - 1) / g.across;
  // Enough blocks to fill the device, but at least 8 rows a thread.
  const int64_t wanted = (static_cast<int64_t>(processors) * 8 + g.columns - 1) / g.columns;
  const int64_t most = (rows + g.down * 8 - 1) / (g.down * 8);
  g.splits = wanted < most ? wanted : most;
  if (g.splits < 1) g.splits = 1;
  return g;
}

namespace {

// The thread's first channel, and the rows it strides over.
template <int N>
struct Place {
  int64_t channel, first, step;
  __device__ Place() {
    channel = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    first = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
    step = static_cast<int64_t>(gridDim.y) * blockDim.y;
  }
};

// Adds a and b over the threads of one column of the block, in order, and writes the two sums as doubles.
template <int N>
__device__ void write_partials(const float* a, const float* b, int64_t channel, int64_t pitch, double* partial) {
  __shared__ float part[kThreads * N * 2];
  float* mine = part + (threadIdx.y * blockDim.x + threadIdx.x) * N * 2;
#pragma unroll
  for (int k = 0; k < N; ++k) {
    mine[k] = a[k];
    mine[N + k] = b[k];
  }
  __syncthreads();
  if (threadIdx.y != 0 || channel >= pitch) return;
  for (int k = 0; k < N; ++k) {
    double first = 0, second = 0;
    for (unsigned y = 0; y < blockDim.y; ++y) {
      const float* theirs = part + (y * blockDim.x + threadIdx.x) * N * 2;
      first += static_cast<double>(theirs[k]);
      second += static_cast<double>(theirs[N + k]);
    }
    double* out = partial + blockIdx.y * pitch * 2;
    out[channel + k] = first;
    out[pitch + channel + k] = second;
  }
}

// Sums of x − k and (x − k)², where k is the channel's first element: a sample of the data, so that the square of its
// distance to the mean is of the order of the variance.
template <int N, typename T>
__global__ void statistics_kernel(const T* x, int64_t rows, int64_t pitch, double* partial) {
  const Place<N> at;
  float shift[N] = {}, sums[N] = {}, squares[N] = {};
  if (at.channel < pitch) {
    load<N>(x + at.channel, shift);
    for (int64_t row = at.first; row < rows; row += at.step) {
      float v[N];
      load<N>(x + row * pitch + at.channel, v);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const float d = v[k] - shift[k];
        sums[k] += d;
        squares[k] += d * d;
      }
    }
  }
  write_partials<N>(sums, squares, at.channel, pitch, partial);
}

// The two sums of a channel over all splits, by one warp.
__device__ double2 total_of(const double* partial, int64_t splits, int64_t pitch, int64_t channel) {
  double2 total = {0, 0};
  for (int64_t s = threadIdx.x % kWarp; s < splits; s += kWarp) {
    total.x += partial[s * pitch * 2 + channel];
    total.y += partial[s * pitch * 2 + pitch + channel];
  }
  total.x = warp_sum(total.x);
  total.y = warp_sum(total.y);
  return total;
}

template <typename T>
__global__ void finish_statistics_kernel(BatchNormArgs a, int64_t splits) {
  const int64_t channel = grid_index() / kWarp, pitch = a.x.pitch();
  if (channel >= a.x.c) return;
  const double2 total = total_of(a.partial, splits, pitch, channel);
  if (threadIdx.x % kWarp != 0) return;
  const double count = static_cast<double>(a.x.rows());
  const double shift = static_cast<double>(to_float(static_cast<const T*>(a.x.data)[channel]));
  const double mean = shift + total.x / count;
  double squares = total.y - total.x * total.x / count;
  if (squares < 0) squares = 0;  // rounding; a NaN stays
  const double var = squares / count, unbiased = squares / (count > 1 ? count - 1 : 1);
  a.mean[channel] = static_cast<float>(mean);
  a.rstd[channel] = static_cast<float>(1.0 / sqrt(var + static_cast<double>(a.eps)));
  if (a.running_mean) a.running_mean[channel] += a.momentum * (static_cast<float>(mean) - a.running_mean[channel]);
  if (a.running_var) a.running_var[channel] += a.momentum * (static_cast<float>(unbiased) - a.running_var[channel]);
}

__global__ void running_statistics_kernel(BatchNormArgs a) {
  const int64_t channel = grid_index();
  if (channel >= a.x.c) return;
  a.mean[channel] = a.running_mean[channel];
  a.rstd[channel] =
      static_cast<float>(1.0 / sqrt(static_cast<double>(a.running_var[channel]) + static_cast<double>(a.eps)));
}

// mean, weight · rstd and bias of the thread's channels; zero beyond C, so that results stay zero there.
template <int N>
struct Coefficients {
  float mean[N], scale[N], shift[N];
  __device__ Coefficients(int64_t channel, int64_t c, const float* weight, const float* bias, const float* means,
                          const float* rstd) {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const bool real = channel + k < c;
      mean[k] = real ? means[channel + k] : 0.0f;
      scale[k] = !real ? 0.0f : weight ? weight[channel + k] * rstd[channel + k] : rstd[channel + k];
      shift[k] = real && bias ? bias[channel + k] : 0.0f;
    }
  }
};

template <int N, typename T>
__global__ void normalize_kernel(BatchNormArgs a) {
  const int64_t rows = a.x.rows(), pitch = a.x.pitch();
  const Place<N> at;
  if (at.channel >= pitch) return;
  const Coefficients<N> of(at.channel, a.x.c, a.weight, a.bias, a.mean, a.rstd);
  const T* x = static_cast<const T*>(a.x.data);
  const T* residual = static_cast<const T*>(a.residual);
  for (int64_t row = at.first; row < rows; row += at.step) {
    const int64_t i = row * pitch + at.channel;
    float v[N], r[N] = {};
    load<N>(x + i, v);
    if (residual) load<N>(residual + i, r);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      v[k] = (v[k] - of.mean[k]) * of.scale[k] + of.shift[k];
      if (!a.residual_last) v[k] += r[k];
      if (a.relu) v[k] = v[k] < 0.0f ? 0.0f : v[k];
      if (a.residual_last) v[k] += r[k];
    }
    store<N>(static_cast<T*>(a.y) + i, v);
  }
}

// dz, the gradient that comes in after the ReLU's mask; d = x − mean. The mask of x repeats the forward pass's
// arithmetic.
template <int N, typename T>
__device__ void mask(const BatchNormBackwardArgs& a, const Coefficients<N>& of, int64_t i, const float* d, float* dz) {
  if (!a.relu) return;
  float y[N];
#pragma unroll
  for (int k = 0; k < N; ++k) y[k] = d[k] * of.scale[k] + of.shift[k];
  if (a.mask_from_y) load<N>(static_cast<const T*>(a.y) + i, y);
#pragma unroll
  for (int k = 0; k < N; ++k)
    if (y[k] <= 0.0f) dz[k] = 0.0f;
}

// Sums of dz and of dz · (x − mean); writes the gradient of the residual.
template <int N, typename T>
__global__ void reduce_kernel(BatchNormBackwardArgs a) {
  const int64_t rows = a.x.rows(), pitch = a.x.pitch();
  const Place<N> at;
  float sums[N] = {}, products[N] = {};
  if (at.channel < pitch) {
    const Coefficients<N> of(at.channel, a.x.c, a.weight, a.bias, a.mean, a.rstd);
    for (int64_t row = at.first; row < rows; row += at.step) {
      const int64_t i = row * pitch + at.channel;
      float d[N], dz[N], more[N] = {};
      load<N>(static_cast<const T*>(a.x.data) + i, d);
      load<N>(static_cast<const T*>(a.dy) + i, dz);
      if (a.dy2) load<N>(static_cast<const T*>(a.dy2) + i, more);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        d[k] -= of.mean[k];
        dz[k] += more[k];
      }
      if (!a.residual_last) mask<N, T>(a, of, i, d, dz);
      if (a.dresidual) {
        // Sum what the second pass reads, rounded.
        Pack<T, N> pack;
#pragma unroll
        for (int k = 0; k < N; ++k) {
          pack.v[k] = from_float<T>(dz[k]);
          dz[k] = to_float(pack.v[k]);
        }
        *reinterpret_cast<Pack<T, N>*>(static_cast<T*>(a.dresidual) + i) = pack;
      }
      if (a.residual_last) mask<N, T>(a, of, i, d, dz);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        sums[k] += dz[k];
        products[k] += dz[k] * d[k];
      }
    }
  }
  write_partials<N>(sums, products, at.channel, pitch, a.partial);
}

// dx = weight · rstd · (dz − Σdz / count − (x − mean) · rstd² · Σdz·(x − mean) / count)
__global__ void finish_backward_kernel(BatchNormBackwardArgs a, int64_t splits) {
  const int64_t channel = grid_index() / kWarp, pitch = a.x.pitch();
  if (channel >= pitch) return;
  const bool first = threadIdx.x % kWarp == 0;
  if (channel >= a.x.c) {
    if (first) a.offset[channel] = a.slope[channel] = 0;
    return;
  }
  const double2 total = total_of(a.partial, splits, pitch, channel);
  if (!first) return;
  const double count = static_cast<double>(a.x.rows()), rstd = static_cast<double>(a.rstd[channel]);
  const double scale = a.weight ? static_cast<double>(a.weight[channel]) * rstd : rstd;
  if (a.dbias) a.dbias[channel] += static_cast<float>(total.x);
  if (a.dweight) a.dweight[channel] += static_cast<float>(total.y * rstd);
  a.offset[channel] = a.training ? static_cast<float>(-scale * total.x / count) : 0.0f;
  a.slope[channel] = a.training ? static_cast<float>(-scale * rstd * rstd * total.y / count) : 0.0f;
}

// The first pass has left the sum of the gradients in dresidual, where that was wanted.
template <int N, typename T>
__global__ void gradient_kernel(BatchNormBackwardArgs a) {
  const int64_t rows = a.x.rows(), pitch = a.x.pitch();
  const Place<N> at;
  if (at.channel >= pitch) return;
  const Coefficients<N> of(at.channel, a.x.c, a.weight, a.bias, a.mean, a.rstd);
  float offset[N], slope[N];
#pragma unroll
  for (int k = 0; k < N; ++k) {
    offset[k] = a.offset[at.channel + k];
    slope[k] = a.slope[at.channel + k];
  }
  for (int64_t row = at.first; row < rows; row += at.step) {
    const int64_t i = row * pitch + at.channel;
    float d[N], dz[N], more[N] = {};
    load<N>(static_cast<const T*>(a.x.data) + i, d);
    load<N>(static_cast<const T*>(a.dresidual ? a.dresidual : a.dy) + i, dz);
    if (a.dy2 && !a.dresidual) load<N>(static_cast<const T*>(a.dy2) + i, more);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      d[k] -= of.mean[k];
      dz[k] += more[k];
    }
    if (!a.dresidual || a.residual_last) mask<N, T>(a, of, i, d, dz);
#pragma unroll
    for (int k = 0; k < N; ++k) dz[k] = dz[k] * of.scale[k] + (d[k] * slope[k] + offset[k]);
    store<N>(static_cast<T*>(a.dx) + i, dz);
  }
}

// Calls f with the element type and a pack of its size.
template <typename F>
void by_pack(Elem elem, int pack, F f) {
  by_elem(elem, [&](auto* t) {
    if (pack == 8)
      f(t, std::integral_constant<int, 8>{});
    else
      f(t, std::integral_constant<int, 1>{});
  });
}

dim3 blocks_of(const BatchNormGrid& g) {
  return dim3(static_cast<unsigned>(g.columns), static_cast<unsigned>(g.splits));
}
dim3 threads_of(const BatchNormGrid& g) { return dim3(static_cast<unsigned>(g.across), static_cast<unsigned>(g.down)); }
unsigned warps(int64_t channels) { return static_cast<unsigned>((channels * kWarp + kThreads - 1) / kThreads); }

}  // namespace

void batch_norm_forward(const Launch& on, const BatchNormArgs& a) {
  const int64_t rows = a.x.rows(), pitch = a.x.pitch();
  const BatchNormGrid g = batch_norm_grid(rows, pitch, on.processors);
  by_pack(a.x.elem, g.pack, [&](auto* t, auto pack) {
    using T = std::remove_pointer_t<decltype(t)>;
    constexpr int N = decltype(pack)::value;
    if (a.training) {
      launch(on, blocks_of(g), threads_of(g), 0, statistics_kernel<N, T>, static_cast<const T*>(a.x.data), rows, pitch,
             a.partial);
      launch(on, dim3(warps(a.x.c)), dim3(kThreads), 0, finish_statistics_kernel<T>, a, g.splits);
    } else {
      launch(on, dim3(static_cast<unsigned>((a.x.c + kThreads - 1) / kThreads)), dim3(kThreads), 0,
             running_statistics_kernel, a);
    }
    launch(on, blocks_of(g), threads_of(g), 0, normalize_kernel<N, T>, a);
  });
}

void batch_norm_backward(const Launch& on, const BatchNormBackwardArgs& a) {
  const BatchNormGrid g = batch_norm_grid(a.x.rows(), a.x.pitch(), on.processors);
  by_pack(a.x.elem, g.pack, [&](auto* t, auto pack) {
    using T = std::remove_pointer_t<decltype(t)>;
    constexpr int N = decltype(pack)::value;
    launch(on, blocks_of(g), threads_of(g), 0, reduce_kernel<N, T>, a);
    launch(on, dim3(warps(a.x.pitch())), dim3(kThreads), 0, finish_backward_kernel, a, g.splits);
    launch(on, blocks_of(g), threads_of(g), 0, gradient_kernel<N, T>, a);
  });
}

}  // namespace slimclr::cuda
