#include "augment_params.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "philox.h"

namespace slimclr {
namespace {

// Philox counters per image, and what their blocks of 4 uniforms are for.
constexpr uint64_t kCountersPerImage = 16;
constexpr int kCropTries = 10;         // blocks 0 to 9: area, ratio, top and left of each try
constexpr uint64_t kChoiceBlock = 10;  // jitter?, grey?, blur?, solarize?
constexpr uint64_t kOrderBlock = 11;   // flip?, order of the jitter, sigma
constexpr uint64_t kJitterBlock = 12;  // brightness, contrast, saturation, hue

struct Uniform4 {
  double v[4];
};

struct Crop {
  int64_t top, left, height, width;
};

double between(double low, double high, double u) { return low + (high - low) * u; }

// A random whole number in [0, count).
int64_t below(int64_t count, double u) { return std::min((int64_t)(u * (double)count), count - 1); }

// torchvision's RandomResizedCrop: ten tries, then the largest centred crop of an allowed ratio.
template <class Draw>
Crop random_resized_crop(const AugmentRecipe& recipe, int64_t height, int64_t width, Draw draw) {
  const double ratio_min = 3.0 / 4, ratio_max = 4.0 / 3;
  for (int attempt = 0; attempt < kCropTries; ++attempt) {
    Uniform4 u = draw((uint64_t)attempt);
    double area = (double)height * (double)width * between(recipe.crop_min, recipe.crop_max, u.v[0]);
    double ratio = std::exp(between(std::log(ratio_min), std::log(ratio_max), u.v[1]));
    double w = std::nearbyint(std::sqrt(area * ratio)), h = std::nearbyint(std::sqrt(area / ratio));
    if (!(w >= 1 && w <= (double)width && h >= 1 && h <= (double)height)) continue;
    return {below(height - (int64_t)h + 1, u.v[2]), below(width - (int64_t)w + 1, u.v[3]), (int64_t)h, (int64_t)w};
  }
  int64_t h = height, w = width;
  double ratio = (double)width / (double)height;
  if (ratio < ratio_min) {
    h = std::clamp((int64_t)std::nearbyint((double)width / ratio_min), (int64_t)1, height);
  } else if (ratio > ratio_max) {
    w = std::clamp((int64_t)std::nearbyint((double)height * ratio_max), (int64_t)1, width);
  }
  return {(height - h) / 2, (width - w) / 2, h, w};
}

// The permutation-th (0 to 23) order of the four jitter operations; one of strength 0 is left out.
void write_jitter_order(const AugmentRecipe& recipe, int64_t permutation, float* row) {
  int ops[4] = {kJitterBrightness, kJitterContrast, kJitterSaturation, kJitterHue};
  const float strength[5] = {0, recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue};
  for (int i = 0; i < 4; ++i) {
    int left = 4 - i;
    std::swap(ops[i], ops[i + permutation % left]);
    permutation /= left;
    row[kJitter0 + i] = strength[ops[i]] > 0 ? (float)ops[i] : (float)kJitterNone;
  }
}

}  // namespace

const char* const kAugmentRecipeNames[] = {"mocov1", "mocov2", "mocov3-view1", "mocov3-view2", "simclr",
                                           "cifar",  "normal", "val",          nullptr};

bool find_augment_recipe(const char* name, AugmentRecipe* recipe) {
  auto is = [name](const char* other) { return std::strcmp(name, other) == 0; };
  AugmentRecipe r;  // crop (0.2, 1) and flip
  if (is("mocov1")) {
    r.brightness = r.contrast = r.saturation = r.hue = 0.4f;
    r.jitter_p = 1;
    r.gray_p = 0.2f;
    r.gray_first = true;
  } else if (is("mocov2") || is("cifar") || is("mocov3-view1") || is("mocov3-view2")) {
    r.brightness = r.contrast = r.saturation = 0.4f;
    r.hue = 0.1f;
    r.jitter_p = 0.8f;
    r.gray_p = 0.2f;
    if (is("mocov2")) r.blur_p = 0.5f;
    if (is("mocov3-view1")) r.saturation = 0.2f, r.blur_p = 1;
    if (is("mocov3-view2")) r.saturation = 0.2f, r.blur_p = 0.1f, r.solarize_p = 0.2f;
  } else if (is("simclr")) {
    r.crop_min = 0.08f;
    r.brightness = r.contrast = r.saturation = 0.8f;
    r.hue = 0.2f;
    r.jitter_p = 0.8f;
    r.gray_p = 0.2f;
    r.blur_p = 0.5f;
  } else if (is("normal")) {
    r.crop_min = 0.08f;
  } else if (is("val")) {
    r.centre_resize = 256;
  } else {
    return false;
  }
  *recipe = r;
  return true;
}

void draw_augment_params(const AugmentRecipe& recipe, const int32_t* sizes, int64_t n, uint64_t seed, uint64_t stream,
                         uint64_t offset, float* params) {
  for (int64_t i = 0; i < n; ++i) {
    int64_t height = std::max(sizes[2 * i], 1), width = std::max(sizes[2 * i + 1], 1);
    auto draw = [&](uint64_t block) {
      Philox4 words = philox(seed, stream, (offset + (uint64_t)i) * kCountersPerImage + block);
      Uniform4 u;
      for (int k = 0; k < 4; ++k) u.v[k] = philox_uniform(words.v[k]);
      return u;
    };

    float* row = params + i * kAugmentColumns;
    std::fill(row, row + kAugmentColumns, 0.0f);
    row[kBrightness] = row[kContrast] = row[kSaturation] = 1;
    row[kSolarize] = -1;

    if (recipe.centre_resize > 0) {
      int64_t resize = recipe.centre_resize, shorter = std::min(height, width);
      row[kCropHeight] = (float)height;
      row[kCropWidth] = (float)width;
      row[kResizeHeight] = (float)(resize * height / shorter);
      row[kResizeWidth] = (float)(resize * width / shorter);
      row[kWindowTop] = row[kWindowLeft] = -1;
      continue;
    }

    Crop crop = random_resized_crop(recipe, height, width, draw);
    row[kCropTop] = (float)crop.top;
    row[kCropLeft] = (float)crop.left;
    row[kCropHeight] = (float)crop.height;
    row[kCropWidth] = (float)crop.width;

    Uniform4 choice = draw(kChoiceBlock), order = draw(kOrderBlock), jitter = draw(kJitterBlock);
    if (choice.v[0] < recipe.jitter_p) {
      write_jitter_order(recipe, below(24, order.v[1]), row);
      auto factor = [](double strength, double u) {
        return (float)between(std::max(0.0, 1 - strength), 1 + strength, u);
      };
      row[kBrightness] = factor(recipe.brightness, jitter.v[0]);
      row[kContrast] = factor(recipe.contrast, jitter.v[1]);
      row[kSaturation] = factor(recipe.saturation, jitter.v[2]);
      row[kHue] = (float)between(-recipe.hue, recipe.hue, jitter.v[3]);
    }
    if (choice.v[1] < recipe.gray_p) row[kGray] = recipe.gray_first ? 2 : 1;
    if (choice.v[2] < recipe.blur_p) row[kBlurSigma] = (float)between(recipe.sigma_min, recipe.sigma_max, order.v[2]);
    if (choice.v[3] < recipe.solarize_p) row[kSolarize] = recipe.solarize_threshold;
    if (order.v[0] < recipe.flip_p) row[kFlip] = 1;
  }
}

}  // namespace slimclr
