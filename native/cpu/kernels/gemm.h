// Products of a small float32 matrix held in cache with a stream of rows: the inner loop of the loss and kNN kernels.
#pragma once

#include "cpu/kernels/vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {

// Rows and vectors of the register tile: as many accumulators as the register file holds.
constexpr int kTileRows = SLIMCLR_VEC == 16 ? 12 : 6;
constexpr int kTileVectors = 2;

// c[i][0 .. NV·V) (+)= Σ_p a(i, p)·b[p][0 .. NV·V) for i < M, with a(i, p) = a[i·a_row + p·a_depth].
template <int M, int NV, bool Add>
SLIMCLR_INLINE void gemm_tile(int64_t depth, const float* a, int64_t a_row, int64_t a_depth, const float* b,
                              int64_t ldb, float* c, int64_t ldc) {
  vf sums[M][NV] = {};
  for (int64_t p = 0; p < depth; ++p) {
    vf bp[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) bp[j] = load(b + j * V);
    const float* ap = a;
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      // Three rows share a base pointer, so that a run-time stride costs few registers.
      if (i > 0 && i % 3 == 0) ap += 3 * a_row;
      vf ai = splat(ap[(i % 3) * a_row]);
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) sums[i][j] += ai * bp[j];
    }
    a += a_depth;
    b += ldb;
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      float* to = c + i * ldc + j * V;
      store(to, Add ? load(to) + sums[i][j] : sums[i][j]);
    }
  }
}

// The same for any number of rows, M at a time.
template <int M, int NV, bool Add>
SLIMCLR_INLINE void gemm_rows(int64_t rows, int64_t depth, const float* a, int64_t a_row, int64_t a_depth,
                              const float* b, int64_t ldb, float* c, int64_t ldc) {
  for (; rows >= M; rows -= M, a += M * a_row, c += M * ldc)
    gemm_tile<M, NV, Add>(depth, a, a_row, a_depth, b, ldb, c, ldc);
  if constexpr (M > 1) {
    if (rows > 0) gemm_rows<M - 1, NV, Add>(rows, depth, a, a_row, a_depth, b, ldb, c, ldc);
  }
}

}  // namespace slimclr::cpu::SLIMCLR_ISA
