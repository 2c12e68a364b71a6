#include "cpu/kernels/pool.h"

#include "cpu/kernels/vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

SLIMCLR_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
SLIMCLR_INLINE int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
SLIMCLR_INLINE int64_t blocks_of(const Act& a) { return (a.c + a.block - 1) / a.block; }

typedef uint8_t vb __attribute__((vector_size(SLIMCLR_VEC)));  // window indices

// Windows along one axis that hold input position i: [first, last).
struct Range {
  int64_t first, last;
};
SLIMCLR_INLINE Range windows_with(int64_t i, int64_t kernel, int64_t stride, int64_t padding, int64_t out) {
  const int64_t end = i + padding - kernel + 1;
  return {end <= 0 ? 0 : (end + stride - 1) / stride, min_of(out, (i + padding) / stride + 1)};
}

template <class T>
void max_pool_forward_as(const MaxPoolArgs& a) {
  const int64_t h = a.x.h, w = a.x.w, oh = a.y.h, ow = a.y.w, b = a.x.block, planes = a.x.n * blocks_of(a.x);
#pragma omp parallel for schedule(static)
  for (int64_t plane = 0; plane < planes; ++plane) {
    const T* x = (const T*)a.x.data + plane * h * w * b;
    T* y = (T*)a.y.data + plane * oh * ow * b;
    uint8_t* argmax = a.argmax + plane * oh * ow * b;
    for (int64_t i = 0; i < oh; ++i) {
      const int64_t top = i * a.stride - a.padding;
      const int64_t k0 = max_of(0, -top), k1 = min_of(a.kernel, h - top);
      for (int64_t j = 0; j < ow; ++j) {
        const int64_t left = j * a.stride - a.padding;
        const int64_t l0 = max_of(0, -left), l1 = min_of(a.kernel, w - left);
        const int64_t out = (i * ow + j) * b;
        int64_t lane = 0;
        for (; lane + V <= b; lane += V) {
          vf best = load(x + ((top + k0) * w + left + l0) * b + lane);
          vi at = vi{} + (int32_t)(k0 * a.kernel + l0);
          for (int64_t k = k0; k < k1; ++k) {
            for (int64_t l = l0; l < l1; ++l) {
              const vf v = load(x + ((top + k) * w + left + l) * b + lane);
              const vi take = (v > best) | (v != v);
              best = take ? v : best;
              at = take ? vi{} + (int32_t)(k * a.kernel + l) : at;
            }
          }
          store(y + out + lane, best);
          const vb index = __builtin_convertvector(at, vb);
          std::memcpy(argmax + out + lane, &index, sizeof index);
        }
        for (; lane < b; ++lane) {
          float best = load1(x + ((top + k0) * w + left + l0) * b + lane);
          int64_t at = k0 * a.kernel + l0;
          for (int64_t k = k0; k < k1; ++k) {
            for (int64_t l = l0; l < l1; ++l) {
              const float v = load1(x + ((top + k) * w + left + l) * b + lane);
              const bool take = v > best || v != v;
              best = take ? v : best;
              at = take ? k * a.kernel + l : at;
            }
          }
          store1(y + out + lane, best);
          argmax[out + lane] = (uint8_t)at;
        }
      }
    }
  }
}

// Every input position gathers from the windows that hold it: no conflicts, float32 sums.
template <class T>
void max_pool_backward_as(const MaxPoolBackwardArgs& a) {
  const int64_t h = a.dx.h, w = a.dx.w, oh = a.dy.h, ow = a.dy.w, b = a.dx.block, planes = a.dx.n * blocks_of(a.dx);
#pragma omp parallel for schedule(static)
  for (int64_t plane = 0; plane < planes; ++plane) {
    const T* dy = (const T*)a.dy.data + plane * oh * ow * b;
    const uint8_t* argmax = a.argmax + plane * oh * ow * b;
    T* dx = (T*)a.dx.data + plane * h * w * b;
    for (int64_t y = 0; y < h; ++y) {
      const Range rows = windows_with(y, a.kernel, a.stride, a.padding, oh);
      for (int64_t x = 0; x < w; ++x) {
        const Range columns = windows_with(x, a.kernel, a.stride, a.padding, ow);
        const int64_t out = (y * w + x) * b;
        int64_t lane = 0;
        for (; lane + V <= b; lane += V) {
          vf sum = {};
          for (int64_t i = rows.first; i < rows.last; ++i) {
            for (int64_t j = columns.first; j < columns.last; ++j) {
              const int64_t in = (i * ow + j) * b + lane;
              const int64_t me = (y + a.padding - i * a.stride) * a.kernel + x + a.padding - j * a.stride;
              vb index;
              std::memcpy(&index, argmax + in, sizeof index);
              sum += __builtin_convertvector(index, vi) == (int32_t)me ? load(dy + in) : vf{};
            }
          }
          store(dx + out + lane, sum);
        }
        for (; lane < b; ++lane) {
          float sum = 0;
          for (int64_t i = rows.first; i < rows.last; ++i) {
            for (int64_t j = columns.first; j < columns.last; ++j) {
              const int64_t in = (i * ow + j) * b + lane;
              const int64_t me = (y + a.padding - i * a.stride) * a.kernel + x + a.padding - j * a.stride;
              if (argmax[in] == me) sum += load1(dy + in);
            }
          }
          store1(dx + out + lane, sum);
        }
      }
    }
  }
}

template <class T>
void global_avg_pool_forward_as(const Act& x, float* y) {
  const int64_t hw = x.h * x.w, b = x.block, blocks = blocks_of(x), c = x.c;
  const float inverse = 1.0f / (float)hw;
#pragma omp parallel for schedule(static)
  for (int64_t plane = 0; plane < x.n * blocks; ++plane) {
    const T* p = (const T*)x.data + plane * hw * b;
    const int64_t c0 = plane % blocks * b, channels = min_of(b, c - c0);
    float* out = y + plane / blocks * c + c0;
    if (b == 1) {
      vf s[4] = {};
      int64_t i = 0;
      for (; i + 4 * V <= hw; i += 4 * V) {
        for (int u = 0; u < 4; ++u) s[u] += load(p + i + u * V);
      }
      for (; i + V <= hw; i += V) s[0] += load(p + i);
      float total = sum((s[0] + s[1]) + (s[2] + s[3]));
      for (; i < hw; ++i) total += load1(p + i);
      out[0] = total * inverse;
      continue;
    }
    int64_t lane = 0;
    for (; lane + V <= channels; lane += V) {
      vf s = {};
      for (int64_t i = 0; i < hw; ++i) s += load(p + i * b + lane);
      store(out + lane, s * inverse);
    }
    for (; lane < channels; ++lane) {
      float s = 0;
      for (int64_t i = 0; i < hw; ++i) s += load1(p + i * b + lane);
      out[lane] = s * inverse;
    }
  }
}

template <class T>
void global_avg_pool_backward_as(const float* dy, const Act& dx) {
  const int64_t hw = dx.h * dx.w, b = dx.block, blocks = blocks_of(dx), c = dx.c;
  const float inverse = 1.0f / (float)hw;
#pragma omp parallel for schedule(static)
  for (int64_t plane = 0; plane < dx.n * blocks; ++plane) {
    T* p = (T*)dx.data + plane * hw * b;
    const int64_t c0 = plane % blocks * b, channels = min_of(b, c - c0);
    const float* in = dy + plane / blocks * c + c0;
    if (b == 1) {
      const float g = in[0] * inverse;
      int64_t i = 0;
      for (; i + V <= hw; i += V) store(p + i, splat(g));
      for (; i < hw; ++i) store1(p + i, g);
      continue;
    }
    int64_t lane = 0;
    for (; lane + V <= channels; lane += V) {
      const vf g = load(in + lane) * inverse;
      for (int64_t i = 0; i < hw; ++i) store(p + i * b + lane, g);
    }
    for (; lane < b; ++lane) {
      const float g = lane < channels ? in[lane] * inverse : 0.0f;
      for (int64_t i = 0; i < hw; ++i) store1(p + i * b + lane, g);
    }
  }
}

void max_pool_forward(const MaxPoolArgs& a) {
  return a.x.elem == Elem::f32 ? max_pool_forward_as<float>(a) : max_pool_forward_as<uint16_t>(a);
}
void max_pool_backward(const MaxPoolBackwardArgs& a) {
  return a.dx.elem == Elem::f32 ? max_pool_backward_as<float>(a) : max_pool_backward_as<uint16_t>(a);
}
void global_avg_pool_forward(const Act& x, float* y) {
  return x.elem == Elem::f32 ? global_avg_pool_forward_as<float>(x, y) : global_avg_pool_forward_as<uint16_t>(x, y);
}
void global_avg_pool_backward(const float* dy, const Act& dx) {
  return dx.elem == Elem::f32 ? global_avg_pool_backward_as<float>(dy, dx)
                              : global_avg_pool_backward_as<uint16_t>(dy, dx);
}

}  // namespace

extern const PoolKernels pool_kernels;
const PoolKernels pool_kernels = {max_pool_forward, max_pool_backward, global_avg_pool_forward,
                                  global_avg_pool_backward};

}  // namespace slimclr::cpu::SLIMCLR_ISA
