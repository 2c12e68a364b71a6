// Batch normalisation over N, H, W per channel, fused with the residual sum and the ReLU that follow it in a ResNet.
#pragma once

#include "cpu/kernels/activation.h"

namespace slimclr::cpu {

// y = [relu](weight * (x - mean) * rstd + bias [+ residual]).
// All activations of a call share shape, block and elem; y may be the buffer of x or of residual.
struct BatchNormArgs {
  Act x, y;
  Act residual;                   // data = nullptr: none
  const float* weight = nullptr;  // [C]; nullptr: ones
  const float* bias = nullptr;    // [C]; nullptr: zeros
  float* running_mean = nullptr;  // [C] training: updated unless nullptr; evaluation: read
  float* running_var = nullptr;   // [C] likewise; receives the unbiased variance
  float* mean = nullptr;          // [C] out: what x was normalised with, for the backward pass
  float* rstd = nullptr;          // [C] out: 1 / sqrt(var + eps)
  bool training = true;           // false: normalise with the running statistics
  bool relu = false;
  float momentum = 0.1f, eps = 1e-5f;
};

// All activations of a call share shape, block and elem; dx may be the buffer of dy or dy2, and so may dresidual.
struct BatchNormBackwardArgs {
  Act x, dy, dx;
  Act y;                          // output of the forward pass; read only where relu and residual are set
  Act dy2;                        // data = nullptr: none; a second incoming gradient, added to dy
  Act dresidual;                  // data = nullptr: not wanted; out: the gradient after the ReLU's mask
  const float* weight = nullptr;  // [C]; nullptr: ones
  const float* bias = nullptr;    // [C]; nullptr: zeros; needed for the mask where relu is set and residual is not
  const float* mean = nullptr;    // [C] from the forward pass
  const float* rstd = nullptr;
  float* dweight = nullptr;  // [C] added to; nullptr: not wanted
  float* dbias = nullptr;
  bool training = true;  // false: mean and rstd were constants
  bool relu = false;
  bool residual = false;  // the forward pass had one (the mask then comes from y, else from x again)
};

struct BatchNormKernels {
  void (*forward)(const BatchNormArgs&);
  void (*backward)(const BatchNormBackwardArgs&);
};

}  // namespace slimclr::cpu
