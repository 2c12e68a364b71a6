// Softmax over rows and the cross-entropy loss with it.
#pragma once

#include "cuda/kernels/launch.h"
#include "cuda/kernels/report.h"

namespace slimclr::cuda {

// loss = mean over rows of −Σ_c t_c · log softmax(logits)_c, where t = (1 − smoothing) · target + smoothing / C.
// Targets: either labels [N] or probabilities [N, C]. A label outside [0, C) adds nothing and is reported.
struct CrossEntropyArgs {
  const float* logits = nullptr;
  int64_t n = 0, c = 0;
  const int32_t* labels = nullptr;
  const float* targets = nullptr;
  float smoothing = 0;
  float* probabilities = nullptr;  // [N, C] out
  float* loss = nullptr;           // [1] out
  double* row_loss = nullptr;      // [N] scratch
  Report* report = nullptr;
};

// dlogits = *dloss · (probabilities · Σt − t) / N
struct CrossEntropyBackwardArgs {
  const float* probabilities = nullptr;
  int64_t n = 0, c = 0;
  const int32_t* labels = nullptr;
  const float* targets = nullptr;
  float smoothing = 0;
  const float* dloss = nullptr;
  float* dlogits = nullptr;
};

void softmax(const Launch& on, const float* x, float* y, int64_t n, int64_t c);
void cross_entropy_forward(const Launch& on, const CrossEntropyArgs& a);
void cross_entropy_backward(const Launch& on, const CrossEntropyBackwardArgs& a);

}  // namespace slimclr::cuda
