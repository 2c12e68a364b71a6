// Products of integers with AVX512-VNNI: at 16 bits twice, at 8 bits four times the speed of float32. A 32-bit word
// holds two or four terms of a sum that lie side by side.
#pragma once

#include "cpu/kernels/vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {

enum class Bits { k8, k16 };  // unsigned × signed 8 bits; signed × signed 16 bits

#if defined(__AVX512F__)

SLIMCLR_INLINE bool vnni_available() { return __builtin_cpu_supports("avx512vnni"); }

// sum += a·b, word by word. As assembly: gcc 12 keeps the accumulators of the intrinsics in 16 of the 32 registers, at
// half the speed in a tile of 12 × 2.
template <Bits B>
SLIMCLR_INLINE void add_dot(vi& sum, vi a, vi b) {
  if constexpr (B == Bits::k16)
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  else
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

// c[i][0 .. NV·V) (+)= Σ_w a(i, w)·b[w][0 .. NV·V)·scale[i] for i < M, with a(i, w) = a[i·a_row + w·a_depth]; without
// Add there is no scale.
template <Bits B, int M, int NV, bool Add>
SLIMCLR_INLINE void vnni_tile(int64_t words, const int32_t* a, int64_t a_row, int64_t a_depth, const int32_t* b,
                              int64_t ldb, const float* scale, float* c, int64_t ldc) {
  vi sums[M][NV] = {};
  for (int64_t w = 0; w < words; ++w) {
    vi bw[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) std::memcpy(&bw[j], b + j * V, sizeof bw[j]);
    const int32_t* aw = a;
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      // Three rows share a base pointer, so that a run-time stride costs few registers.
      if (i > 0 && i % 3 == 0) aw += 3 * a_row;
      const vi ai = aw[(i % 3) * a_row] - vi{};
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) add_dot<B>(sums[i][j], ai, bw[j]);
    }
    a += a_depth;
    b += ldb;
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) {
      float* to = c + i * ldc + j * V;
      const vf total = __builtin_convertvector(sums[i][j], vf);
      store(to, Add ? load(to) + total * scale[i] : total);
    }
  }
}

// The same for any number of rows, M at a time.
template <Bits B, int M, int NV, bool Add>
SLIMCLR_INLINE void vnni_rows(int64_t rows, int64_t words, const int32_t* a, int64_t a_row, int64_t a_depth,
                              const int32_t* b, int64_t ldb, const float* scale, float* c, int64_t ldc) {
  for (; rows >= M; rows -= M, a += M * a_row, c += M * ldc) {
    vnni_tile<B, M, NV, Add>(words, a, a_row, a_depth, b, ldb, scale, c, ldc);
    if (Add) scale += M;
  }
  if constexpr (M > 1) {
    if (rows > 0) vnni_rows<B, M - 1, NV, Add>(rows, words, a, a_row, a_depth, b, ldb, scale, c, ldc);
  }
}

#else

SLIMCLR_INLINE bool vnni_available() { return false; }
template <Bits, int, int, bool>
static void vnni_rows(int64_t, int64_t, const int32_t*, int64_t, int64_t, const int32_t*, int64_t, const float*, float*,
                      int64_t) {}

#endif

}  // namespace slimclr::cpu::SLIMCLR_ISA
