// A plain view of a tensor as the kernels see it.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace slimclr::cuda {

enum class Elem : uint8_t { f32, bf16, f16 };

// Stored as [N][ceil(C / block)][H][W][block]. Activations are NHWC with the channels rounded up to a multiple of 8
// (block ≥ C, the rest zero, and kernels keep it so); block = 1 is NCHW. A matrix [N, C] is H = W = 1 with block = 1.
struct Act {
  void* data = nullptr;
  Elem elem = Elem::f32;
  int64_t n = 0, c = 0, h = 0, w = 0;
  int64_t block = 1;

  SLIMCLR_HOST_DEVICE int64_t blocks() const { return (c + block - 1) / block; }
  SLIMCLR_HOST_DEVICE int64_t stored() const { return n * blocks() * block * h * w; }
  // As rows of channels: NHWC, or a matrix.
  SLIMCLR_HOST_DEVICE int64_t rows() const { return n * h * w; }
  SLIMCLR_HOST_DEVICE int64_t pitch() const { return block > 1 ? block : c; }
};

}  // namespace slimclr::cuda
