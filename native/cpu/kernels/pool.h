// Pooling over the image plane, in any layout.
#pragma once

#include "cpu/kernels/activation.h"

namespace slimclr::cpu {

// Square windows; out = (in + 2 * padding - kernel) / stride + 1, padding <= kernel / 2, kernel <= 16.
struct MaxPoolArgs {
  Act x, y;                   // same n, c, block and elem
  uint8_t* argmax = nullptr;  // one per stored element of y, in y's layout: row * kernel + column inside the window
  int64_t kernel = 2, stride = 2, padding = 0;
};

struct MaxPoolBackwardArgs {
  Act dy, dx;  // as y and x
  const uint8_t* argmax = nullptr;
  int64_t kernel = 2, stride = 2, padding = 0;
};

struct PoolKernels {
  void (*max_pool_forward)(const MaxPoolArgs&);                      // the first maximum; a NaN wins, as in PyTorch
  void (*max_pool_backward)(const MaxPoolBackwardArgs&);             // dx is written
  void (*global_avg_pool_forward)(const Act& x, float* y);           // y [N, C], dense
  void (*global_avg_pool_backward)(const float* dy, const Act& dx);  // dx is written, channel tail included (zero)
};

}  // namespace slimclr::cpu
