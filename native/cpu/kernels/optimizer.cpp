#include "cpu/kernels/optimizer.h"

#include <omp.h>

#include "cpu/kernels/vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int64_t kChunk = 8192;  // elements of one piece of work
constexpr int64_t kParallel = 4;  // pieces below which one thread does it all

SLIMCLR_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

// Calls body(item, first, last) over all items, each thread a consecutive share of their chunks: small items cost no
// parallel region of their own.
template <class Item, class Size, class Body>
SLIMCLR_INLINE void for_chunks(const Item* items, int64_t count, Size size, Body body) {
  int64_t chunks = 0;
  for (int64_t i = 0; i < count; ++i) chunks += (size(items[i]) + kChunk - 1) / kChunk;
#pragma omp parallel if (chunks >= kParallel)
  {
    const int64_t t = omp_get_thread_num(), all = omp_get_num_threads();
    const int64_t begin = chunks * t / all, end = chunks * (t + 1) / all;
    int64_t at = 0;
    for (int64_t i = 0; i < count && at < end; ++i) {
      const int64_t n = size(items[i]), own = (n + kChunk - 1) / kChunk;
      const int64_t first = at < begin ? begin - at : 0, last = min_of(own, end - at);
      if (first < last) body(items[i], first * kChunk, min_of(n, last * kChunk));
      at += own;
    }
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
const OptimizerKernels optimizer_kernels = {sgd, ema, zero, enqueue};

}  // namespace slimclr::cpu::SLIMCLR_ISA
