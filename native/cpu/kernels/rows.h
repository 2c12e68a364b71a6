// Rows chosen by an index.
#pragma once

#include "cpu/kernels/activation.h"

namespace slimclr::cpu {

struct RowsPart {
  const void* data;
  int64_t rows;
};

// An index that is null is 0, 1, 2, …
struct RowsKernels {
  // y[m] = the row index[m] of all parts on top of each other, `bytes` each. Returns the number of indices outside;
  // their rows become zeros.
  int64_t (*select)(const RowsPart* parts, int64_t count, const int32_t* index, int64_t m, int64_t bytes, void* y);
  // dx[index[m] - first] += dy[m], for the indices of rows that dx [rows, d] has; dx is zeroed before.
  void (*add)(const float* dy, const int32_t* index, int64_t m, int64_t d, int64_t first, int64_t rows, float* dx);
};

}  // namespace slimclr::cpu
