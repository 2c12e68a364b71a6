// A plain view of a [N, C, H, W] activation as the kernels see it.
#pragma once

#include <cstdint>

namespace slimclr::cpu {

enum class Elem : uint8_t { f32, bf16 };

// Stored as [N][ceil(C / block)][H][W][block]; channels beyond C inside the last block are zero (kernels keep them so).
// block = 1 is NCHW, block = 16 (or 8) is oneDNN's nChw16c (nChw8c). [N, C] matrices are H = W = 1 with block = 1.
struct Act {
  void* data = nullptr;
  Elem elem = Elem::f32;
  int64_t n = 0, c = 0, h = 0, w = 0;
  int64_t block = 1;
};

}  // namespace slimclr::cpu
