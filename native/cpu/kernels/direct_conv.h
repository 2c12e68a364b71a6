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
