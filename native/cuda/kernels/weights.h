// Channel slices of convolution weights: from the full tensor [O, I, R, S] in float32 to what cuDNN takes, and back.
#pragma once

#include <compare>

#include "cuda/kernels/activation.h"
#include "cuda/kernels/launch.h"
#include "cuda/kernels/list.h"

namespace slimclr::cuda {

struct WeightSlice {
  int64_t out, in;                // the slice weight[:out, :in]
  int64_t full_in;                // I
  int64_t taps;                   // R · S
  int64_t padded_out, padded_in;  // multiples of 8
  int64_t packed() const { return padded_out * taps * padded_in; }
  auto operator<=>(const WeightSlice&) const = default;
};

// packed [padded_out][R · S][padded_in] = the slice, zeros beyond it.
void pack_weight(const Launch& on, const float* weight, Elem elem, void* packed, const WeightSlice& slice);
// The same for many slices in one launch.
struct PackItem {
  const float* weight;
  void* packed;
  WeightSlice slice;
  int64_t size;  // slice.packed()
  int64_t begin = 0;
};
void pack_weights(const Launch& on, Elem elem, const ListOf<PackItem>& list);
// weight[:out, :in] += packed, which is float32 or of the activations' type.
void add_weight_gradient(const Launch& on, Elem elem, const void* packed, float* weight, const WeightSlice& slice);

}  // namespace slimclr::cuda
