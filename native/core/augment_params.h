// The table of augmentation parameters: one row of float32 per image, drawn from a recipe, applied by the augment
// kernels. Plain declarations only, so that kernels can include it.
#pragma once

#include <cstdint>

namespace slimclr {

// Columns of the [N, 20] table. Kernels clamp what is out of range; a NaN means "not given", so the operation is left
// out.
enum AugmentColumn : int {
  kCropTop = 0,  // crop in pixels of the source image, clamped inside it
  kCropLeft = 1,
  kCropHeight = 2,    // < 1: to the lower edge
  kCropWidth = 3,     // < 1: to the right edge
  kResizeHeight = 4,  // size that the crop is resized to; 0: the output's. Raised to the output's if smaller
  kResizeWidth = 5,
  kWindowTop = 6,  // where the output lies in the resized crop; negative: in its centre
  kWindowLeft = 7,
  kFlip = 8,     // 1: mirror left to right
  kJitter0 = 9,  // the colour operations in their order, each a JitterOp
  kJitter1 = 10,
  kJitter2 = 11,
  kJitter3 = 12,
  kBrightness = 13,  // factors, 1: unchanged
  kContrast = 14,
  kSaturation = 15,
  kHue = 16,        // shift in turns, [-0.5, 0.5]
  kGray = 17,       // 0: no, 1: after the jitter, 2: before it (MoCo v1)
  kBlurSigma = 18,  // Gaussian blur in pixels of the output, at most 64; 0: none
  kSolarize = 19,   // values >= threshold are inverted; < 0 or > 255: none
  kAugmentColumns = 20
};

enum JitterOp : int {
  kJitterNone = 0,
  kJitterBrightness = 1,
  kJitterContrast = 2,
  kJitterSaturation = 3,
  kJitterHue = 4
};

// What to draw. Ranges as in torchvision: crop_* are shares of the area (ratio 3/4 to 4/3); a strength b draws a factor
// from [max(0, 1 - b), 1 + b], hue h a shift from [-h, h]; *_p are probabilities.
struct AugmentRecipe {
  float crop_min = 0.2f, crop_max = 1;
  float brightness = 0, contrast = 0, saturation = 0, hue = 0, jitter_p = 0;
  float gray_p = 0;
  bool gray_first = false;  // grey before the jitter, as in MoCo v1
  float blur_p = 0, sigma_min = 0.1f, sigma_max = 2;
  float solarize_p = 0, solarize_threshold = 128;
  float flip_p = 0.5f;
  int centre_resize = 0;  // > 0: draws nothing; resizes the shorter side to this and takes the centre (validation)
};

// The names of the published recipes, ended by a null pointer.
extern const char* const kAugmentRecipeNames[];

// Looks up a published recipe; false if there is none of that name.
bool find_augment_recipe(const char* name, AugmentRecipe* recipe);

// Draws params [n, 20] for images of sizes [n, 2] (height, width). Row i depends on (seed, stream, offset + i) and its
// size alone, never on the batch. Give each view of an image a stream of its own.
void draw_augment_params(const AugmentRecipe& recipe, const int32_t* sizes, int64_t n, uint64_t seed, uint64_t stream,
                         uint64_t offset, float* params);

}  // namespace slimclr
