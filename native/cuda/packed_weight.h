// Slices of a convolution's weight in the form that cuDNN takes, kept with the weight until it may have changed.
#pragma once

#include <map>
#include <memory>
#include <utility>

#include "core/allocator.h"
#include "cuda/kernels/activation.h"
#include "cuda/kernels/weights.h"

namespace slimclr::cuda {

struct PackedSlice {
  std::shared_ptr<Buffer> memory;
  // Whether the memory holds the slice. For tasks alone, which are dropped after one has failed; they own no memory, so
  // that it is freed where it is allocated: by the thread that enqueues.
  std::shared_ptr<bool> filled;
};

using PackedSlices = std::map<std::pair<Elem, WeightSlice>, PackedSlice>;

// Without memory where the weight has no such slice.
inline PackedSlice find_packed(const Buffer& weight, Elem elem, const WeightSlice& slice) {
  if (!weight.derived) return {};
  const auto& slices = *static_cast<const PackedSlices*>(weight.derived.get());
  auto found = slices.find({elem, slice});
  return found == slices.end() ? PackedSlice{} : found->second;
}

// To be called once the task that fills it is enqueued. A weight that was made within a recording keeps nothing: only
// those from before are watched.
inline void keep_packed(Buffer& weight, Elem elem, const WeightSlice& slice, PackedSlice packed) {
  if (weight.pool()) return;
  if (!weight.derived) weight.derived = std::make_shared<PackedSlices>();
  static_cast<PackedSlices*>(weight.derived.get())->emplace(std::pair{elem, slice}, std::move(packed));
}

}  // namespace slimclr::cuda
