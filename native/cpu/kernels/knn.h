// Weighted k-nearest-neighbour scores by cosine similarity.
#pragma once

#include <cstdint>

namespace slimclr::cpu {

// scores[i][c] = Σ e^(s / temperature) over those of the k most similar rows of the bank whose label is c. Of equal
// similarities the lower row counts as nearer. A label outside 0…classes − 1 belongs to no class.
struct KnnArgs {
  const float* query = nullptr;     // [n, d], unit rows
  const float* bank = nullptr;      // [m, d], unit rows
  const int32_t* labels = nullptr;  // [m]
  int64_t n = 0, m = 0, d = 0, k = 0, classes = 0;  // 1 <= k <= m
  float temperature = 0.1f;
  float* scores = nullptr;  // [n, classes]
  void* scratch = nullptr;  // scratch_bytes(args), 64-byte aligned
};

struct KnnKernels {
  int64_t (*scratch_bytes)(const KnnArgs&);
  void (*knn)(const KnnArgs&);
};

}  // namespace slimclr::cpu
