// Augmentation of images: crop and resize, colour jitter, grey, blur, solarize, flip, normalise, byte for byte as on
// the CPU.
#pragma once

#include "core/augment_params.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/launch.h"
#include "cuda/kernels/report.h"

namespace slimclr::cuda {

struct AugmentArgs {
  const uint8_t* pixels = nullptr;   // all images, RGB interleaved, rows from the top
  int64_t pixel_bytes = 0;           // bytes in pixels
  const int64_t* offsets = nullptr;  // [n] first byte of each image
  const int32_t* sizes = nullptr;    // [n, 2] height, width
  const float* params = nullptr;     // [n, 20], columns in core/augment_params.h
  int64_t n = 0, h = 0, w = 0;       // images, height and width of the output
  float mean[3] = {0, 0, 0};         // out = (x / 255 − mean) / std
  float std[3] = {1, 1, 1};
  Act out;                     // [n, 3, h, w]; unused when raw is given
  uint8_t* raw = nullptr;      // [n, h, w, 3] bytes, not normalised
  uint32_t* images = nullptr;  // scratch [2][n][h · w]
  int64_t* outside = nullptr;  // scratch: the first image that does not lie within pixels, or −1
  Report* report = nullptr;    // told of it; then nothing is written
};

void draw_augment_params(const Launch& on, const AugmentRecipe& recipe, const int32_t* sizes, int64_t n, uint64_t seed,
                         uint64_t stream, const int64_t* offset, float* params);
void augment(const Launch& on, const AugmentArgs& a);

}  // namespace slimclr::cuda
