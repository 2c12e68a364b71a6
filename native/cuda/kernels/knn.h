// Weighted k-nearest-neighbour votes from rows of similarities.
#pragma once

#include "cuda/kernels/launch.h"

namespace slimclr::cuda {

// scores[i][c] = Σ e^(s/t) over those of the k largest similarities s of row i whose label is c. Of equal similarities
// the one with the lower index counts as nearer; labels outside [0, classes) vote for no class.
struct KnnArgs {
  const float* similarities = nullptr;  // [n, m]
  const int32_t* labels = nullptr;      // [m]
  int64_t n = 0, m = 0, k = 0, classes = 0;
  float temperature = 0.1f;
  int32_t* nearest = nullptr;  // [n, k] scratch
  float* scores = nullptr;     // [n, classes], overwritten
};

void knn(const Launch& on, const KnnArgs& a);

}  // namespace slimclr::cuda
