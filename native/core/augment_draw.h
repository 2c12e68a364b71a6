// Draws the augmentation parameters of one image. Plain functions, compiled by CUDA too.
#pragma once

#include <cmath>

#include "core/augment_params.h"
#include "core/host_device.h"
#include "core/philox.h"

namespace slimclr {

// Philox counters per image, and what their blocks of 4 uniforms are for.
constexpr uint64_t kCountersPerImage = 16;
constexpr int kCropTries = 10;         // blocks 0 to 9: area, ratio, top and left of each try
constexpr uint64_t kChoiceBlock = 10;  // jitter?, grey?, blur?, solarize?
constexpr uint64_t kOrderBlock = 11;   // flip?, order of the jitter, sigma
constexpr uint64_t kJitterBlock = 12;  // brightness, contrast, saturation, hue

struct Uniform4 {
  double v[4];
};

// The stream of one image.
struct ImageDraws {
  uint64_t seed, stream, image;
  SLIMCLR_HOST_DEVICE Uniform4 operator()(uint64_t block) const {
    Philox4 words = philox(seed, stream, image * kCountersPerImage + block);
    Uniform4 u = {};
    for (int k = 0; k < 4; ++k) u.v[k] = philox_uniform(words.v[k]);
    return u;
  }
};

struct Crop {
  int64_t top, left, height, width;
};

SLIMCLR_HOST_DEVICE inline double between(double low, double high, double u) { return low + (high - low) * u; }

SLIMCLR_HOST_DEVICE inline int64_t at_most(int64_t v, int64_t limit) { return v < limit ? v : limit; }

// A random whole number in [0, count).
SLIMCLR_HOST_DEVICE inline int64_t below(int64_t count, double u) {
  return at_most((int64_t)(u * (double)count), count - 1);
}

// `length` to the nearest whole number, in [1, limit].
SLIMCLR_HOST_DEVICE inline int64_t side(double length, int64_t limit) {
  int64_t v = at_most((int64_t)nearbyint(length), limit);
  return v < 1 ? 1 : v;
}

// torchvision's RandomResizedCrop: ten tries, then the largest centred crop of an allowed ratio.
SLIMCLR_HOST_DEVICE inline Crop random_resized_crop(const AugmentRecipe& recipe, int64_t height, int64_t width,
                                                    const ImageDraws& draw) {
  const double ratio_min = 3.0 / 4, ratio_max = 4.0 / 3;
  for (int attempt = 0; attempt < kCropTries; ++attempt) {
    Uniform4 u = draw((uint64_t)attempt);
    double area = (double)height * (double)width * between(recipe.crop_min, recipe.crop_max, u.v[0]);
    double ratio = exp(between(log(ratio_min), log(ratio_max), u.v[1]));
    double w = nearbyint(sqrt(area * ratio)), h = nearbyint(sqrt(area / ratio));
    if (!(w >= 1 && w <= (double)width && h >= 1 && h <= (double)height)) continue;
    return {below(height - (int64_t)h + 1, u.v[2]), below(width - (int64_t)w + 1, u.v[3]), (int64_t)h, (int64_t)w};
  }
  int64_t h = height, w = width;
  double ratio = (double)width / (double)height;
  if (ratio < ratio_min) {
    h = side((double)width / ratio_min, height);
  } else if (ratio > ratio_max) {
    w = side((double)height * ratio_max, width);
  }
  return {(height - h) / 2, (width - w) / 2, h, w};
}

// The permutation-th (0 to 23) order of the four jitter operations; one of strength 0 is left out.
SLIMCLR_HOST_DEVICE inline void write_jitter_order(const AugmentRecipe& recipe, int64_t permutation, float* row) {
  int ops[4] = {kJitterBrightness, kJitterContrast, kJitterSaturation, kJitterHue};
  const float strength[5] = {0, recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue};
  for (int i = 0; i < 4; ++i) {
    int left = 4 - i, other = i + (int)(permutation % left), op = ops[other];
    ops[other] = ops[i];
    ops[i] = op;
    permutation /= left;
    row[kJitter0 + i] = strength[op] > 0 ? (float)op : (float)kJitterNone;
  }
}

SLIMCLR_HOST_DEVICE inline float jitter_factor(double strength, double u) {
  return (float)between(strength < 1 ? 1 - strength : 0.0, 1 + strength, u);
}

// row: kAugmentColumns floats.
SLIMCLR_HOST_DEVICE inline void draw_augment_row(const AugmentRecipe& recipe, int64_t height, int64_t width,
                                                 const ImageDraws& draw, float* row) {
  height = height < 1 ? 1 : height;
  width = width < 1 ? 1 : width;
  for (int k = 0; k < kAugmentColumns; ++k) row[k] = 0;
  row[kBrightness] = row[kContrast] = row[kSaturation] = 1;
  row[kSolarize] = -1;

  if (recipe.centre_resize > 0) {
    int64_t resize = recipe.centre_resize, shorter = at_most(height, width);
    row[kCropHeight] = (float)height;
    row[kCropWidth] = (float)width;
    row[kResizeHeight] = (float)(resize * height / shorter);
    row[kResizeWidth] = (float)(resize * width / shorter);
    row[kWindowTop] = row[kWindowLeft] = -1;
    return;
  }

  Crop crop = random_resized_crop(recipe, height, width, draw);
  row[kCropTop] = (float)crop.top;
  row[kCropLeft] = (float)crop.left;
  row[kCropHeight] = (float)crop.height;
  row[kCropWidth] = (float)crop.width;

  Uniform4 choice = draw(kChoiceBlock), order = draw(kOrderBlock), jitter = draw(kJitterBlock);
  if (choice.v[0] < recipe.jitter_p) {
    write_jitter_order(recipe, below(24, order.v[1]), row);
    row[kBrightness] = jitter_factor(recipe.brightness, jitter.v[0]);
    row[kContrast] = jitter_factor(recipe.contrast, jitter.v[1]);
    row[kSaturation] = jitter_factor(recipe.saturation, jitter.v[2]);
    row[kHue] = (float)between(-recipe.hue, recipe.hue, jitter.v[3]);
  }
  if (choice.v[1] < recipe.gray_p) row[kGray] = recipe.gray_first ? 2 : 1;
  if (choice.v[2] < recipe.blur_p) row[kBlurSigma] = (float)between(recipe.sigma_min, recipe.sigma_max, order.v[2]);
  if (choice.v[3] < recipe.solarize_p) row[kSolarize] = recipe.solarize_threshold;
  if (order.v[0] < recipe.flip_p) row[kFlip] = 1;
}

}  // namespace slimclr
