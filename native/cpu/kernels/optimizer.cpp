#include "cpu/kernels/optimizer.h"

#include <math.h>
#include <omp.h>

#include "cpu/kernels/vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int64_t kChunk = 8192;  // elements of one piece of work
constexpr int64_t kParallel = 4;  // pieces below which one thread does it all

SLIMCLR_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

SLIMCLR_INLINE int64_t chunks_of(int64_t n) { return (n + kChunk - 1) / kChunk; }

// Calls body(item, first, last) over all items, each thread a consecutive share of their chunks: small items cost no
// parallel region of their own.
template <class Item, class Size, class Body>
SLIMCLR_INLINE void for_chunks(const Item* items, int64_t count, Size size, Body body) {
  int64_t chunks = 0;
  for (int64_t i = 0; i < count; ++i) chunks += chunks_of(size(items[i]));
#pragma omp parallel if (chunks >= kParallel)
  {
    const int64_t t = omp_get_thread_num(), all = omp_get_num_threads();
    const int64_t begin = chunks * t / all, end = chunks * (t + 1) / all;
    int64_t at = 0;
    for (int64_t i = 0; i < count && at < end; ++i) {
      const int64_t n = size(items[i]), own = chunks_of(n);
      const int64_t first = at < begin ? begin - at : 0, last = min_of(own, end - at);
      if (first < last) body(items[i], first * kChunk, min_of(n, last * kChunk));
      at += own;
    }
  }
}

// Bytes for `sums` partial sums per chunk of every item.
template <class Item>
SLIMCLR_INLINE int64_t partial_bytes(const Item* items, int64_t count, int64_t sums) {
  int64_t chunks = 0;
  for (int64_t i = 0; i < count; ++i) chunks += chunks_of(items[i].size);
  return chunks * sums * (int64_t)sizeof(double);
}

template <class Item>
SLIMCLR_INLINE void place_partials(Item* items, int64_t count, int64_t sums, void* scratch) {
  double* at = (double*)scratch;
  for (int64_t i = 0; i < count; ++i) {
    items[i].partial = at;
    at += chunks_of(items[i].size) * sums;
  }
}

template <bool Nesterov>
void sgd_as(const SgdArgs& a) {
  const float lr = *a.lr, momentum = a.momentum;
  for_chunks(
      a.items, a.count, [](const SgdItem& item) { return item.size; },
      [&](const SgdItem& item, int64_t first, int64_t last) {
        float *param = item.param, *mu = item.momentum;
        const float *grad = item.grad, decay = item.weight_decay;
        int64_t i = first;
        for (; i + V <= last; i += V) {
          const vf p = load(param + i), g = load(grad + i) + decay * p, m = momentum * load(mu + i) + g;
          store(mu + i, m);
          store(param + i, p - lr * (Nesterov ? g + momentum * m : m));
        }
        for (; i < last; ++i) {
          const float p = param[i], g = grad[i] + decay * p, m = momentum * mu[i] + g;
          mu[i] = m;
          param[i] = p - lr * (Nesterov ? g + momentum * m : m);
        }
      });
}

void sgd(const SgdArgs& a) { return a.nesterov ? sgd_as<true>(a) : sgd_as<false>(a); }

int64_t lars_scratch_bytes(const LarsArgs& a) { return partial_bytes(a.items, a.count, 2); }

void lars(const LarsArgs& a) {
  place_partials(a.items, a.count, 2, a.scratch);
  for_chunks(
      a.items, a.count, [](const LarsItem& item) { return item.adapt ? item.size : 0; },
      [](const LarsItem& item, int64_t first, int64_t last) {
        for (int64_t begin = first; begin < last; begin += kChunk) {
          const int64_t end = min_of(last, begin + kChunk);
          vf params{}, grads{};
          int64_t i = begin;
          for (; i + V <= end; i += V) {
            const vf p = load(item.param + i), g = load(item.grad + i) + item.weight_decay * p;
            params += p * p;
            grads += g * g;
          }
          double* to = item.partial + begin / kChunk * 2;
          to[0] = (double)sum(params);
          to[1] = (double)sum(grads);
          for (; i < end; ++i) {
            const double p = (double)item.param[i], g = (double)item.grad[i] + (double)item.weight_decay * p;
            to[0] += p * p;
            to[1] += g * g;
          }
        }
      });
  for (int64_t i = 0; i < a.count; ++i) {
    LarsItem& item = a.items[i];
    item.ratio = 1;
    if (!item.adapt) continue;
    double param = 0, grad = 0;
    for (int64_t c = 0; c < chunks_of(item.size); ++c) {
      param += item.partial[2 * c];
      grad += item.partial[2 * c + 1];
    }
    if (param > 0 && grad > 0) item.ratio = (float)((double)a.trust * sqrt(param / grad));
  }
  const float lr = *a.lr, momentum = a.momentum;
  for_chunks(
      a.items, a.count, [](const LarsItem& item) { return item.size; },
      [&](const LarsItem& item, int64_t first, int64_t last) {
        float *param = item.param, *mu = item.momentum;
        const float *grad = item.grad, decay = item.weight_decay, ratio = item.ratio;
        int64_t i = first;
        for (; i + V <= last; i += V) {
          const vf p = load(param + i), g = load(grad + i) + decay * p, m = momentum * load(mu + i) + ratio * g;
          store(mu + i, m);
          store(param + i, p - lr * m);
        }
        for (; i < last; ++i) {
          const float p = param[i], g = grad[i] + decay * p, m = momentum * mu[i] + ratio * g;
          mu[i] = m;
          param[i] = p - lr * m;
        }
      });
}

SLIMCLR_INLINE vf square_root(vf v) {
  vf r;
  for (int i = 0; i < V; ++i) r[i] = sqrtf(v[i]);
  return r;
}

void adamw(const AdamWArgs& a) {
  const double lr = (double)*a.lr;
  for (int64_t i = 0; i < a.count; ++i) {
    AdamWItem& item = a.items[i];
    const double step = (double)(*item.step += 1);
    item.decay = (float)(1 - lr * (double)item.weight_decay);
    item.rate = (float)(lr / (1 - pow(a.beta1, step)));
    item.correction = (float)(1 / sqrt(1 - pow(a.beta2, step)));
  }
  const float b1 = (float)a.beta1, c1 = (float)(1 - a.beta1), b2 = (float)a.beta2, c2 = (float)(1 - a.beta2);
  const float eps = a.eps;
  for_chunks(
      a.items, a.count, [](const AdamWItem& item) { return item.size; },
      [&](const AdamWItem& item, int64_t first, int64_t last) {
        float *param = item.param, *avg = item.exp_avg, *avg_sq = item.exp_avg_sq;
        const float *grad = item.grad, decay = item.decay, rate = item.rate, correction = item.correction;
        int64_t i = first;
        for (; i + V <= last; i += V) {
          const vf g = load(grad + i), m = b1 * load(avg + i) + c1 * g, v = b2 * load(avg_sq + i) + c2 * g * g;
          store(avg + i, m);
          store(avg_sq + i, v);
          store(param + i, decay * load(param + i) - rate * m / (square_root(v) * correction + eps));
        }
        for (; i < last; ++i) {
          const float g = grad[i], m = b1 * avg[i] + c1 * g, v = b2 * avg_sq[i] + c2 * g * g;
          avg[i] = m;
          avg_sq[i] = v;
          param[i] = decay * param[i] - rate * m / (sqrtf(v) * correction + eps);
        }
      });
}

void rescale(const ScaleItem* items, int64_t count, float factor) {
  for_chunks(
      items, count, [](const ScaleItem& item) { return item.size; },
      [&](const ScaleItem& item, int64_t first, int64_t last) {
        int64_t i = first;
        for (; i + V <= last; i += V) store(item.data + i, factor * load(item.data + i));
        for (; i < last; ++i) item.data[i] *= factor;
      });
}

bool unscale(const ScaleItem* items, int64_t count, float factor) {
  int found = 0;
  for_chunks(
      items, count, [](const ScaleItem& item) { return item.size; },
      [&](const ScaleItem& item, int64_t first, int64_t last) {
        // v - v is 0 where v is finite, else NaN.
        vf rest{};
        int64_t i = first;
        for (; i + V <= last; i += V) {
          const vf v = load(item.data + i);
          rest += v - v;
          store(item.data + i, factor * v);
        }
        float left = sum(rest);
        for (; i < last; ++i) {
          left += item.data[i] - item.data[i];
          item.data[i] *= factor;
        }
        if (left == 0) return;
#pragma omp atomic write
        found = 1;
      });
  return !found;
}

int64_t clip_scratch_bytes(const ClipArgs& a) { return partial_bytes(a.items, a.count, 1); }

void clip(const ClipArgs& a) {
  place_partials(a.items, a.count, 1, a.scratch);
  for_chunks(
      a.items, a.count, [](const ScaleItem& item) { return item.size; },
      [](const ScaleItem& item, int64_t first, int64_t last) {
        for (int64_t begin = first; begin < last; begin += kChunk) {
          const int64_t end = min_of(last, begin + kChunk);
          vf squares{};
          int64_t i = begin;
          for (; i + V <= end; i += V) squares += load(item.data + i) * load(item.data + i);
          double* to = item.partial + begin / kChunk;
          *to = (double)sum(squares);
          for (; i < end; ++i) *to += (double)item.data[i] * (double)item.data[i];
        }
      });
  double squares = 0;
  for (int64_t i = 0; i < a.count; ++i)
    for (int64_t c = 0; c < chunks_of(a.items[i].size); ++c) squares += a.items[i].partial[c];
  const double norm = sqrt(squares);
  *a.norm = (float)norm;
  if (!(norm <= (double)a.max_norm)) rescale(a.items, a.count, (float)((double)a.max_norm / (norm + 1e-6)));
}

void ema(const EmaItem* items, int64_t count, const float* m) {
  const float keep = *m, take = (float)(1.0 - (double)*m);
  for_chunks(
      items, count, [](const EmaItem& item) { return item.size; },
      [&](const EmaItem& item, int64_t first, int64_t last) {
        float* target = item.target;
        const float* source = item.source;
        int64_t i = first;
        for (; i + V <= last; i += V) store(target + i, keep * load(target + i) + take * load(source + i));
        for (; i < last; ++i) target[i] = keep * target[i] + take * source[i];
      });
}

void zero(const ZeroItem* items, int64_t count) {
  for_chunks(
      items, count, [](const ZeroItem& item) { return item.bytes; },
      [](const ZeroItem& item, int64_t first, int64_t last) {
        std::memset((char*)item.data + first, 0, (size_t)(last - first));
      });
}

void enqueue(float* queue, int64_t k, const float* keys, int64_t n, int64_t d, int64_t* pointer) {
  int64_t at = *pointer % k;
  if (at < 0) at += k;
  for (int64_t i = n > k ? n - k : 0; i < n;) {
    const int64_t row = (at + i) % k, rows = min_of(n - i, k - row);
    std::memcpy(queue + row * d, keys + i * d, (size_t)(rows * d) * sizeof(float));
    i += rows;
  }
  *pointer = (at + n) % k;
}

}  // namespace

extern const OptimizerKernels optimizer_kernels;
const OptimizerKernels optimizer_kernels = {
    sgd, lars_scratch_bytes, lars, adamw, clip_scratch_bytes, clip, rescale, unscale, ema, zero, enqueue};

}  // namespace slimclr::cpu::SLIMCLR_ISA
