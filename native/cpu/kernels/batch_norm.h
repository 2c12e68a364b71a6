// Batch normalisation over N, H, W per channel, fused with the residual sum and the ReLU that follow it in a ResNet.
#pragma once

#include "cpu/kernels/activation.h"

namespace slimclr::cpu {

// y = [relu](weight * (x - mean) * rstd + bias [+ residual]), or relu(...) + residual.
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
  bool residual_last = false;  // add the residual after the ReLU
  float momentum = 0.1f, eps = 1e-5f;
};

// All activations of a call share shape, block and elem; dx may be the buffer of dy or dy2, and so may dresidual.
struct BatchNormBackwardArgs {
  Act x, dy, dx;
  Act y;                          // output of the forward pass; read only where the ReLU came after a residual
  Act dy2;                        // data = nullptr: none; a second incoming gradient, added to dy
  Act dresidual;                  // data = nullptr: not wanted; out: the gradient of the residual
  const float* weight = nullptr;  // [C]; nullptr: ones
  const float* bias = nullptr;    // [C]; nullptr: zeros; needed for the ReLU's mask unless that comes from y
  const float* mean = nullptr;    // [C] from the forward pass
  const float* rstd = nullptr;
  float* dweight = nullptr;  // [C] added to; nullptr: not wanted
  float* dbias = nullptr;
  bool training = true;  // false: mean and rstd were constants
  bool relu = false;
  bool residual = false;       // the forward pass had one: the ReLU's mask then comes from y, else from x again
  bool residual_last = false;  // the forward pass added it after the ReLU: the mask comes from x, dresidual has none
};

struct BatchNormKernels {
  void (*forward)(const BatchNormArgs&);
  void (*backward)(const BatchNormBackwardArgs&);
};

}  // namespace slimclr::cpu
