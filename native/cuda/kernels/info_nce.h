// InfoNCE of every width against a queue of negatives plus similarity distillation from the wider networks, with the
// gradient of every query. The N × (K + 1) logits are never stored.
#pragma once

#include "cuda/kernels/launch.h"

namespace slimclr::cuda {

constexpr int kMaxWidths = 64;

// All matrices are float32, rows contiguous. With s_w = q_w·[key, queue] per row and widths descending (index 0 is the
// full network and is never a student):
//   L_0 = mean CE(s_0 / T, positive)
//   L_w = (1 − a)·mean CE(s_w / T, positive) + a·T_s²·mean(−Σ_j t_wj · log softmax(s_w / T_s)_j)
//   t_w = softmax(s_0 / T_t), or with full_distill the mean of softmax(s_v / T_t) over v < w; teachers are constants.
struct InfoNceArgs {
  int widths = 0;
  int64_t n = 0, k = 0, d = 0;
  const float* queries[kMaxWidths];  // of [n, d]
  float* gradients[kMaxWidths];      // of [n, d], ∂loss/∂q_w
  bool want_gradients = false;
  const float* key = nullptr;      // [n, d], the positive of each row
  const float* queue = nullptr;    // [k, d]
  const float* weights = nullptr;  // [widths], λ
  float temperature = 0.2f, teacher_temperature = 5, student_temperature = 5, aux = 0.5f;
  bool distill = true;  // false: a = 0
  bool full_distill = false;
  float* loss = nullptr;       // [1], Σ_w λ_w·L_w
  float* per_width = nullptr;  // [widths], L_w, not weighted
  void* scratch = nullptr;     // info_nce_scratch_bytes
};

int64_t info_nce_scratch_bytes(const Launch& on, const InfoNceArgs& a);
void info_nce(const Launch& on, const InfoNceArgs& a);

}  // namespace slimclr::cuda
