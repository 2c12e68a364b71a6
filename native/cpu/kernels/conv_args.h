// What the convolution kernels take.
#pragma once

#include <cstdint>

#include "activation.h"

namespace slimclr::cpu {

// y [N, O, OH, OW] = conv(x [N, I, H, W], w[:O, :I]); O and I are y.c and x.c, OH = (H + 2 pad - kh) / stride + 1.
struct ConvArgs {
  Act x;                     // the input, or the gradient that backward_data writes
  Act y;                     // the output, or its gradient in the backward passes
  const float* w = nullptr;  // full weight [.., w_row / (kh kw), kh, kw]; its leading slice is used in place
  float* dw = nullptr;       // full gradient of the same shape; backward_weights adds into the slice
  int64_t w_row = 0;         // floats between two output channels of the full weight
  int kh = 1, kw = 1, stride = 1, pad = 0;
  // Lets forward and backward_data round the weights to bfloat16 where the source is bfloat16 and the processor has
  // bfloat16 products (twice the speed, sums still in float32); without it every product is of float32 weights.
  bool bf16_weights = false;
  int threads = 1;          // OpenMP threads to use; results do not depend on it
  void* scratch = nullptr;  // scratch_bytes(args, pass) bytes, aligned to 64
};

enum class ConvPass : uint8_t { forward, backward_data, backward_weights };

}  // namespace slimclr::cpu
