// Softmax over a long list of keys at a high temperature t. Its logits x = s/t are small, so
//   Σ e^x = K + Σ x + Σ r(x)   and   Σ e^x·k = Σ k + (Σ k·kᵀ)·q/t + Σ r(x)·k   with   r(x) = e^x − 1 − x ≈ x²/2.
// The moments Σ k and Σ k·kᵀ are exact and shared by all queries. Only Σ r(x)·k needs a product per query, and r is so
// small that 8 bits suffice, at a quarter of the time of the float32 product. Dithered rounding makes the errors
// average out over the keys. In the distillation gradient the rounding of r leaves about r_max·a·t/(600·√K): 1e-6 at t
// = 2, 2e-7 at t = 5 for K = 65,536, four times that for K = 4,096. The rounding of the keys adds to it most where all
// keys are alike. Measured against float64 (T ≥ 0.07): at most 6e-7 of the whole gradient for K = 65,536, 2e-6 for K =
// 4,096.
#pragma once

#include <math.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "cpu/kernels/gemm.h"

namespace slimclr::cpu::SLIMCLR_ISA {

constexpr float kFlatLargest = 0.5f;  // the largest |x|
constexpr int64_t kFlatKeys = 4096;   // the fewest keys whose rounding errors average out

#if defined(__AVX512F__)
SLIMCLR_INLINE bool flat_softmax_available() { return __builtin_cpu_supports("avx512vnni"); }
#else
SLIMCLR_INLINE bool flat_softmax_available() { return false; }
#endif

SLIMCLR_INLINE vf absolute(vf x) { return (vf)((vi)x & 0x7fffffff); }

// r(x) for |x| ≤ kFlatLargest within 8e-7 of itself.
SLIMCLR_INLINE vf flat_remainder(vf x) {
  vf p = splat(1.391465315e-3f);
  p = p * x + 8.395411038e-3f;
  p = p * x + 4.166747685e-2f;
  p = p * x + 1.666628011e-1f;
  p = p * x + 4.999999597e-1f;
  return p * (x * x);
}

// Rounds a block of keys to 8 bits: out[⌈count/4⌉][d] holds four keys per word (zeros beyond count). d is a multiple of
// V. Returns the value of one step; *largest becomes the largest squared norm of a key, if that is larger.
static inline float flat_pack(const float* keys, int64_t count, int64_t d, const float* dither, int32_t* out,
                              float* largest) {
  vf high = {};
  for (int64_t j = 0; j < count; ++j) {
    vf squares = {};
    for (int64_t i = 0; i < d; i += V) {
      const vf k = load(keys + j * d + i);
      squares += k * k;
      high = max(high, absolute(k));
    }
    const float norm = sum(squares);
    *largest = norm > *largest ? norm : *largest;
  }
  float step = 1e-30f;
  for (int i = 0; i < V; ++i) step = high[i] / 127 > step ? high[i] / 127 : step;
  const float inverse = 1 / step;
  for (int64_t j = 0; j < count; j += 4)
    for (int64_t i = 0; i < d; i += V) {
      vi word = {};
      for (int64_t b = 0; b < 4 && j + b < count; ++b) {
        const vf k = load(keys + (j + b) * d + i) * inverse;
        const vi rounded = __builtin_convertvector(k + (128 + dither[j + b]), vi) - 128;
        word |= (rounded & 255) << (8 * b);
      }
      memcpy(out + j / 4 * d + i, &word, sizeof word);
    }
  return step;
}

// Rounds r(x) of a block of scores [count][G] to 8 bits, p[⌈count/4⌉][G] with four keys per word, and adds r to z[G].
// Scores must be zero for up to three keys beyond count. step[G] becomes the value of one step in each row;
// dither[count] in [0, 1) takes the bias out of the rounding.
template <int G>
SLIMCLR_INLINE void flat_probabilities(const float* scores, int64_t count, const vf* largest, float t,
                                       const float* dither, int32_t* p, float* z, float* step) {
  const float inverse = 1 / t;
  for (int g = 0; g < G; g += V) {
    const vf r_max = flat_remainder(largest[g / V] * inverse) + 1e-30f;
    const vf levels = 254.0f / r_max;
    store(step + g, r_max * (1 / 254.0f));
    vf total = {};
    for (int64_t j = 0; j < count; j += 4) {
      vi word = {};
#pragma GCC unroll 4
      for (int b = 0; b < 4; ++b) {
        const vf r = flat_remainder(load(scores + (j + b) * G + g) * inverse);
        total += r;
        word |= __builtin_convertvector(r * levels + dither[j + b], vi) << (8 * b);
      }
      memcpy(p + j / 4 * G + g, &word, sizeof word);
    }
    store(z + g, load(z + g) + total);
  }
}

#if defined(__AVX512F__)
template <int M, int NV, int G>
__attribute__((target("avx512vnni"))) static void flat_tile(int64_t words, const int32_t* p, const int32_t* keys,
                                                            int64_t d, const float* step, float key_step, float* o) {
  __m512i sums[M][NV] = {};
  for (int64_t w = 0; w < words; ++w) {
    __m512i k[NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) k[v] = _mm512_loadu_si512(keys + w * d + v * V);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
      const __m512i pi = _mm512_set1_epi32(p[w * G + i]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) sums[i][v] = _mm512_dpbusd_epi32(sums[i][v], pi, k[v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      float* to = o + i * d + v * V;
      store(to, load(to) + __builtin_convertvector((vi)sums[i][v], vf) * (step[i] * key_step));
    }
  }
}

// o[G][d] += Σ_j r[j][G]·keys[j][d], both rounded to 8 bits by the functions above.
template <int G>
static void flat_products(int64_t count, const int32_t* p, const int32_t* keys, int64_t d, const float* step,
                          float key_step, float* o) {
  constexpr int M = 8;
  const int64_t words = (count + 3) / 4;
  int64_t i = 0;
  for (; i + 2 * V <= d; i += 2 * V)
    for (int g = 0; g < G; g += M) flat_tile<M, 2, G>(words, p + g, keys + i, d, step + g, key_step, o + g * d + i);
  for (; i < d; i += V)
    for (int g = 0; g < G; g += M) flat_tile<M, 1, G>(words, p + g, keys + i, d, step + g, key_step, o + g * d + i);
}
#else
template <int G>
static void flat_products(int64_t, const int32_t*, const int32_t*, int64_t, const float*, float, float*) {}
#endif

}  // namespace slimclr::cpu::SLIMCLR_ISA
