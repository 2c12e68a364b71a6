// Batch normalisation per channel of a matrix of rows [N·H·W, C], fused with the residual sum and the ReLU that follow
// it in a ResNet.
#pragma once

#include "cuda/kernels/activation.h"
#include "cuda/kernels/launch.h"

namespace slimclr::cuda {

// y = [relu](weight · (x − mean) · rstd + bias [+ residual]), or with residual_last the residual after the ReLU.
// All activations of a call share shape, layout and type; y may be the buffer of x or of residual.
struct BatchNormArgs {
  Act x;
  void* y = nullptr;
  const void* residual = nullptr;  // null: none
  const float* weight = nullptr;   // [C]; null: ones
  const float* bias = nullptr;     // [C]; null: zeros
  float* running_mean = nullptr;   // [C] training: updated; evaluation: read
  float* running_var = nullptr;    // [C] likewise; receives the unbiased variance
  float* mean = nullptr;           // [C] out: what x was normalised with
  float* rstd = nullptr;           // [C] out: 1 / sqrt(var + eps)
  bool training = true, relu = false, residual_last = false;
  float momentum = 0.1f, eps = 1e-5f;
  double* partial = nullptr;  // batch_norm_partials doubles
};

// dx may be the buffer of dy or dy2, and so may dresidual.
struct BatchNormBackwardArgs {
  Act x;
  const void* dy = nullptr;
  const void* dy2 = nullptr;  // null: none; a second incoming gradient, added to dy
  const void* y = nullptr;    // read where the mask of the ReLU comes from it: mask_from_y
  void* dx = nullptr;
  void* dresidual = nullptr;      // null: not wanted
  const float* weight = nullptr;  // [C]; null: ones
  const float* bias = nullptr;    // [C]; null: zeros
  const float* mean = nullptr;
  const float* rstd = nullptr;
  float* dweight = nullptr;  // [C] added to; null: not wanted
  float* dbias = nullptr;
  bool training = true;  // false: mean and rstd were constants
  bool relu = false;
  bool mask_from_y = false;    // a residual came before the ReLU; else the mask is that of the normalised x
  bool residual_last = false;  // dresidual is what comes in, not masked
  double* partial = nullptr;   // batch_norm_partials doubles
  float* offset = nullptr;     // [pitch] each: coefficients between the passes
  float* slope = nullptr;
};

// How a matrix is cut: a block of `across` × `down` threads takes `across` packs of `pack` channels and every
// (down · splits)-th row. Each split leaves a partial sum.
struct BatchNormGrid {
  int pack, across, down;
  int64_t columns;  // blocks side by side
  int64_t splits;   // blocks along the rows
};
BatchNormGrid batch_norm_grid(int64_t rows, int64_t pitch, int processors);
inline int64_t batch_norm_partials(const BatchNormGrid& g, int64_t pitch) { return 2 * g.splits * pitch; }

void batch_norm_forward(const Launch& on, const BatchNormArgs& a);
void batch_norm_backward(const Launch& on, const BatchNormBackwardArgs& a);

}  // namespace slimclr::cuda
