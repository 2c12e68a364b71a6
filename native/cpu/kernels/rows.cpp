#include "cpu/kernels/rows.h"

#include "cpu/kernels/vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int64_t kParallel = 1 << 16;  // bytes below which one thread does it all

int64_t select_rows(const RowsPart* parts, int64_t count, const int32_t* index, int64_t m, int64_t bytes, void* y) {
  int64_t bad = 0;
#pragma omp parallel for schedule(static) reduction(+ : bad) if (m * bytes > kParallel)
  for (int64_t i = 0; i < m; ++i) {
    int64_t row = index ? index[i] : i, part = 0;
    while (part < count && row >= parts[part].rows) row -= parts[part++].rows;
    char* to = (char*)y + i * bytes;
    if (row < 0 || part == count) {
      ++bad;
      memset(to, 0, (size_t)bytes);
    } else if (bytes == 4) {
      memcpy(to, (const char*)parts[part].data + row * 4, 4);
    } else {
      memcpy(to, (const char*)parts[part].data + row * bytes, (size_t)bytes);
    }
  }
  return bad;
}

// One thread: indices may repeat, and the sums must not depend on the number of threads.
void add_rows(const float* dy, const int32_t* index, int64_t m, int64_t d, int64_t first, int64_t rows, float* dx) {
  memset(dx, 0, sizeof(float) * (size_t)(rows * d));
  for (int64_t i = 0; i < m; ++i) {
    const int64_t row = (index ? index[i] : i) - first;
    if (row < 0 || row >= rows) continue;
    float* to = dx + row * d;
    const float* from = dy + i * d;
    int64_t j = 0;
    for (; j + V <= d; j += V) store(to + j, load(to + j) + load(from + j));
    for (; j < d; ++j) to[j] += from[j];
  }
}

}  // namespace

extern const RowsKernels rows_kernels;
const RowsKernels rows_kernels = {select_rows, add_rows};

}  // namespace slimclr::cpu::SLIMCLR_ISA
