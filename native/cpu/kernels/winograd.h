// Winograd's convolution F(2x2, 3x3): 3x3, stride 1, padding 1, in float32, with 16 instead of 36 products for every
// four outputs. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
#pragma once

#include "conv_args.h"

namespace slimclr::cpu {

struct WinogradKernels {
  // Whether the kernels take it: 3x3/1 with padding 1, float32, whole blocks as wide as the vectors on both sides,
  // images that are large enough.
  bool (*supports)(const ConvArgs&);
  int64_t (*scratch_bytes)(const ConvArgs&);  // reads shapes and threads only
  void (*forward)(const ConvArgs&);           // writes y from x, w
  void (*backward_data)(const ConvArgs&);     // writes x from y, w
};

}  // namespace slimclr::cpu
