// Pooling over the image plane, in any layout.
#pragma once

#include "cuda/kernels/activation.h"
#include "cuda/kernels/launch.h"

namespace slimclr::cuda {

// Square windows; out = (in + 2 · padding − kernel) / stride + 1.
struct PoolWindow {
  int64_t kernel, stride, padding;
};

// The first maximum; a NaN wins. argmax: one per stored element of y, row · kernel + column inside the window.
void max_pool_forward(const Launch& on, const Act& x, const Act& y, uint8_t* argmax, const PoolWindow& window);
void max_pool_backward(const Launch& on, const Act& dy, const uint8_t* argmax, const Act& dx, const PoolWindow& window);
void global_avg_pool_forward(const Launch& on, const Act& x, float* y);           // y [N, C]
void global_avg_pool_backward(const Launch& on, const float* dy, const Act& dx);  // zero channels included

}  // namespace slimclr::cuda
