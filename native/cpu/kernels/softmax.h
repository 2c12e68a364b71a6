// Softmax over rows and the cross-entropy loss with it.
#pragma once

#include "cpu/kernels/activation.h"

namespace slimclr::cpu {

// loss = mean over rows of -sum_c t_c * log softmax(logits)_c, where t = (1 - smoothing) * target + smoothing / C.
// Targets: either labels [N] or probabilities [N, C].
struct CrossEntropyArgs {
  const void* logits = nullptr;  // [N, C], dense
  Elem elem = Elem::f32;         // of logits
  int64_t n = 0, c = 0;
  const int32_t* labels = nullptr;
  const float* targets = nullptr;
  float smoothing = 0;
  float* probabilities = nullptr;  // [N, C] out: softmax(logits)
  float* loss = nullptr;           // [1] out
};

// dlogits = *dloss * (probabilities * sum(t) - t) / N
struct CrossEntropyBackwardArgs {
  const float* probabilities = nullptr;
  int64_t n = 0, c = 0;
  const int32_t* labels = nullptr;
  const float* targets = nullptr;
  float smoothing = 0;
  const float* dloss = nullptr;  // [1]
  void* dlogits = nullptr;       // [N, C] written
  Elem elem = Elem::f32;         // of dlogits
};

struct SoftmaxKernels {
  void (*softmax)(Elem elem, const void* x, float* y, int64_t n, int64_t c);  // rows of x [N, C]
  // Returns the number of labels outside [0, C); such rows add nothing to the loss and get no gradient. NaNs propagate.
  int64_t (*cross_entropy_forward)(const CrossEntropyArgs&);
  void (*cross_entropy_backward)(const CrossEntropyBackwardArgs&);
};

}  // namespace slimclr::cpu
