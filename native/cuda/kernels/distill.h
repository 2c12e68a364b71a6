// Distillation between two rows of logits, a fused loss and gradient per row.
#pragma once

#include "cuda/kernels/launch.h"
#include "cuda/kernels/report.h"

namespace slimclr::cuda {

// Mean over rows of, with student s and teacher t:
//   kd    −T_s² · Σ_c softmax(t / T_t)_c · log softmax(s / T_s)_c
//   mse   mean_c (s_c − t_c)²
//   atkd  T² · KL(softmax(2 · layer_norm(t) / T) ‖ softmax(2 · layer_norm(s) / T)), T = 4
//   dkd   KL of (positive, all others) + 0.5 · KL over the others
// A positive outside [0, C) adds nothing and is reported.
struct DistillArgs {
  enum class Kind { kd, mse, atkd, dkd } kind = Kind::kd;
  const float* student = nullptr;      // [N, C]
  const float* teacher = nullptr;      // [N, C]
  const int32_t* positives = nullptr;  // [N], dkd only
  int64_t n = 0, c = 0;
  float teacher_temperature = 1, student_temperature = 1;  // kd only
  float* loss = nullptr;                                   // [1] out
  float* gradient = nullptr;                               // [N, C] out, of the student; may be null
  double* row_loss = nullptr;                              // [N] scratch
  Report* report = nullptr;
};

void distill(const Launch& on, const DistillArgs& a);

}  // namespace slimclr::cuda
