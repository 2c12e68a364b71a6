// Softmax over a long list of keys k by integer products, whose rounding errors average out over the keys. Blocks of
// keys and their scores s = q·k are taken in one of two ways:
//
// Rounded: s and Σ e^(s/t)·k are products of 16 bits: of e^((s − high)/t), between 0 and 1, in kLevels steps, with keys
// in steps so small that no sum leaves 32 bits.
//
// Flat: at a high temperature the logits x = s/t are small, so that
//   Σ e^x = K + Σ x + Σ r(x)   and   Σ e^x·k = Σ k + (Σ k·kᵀ)·q/t + Σ r(x)·k   with   r(x) = e^x − 1 − x ≈ x²/2.
// The moments Σ k and Σ k·kᵀ are exact and shared by all queries. Only Σ r(x)·k needs a product per query, and r is so
// small that 8 bits suffice.
//
// Dithered rounding makes the errors of e^x and r(x) average out; the keys' do so by themselves, least where all keys
// are alike. docs/decisions.md has what was measured against float64.
#pragma once

#include <math.h>

#include "cpu/kernels/vnni.h"

namespace slimclr::cpu::SLIMCLR_ISA {

constexpr int64_t kFlatKeys = 4096;      // the fewest keys for the 8 bits of a flat softmax
constexpr float kFlatLargest = 0.5f;     // and its largest |x|
constexpr int64_t kRoundedKeys = 16384;  // the fewest keys for 16 bits
constexpr float kRoundedFrom = 0.2f;     // and the lowest temperature for unit rows: a score is off by 1e-5
constexpr float kLevels = 8192;          // of probabilities in 16 bits
constexpr float kUnitLength = 32700;     // of a row in 16 bits: no score leaves 32 bits, whatever the rounding

// Of a block of keys: the largest norm, and the values of one step of its scores, its keys in 16 and in 8 bits.
struct RoundedBlock {
  float norm, score_step, key_step, byte_step;
};

SLIMCLR_INLINE vf absolute(vf x) { return (vf)((vi)x & 0x7fffffff); }
SLIMCLR_INLINE float largest_of(vf x) {
  float high = x[0];
  for (int i = 1; i < V; ++i) high = x[i] > high ? x[i] : high;
  return high;
}

SLIMCLR_INLINE float larger_or_nan(float a, float b) { return a != a || a > b ? a : b; }

// |x| < 2^22 to the nearest integer, in the low bits of a word whose upper bits are not of use.
SLIMCLR_INLINE vi nearest(vf x) { return (vi)(x + 12582912.0f); }

// The largest norm of count keys of d floats, a multiple of V, and the steps for them.
static RoundedBlock measure_keys(const float* keys, int64_t count, int64_t d) {
  float square = 0;
  for (int64_t j = 0; j < count; ++j) {
    vf squares = {};
    for (int64_t i = 0; i < d; i += V) squares += load(keys + j * d + i) * load(keys + j * d + i);
    square = larger_or_nan(sum(squares), square);
  }
  vf high = {}, total = {};
  for (int64_t i = 0; i < d; i += V) {
    vf column = {};
    for (int64_t j = 0; j < count; ++j) {
      const vf k = absolute(load(keys + j * d + i));
      column += k;
      high = max(high, k);
    }
    total = max(total, column);
  }
  // Σ_j (kLevels + 1)·(|k_j| / key_step + 1/2) must stay below 2^31, and |k_j| / key_step below 2^15.
  const float room = 2147483000.0f / (kLevels + 1) - 0.5f * static_cast<float>(count);
  const float by_sum = largest_of(total) / room, by_value = largest_of(high) / kUnitLength;
  constexpr float tiny = 1e-30f;
  const float norm = sqrtf(square);
  return {norm, norm / kUnitLength + tiny, (by_sum > by_value ? by_sum : by_value) + tiny,
          largest_of(high) / 127 + tiny};
}

// Keys in 8 bits: bytes[⌈count/4⌉][d], a value of four keys per word (zeros beyond count), dithered by dither[count].
static void round_to_bytes(const float* keys, int64_t count, int64_t d, const RoundedBlock& block, const float* dither,
                           int32_t* bytes) {
  const float inverse = 1 / block.byte_step;
  for (int64_t j = 0; j < count; j += 4)
    for (int64_t i = 0; i < d; i += V) {
      vi word = {};
      for (int64_t b = 0; b < 4 && j + b < count; ++b) {
        const vf k = load(keys + (j + b) * d + i) * inverse;
        const vi rounded = __builtin_convertvector(k + (128 + dither[j + b]), vi) - 128;
        word |= (rounded & 255) << (8 * b);
      }
      std::memcpy(bytes + j / 4 * d + i, &word, sizeof word);
    }
}

// Keys in 16 bits, in two layouts: rows[count][d / 2], two values of a key per word, no key longer than kUnitLength;
// and pairs[⌈count/2⌉][d], a value of two keys per word (zeros beyond count).
static void round_to_words(const float* keys, int64_t count, int64_t d, const RoundedBlock& block, int32_t* rows,
                           int32_t* pairs) {
  const float per_score = 1 / block.score_step, per_key = 1 / block.key_step;
  for (int64_t j = 0; j < count; ++j)
    for (int64_t i = 0; i < d; i += V) {
      const vi rounded = nearest(load(keys + j * d + i) * per_score);
      auto* to = reinterpret_cast<uint16_t*>(rows) + j * d + i;
      for (int x = 0; x < V; ++x) to[x] = static_cast<uint16_t>(rounded[x]);
    }
  for (int64_t j = 0; j < count; j += 2)
    for (int64_t i = 0; i < d; i += V) {
      vi word = nearest(load(keys + j * d + i) * per_key) & 0xffff;
      if (j + 1 < count) word |= nearest(load(keys + (j + 1) * d + i) * per_key) << 16;
      std::memcpy(pairs + j / 2 * d + i, &word, sizeof word);
    }
}

// Rounds G queries that lie side by side, panel[d][G], to words[d / 2][G] of 16 bits; step[G] becomes the value of one
// step in each. Rows from d to padded_d are zeros.
template <int G>
static void round_queries(const float* panel, int64_t d, int64_t padded_d, int32_t* words, float* step) {
  for (int g = 0; g < G; g += V) {
    vf squares = {};
    for (int64_t i = 0; i < d; ++i) squares += load(panel + i * G + g) * load(panel + i * G + g);
    vf inverse;
    for (int x = 0; x < V; ++x) {
      const float norm = sqrtf(squares[x]);
      step[g + x] = norm / kUnitLength;
      inverse[x] = norm > 0 ? kUnitLength / norm : 0;
    }
    for (int64_t i = 0; i < padded_d; i += 2) {
      const vi low = i < d ? nearest(load(panel + i * G + g) * inverse) & 0xffff : vi{};
      const vi high = i + 1 < d ? nearest(load(panel + (i + 1) * G + g) * inverse) << 16 : vi{};
      const vi word = low | high;
      std::memcpy(words + i / 2 * G + g, &word, sizeof word);
    }
  }
}

// e^((s − high)/t) of a block of scores [count][G], with s = score·step[g], in kLevels steps: p[⌈count/2⌉][G] with two
// keys per word; total[G] becomes their sum, unrounded. dither[count] in [0, 1) takes the bias out of the rounding.
template <int G>
SLIMCLR_INLINE void rounded_exponentials(const float* scores, int64_t count, const vf* high, const vf* step, float t,
                                         const float* dither, int32_t* p, vf* total) {
  for (int v = 0; v < G / V; ++v) {
    const vf scale = step[v] * (1.44269504088896341f / t);
    vf sum = {};
    for (int64_t j = 0; j < count; j += 2) {
      vi word = {};
#pragma GCC unroll 2
      for (int b = 0; b < 2; ++b) {
        if (j + b == count) break;
        const vf e = exp2_in_range((load(scores + (j + b) * G + v * V) - high[v]) * scale);
        sum += e;
        word |= __builtin_convertvector(e * kLevels + dither[j + b], vi) << (16 * b);
      }
      std::memcpy(p + j / 2 * G + v * V, &word, sizeof word);
    }
    total[v] = sum;
  }
}

// r(x) for |x| ≤ kFlatLargest within 8e-7 of itself.
SLIMCLR_INLINE vf flat_remainder(vf x) {
  vf p = splat(1.391465315e-3f);
  p = p * x + 8.395411038e-3f;
  p = p * x + 4.166747685e-2f;
  p = p * x + 1.666628011e-1f;
  p = p * x + 4.999999597e-1f;
  return p * (x * x);
}

// r(s/t) of a block of scores [count][G], with s = score·step[g] and |score| ≤ largest: p[⌈count/4⌉][G] in 8 bits with
// four keys per word, whose value of one step goes to p_step[G]; total[G] becomes their sum, unrounded. Scores must be
// zero for up to three keys beyond count.
template <int G>
SLIMCLR_INLINE void flat_remainders(const float* scores, int64_t count, const vf* largest, const vf* step, float t,
                                    const float* dither, int32_t* p, float* p_step, vf* total) {
  for (int v = 0; v < G / V; ++v) {
    const vf scale = step[v] * (1 / t);
    const vf r_max = flat_remainder(largest[v] * scale) + 1e-30f;
    const vf levels = 254.0f / r_max;
    store(p_step + v * V, r_max * (1 / 254.0f));
    vf sum = {};
    for (int64_t j = 0; j < count; j += 4) {
      vi word = {};
#pragma GCC unroll 4
      for (int b = 0; b < 4; ++b) {
        const vf r = flat_remainder(load(scores + (j + b) * G + v * V) * scale);
        sum += r;
        word |= __builtin_convertvector(r * levels + dither[j + b], vi) << (8 * b);
      }
      std::memcpy(p + j / 4 * G + v * V, &word, sizeof word);
    }
    total[v] = sum;
  }
}

// o[G][d] += Σ_j p_j·k_j of words that hold the same keys j, times step[G].
template <Bits B, int G>
static void integer_products(int64_t words, const int32_t* p, const int32_t* keys, int64_t d, const float* step,
                             float* o) {
  constexpr int M = 8;
  int64_t i = 0;
  for (; i + 2 * V <= d; i += 2 * V) vnni_rows<B, M, 2, true>(G, words, p, 1, G, keys + i, d, step, o + i, d);
  for (; i < d; i += V) vnni_rows<B, M, 1, true>(G, words, p, 1, G, keys + i, d, step, o + i, d);
}

}  // namespace slimclr::cpu::SLIMCLR_ISA
