// The work is bound by memory bandwidth: two passes over the inputs (statistics, then the result), the second one in an
// order that finds in the cache what the first one left there.
#include "cpu/kernels/batch_norm.h"

#include <omp.h>

#include <cmath>
#include <cstdlib>

#include "cpu/kernels/vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int64_t kStrip = 4 * V;       // lanes handled at once: enough independent sums to hide latency
constexpr int64_t kRunElements = 1024;  // elements per channel and partial sum, at least
constexpr int64_t kTasks = 16;          // partial sums in all, where the batch allows
constexpr int64_t kSmall = 1 << 14;     // elements below which a second thread does not pay

SLIMCLR_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
SLIMCLR_INLINE int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
SLIMCLR_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
SLIMCLR_INLINE int64_t gcd(int64_t a, int64_t b) {
  while (b) {
    int64_t t = a % b;
    a = b;
    b = t;
  }
  return a;
}

// One view of every layout. Channels come in groups; an image holds one contiguous segment per group. A channel has
// `inner` lanes in arrays of `width` lanes: lane l belongs to channel (l / inner) % channels of the group.
// Whole planes (block = 1, planes of whole vectors): inner = V lanes per channel, which its plane runs through.
// Otherwise the segment is read as rows of `width` lanes whose channels repeat from row to row.
// A run is a number of images whose sums are kept in float32; runs are combined in float64, in their order.
struct Plan {
  int64_t c, n, hw;
  int64_t groups, channels, inner, width;
  int64_t segment, last_segment;  // elements of a group's segment; the last group may have fewer channels (block = 1)
  int64_t image_stride, channel_step;
  int64_t runs, images_per_run;
  int64_t elements;
  bool planes;

  int64_t segment_of(int64_t g) const { return g == groups - 1 ? last_segment : segment; }
  int64_t images_of(int64_t r) const { return min_of(images_per_run, n - r * images_per_run); }
  int64_t padded() const { return groups * channels; }
};

Plan make_plan(const Act& x) {
  Plan p{};
  p.c = x.c;
  p.n = x.n;
  p.hw = x.h * x.w;
  int64_t block = x.block, stored = ceil_div(x.c, block) * block;
  p.image_stride = stored * p.hw;
  if (p.hw == 1) block = 1;  // [N, C] whatever the block
  if (block == 1) {
    p.planes = p.hw % V == 0 || p.hw >= 16 * V;
    // Several channels to a segment, so that it is long: 4 KiB to 16 KiB of float32 ran fastest.
    const int64_t plane_channels = max_of(1, min_of(4096 / p.hw, max_of(16, 1024 / p.hw)));
    const int64_t unit = V / gcd(p.hw, V), row_channels = unit * ceil_div(kStrip, unit * p.hw);
    p.channels = min_of(stored, p.planes ? plane_channels : row_channels);
    p.groups = ceil_div(stored, p.channels);
    p.inner = p.planes ? V : p.hw;
    p.width = ceil_div(p.channels * p.inner, V) * V;
    p.segment = p.channels * p.hw;
    p.last_segment = (stored - (p.groups - 1) * p.channels) * p.hw;
    p.channel_step = p.hw;
  } else {
    const int64_t period = block / gcd(block, V) * V;
    p.channels = block;
    p.groups = stored / block;
    p.inner = 1;
    p.width = period * ceil_div(kStrip, period);
    p.segment = p.last_segment = p.hw * block;
    p.channel_step = 1;
  }
  p.images_per_run = max_of(1, min_of(ceil_div(kRunElements, p.hw), p.n * p.groups / kTasks));
  p.runs = ceil_div(p.n, p.images_per_run);
  p.elements = p.n * p.image_stride;
  return p;
}

// U vectors side by side, in rows. One: all of one channel, with one vector of lanes; else each with its own.
template <int U, bool One, bool P>
struct Strip {
  static constexpr int vectors = U;
  static constexpr int step = One ? 0 : V;  // lanes from vector to vector
  static constexpr bool partial = P;        // fewer than V lanes
};

// Calls body(Strip, offset, rows, elements from row to row, first lane, lanes if partial) for every piece of a group's
// segments in images [first, last).
template <class Body>
SLIMCLR_INLINE void walk(const Plan& p, int64_t g, int64_t first, int64_t last, Body body) {
  const int64_t segment = p.segment_of(g), width = p.width;
  if (p.planes) {
    const int64_t channels = segment / p.hw, rows = p.hw / kStrip, singles = p.hw % kStrip / V, rest = p.hw % V;
    for (int64_t i = first; i < last; ++i) {
      int64_t at = i * p.image_stride + g * p.segment;
      for (int64_t k = 0; k < channels; ++k) {
        if (rows) body(Strip<4, true, false>{}, at, rows, kStrip, k * V, (int64_t)V);
        at += rows * kStrip;
        if (singles) body(Strip<1, true, false>{}, at, singles, (int64_t)V, k * V, (int64_t)V);
        at += singles * V;
        if (rest) body(Strip<1, true, true>{}, at, (int64_t)1, (int64_t)V, k * V, rest);
        at += rest;
      }
    }
    return;
  }
  const int64_t full = segment / width, rest = segment % width;
  const int64_t tile = width == kStrip ? full : 16;
  for (int64_t i = first; i < last; ++i) {
    const int64_t at = i * p.image_stride + g * p.segment;
    for (int64_t r = 0; r < full; r += tile) {
      const int64_t rows = min_of(tile, full - r);
      int64_t c = 0;
      for (; c + kStrip <= width; c += kStrip) {
        body(Strip<4, false, false>{}, at + r * width + c, rows, width, c, (int64_t)V);
      }
      for (; c < width; c += V) body(Strip<1, false, false>{}, at + r * width + c, rows, width, c, (int64_t)V);
    }
    const int64_t tail = at + full * width;
    int64_t c = 0;
    for (; c + V <= rest; c += V) body(Strip<1, false, false>{}, tail + c, (int64_t)1, width, c, (int64_t)V);
    if (c < rest) body(Strip<1, false, true>{}, tail + c, (int64_t)1, width, c, rest - c);
  }
}

// Running sums over a strip, in lanes of memory between strips.
template <class S>
SLIMCLR_INLINE void resume(const float* lanes, vf* sums) {
  for (int u = 0; u < S::vectors; ++u) sums[u] = u && !S::step ? vf{} : load(lanes + u * S::step);
}
template <class S>
SLIMCLR_INLINE void pause(float* lanes, const vf* sums) {
  if constexpr (S::step) {
    for (int u = 0; u < S::vectors; ++u) store(lanes + u * V, sums[u]);
  } else if constexpr (S::vectors == 4) {
    store(lanes, (sums[0] + sums[1]) + (sums[2] + sums[3]));
  } else {
    store(lanes, sums[0]);
  }
}

// A vector, or where P is set `lanes` < V elements followed by zeros.
template <bool P, class T>
SLIMCLR_INLINE vf get(const T* p, int64_t lanes) {
  if constexpr (!P) return load(p);
  T part[V] = {};
  for (int64_t i = 0; i < lanes; ++i) part[i] = p[i];
  return load(part);
}
template <bool P, class T>
SLIMCLR_INLINE void put(T* p, vf v, int64_t lanes) {
  if constexpr (!P) return store(p, v);
  T part[V];
  store(part, v);
  for (int64_t i = 0; i < lanes; ++i) p[i] = part[i];
}

// lanes = value(channel of the group), for the group's first `channels` channels in every lane of a row.
template <class F>
SLIMCLR_INLINE void expand(const Plan& p, int64_t channels, float* lanes, F value) {
  const int64_t period = p.channels * p.inner;
  for (int64_t k = 0; k < channels; ++k) {
    const float v = value(k);
    for (int64_t i = 0; i < p.inner; ++i) lanes[k * p.inner + i] = v;
  }
  for (int64_t o = period; o + period <= p.width; o += period) {
    for (int64_t i = 0; i < period; ++i) lanes[o + i] = lanes[i];
  }
}

// sums = the lanes of each channel of the group, added up.
SLIMCLR_INLINE void collapse(const Plan& p, const float* lanes, double* sums) {
  if (p.planes) {
    for (int64_t k = 0; k < p.channels; ++k) sums[k] = (double)sum(load(lanes + k * V));
    return;
  }
  const int64_t period = p.channels * p.inner;
  for (int64_t k = 0; k < p.channels; ++k) sums[k] = 0;
  for (int64_t o = 0; o + period <= p.width; o += period) {
    if (p.inner == 1) {
      for (int64_t k = 0; k < p.channels; ++k) sums[k] += lanes[o + k];
    } else {
      for (int64_t k = 0; k < p.channels; ++k) {
        for (int64_t i = 0; i < p.inner; ++i) sums[k] += lanes[o + k * p.inner + i];
      }
    }
  }
}

// Memory of the calling thread, kept from call to call.
struct Buffer {
  void* data = nullptr;
  size_t bytes = 0;
  ~Buffer() { free(data); }
  void* need(size_t size) {
    if (size > bytes) {
      free(data);
      bytes = (size + 4095) / 4096 * 4096;
      data = aligned_alloc(64, bytes);
      std::memset(data, 0, bytes);
    }
    return data;
  }
};
thread_local Buffer buffer;

struct Scratch {
  double *first, *second;  // [runs][padded channels]: partial results
  float *offset, *slope;   // [padded channels]: backward coefficients
  char* threads;           // per thread: lanes
  int64_t lanes_bytes;
};
constexpr int kLaneArrays = 5;

Scratch make_scratch(const Plan& p, int threads) {
  const int64_t partials = p.runs * p.padded(), channels = ceil_div(p.padded(), 16) * 16;
  Scratch s;
  s.lanes_bytes = ceil_div(kLaneArrays * p.width * 4 + 2 * p.channels * 8, 128) * 128;
  const int64_t head = ceil_div(2 * partials * 8 + 2 * channels * 4, 128) * 128;
  char* base = (char*)buffer.need((size_t)(head + threads * s.lanes_bytes));
  s.first = (double*)base;
  s.second = s.first + partials;
  s.offset = (float*)(s.second + partials);
  s.slope = s.offset + channels;
  s.threads = base + head;
  return s;
}

struct Lanes {
  float* lane[kLaneArrays];
  double *sum1, *sum2;
  Lanes(const Plan& p, const Scratch& s, int64_t thread) {
    char* base = s.threads + thread * s.lanes_bytes;
    for (int i = 0; i < kLaneArrays; ++i) lane[i] = (float*)base + i * p.width;
    sum1 = (double*)(base + kLaneArrays * p.width * 4);
    sum2 = sum1 + p.channels;
  }
};

// reduce(lanes, g, r) for all tasks, combine(g) for all groups, apply(lanes, g, r) for all tasks. Every thread takes a
// range of images and goes through it backwards the second time. What a task computes does not depend on the threads.
template <class Reduce, class Combine, class Apply>
void two_passes(const Plan& p, Reduce reduce, Combine combine, Apply apply) {
  const int threads = p.elements < kSmall ? 1 : omp_get_max_threads();
  const Scratch s = make_scratch(p, threads);
#pragma omp parallel num_threads(threads)
  {
    const int64_t t = omp_get_thread_num(), all = omp_get_num_threads();
    const Lanes lanes(p, s, t);
    const int64_t tasks = p.runs * p.groups, begin = tasks * t / all, end = tasks * (t + 1) / all;
    for (int64_t i = begin; i < end; ++i) reduce(s, lanes, i % p.groups, i / p.groups);
#pragma omp barrier
    for (int64_t g = p.groups * t / all; g < p.groups * (t + 1) / all; ++g) combine(s, g);
#pragma omp barrier
    for (int64_t i = end - 1; i >= begin; --i) apply(s, lanes, i % p.groups, i / p.groups);
  }
}

// Lanes 0, 1, 2: mean, weight * rstd, bias. Channels beyond C (a block's tail) get 0: results stay zero there.
template <class Args>
void forward_coefficients(const Plan& p, const Args& a, const Lanes& l, int64_t g) {
  const int64_t c0 = g * p.channels;
  auto coefficient = [&](float* lanes, auto value) {
    expand(p, p.channels, lanes, [&](int64_t k) { return c0 + k < p.c ? value(c0 + k) : 0.0f; });
  };
  coefficient(l.lane[0], [&](int64_t c) { return a.mean[c]; });
  coefficient(l.lane[1], [&](int64_t c) { return a.weight ? a.weight[c] * a.rstd[c] : a.rstd[c]; });
  coefficient(l.lane[2], [&](int64_t c) { return a.bias ? a.bias[c] : 0.0f; });
}

// ---- forward

enum class Residual { none, before_relu, after_relu };

template <Residual R, bool Relu, class T>
void normalize_run(const Plan& p, const BatchNormArgs& a, const Lanes& l, int64_t g, int64_t r) {
  const T* x = (const T*)a.x.data;
  const T* residual = (const T*)a.residual.data;
  T* y = (T*)a.y.data;
  forward_coefficients(p, a, l, g);
  const float *mean = l.lane[0], *scale = l.lane[1], *shift = l.lane[2];
  const int64_t first = r * p.images_per_run;
  walk(
      p, g, first, first + p.images_of(r),
      [&](auto strip, int64_t at, int64_t rows, int64_t row_step, int64_t c, int64_t lanes)
          __attribute__((always_inline)) {
            using S = decltype(strip);
            constexpr int U = S::vectors;
            constexpr bool P = S::partial;
            vf m[U], s[U], b[U];
            for (int u = 0; u < U; ++u) {
              m[u] = load(mean + c + u * S::step);
              s[u] = load(scale + c + u * S::step);
              b[u] = load(shift + c + u * S::step);
            }
            for (int64_t row = 0; row < rows; ++row, at += row_step) {
              for (int u = 0; u < U; ++u) {
                vf v = (get<P>(x + at + u * V, lanes) - m[u]) * s[u] + b[u];
                if constexpr (R == Residual::before_relu) v += get<P>(residual + at + u * V, lanes);
                if constexpr (Relu) v = v < 0.0f ? vf{} : v;
                if constexpr (R == Residual::after_relu) v += get<P>(residual + at + u * V, lanes);
                put<P>(y + at + u * V, v, lanes);
              }
            }
          });
}

// Sums of x - k and (x - k)^2, where k is the run's first element of the channel: a sample of the data, so the square
// of its distance to the mean is at most (elements * variance) and typically about the variance. Then mean and squared
// deviations of the run.
template <class T>
void statistics_run(const Plan& p, const T* x, const Scratch& s, const Lanes& l, int64_t g, int64_t r) {
  const int64_t first = r * p.images_per_run, images = p.images_of(r);
  const T* start = x + first * p.image_stride + g * p.segment;
  const int64_t channels = p.segment_of(g) / p.hw;
  float *shift = l.lane[0], *s1 = l.lane[1], *s2 = l.lane[2];
  expand(p, channels, shift, [&](int64_t k) { return load1(start + k * p.channel_step); });
  for (int64_t i = 0; i < 2 * p.width; ++i) s1[i] = 0;
  walk(
      p, g, first, first + images,
      [&](auto strip, int64_t at, int64_t rows, int64_t row_step, int64_t c, int64_t lanes)
          __attribute__((always_inline)) {
            using S = decltype(strip);
            constexpr int U = S::vectors;
            constexpr bool P = S::partial;
            vf k[U], a[U], b[U];
            for (int u = 0; u < U; ++u) {
              k[u] = load(shift + c + u * S::step);
            }
            resume<S>(s1 + c, a);
            resume<S>(s2 + c, b);
            for (int64_t row = 0; row < rows; ++row, at += row_step) {
              for (int u = 0; u < U; ++u) {
                vf d = get<P>(x + at + u * V, lanes) - k[u];
                if constexpr (P) {
                  for (int i = 0; i < V; ++i) d[i] = i < lanes ? d[i] : 0.0f;
                }
                a[u] += d;
                b[u] += d * d;
              }
            }
            pause<S>(s1 + c, a);
            pause<S>(s2 + c, b);
          });
  collapse(p, s1, l.sum1);
  collapse(p, s2, l.sum2);
  const double inverse = 1.0 / (double)(images * p.hw);
  const int64_t out = r * p.padded() + g * p.channels;
  for (int64_t k = 0; k < channels; ++k) {
    s.first[out + k] = load1(start + k * p.channel_step) + l.sum1[k] * inverse;
    s.second[out + k] = l.sum2[k] - l.sum1[k] * l.sum1[k] * inverse;
  }
}

void finish_statistics(const Plan& p, const BatchNormArgs& a, const Scratch& s, int64_t g) {
  const double count = (double)(p.n * p.hw);
  const int64_t end = min_of(p.c, (g + 1) * p.channels);
  for (int64_t c = g * p.channels; c < end; ++c) {
    double mean = 0, squares = 0;
    for (int64_t r = 0; r < p.runs; ++r) mean += s.first[r * p.padded() + c] * (double)p.images_of(r);
    mean /= (double)p.n;
    for (int64_t r = 0; r < p.runs; ++r) {
      const double d = s.first[r * p.padded() + c] - mean;
      squares += s.second[r * p.padded() + c] + d * d * (double)(p.images_of(r) * p.hw);
    }
    if (squares < 0) squares = 0;  // rounding; a NaN stays
    const double var = squares / count, unbiased = squares / (count > 1 ? count - 1 : 1);
    a.mean[c] = (float)mean;
    a.rstd[c] = (float)(1.0 / sqrt(var + a.eps));
    if (a.running_mean) a.running_mean[c] += a.momentum * ((float)mean - a.running_mean[c]);
    if (a.running_var) a.running_var[c] += a.momentum * ((float)unbiased - a.running_var[c]);
  }
}

template <Residual R, bool Relu, class T>
void forward_as(const BatchNormArgs& a) {
  const Plan p = make_plan(a.x);
  if (a.training) {
    two_passes(
        p,
        [&](const Scratch& s, const Lanes& l, int64_t g, int64_t r) {
          statistics_run(p, (const T*)a.x.data, s, l, g, r);
        },
        [&](const Scratch& s, int64_t g) { finish_statistics(p, a, s, g); },
        [&](const Scratch&, const Lanes& l, int64_t g, int64_t r) { normalize_run<R, Relu, T>(p, a, l, g, r); });
    return;
  }
  for (int64_t c = 0; c < p.c; ++c) {
    a.mean[c] = a.running_mean[c];
    a.rstd[c] = (float)(1.0 / sqrt((double)a.running_var[c] + a.eps));
  }
  const int threads = p.elements < kSmall ? 1 : omp_get_max_threads();
  const Scratch s = make_scratch(p, threads);
#pragma omp parallel num_threads(threads)
  {
    const Lanes lanes(p, s, omp_get_thread_num());
#pragma omp for schedule(static)
    for (int64_t i = 0; i < p.runs * p.groups; ++i) {
      normalize_run<R, Relu, T>(p, a, lanes, i % p.groups, i / p.groups);
    }
  }
}

template <class T>
void forward_elem(const BatchNormArgs& a) {
  if (!a.residual.data)
    return a.relu ? forward_as<Residual::none, true, T>(a) : forward_as<Residual::none, false, T>(a);
  if (!a.relu) return forward_as<Residual::before_relu, false, T>(a);
  if (a.residual_last) return forward_as<Residual::after_relu, true, T>(a);
  return forward_as<Residual::before_relu, true, T>(a);
}

void forward(const BatchNormArgs& a) {
  return a.x.elem == Elem::f32 ? forward_elem<float>(a) : forward_elem<uint16_t>(a);
}

// ---- backward

enum class Mask { none, from_y, from_x };

template <class T>
struct Gradients {
  const T *x, *y, *dy, *dy2;
  T *dresidual, *dx;
};

template <bool Two, bool P, class T>
SLIMCLR_INLINE vf incoming(const Gradients<T>& t, int64_t at, int64_t lanes) {
  vf g = get<P>(t.dy + at, lanes);
  if constexpr (Two) g += get<P>(t.dy2 + at, lanes);
  return g;
}

// dz, the gradient g after the ReLU's mask, at `at`; d = x - mean. from_x repeats the forward pass's arithmetic.
template <Mask M, bool P, class T>
SLIMCLR_INLINE vf masked(const Gradients<T>& t, int64_t at, int64_t lanes, vf g, vf d, vf scale, vf shift) {
  if constexpr (M == Mask::from_y) g = get<P>(t.y + at, lanes) <= 0.0f ? vf{} : g;
  if constexpr (M == Mask::from_x) g = d * scale + shift <= 0.0f ? vf{} : g;
  return g;
}

// The gradient of the residual, where it is wanted: dz, or where the residual was added last what comes in.
enum class Write { nothing, masked, incoming };

// Sums of dz and of dz * (x - mean); writes the gradient of the residual.
template <Mask M, bool Two, Write W, class T>
void reduce_run(const Plan& p, const BatchNormBackwardArgs& a, const Gradients<T>& t, const Scratch& s, const Lanes& l,
                int64_t g, int64_t r) {
  forward_coefficients(p, a, l, g);
  const float *mean = l.lane[0], *scale = l.lane[1], *shift = l.lane[2];
  float *s1 = l.lane[3], *s2 = l.lane[4];
  for (int64_t i = 0; i < 2 * p.width; ++i) s1[i] = 0;
  const int64_t first = r * p.images_per_run;
  walk(
      p, g, first, first + p.images_of(r),
      [&](auto strip, int64_t at, int64_t rows, int64_t row_step, int64_t c, int64_t lanes)
          __attribute__((always_inline)) {
            using S = decltype(strip);
            constexpr int U = S::vectors;
            constexpr bool P = S::partial;
            vf m[U], sc[U], sh[U], sum1[U], sum2[U];
            for (int u = 0; u < U; ++u) {
              m[u] = load(mean + c + u * S::step);
              sc[u] = load(scale + c + u * S::step);
              sh[u] = load(shift + c + u * S::step);
            }
            resume<S>(s1 + c, sum1);
            resume<S>(s2 + c, sum2);
            for (int64_t row = 0; row < rows; ++row, at += row_step) {
              for (int u = 0; u < U; ++u) {
                const vf d = get<P>(t.x + at + u * V, lanes) - m[u];
                vf dz = incoming<Two, P>(t, at + u * V, lanes);
                if constexpr (W != Write::incoming) dz = masked<M, P>(t, at + u * V, lanes, dz, d, sc[u], sh[u]);
                if constexpr (W != Write::nothing) {
                  put<P>(t.dresidual + at + u * V, dz, lanes);
                  if constexpr (sizeof(T) == 2)
                    dz = get<P>(t.dresidual + at + u * V, lanes);  // sum what the second pass reads
                }
                if constexpr (W == Write::incoming) dz = masked<M, P>(t, at + u * V, lanes, dz, d, sc[u], sh[u]);
                sum1[u] += dz;
                sum2[u] += dz * d;
              }
            }
            pause<S>(s1 + c, sum1);
            pause<S>(s2 + c, sum2);
          });
  collapse(p, s1, l.sum1);
  collapse(p, s2, l.sum2);
  const int64_t out = r * p.padded() + g * p.channels;
  for (int64_t k = 0; k < p.channels; ++k) {
    s.first[out + k] = l.sum1[k];
    s.second[out + k] = l.sum2[k];
  }
}

// dx = weight * rstd * (dz - sum(dz) / count - (x - mean) * rstd^2 * sum(dz * (x - mean)) / count)
void finish_backward(const Plan& p, const BatchNormBackwardArgs& a, const Scratch& s, int64_t g) {
  const double count = (double)(p.n * p.hw);
  for (int64_t c = g * p.channels; c < (g + 1) * p.channels; ++c) {
    s.offset[c] = s.slope[c] = 0;
    if (c >= p.c) continue;
    double sum1 = 0, sum2 = 0;
    for (int64_t r = 0; r < p.runs; ++r) {
      sum1 += s.first[r * p.padded() + c];
      sum2 += s.second[r * p.padded() + c];
    }
    const double rstd = a.rstd[c], scale = a.weight ? a.weight[c] * rstd : rstd;
    if (a.dbias) a.dbias[c] += (float)sum1;
    if (a.dweight) a.dweight[c] += (float)(sum2 * rstd);
    if (!a.training) continue;
    s.offset[c] = (float)(-scale * sum1 / count);
    s.slope[c] = (float)(-scale * rstd * rstd * sum2 / count);
  }
}

template <Mask M, bool Two, class T>
void gradient_run(const Plan& p, const BatchNormBackwardArgs& a, const Gradients<T>& t, const Scratch& s,
                  const Lanes& l, int64_t g, int64_t r) {
  forward_coefficients(p, a, l, g);
  const float *mean = l.lane[0], *scale = l.lane[1], *shift = l.lane[2];
  float *offset = l.lane[3], *slope = l.lane[4];
  expand(p, p.channels, offset, [&](int64_t k) { return s.offset[g * p.channels + k]; });
  expand(p, p.channels, slope, [&](int64_t k) { return s.slope[g * p.channels + k]; });
  const int64_t first = r * p.images_per_run;
  walk(
      p, g, first, first + p.images_of(r),
      [&](auto strip, int64_t at, int64_t rows, int64_t row_step, int64_t c,
          int64_t lanes) __attribute__((always_inline)) {
        using S = decltype(strip);
        constexpr int U = S::vectors;
        constexpr bool P = S::partial;
        vf m[U], sc[U], sh[U], o[U], sl[U];
        for (int u = 0; u < U; ++u) {
          m[u] = load(mean + c + u * S::step);
          sc[u] = load(scale + c + u * S::step);
          sh[u] = load(shift + c + u * S::step);
          o[u] = load(offset + c + u * S::step);
          sl[u] = load(slope + c + u * S::step);
        }
        for (int64_t row = 0; row < rows; ++row, at += row_step) {
          for (int u = 0; u < U; ++u) {
            const vf d = get<P>(t.x + at + u * V, lanes) - m[u];
            const vf dz = masked<M, P>(t, at + u * V, lanes, incoming<Two, P>(t, at + u * V, lanes), d, sc[u], sh[u]);
            put<P>(t.dx + at + u * V, dz * sc[u] + (d * sl[u] + o[u]), lanes);
          }
        }
      });
}

template <Mask M, bool Two, Write W, class T>
void backward_as(const BatchNormBackwardArgs& a) {
  const Plan p = make_plan(a.x);
  const Gradients<T> t = {(const T*)a.x.data,   (const T*)a.y.data,   (const T*)a.dy.data,
                          (const T*)a.dy2.data, (T*)a.dresidual.data, (T*)a.dx.data};
  two_passes(
      p, [&](const Scratch& s, const Lanes& l, int64_t g, int64_t r) { reduce_run<M, Two, W>(p, a, t, s, l, g, r); },
      [&](const Scratch& s, int64_t g) { finish_backward(p, a, s, g); },
      [&](const Scratch& s, const Lanes& l, int64_t g, int64_t r) {
        if constexpr (W != Write::nothing) {  // the sum is there already, masked or not: fewer inputs
          Gradients<T> written = t;
          written.dy = t.dresidual;
          gradient_run<W == Write::masked ? Mask::none : M, false>(p, a, written, s, l, g, r);
        } else {
          gradient_run<M, Two>(p, a, t, s, l, g, r);
        }
      });
}

template <Mask M, Write W, class T>
void backward_write(const BatchNormBackwardArgs& a) {
  return a.dy2.data ? backward_as<M, true, W, T>(a) : backward_as<M, false, W, T>(a);
}

template <Mask M, class T>
void backward_mask(const BatchNormBackwardArgs& a) {
  return a.dresidual.data ? backward_write<M, Write::masked, T>(a) : backward_write<M, Write::nothing, T>(a);
}

template <class T>
void backward_elem(const BatchNormBackwardArgs& a) {
  if (!a.relu) return backward_mask<Mask::none, T>(a);
  if (a.residual_last && a.dresidual.data) return backward_write<Mask::from_x, Write::incoming, T>(a);
  return a.residual && !a.residual_last ? backward_mask<Mask::from_y, T>(a) : backward_mask<Mask::from_x, T>(a);
}

void backward(const BatchNormBackwardArgs& a) {
  return a.x.elem == Elem::f32 ? backward_elem<float>(a) : backward_elem<uint16_t>(a);
}

}  // namespace

extern const BatchNormKernels batch_norm_kernels;
const BatchNormKernels batch_norm_kernels = {forward, backward};

}  // namespace slimclr::cpu::SLIMCLR_ISA
