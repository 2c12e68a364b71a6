// Direct 2-D convolution for narrow channel slices, where a library's blocks of 16 channels would mostly hold padding.
#pragma once

#include <cstdint>

#include "activation.h"

namespace slimclr::cpu {

// y [N, O, OH, OW] = conv(x [N, I, H, W], w[:O, :I]); O and I are y.c and x.c, OH = (H + 2 pad - kh) / stride + 1.
struct DirectConvArgs {
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

// Sums are float32 whatever the storage of x and y; each may be float32 or bfloat16, of block 1, 8 or 16.
struct DirectConvKernels {
  int64_t (*scratch_bytes)(const DirectConvArgs&, ConvPass);  // reads shapes, types, bf16_weights and threads only
  void (*forward)(const DirectConvArgs&);                     // writes y from x, w
  void (*backward_data)(const DirectConvArgs&);               // writes x from y, w
  void (*backward_weights)(const DirectConvArgs&);            // adds to dw from x, y
};

// The static choice between these kernels and oneDNN's, from measurements on AVX-512 at 32², 16² and 8². oneDNN spends
// a full block of 16 on any part of one, on both sides of the weight; its first-layer kernels (few input channels) pad
// the output side only. Both sides whole blocks: oneDNN, except its float32 forward of one block on wide rows. The
// passes agree otherwise, so that a layer keeps one layout (a reorder costs more than the ties are worth).
inline bool prefer_direct(int64_t in_channels, int64_t out_channels, int64_t out_width, Elem elem, ConvPass pass) {
  if (in_channels >= 64 || out_channels >= 64) return false;
  if (out_channels % 16 != 0 || (in_channels >= 8 && in_channels % 16 != 0)) return true;
  return elem == Elem::f32 && pass == ConvPass::forward && out_channels == 16 && in_channels <= 16 && out_width >= 32;
}

}  // namespace slimclr::cpu
