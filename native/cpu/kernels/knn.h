// Weighted k-nearest-neighbour scores on cosine similarities.
#pragma once

#include <cstdint>

namespace slimclr::cpu {

// scores[i][c] = Σ e^(s/t) over those of the k bank rows most similar to query i whose label is c, with s = query·bank.
// Of equally similar rows the one with the lower index counts as nearer. k is capped to m; labels outside [0, classes)
// vote for no class. With s ≤ 1, t must be at least 1/88 for scores within float32.
struct KnnArgs {
  int64_t n = 0, m = 0, d = 0, k = 0, classes = 0;
  const float* query = nullptr;     // [n, d]
  const float* bank = nullptr;      // [m, d]
  const int32_t* labels = nullptr;  // [m]
  float temperature = 0.1f;
  float* scores = nullptr;  // [n, classes], overwritten
  void* scratch = nullptr;  // scratch_bytes(args), 64-byte aligned
};

struct KnnKernels {
  int64_t (*scratch_bytes)(const KnnArgs&);
  void (*knn)(const KnnArgs&);
};

}  // namespace slimclr::cpu
