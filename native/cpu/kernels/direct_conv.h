// Direct 2-D convolution for narrow channel slices, where a library's blocks of 16 channels would mostly hold padding.
#pragma once

#include <cstdint>

#include "conv_args.h"

namespace slimclr::cpu {

// Sums are float32 whatever the storage of x and y; each may be float32 or bfloat16, of block 1, 8 or 16.
struct DirectConvKernels {
  int64_t (*scratch_bytes)(const ConvArgs&, ConvPass);  // reads shapes, types, bf16_weights and threads only
  void (*forward)(const ConvArgs&);                     // writes y from x, w
  void (*backward_data)(const ConvArgs&);               // writes x from y, w
  void (*backward_weights)(const ConvArgs&);            // adds to dw from x, y
};

// The static choice between these kernels and oneDNN's, from measurements on AVX-512 at 32², 16², 8² and 4². oneDNN
// spends a full block of 16 on any part of one, on both sides of the weight; its first-layer kernels (few input
// channels) pad the output side only. Both sides whole blocks: oneDNN, except its float32 forward of one block on wide
// rows, and its bfloat16 weight gradients of 3x3 kernels of stride 2 (1.6x slower) or of few channels (up to 1.15x).
inline bool prefer_direct(const ConvArgs& a, ConvPass pass) {
  const int64_t in = a.x.c, out = a.y.c;
  const bool bf16 = a.x.elem == Elem::bf16;
  const bool parts = out % 16 != 0 || (in >= 8 && in % 16 != 0);
  if (parts && in < 64 && out < 64) return true;
  if (pass == ConvPass::backward_weights && bf16 && a.kh == 3 && !parts && in >= 16)
    return a.stride == 2 ? a.y.w >= 8 : in <= 64 && out <= 64;
  return pass == ConvPass::forward && !bf16 && out == 16 && in <= 16 && a.y.w >= 32;
}

}  // namespace slimclr::cpu
