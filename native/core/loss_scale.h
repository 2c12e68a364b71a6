// Dynamic loss scaling, the same on every device.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace slimclr {

// As PyTorch's _amp_update_scale_: a scale that would not be finite stays.
SLIMCLR_HOST_DEVICE inline void next_scale(float* scale, int64_t* good_steps, float found, float growth, float backoff,
                                           int64_t interval) {
  if (found != 0) {
    *scale *= backoff;
    *good_steps = 0;
    return;
  }
  if (++*good_steps < interval) return;
  const float grown = *scale * growth;
  if (grown <= 3.402823466e+38f) *scale = grown;
  *good_steps = 0;
}

}  // namespace slimclr
