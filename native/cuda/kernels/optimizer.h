// Updates over lists of float32 buffers, one launch for all parameters of a model.
#pragma once

#include "cuda/kernels/launch.h"
#include "cuda/kernels/list.h"

namespace slimclr::cuda {

// The fields that an update does not use stay null or zero.
struct ListItem {
  float* data = nullptr;          // what is updated: parameter, target, or the block to be zeroed
  const float* source = nullptr;  // gradient, or source of an average
  float* first = nullptr;         // momentum, or average of gradients
  float* second = nullptr;        // average of squared gradients
  float* step = nullptr;          // [1], counted up
  int64_t size = 0;               // elements
  int64_t begin = 0;              // chunks of the entries before
  float weight_decay = 0;
  bool adapt = false;  // LARS: whether the rate is
};

using List = ListOf<ListItem>;

// skip, of these three: unless null or 0, nothing is done.
// g = grad + weight_decay · param; mu = momentum · mu + g; param −= lr · (nesterov ? g + momentum · mu : mu)
void sgd(const Launch& on, const List& list, const float* lr, float momentum, bool nesterov, const float* skip);
// g = grad + weight_decay · param; g *= adapt ? trust · |param| / |g| : 1 (1 where a norm is 0); then as SGD.
// scratch: lars_scratch_bytes.
int64_t lars_scratch_bytes(const List& list);
void lars(const Launch& on, const List& list, const float* lr, float momentum, float trust, const float* skip,
          void* scratch);
// As PyTorch's AdamW. scratch: adamw_scratch_bytes.
int64_t adamw_scratch_bytes(const List& list);
void adamw(const Launch& on, const List& list, const float* lr, double beta1, double beta2, float eps,
           const float* skip, void* scratch);
// Every element *= 1 / *scale; *found = 1 where one is not finite, else it stays.
void unscale(const Launch& on, const List& list, const float* scale, float* found);
void update_scale(const Launch& on, float* scale, int64_t* good_steps, const float* found, float growth, float backoff,
                  int64_t interval);
void rescale(const Launch& on, const List& list, float factor);
// norm[0] = the norm of all; unless it is at most max_norm, all are scaled by max_norm / (norm + 1e-6).
// scratch: clip_scratch_bytes.
int64_t clip_scratch_bytes(const List& list);
void clip(const Launch& on, const List& list, float max_norm, float* norm, void* scratch);
// target = m · target + (1 − m) · source
void ema(const Launch& on, const List& list, const float* m);
void zero(const Launch& on, const List& list);
// keys [n, d] go to rows *pointer, *pointer + 1, … (modulo k) of queue [k, d], as if one after the other: of more than
// k keys the last k stay. *pointer moves n rows on (modulo k).
void enqueue(const Launch& on, float* queue, int64_t k, const float* keys, int64_t n, int64_t d, int64_t* pointer);

}  // namespace slimclr::cuda
