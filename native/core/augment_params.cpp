#include "augment_params.h"

#include <cstring>

#include "core/augment_draw.h"

namespace slimclr {

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
  for (int64_t i = 0; i < n; ++i)
    draw_augment_row(recipe, sizes[2 * i], sizes[2 * i + 1], {seed, stream, offset + (uint64_t)i},
                     params + i * kAugmentColumns);
}

}  // namespace slimclr
