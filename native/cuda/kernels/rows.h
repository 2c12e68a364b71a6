// Rows picked out of tensors, and their gradient.
#pragma once

#include "cuda/kernels/launch.h"
#include "cuda/kernels/report.h"

namespace slimclr::cuda {

struct RowsPart {
  const void* data;
  int64_t rows;
};

// An index that is null is 0, 1, 2, …
// y[i] = row index[i] of all parts on top of each other, in rows of `bytes`; parts is in device memory. A row that is
// not there becomes zeros and is reported.
void select_rows(const Launch& on, const RowsPart* parts, int64_t count, const int32_t* index, int64_t m, int64_t bytes,
                 void* y, Report* report);
// dx[r] = Σ dy[i] over the i with index[i] = first + r, in their order; rows of d.
void add_rows(const Launch& on, const float* dy, const int32_t* index, int64_t m, int64_t d, int64_t first,
              int64_t rows, float* dx);

}  // namespace slimclr::cuda
