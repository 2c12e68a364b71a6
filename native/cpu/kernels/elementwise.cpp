#include "cpu/kernels/elementwise.h"

#include <cmath>

#include "cpu/kernels/vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int64_t kChunk = 4096;        // elements of one piece of work; divisible by V
constexpr int64_t kParallel = 1 << 15;  // elements below which one thread does it all
constexpr int64_t kParts = 256;         // partial sums of a flat reduction, at most

SLIMCLR_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

// Calls body(i) for whole vectors and tail(i) for the elements that are left.
template <class Body, class Tail>
SLIMCLR_INLINE void for_vectors(int64_t size, Body body, Tail tail) {
  const int64_t chunks = (size + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) if (size > kParallel)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t end = min_of(size, (chunk + 1) * kChunk);
    int64_t i = chunk * kChunk;
    for (; i + V <= end; i += V) body(i);
    for (; i < end; ++i) tail(i);
  }
}

#define BY_ELEM(elem, call)    \
  do {                         \
    if ((elem) == Elem::f32) { \
      using T = float;         \
      call;                    \
    } else {                   \
      using T = uint16_t;      \
      call;                    \
    }                          \
  } while (0)

template <class T>
void relu_as(const T* x, T* y, int64_t size) {
  for_vectors(
      size,
      [&](int64_t i) {
        const vf v = load(x + i);
        store(y + i, v < 0.0f ? vf{} : v);
      },
      [&](int64_t i) {
        const float v = load1(x + i);
        store1(y + i, v < 0.0f ? 0.0f : v);
      });
}
void relu(Elem elem, const void* x, void* y, int64_t size) { BY_ELEM(elem, relu_as((const T*)x, (T*)y, size)); }

template <class T>
void relu_backward_as(const T* y, const T* dy, T* dx, int64_t size) {
  for_vectors(
      size, [&](int64_t i) { store(dx + i, load(y + i) <= 0.0f ? vf{} : load(dy + i)); },
      [&](int64_t i) { store1(dx + i, load1(y + i) <= 0.0f ? 0.0f : load1(dy + i)); });
}
void relu_backward(Elem elem, const void* y, const void* dy, void* dx, int64_t size) {
  BY_ELEM(elem, relu_backward_as((const T*)y, (const T*)dy, (T*)dx, size));
}

template <class T>
void add_as(const T* a, const T* b, T* y, int64_t size) {
  for_vectors(
      size, [&](int64_t i) { store(y + i, load(a + i) + load(b + i)); },
      [&](int64_t i) { store1(y + i, load1(a + i) + load1(b + i)); });
}
void add(Elem elem, const void* a, const void* b, void* y, int64_t size) {
  BY_ELEM(elem, add_as((const T*)a, (const T*)b, (T*)y, size));
}

template <class T>
void scale_as(const T* x, float factor, T* y, int64_t size) {
  for_vectors(
      size, [&](int64_t i) { store(y + i, factor * load(x + i)); },
      [&](int64_t i) { store1(y + i, factor * load1(x + i)); });
}
void scale(Elem elem, const void* x, float factor, void* y, int64_t size) {
  BY_ELEM(elem, scale_as((const T*)x, factor, (T*)y, size));
}

template <class T>
void fill_as(T* y, float value, int64_t size) {
  for_vectors(
      size, [&](int64_t i) { store(y + i, splat(value)); }, [&](int64_t i) { store1(y + i, value); });
}
void fill(Elem elem, void* y, float value, int64_t size) { BY_ELEM(elem, fill_as((T*)y, value, size)); }
void broadcast(Elem elem, void* y, const float* value, float factor, int64_t size) {
  fill(elem, y, *value * factor, size);
}

template <class X, class Y>
void accumulate_as(const X* x, Y* y, float factor, int64_t size) {
  for_vectors(
      size, [&](int64_t i) { store(y + i, load(y + i) + factor * load(x + i)); },
      [&](int64_t i) { store1(y + i, load1(y + i) + factor * load1(x + i)); });
}
void accumulate(Elem x_elem, const void* x, Elem y_elem, void* y, float factor, int64_t size) {
  if (x_elem == Elem::f32) {
    BY_ELEM(y_elem, accumulate_as((const float*)x, (T*)y, factor, size));
  } else {
    BY_ELEM(y_elem, accumulate_as((const uint16_t*)x, (T*)y, factor, size));
  }
}

template <class X, class Y>
void convert_as(const X* x, Y* y, int64_t size) {
  for_vectors(
      size, [&](int64_t i) { store(y + i, load(x + i)); }, [&](int64_t i) { store1(y + i, load1(x + i)); });
}
template <class T>
void copy_as(const T* x, T* y, int64_t size) {
  const int64_t chunks = (size + kChunk - 1) / kChunk;
#pragma omp parallel for schedule(static) if (size > kParallel)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * kChunk, count = min_of(size - first, kChunk);
    std::memmove(y + first, x + first, (size_t)count * sizeof(T));
  }
}
void convert(Elem x_elem, const void* x, Elem y_elem, void* y, int64_t size) {
  if (x_elem == y_elem) {
    BY_ELEM(x_elem, copy_as((const T*)x, (T*)y, size));
  } else if (x_elem == Elem::f32) {
    convert_as((const float*)x, (uint16_t*)y, size);
  } else {
    convert_as((const uint16_t*)x, (float*)y, size);
  }
}

template <class X>
void from_integers(const X* x, float* y, int64_t size) {
  typedef X vx __attribute__((vector_size(SLIMCLR_VEC * sizeof(X))));
  for_vectors(
      size,
      [&](int64_t i) {
        vx v;
        std::memcpy(&v, x + i, sizeof v);
        store(y + i, __builtin_convertvector(__builtin_convertvector(v, vi), vf));
      },
      [&](int64_t i) { y[i] = (float)x[i]; });
}
void from_uint8(const uint8_t* x, float* y, int64_t size) { from_integers(x, y, size); }
void from_int32(const int32_t* x, float* y, int64_t size) { from_integers(x, y, size); }

// Pixels in tiles that stay in the first-level cache, channel by channel.
template <class X, class Y>
void relayout_as(const Act& from, const Act& to) {
  constexpr int64_t kTile = 64;
  const int64_t hw = from.h * from.w, c = from.c, xb = from.block, yb = to.block;
  const int64_t x_blocks = (c + xb - 1) / xb, y_blocks = (c + yb - 1) / yb;
  // A row of work: one image and a range of channels that both layouts start a block at, where there is one.
  const int64_t unit = xb % yb == 0 ? xb : yb % xb == 0 ? yb : y_blocks * yb;
  const int64_t units = (y_blocks * yb + unit - 1) / unit, tiles = (hw + kTile - 1) / kTile;
#pragma omp parallel for schedule(static) if (from.n * c * hw > kParallel)
  for (int64_t task = 0; task < from.n * units * tiles; ++task) {
    const int64_t n = task / (units * tiles), c0 = task / tiles % units * unit, p0 = task % tiles * kTile;
    const int64_t c1 = min_of(y_blocks * yb, c0 + unit), pixels = min_of(kTile, hw - p0);
    const X* x = (const X*)from.data + n * x_blocks * xb * hw;
    Y* y = (Y*)to.data + n * y_blocks * yb * hw;
    for (int64_t k = c0; k < c1; ++k) {
      Y* out = y + (k / yb * hw + p0) * yb + k % yb;
      const X* in = x + (k / xb * hw + p0) * xb + k % xb;
      if (k < c) {
        for (int64_t p = 0; p < pixels; ++p) store1(out + p * yb, load1(in + p * xb));
      } else {
        for (int64_t p = 0; p < pixels; ++p) store1(out + p * yb, 0.0f);
      }
    }
  }
}
void relayout(const Act& x, const Act& y) {
  if (x.block == y.block) {
    return convert(x.elem, x.data, y.elem, y.data, x.n * ((x.c + x.block - 1) / x.block) * x.block * x.h * x.w);
  }
  if (x.elem == Elem::f32) {
    if (y.elem == Elem::f32) return relayout_as<float, float>(x, y);
    return relayout_as<float, uint16_t>(x, y);
  }
  if (y.elem == Elem::f32) return relayout_as<uint16_t, float>(x, y);
  return relayout_as<uint16_t, uint16_t>(x, y);
}

template <class A, class B>
SLIMCLR_INLINE float dot(const A* a, const B* b, int64_t d) {
  vf s[4] = {};
  int64_t i = 0;
  for (; i + 4 * V <= d; i += 4 * V) {
    for (int u = 0; u < 4; ++u) s[u] += load(a + i + u * V) * load(b + i + u * V);
  }
  for (; i + V <= d; i += V) s[0] += load(a + i) * load(b + i);
  float total = sum((s[0] + s[1]) + (s[2] + s[3]));
  for (; i < d; ++i) total += load1(a + i) * load1(b + i);
  return total;
}

template <class X, class Y>
void l2_normalize_as(const NormalizeArgs& a) {
#pragma omp parallel for schedule(static) if (a.n * a.d > kParallel)
  for (int64_t r = 0; r < a.n; ++r) {
    const X* x = (const X*)a.x + r * a.d;
    Y* y = (Y*)a.y + r * a.d;
    const float norm = (float)sqrt((double)dot(x, x, a.d)), inverse = 1.0f / (norm < a.eps ? a.eps : norm);
    a.norm[r] = norm;
    int64_t i = 0;
    for (; i + V <= a.d; i += V) store(y + i, load(x + i) * inverse);
    for (; i < a.d; ++i) store1(y + i, load1(x + i) * inverse);
  }
}
void l2_normalize(const NormalizeArgs& a) {
  if (a.x_elem == Elem::f32) {
    BY_ELEM(a.y_elem, (l2_normalize_as<float, T>(a)));
  } else {
    BY_ELEM(a.y_elem, (l2_normalize_as<uint16_t, T>(a)));
  }
}

template <class Y, class X>
void l2_normalize_backward_as(const NormalizeBackwardArgs& a) {
#pragma omp parallel for schedule(static) if (a.n * a.d > kParallel)
  for (int64_t r = 0; r < a.n; ++r) {
    const Y *y = (const Y*)a.y + r * a.d, *dy = (const Y*)a.dy + r * a.d;
    X* dx = (X*)a.dx + r * a.d;
    const bool clamped = a.norm[r] < a.eps;
    const float along = clamped ? 0.0f : dot(y, dy, a.d), inverse = 1.0f / (clamped ? a.eps : a.norm[r]);
    int64_t i = 0;
    for (; i + V <= a.d; i += V) store(dx + i, (load(dy + i) - load(y + i) * along) * inverse);
    for (; i < a.d; ++i) store1(dx + i, (load1(dy + i) - load1(y + i) * along) * inverse);
  }
}
void l2_normalize_backward(const NormalizeBackwardArgs& a) {
  if (a.y_elem == Elem::f32) {
    BY_ELEM(a.dx_elem, (l2_normalize_backward_as<float, T>(a)));
  } else {
    BY_ELEM(a.dx_elem, (l2_normalize_backward_as<uint16_t, T>(a)));
  }
}

template <class T>
void add_bias_as(const T* x, const float* bias, T* y, int64_t n, int64_t c) {
#pragma omp parallel for schedule(static) if (n * c > kParallel)
  for (int64_t r = 0; r < n; ++r) {
    const T* in = x + r * c;
    T* out = y + r * c;
    int64_t i = 0;
    for (; i + V <= c; i += V) store(out + i, load(in + i) + load(bias + i));
    for (; i < c; ++i) store1(out + i, load1(in + i) + bias[i]);
  }
}
void add_bias(Elem elem, const void* x, const float* bias, void* y, int64_t n, int64_t c) {
  BY_ELEM(elem, add_bias_as((const T*)x, bias, (T*)y, n, c));
}

// Columns in strips; float32 for some rows, float64 beyond.
template <class T>
void bias_gradient_as(const T* dy, float* dbias, int64_t n, int64_t c) {
  constexpr int64_t kStrip = 64, kRows = 256;
#pragma omp parallel for schedule(static) if (n * c > kParallel)
  for (int64_t c0 = 0; c0 < c; c0 += kStrip) {
    const int64_t width = min_of(kStrip, c - c0);
    double total[kStrip] = {};
    for (int64_t r0 = 0; r0 < n; r0 += kRows) {
      const int64_t r1 = min_of(n, r0 + kRows);
      float part[kStrip] = {};
      int64_t k = 0;
      for (; k + V <= width; k += V) {
        vf s = {};
        for (int64_t r = r0; r < r1; ++r) s += load(dy + r * c + c0 + k);
        store(part + k, s);
      }
      for (; k < width; ++k) {
        for (int64_t r = r0; r < r1; ++r) part[k] += load1(dy + r * c + c0 + k);
      }
      for (k = 0; k < kStrip; ++k) total[k] += part[k];
    }
    for (int64_t k = 0; k < width; ++k) dbias[c0 + k] += (float)total[k];
  }
}
void bias_gradient(Elem elem, const void* dy, float* dbias, int64_t n, int64_t c) {
  BY_ELEM(elem, bias_gradient_as((const T*)dy, dbias, n, c));
}

// Sum of value(element) over all elements: float32 inside a chunk, float64 beyond, in an order set by size alone.
template <class T, class Value>
SLIMCLR_INLINE double reduce(const T* x, int64_t size, Value value) {
  const int64_t chunks = (size + kChunk - 1) / kChunk, parts = min_of(chunks, kParts);
  double partial[kParts];
#pragma omp parallel for schedule(static) if (size > kParallel)
  for (int64_t part = 0; part < parts; ++part) {
    double total = 0;
    for (int64_t chunk = chunks * part / parts; chunk < chunks * (part + 1) / parts; ++chunk) {
      const int64_t end = min_of(size, (chunk + 1) * kChunk);
      vf s[4] = {};
      int64_t i = chunk * kChunk;
      for (; i + 4 * V <= end; i += 4 * V) {
        for (int u = 0; u < 4; ++u) s[u] += value(load(x + i + u * V));
      }
      for (; i + V <= end; i += V) s[0] += value(load(x + i));
      for (int u = 0; u < 4; ++u) {
        for (int k = 0; k < V; ++k) total += s[u][k];
      }
      for (; i < end; ++i) total += value(splat(load1(x + i)))[0];
    }
    partial[part] = total;
  }
  double total = 0;
  for (int64_t part = 0; part < parts; ++part) total += partial[part];
  return total;
}

void sum_all(Elem elem, const void* x, double factor, float* out, int64_t size) {
  BY_ELEM(elem, *out = (float)(factor * reduce((const T*)x, size, [](vf v) { return v; })));
}
void sum_squares(Elem elem, const void* x, double factor, float* out, int64_t size) {
  BY_ELEM(elem, *out = (float)(factor * reduce((const T*)x, size, [](vf v) { return v * v; })));
}
bool all_finite(Elem elem, const void* x, int64_t size) {
  // x * 0 is 0 for every finite x and NaN for all others.
  double zero = 0;
  BY_ELEM(elem, zero = reduce((const T*)x, size, [](vf v) { return v * 0.0f; }));
  return zero == 0;
}

}  // namespace

extern const ElementwiseKernels elementwise_kernels;
const ElementwiseKernels elementwise_kernels = {relu,
                                                relu_backward,
                                                add,
                                                scale,
                                                fill,
                                                broadcast,
                                                accumulate,
                                                convert,
                                                from_uint8,
                                                from_int32,
                                                relayout,
                                                l2_normalize,
                                                l2_normalize_backward,
                                                add_bias,
                                                bias_gradient,
                                                sum_all,
                                                sum_squares,
                                                all_finite};

}  // namespace slimclr::cpu::SLIMCLR_ISA
