// Vectors for the CPU kernels, written once with compiler vector extensions and compiled per instruction set:
// every file of native/cpu/kernels is built with SLIMCLR_ISA = baseline, avx2, avx512 or avx512_bf16 and SLIMCLR_VEC
// floats per vector.
// Everything here has internal linkage, so that code for one instruction set never stands in for another's.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>  // gcc 12 compiles the portable bfloat16 conversions poorly: 2x in BatchNorm
#endif

#ifndef SLIMCLR_ISA
#error "compile kernels with -DSLIMCLR_ISA=... -DSLIMCLR_VEC=..."
#endif

namespace slimclr::cpu::SLIMCLR_ISA {

constexpr int V = SLIMCLR_VEC;
typedef float vf __attribute__((vector_size(SLIMCLR_VEC * 4)));
typedef int32_t vi __attribute__((vector_size(SLIMCLR_VEC * 4)));
typedef uint32_t vu __attribute__((vector_size(SLIMCLR_VEC * 4)));
typedef uint16_t vh __attribute__((vector_size(SLIMCLR_VEC * 2)));  // raw bfloat16

#define SLIMCLR_INLINE static inline __attribute__((always_inline))

SLIMCLR_INLINE vf splat(float x) { return x - vf{}; }

SLIMCLR_INLINE vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
SLIMCLR_INLINE void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }

// bfloat16 is the upper half of a float32.
SLIMCLR_INLINE vf load(const uint16_t* p) {
#if SLIMCLR_VEC == 16 && defined(__AVX512F__)
  // The masked form, with all lanes taken: gcc 12 warns of an uninitialised value in the plain one.
  return (vf)((vu)_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256((const __m256i*)p)) << 16);
#elif SLIMCLR_VEC == 8 && defined(__AVX2__)
  return (vf)((vu)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)) << 16);
#else
  vh h;
  std::memcpy(&h, p, sizeof h);
  return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}
// Rounds to nearest even; a NaN stays a (quiet) NaN.
SLIMCLR_INLINE void store(uint16_t* p, vf v) {
#if defined(__AVX512BF16__) && SLIMCLR_VEC == 16
  __m256bh h = _mm512_cvtneps_pbh((__m512)v);
  std::memcpy(p, &h, sizeof h);
#else
  vu u = (vu)v;
  vu rounded = u + (0x7fffu + ((u >> 16) & 1u));
  rounded = (v != v ? (u | 0x400000u) : rounded) >> 16;
#if SLIMCLR_VEC == 16 && defined(__AVX512F__)
  _mm256_storeu_si256((__m256i*)p, _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)rounded));
#else
  vh h = __builtin_convertvector(rounded, vh);
  std::memcpy(p, &h, sizeof h);
#endif
#endif
}
SLIMCLR_INLINE float load1(const float* p) { return *p; }
SLIMCLR_INLINE float load1(const uint16_t* p) {
  uint32_t u = (uint32_t)*p << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
SLIMCLR_INLINE void store1(float* p, float v) { *p = v; }
SLIMCLR_INLINE void store1(uint16_t* p, float v) {
  uint32_t u;
  std::memcpy(&u, &v, 4);
  *p = v != v ? (uint16_t)((u >> 16) | 0x40u) : (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

SLIMCLR_INLINE vf select(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
SLIMCLR_INLINE vf max(vf a, vf b) { return select(a > b, a, b); }
SLIMCLR_INLINE vf min(vf a, vf b) { return select(a < b, a, b); }
SLIMCLR_INLINE float sum(vf v) {
  float s = 0;
  for (int i = 0; i < V; ++i) s += v[i];
  return s;
}

// e^x to 1–2 ulp for |x| < 87; clamps outside (0 below, about 2e38 above).
SLIMCLR_INLINE vf exp(vf x) {
  x = max(min(x, splat(88.0f)), splat(-87.3f));
  vf n = x * 1.44269504088896341f;
  vi k = __builtin_convertvector(n + select(n < 0, splat(-0.5f), splat(0.5f)), vi);
  vf f = __builtin_convertvector(k, vf);
  vf r = (x - f * 0.693359375f) + f * 2.12194440e-4f;
  vf p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * (vf)((k + 127) << 23);
}

// 2^y for -126 ≤ y ≤ 0 within 1e-7.
SLIMCLR_INLINE vf exp2_in_range(vf y) {
  const vf shifted = y + 12582912.0f;  // 1.5·2^23: the integer part lands in the low mantissa bits
  const vf f = y - (shifted - 12582912.0f);
  vf p = splat(1.5345812e-4f);
  p = p * f + 1.339993122e-3f;
  p = p * f + 9.618488957e-3f;
  p = p * f + 5.550328777e-2f;
  p = p * f + 2.402264689e-1f;
  p = p * f + 6.931472057e-1f;
  p = p * f + 1.0f;
  return (vf)((vi)p + ((vi)shifted << 23));
}

}  // namespace slimclr::cpu::SLIMCLR_ISA
