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

struct LarsItem {
  float* param;
  const float* grad;
  float* momentum;  // zeros before the first step
  int64_t size;
  float weight_decay;
  bool adapt;  // scale the gradient to the parameter's norm
  float ratio = 1;
  double* partial = nullptr;
};

// g = grad + weight_decay * param; where adapt: g *= trust * |param| / |g|, if neither is 0; mu = momentum * mu + g;
// param -= lr * mu
struct LarsArgs {
  LarsItem* items = nullptr;
  int64_t count = 0;
  const float* lr = nullptr;  // [1], read when the kernel runs
  float momentum = 0.9f;
  float trust = 0.001f;
  void* scratch = nullptr;
};

struct AdamWItem {
  float* param;
  const float* grad;
  float* exp_avg;     // zeros before the first step
  float* exp_avg_sq;  // zeros before the first step
  float* step;        // [1], steps done
  int64_t size;
  float weight_decay;
  float rate = 0, decay = 0, correction = 0;
};

// step += 1; param *= 1 - lr * weight_decay; m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g * g;
// param -= lr / (1 - b1^step) * m / (sqrt(v / (1 - b2^step)) + eps)
struct AdamWArgs {
  AdamWItem* items = nullptr;
  int64_t count = 0;
  const float* lr = nullptr;  // [1], read when the kernel runs
  double beta1 = 0.9, beta2 = 0.999;
  float eps = 1e-8f;
};

struct ScaleItem {
  float* data;
  int64_t size;
  double* partial = nullptr;
};

// norm[0] = the norm of all elements together; where it is above max_norm, every element *= max_norm / (norm + 1e-6)
struct ClipArgs {
  ScaleItem* items = nullptr;
  int64_t count = 0;
  float max_norm = 1;
  float* norm = nullptr;
  void* scratch = nullptr;
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
  int64_t (*lars_scratch_bytes)(const LarsArgs&);
  void (*lars)(const LarsArgs&);
  void (*adamw)(const AdamWArgs&);
  int64_t (*clip_scratch_bytes)(const ClipArgs&);
  void (*clip)(const ClipArgs&);
  void (*rescale)(const ScaleItem* items, int64_t count, float factor);
  // Every element *= factor; whether all were finite.
  bool (*unscale)(const ScaleItem* items, int64_t count, float factor);
  // target = m * target + (1 - m) * source, m [1] read when the kernel runs
  void (*ema)(const EmaItem* items, int64_t count, const float* m);
  void (*zero)(const ZeroItem* items, int64_t count);
  // Ring buffer: keys [n, d] go to rows *pointer, *pointer + 1, ... (modulo k) of queue [k, d], as if one after the
  // other: of more than k keys the last k stay. *pointer moves n rows on (modulo k).
  void (*enqueue)(float* queue, int64_t k, const float* keys, int64_t n, int64_t d, int64_t* pointer);
};

}  // namespace slimclr::cpu
