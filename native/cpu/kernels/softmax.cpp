#include "cpu/kernels/softmax.h"

#include <cmath>

#include "cpu/kernels/vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int64_t kParallel = 1 << 13;  // elements below which one thread does it all
constexpr int64_t kParts = 64;          // partial sums over rows

// The first `lanes` elements, the others `fill`.
template <class T>
SLIMCLR_INLINE vf load_part(const T* p, int64_t lanes, float fill) {
  float part[V];
  for (int i = 0; i < V; ++i) part[i] = i < lanes ? load1(p + i) : fill;
  return load(part);
}

// y = softmax(x); returns log sum exp. A NaN or +inf in x makes the row NaN, -inf has probability 0.
template <class T>
float softmax_row(const T* x, float* y, int64_t c) {
  const float low = -__builtin_inff();
  const int64_t whole = c / V * V, rest = c - whole;
  vf top = splat(low);
  for (int64_t i = 0; i < whole; i += V) top = max(load(x + i), top);
  if (rest) top = max(load_part(x + whole, rest, low), top);
  float peak = low;
  for (int i = 0; i < V; ++i) peak = top[i] > peak ? top[i] : peak;
  vf total = {};
  for (int64_t i = 0; i < c; i += V) {
    const vf d = (i < whole ? load(x + i) : load_part(x + i, rest, low)) - peak;
    vf e = exp(d);  // clamps its argument and drops NaNs
    e = d < -87.0f ? vf{} : e;
    e = d != d ? d : e;
    if (i < whole) {
      store(y + i, e);
    } else {
      for (int k = 0; k < V; ++k) e[k] = k < rest ? e[k] : 0.0f;  // NaN where peak is -inf
      for (int64_t k = 0; k < rest; ++k) y[i + k] = e[k];
    }
    total += e;
  }
  const float s = sum(total), inverse = 1.0f / s;
  int64_t i = 0;
  for (; i < whole; i += V) store(y + i, load(y + i) * inverse);
  for (; i < c; ++i) y[i] *= inverse;
  return peak + (float)log((double)s);
}

template <class T>
void softmax_as(const T* x, float* y, int64_t n, int64_t c) {
#pragma omp parallel for schedule(static) if (n * c > kParallel)
  for (int64_t r = 0; r < n; ++r) softmax_row(x + r * c, y + r * c, c);
}

void softmax(Elem elem, const void* x, float* y, int64_t n, int64_t c) {
  return elem == Elem::f32 ? softmax_as((const float*)x, y, n, c) : softmax_as((const uint16_t*)x, y, n, c);
}

// sum_c t_c * (lse - x_c)
template <class T>
double row_loss(const T* x, float lse, const CrossEntropyArgs& a, int64_t r) {
  const double keep = 1.0 - a.smoothing, spread = (double)a.smoothing / (double)a.c;
  double loss = 0;
  if (a.targets) {
    const float* t = a.targets + r * a.c;
    for (int64_t i = 0; i < a.c; ++i) {
      const double weight = keep * t[i] + spread;
      if (weight != 0) loss += weight * ((double)lse - load1(x + i));
    }
    return loss;
  }
  if (a.smoothing != 0) {
    for (int64_t i = 0; i < a.c; ++i) loss += spread * ((double)lse - load1(x + i));
  }
  return loss + keep * ((double)lse - load1(x + a.labels[r]));
}

template <class T>
int64_t cross_entropy_forward_as(const CrossEntropyArgs& a) {
  double partial[kParts];
  int64_t bad[kParts];
#pragma omp parallel for schedule(static) if (a.n * a.c > kParallel)
  for (int64_t part = 0; part < kParts; ++part) {
    partial[part] = 0;
    bad[part] = 0;
    for (int64_t r = a.n * part / kParts; r < a.n * (part + 1) / kParts; ++r) {
      const T* x = (const T*)a.logits + r * a.c;
      const float lse = softmax_row(x, a.probabilities + r * a.c, a.c);
      if (!a.targets && (a.labels[r] < 0 || a.labels[r] >= a.c)) {
        ++bad[part];
      } else {
        partial[part] += row_loss(x, lse, a, r);
      }
    }
  }
  double loss = 0;
  int64_t bad_labels = 0;
  for (int64_t part = 0; part < kParts; ++part) {
    loss += partial[part];
    bad_labels += bad[part];
  }
  *a.loss = (float)(loss / (double)a.n);
  return bad_labels;
}

int64_t cross_entropy_forward(const CrossEntropyArgs& a) {
  return a.elem == Elem::f32 ? cross_entropy_forward_as<float>(a) : cross_entropy_forward_as<uint16_t>(a);
}

template <class T>
void cross_entropy_backward_as(const CrossEntropyBackwardArgs& a) {
  const float upstream = *a.dloss / (float)a.n, keep = 1.0f - a.smoothing, spread = a.smoothing / (float)a.c;
#pragma omp parallel for schedule(static) if (a.n * a.c > kParallel)
  for (int64_t r = 0; r < a.n; ++r) {
    const float* p = a.probabilities + r * a.c;
    T* out = (T*)a.dlogits + r * a.c;
    int64_t i = 0;
    if (a.targets) {
      const float* t = a.targets + r * a.c;
      vf lanes = {};
      for (; i + V <= a.c; i += V) lanes += load(t + i);
      float total = sum(lanes);
      for (; i < a.c; ++i) total += t[i];
      total = keep * total + a.smoothing;
      for (i = 0; i + V <= a.c; i += V) {
        store(out + i, upstream * (load(p + i) * total - (keep * load(t + i) + spread)));
      }
      for (; i < a.c; ++i) store1(out + i, upstream * (p[i] * total - (keep * t[i] + spread)));
      continue;
    }
    const int32_t label = a.labels[r];
    if (label < 0 || label >= a.c) {
      for (; i < a.c; ++i) store1(out + i, 0.0f);
      continue;
    }
    for (; i + V <= a.c; i += V) store(out + i, upstream * (load(p + i) - spread));
    for (; i < a.c; ++i) store1(out + i, upstream * (p[i] - spread));
    store1(out + label, upstream * (p[label] - spread - keep));
  }
}

void cross_entropy_backward(const CrossEntropyBackwardArgs& a) {
  return a.elem == Elem::f32 ? cross_entropy_backward_as<float>(a) : cross_entropy_backward_as<uint16_t>(a);
}

}  // namespace

extern const SoftmaxKernels softmax_kernels;
const SoftmaxKernels softmax_kernels = {softmax, cross_entropy_forward, cross_entropy_backward};

}  // namespace slimclr::cpu::SLIMCLR_ISA
