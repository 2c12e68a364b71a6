// Updates over lists of float32 buffers, one call for all parameters of a model.
#pragma once

#include <cstdint>

namespace slimclr::cpu {

struct SgdItem {
  float* param;
  const float* grad;
  float* momentum;  // zeros before the first step
  int64_t size;
  float weight_decay;
};

// g = grad + weight_decay * param; mu = momentum * mu + g; param -= lr * (nesterov ? g + momentum * mu : mu)
struct SgdArgs {
  const SgdItem* items = nullptr;
  int64_t count = 0;
  const float* lr = nullptr;  // [1], read when the kernel runs
  float momentum = 0.9f;
  bool nesterov = false;
};

struct EmaItem {
  float* target;
  const float* source;
  int64_t size;
};

struct ZeroItem {
  void* data;
  int64_t bytes;
};

struct OptimizerKernels {
  void (*sgd)(const SgdArgs&);
  // target = m * target + (1 - m) * source, m [1] read when the kernel runs
  void (*ema)(const EmaItem* items, int64_t count, const float* m);
  void (*zero)(const ZeroItem* items, int64_t count);
  // Ring buffer: keys [n, d] go to rows *pointer, *pointer + 1, ... (modulo k) of queue [k, d], as if one after the
  // other: of more than k keys the last k stay. *pointer moves n rows on (modulo k).
  void (*enqueue)(float* queue, int64_t k, const float* keys, int64_t n, int64_t d, int64_t* pointer);
};

}  // namespace slimclr::cpu
