// Philox4x32-10, the counter-based generator of Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3".
// A draw is a pure function of (seed, stream, counter), so it is the same on every device and for any number of
// threads. Plain functions, compiled by CUDA too.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/host_device.h"

namespace slimclr {

struct Philox4 {
  uint32_t v[4];
};

struct Normal4 {
  float v[4];
};

// The bare generator: ten rounds on a counter of 4 words with a key of 2 words.
SLIMCLR_HOST_DEVICE static constexpr Philox4 philox4x32(uint32_t key0, uint32_t key1, uint32_t c0, uint32_t c1,
                                                        uint32_t c2, uint32_t c3) {
  for (int round = 0; round < 10; ++round) {
    uint64_t product0 = (uint64_t)0xD2511F53u * c0;
    uint64_t product1 = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(product1 >> 32) ^ c1 ^ key0;
    c1 = (uint32_t)product1;
    c2 = (uint32_t)(product0 >> 32) ^ c3 ^ key1;
    c3 = (uint32_t)product0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// Four random words: the seed is the key; counter and stream are the low and high half of Philox's 128-bit counter.
SLIMCLR_HOST_DEVICE static constexpr Philox4 philox(uint64_t seed, uint64_t stream, uint64_t counter) {
  return philox4x32((uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)counter, (uint32_t)(counter >> 32),
                    (uint32_t)stream, (uint32_t)(stream >> 32));
}

// Uniform in [0, 1) with 24 bits: every value is exact in float32.
SLIMCLR_HOST_DEVICE static constexpr float philox_uniform(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

// Four standard normals by Box-Muller. In float64, so that devices agree after rounding to float32.
SLIMCLR_HOST_DEVICE static inline Normal4 philox_normal(Philox4 words) {
  Normal4 z = {};
  for (int i = 0; i < 4; i += 2) {
    double radius = std::sqrt(-2.0 * std::log(1.0 - (double)philox_uniform(words.v[i])));
    double angle = 6.283185307179586477 * (double)philox_uniform(words.v[i + 1]);
    z.v[i] = (float)(radius * std::cos(angle));
    z.v[i + 1] = (float)(radius * std::sin(angle));
  }
  return z;
}

// Fills out[0..n) with mean + std·N(0, 1); element i takes word i % 4 of counter offset + i / 4.
static inline void philox_randn(float* out, int64_t n, uint64_t seed, uint64_t stream, uint64_t offset, float mean = 0,
                                float std = 1) {
  int64_t blocks = (n + 3) / 4;
#ifdef _OPENMP
#pragma omp parallel for schedule(static)
#endif
  for (int64_t block = 0; block < blocks; ++block) {
    Normal4 z = philox_normal(philox(seed, stream, offset + (uint64_t)block));
    for (int64_t i = block * 4; i < block * 4 + 4 && i < n; ++i) out[i] = mean + std * z.v[i & 3];
  }
}

}  // namespace slimclr
