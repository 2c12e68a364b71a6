// Augmentation of images: crop and resize, colour jitter, grey, blur, solarize, flip, normalise, as PIL and torchvision
// do.
#pragma once

#include <cstdint>

#include "activation.h"

namespace slimclr::cpu {

struct AugmentArgs {
  const uint8_t* pixels = nullptr;   // all images, RGB interleaved, rows from the top
  int64_t pixel_bytes = 0;           // bytes in pixels
  const int64_t* offsets = nullptr;  // [n] first byte of each image
  const int32_t* sizes = nullptr;    // [n, 2] height, width
  const float* params = nullptr;     // [n, 20], columns in core/augment_params.h
  int64_t n = 0, h = 0, w = 0;       // images, height and width of the output
  float mean[3] = {0, 0, 0};         // out = (x / 255 - mean) / std
  float std[3] = {1, 1, 1};
  Act out;                 // [n, 3, h, w], block 1, 8 or 16, f32 or bf16; unused when raw is given
  uint8_t* raw = nullptr;  // [n, h, w, 3] bytes, not normalised
};

constexpr int64_t kAugmentOk = -1;
constexpr int64_t kAugmentOutOfMemory = -2;

struct AugmentKernels {
  // kAugmentOk, or, with nothing written: kAugmentOutOfMemory, or the index (>= 0) of the first image whose offset and
  // size do not lie within pixels. Any params are safe: they are clamped, and NaN leaves its operation out.
  int64_t (*augment)(const AugmentArgs&);
};

}  // namespace slimclr::cpu
