#include "cuda/kernels/rows.h"

#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

namespace {

// Where row `row` of all parts lies; null where there is none.
__device__ const char* find_row(const RowsPart* parts, int64_t count, int64_t row, int64_t bytes) {
  if (row < 0) return nullptr;
  for (int64_t p = 0; p < count; ++p) {
    if (row < parts[p].rows) return static_cast<const char*>(parts[p].data) + row * bytes;
    row -= parts[p].rows;
  }
  return nullptr;
}

// W: a word that divides a row.
template <typename W>
__global__ void select_rows_kernel(const RowsPart* parts, int64_t count, const int32_t* index, int64_t bytes, W* y) {
  const int64_t words = bytes / static_cast<int64_t>(sizeof(W));
  const int64_t row = index ? index[blockIdx.x] : blockIdx.x;
  const W* from = reinterpret_cast<const W*>(find_row(parts, count, row, bytes));
  W* to = y + blockIdx.x * words;
  for (int64_t i = threadIdx.x; i < words; i += blockDim.x) to[i] = from ? from[i] : W{};
}

__global__ void report_rows_kernel(const RowsPart* parts, int64_t count, const int32_t* index, int64_t m,
                                   Report* report) {
  int64_t rows = 0;
  for (int64_t p = 0; p < count; ++p) rows += parts[p].rows;
  double bad = 0;
  for (int64_t i = threadIdx.x; i < m; i += blockDim.x)
    if (index[i] < 0 || index[i] >= rows) bad += 1;
  bad = block_sum(bad);
  if (threadIdx.x == 0 && bad > 0 && report->kind == Report::none) {
    report->values[0] = static_cast<int64_t>(bad);
    report->values[1] = m;
    report->kind = Report::bad_rows;
  }
}

__global__ void add_rows_kernel(const float* dy, const int32_t* index, int64_t m, int64_t d, int64_t first, float* dx) {
  const int64_t row = blockIdx.x;
  for (int64_t j = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x; j < d;
       j += static_cast<int64_t>(gridDim.y) * blockDim.x) {
    float total = 0;
    for (int64_t i = 0; i < m; ++i)
      if ((index ? index[i] : i) - first == row) total += dy[i * d + j];
    dx[row * d + j] = total;
  }
}

}  // namespace

void select_rows(const Launch& on, const RowsPart* parts, int64_t count, const int32_t* index, int64_t m, int64_t bytes,
                 void* y, Report* report) {
  const dim3 grid(static_cast<unsigned>(m));
  if (bytes % 16 == 0)
    launch(on, grid, dim3(kThreads), 0, select_rows_kernel<uint4>, parts, count, index, bytes, static_cast<uint4*>(y));
  else if (bytes % 4 == 0)
    launch(on, grid, dim3(kThreads), 0, select_rows_kernel<uint32_t>, parts, count, index, bytes,
           static_cast<uint32_t*>(y));
  else
    launch(on, grid, dim3(kThreads), 0, select_rows_kernel<uint8_t>, parts, count, index, bytes,
           static_cast<uint8_t*>(y));
  if (index) launch(on, dim3(1), dim3(kThreads), 0, report_rows_kernel, parts, count, index, m, report);
}

void add_rows(const Launch& on, const float* dy, const int32_t* index, int64_t m, int64_t d, int64_t first,
              int64_t rows, float* dx) {
  const int64_t blocks = (d + kThreads - 1) / kThreads;
  if (rows > 0 && d > 0)
    launch(on, dim3(static_cast<unsigned>(rows), static_cast<unsigned>(blocks < 1024 ? blocks : 1024)), dim3(kThreads),
           0, add_rows_kernel, dy, index, m, d, first, dx);
}

}  // namespace slimclr::cuda
