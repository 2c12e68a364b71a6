// Takes the place of CUDA's mma.h: the first lane of a warp holds a whole fragment and computes.
#pragma once

#include <cuda_fp16.h>

#include <cstdlib>

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <typename Use, int M, int N, int K, typename T, typename Layout = void>
struct fragment {
  static_assert(M == 16 && N == 16 && K == 16);
  float v[16][16];
};

inline bool first_lane() { return emulator::here().lane == 0; }
// As the hardware demands.
inline void check_aligned(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 32 != 0) std::abort();
}

template <typename F>
void fill_fragment(F& f, float value) {
  for (auto& row : f.v)
    for (float& v : row) v = value;
}

template <typename Use, typename T, typename Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout>& f, const T* p, unsigned stride) {
  check_aligned(p);
  if (stride % 8 != 0) std::abort();
  if (!first_lane()) return;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j)
      f.v[i][j] = __half2float(std::is_same_v<Layout, row_major> ? p[i * stride + j] : p[j * stride + i]);
}

inline void load_matrix_sync(fragment<accumulator, 16, 16, 16, float>& f, const float* p, unsigned stride, layout_t) {
  check_aligned(p);
  if (stride % 4 != 0) std::abort();
  if (!first_lane()) return;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) f.v[i][j] = p[i * stride + j];
}

template <typename A, typename B>
void mma_sync(fragment<accumulator, 16, 16, 16, float>& d, const A& a, const B& b,
              const fragment<accumulator, 16, 16, 16, float>& c) {
  if (!first_lane()) return;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) {
      float sum = c.v[i][j];
      for (int k = 0; k < 16; ++k) sum += a.v[i][k] * b.v[k][j];
      d.v[i][j] = sum;
    }
}

inline void store_matrix_sync(float* p, const fragment<accumulator, 16, 16, 16, float>& f, unsigned stride, layout_t) {
  check_aligned(p);
  if (stride % 4 != 0) std::abort();
  if (!first_lane()) return;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) p[i * stride + j] = f.v[i][j];
}

}  // namespace nvcuda::wmma
