#include "cpu/kernels/info_nce.h"

#include <math.h>
#include <string.h>

#include "cpu/kernels/gemm.h"
#include "cpu/kernels/rounded_softmax.h"

// Attention with keys = values = queue. Every width is evaluated at one to three temperatures t (contrastive, student,
// teacher); the softmax at t needs Z = Σ_j e^((s_j − m)/t) and O = Σ_j e^((s_j − m)/t)·k_j, where m is the row's
// running maximum. Work is cut into groups of query rows × chunks of the queue; each cell leaves its own m, Z and O,
// and the second half adds the cells in order, so that the result does not depend on the number of threads. A long
// queue is rounded to integers where the processor multiplies them faster (rounded_softmax.h); cells of flat
// temperatures then leave Σ r(x) and Σ r(x)·k.
namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int kGroup = kTileVectors * V;  // query rows worked on together, side by side in vectors
constexpr int kBatch = 4;                 // groups that share a block of the queue in cache
constexpr int kBlock = 192;               // queue rows per step: scores and probabilities of a step stay in cache
constexpr int kChunks = 8;                // parts of the queue
constexpr int kProductRows = kGroup / 4;  // rows of the register tile of O
constexpr int kMaxTemperatures = 3;

int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

// The temperatures at which a width's softmax is needed. Equal ones are one entry.
struct Temperatures {
  int count = 0;
  float value[kMaxTemperatures];
  bool mean[kMaxTemperatures];  // whether O is needed, not only Z
  bool flat[kMaxTemperatures];  // whether its logits are small
  int contrastive = -1, student = -1, teacher = -1;

  int add(float t, bool with_mean, float flat_from) {
    int i = 0;
    while (i < count && value[i] != t) ++i;
    if (i == count) {
      value[count++] = t;
      mean[i] = false;
      flat[i] = t >= flat_from;
    }
    mean[i] |= with_mean;
    return i;
  }
};

// Temperatures of flat_from and above are flat.
Temperatures temperatures_of(const InfoNceArgs& args, int64_t width, float flat_from) {
  Temperatures t;
  const bool gradient = args.gradients != nullptr;
  t.contrastive = t.add(args.temperature, gradient, flat_from);
  if (!args.distill) return t;
  if (width > 0) t.student = t.add(args.student_temperature, gradient, flat_from);
  if (args.full_distill ? width + 1 < args.widths : width == 0 && args.widths > 1)
    t.teacher = t.add(args.teacher_temperature, true, flat_from);
  return t;
}

// Where everything lies in the scratch memory.
struct Plan {
  int64_t widths, groups, blocks, chunk, chunks, d, padded_d, cell_floats, floats;
  bool flat, rounded;  // whether there is a flat temperature, and whether the rest is rounded
  float flat_from;     // the lowest flat temperature
  float* queries;      // [widths][groups][d][kGroup], zeros beyond n
  float* cells;        // [chunks][widths][groups] of {m [kGroup], temperatures × {Z [kGroup], O [kGroup][padded_d]}}
  float* losses;       // [widths][n]
  float* queue;        // [k][padded_d], only where d is no multiple of the vector
  RoundedBlock* measured;  // [blocks], only if flat or rounded
  float* moments;          // [chunks] of {Σ k [padded_d], Σ k·kᵀ [padded_d][padded_d]}, only if flat
  int32_t* bytes;          // [blocks][kBlock / 4][padded_d], keys in 8 bits, only if flat
  float* steps;            // [widths][groups][kGroup], the value of one step of a query; if rounded, as the following
  int32_t* words;          // [widths][groups][padded_d / 2][kGroup], queries in 16 bits
  int32_t* rows;           // [blocks][kBlock][padded_d / 2], keys in 16 bits for scores
  int32_t* pairs;          // [blocks][kBlock / 2][padded_d], keys in 16 bits for sums over keys

  // i counts the groups of all widths.
  float* panel(int64_t i) const { return queries + i * d * kGroup; }
  int32_t* panel_words(int64_t i) const { return words + i * padded_d / 2 * kGroup; }
  float* cell(int64_t c, int64_t i) const { return cells + (c * widths * groups + i) * cell_floats; }
  float* normalizer(float* cell, int t) const { return cell + kGroup + t * kGroup * (1 + padded_d); }
  float* mean(float* cell, int t) const { return normalizer(cell, t) + kGroup; }
  float* moment(int64_t c) const { return moments + c * (1 + padded_d) * padded_d; }
  int32_t* block_rows(int64_t b) const { return rows + b * kBlock * (padded_d / 2); }
  int32_t* block_pairs(int64_t b) const { return pairs + b * (kBlock / 2) * padded_d; }
  int32_t* block_bytes(int64_t b) const { return bytes + b * (kBlock / 4) * padded_d; }
};

// Flat and rounded where it may be so: round_queue decides.
Plan plan_of(const InfoNceArgs& args) {
  Plan p{};
  p.widths = args.widths;
  p.d = args.d;
  p.groups = (args.n + kGroup - 1) / kGroup;
  p.blocks = (args.k + kBlock - 1) / kBlock;
  p.chunk = (p.blocks + kChunks - 1) / kChunks * kBlock;
  p.chunks = (args.k + p.chunk - 1) / p.chunk;
  p.padded_d = round_up(args.d, V);
  p.flat = args.k >= kFlatKeys && vnni_available();
  p.rounded = args.k >= kRoundedKeys && vnni_available();
  p.flat_from = INFINITY;
  int temperatures = 1;
  for (int64_t w = 0; w < args.widths; ++w) {
    const int count = temperatures_of(args, w, INFINITY).count;
    temperatures = count > temperatures ? count : temperatures;
  }
  const int64_t panels = p.widths * p.groups;
  p.cell_floats = kGroup + temperatures * kGroup * (1 + p.padded_d);
  auto* next = static_cast<float*>(args.scratch);
  const auto take = [&next](int64_t floats) {
    float* taken = next;
    next += round_up(floats, 16);
    return taken;
  };
  const auto take_words = [&](int64_t count) { return reinterpret_cast<int32_t*>(take(count)); };
  p.queries = take(panels * p.d * kGroup);
  p.cells = take(p.chunks * panels * p.cell_floats);
  p.losses = take(p.widths * args.n);
  p.queue = take(p.padded_d != p.d ? args.k * p.padded_d : 0);
  if (p.flat) {
    p.measured = reinterpret_cast<RoundedBlock*>(take(p.blocks * 4));
    p.moments = take(p.chunks * (1 + p.padded_d) * p.padded_d);
    p.bytes = take_words(p.blocks * (kBlock / 4) * p.padded_d);
  }
  if (p.rounded) {
    p.steps = take(panels * kGroup);
    p.words = take_words(panels * (p.padded_d / 2) * kGroup);
    p.rows = take_words(p.blocks * kBlock * (p.padded_d / 2));
    p.pairs = take_words(p.blocks * (kBlock / 2) * p.padded_d);
  }
  p.floats = next - static_cast<float*>(args.scratch);
  return p;
}

// o[M][d] += Σ_j p[j][0 .. M)·rows[j][begin .. d), in rows of ldp and d floats.
template <int M>
void add_products(int64_t count, const float* p, int64_t ldp, const float* rows, int64_t begin, int64_t d, float* o) {
  int64_t i = begin;
  for (; i + kTileVectors * V <= d; i += kTileVectors * V)
    gemm_rows<kProductRows, kTileVectors, true>(M, count, p, 1, ldp, rows + i, d, o + i, d);
  for (; i < d; i += V) gemm_rows<kProductRows, 1, true>(M, count, p, 1, ldp, rows + i, d, o + i, d);
}

// 2^y for y ≤ 0; below 2^-100 counts as 2^-100. A NaN stays a NaN.
SLIMCLR_INLINE vf exp2_negative(vf y) { return exp2_in_range(y < -100.0f ? splat(-100.0f) : y); }

// O, when the maximum has grown, from the old one to the new one.
void rescale(const float* factor, int64_t d, float* o) {
  for (int r = 0; r < kGroup; ++r) {
    if (factor[r] == 1.0f) continue;
    for (int64_t i = r * d; i < (r + 1) * d; i += V) store(o + i, load(o + i) * factor[r]);
  }
}

// e^((s − m)/t) of a block of scores: p[count][kGroup], and their sum.
void exponentials(const float* scores, int64_t count, const vf* m, float t, float* p, vf* total) {
  const float scale = 1.44269504088896341f / t;
  for (int v = 0; v < kTileVectors; ++v) {
    vf sum = {};
    for (int64_t j = 0; j < count; ++j) {
      const vf e = exp2_negative((load(scores + j * kGroup + v * V) - m[v]) * scale);
      store(p + j * kGroup + v * V, e);
      sum += e;
    }
    total[v] = sum;
  }
}

// Group i of the query rows against one block of the queue.
void add_block(const Plan& plan, const Temperatures& at, int64_t i, const float* keys, int64_t count, int64_t block,
               const float* dither, float* cell) {
  alignas(64) float scores[kBlock * kGroup];
  alignas(64) float p[kBlock * kGroup];
  alignas(64) float p_step[kGroup], factor[kGroup];
  auto* words = reinterpret_cast<int32_t*>(p);
  const int64_t d = plan.padded_d;
  if (plan.rounded)
    vnni_rows<Bits::k16, kTileRows, kTileVectors, false>(count, d / 2, plan.block_rows(block), d / 2, 1,
                                                         plan.panel_words(i), kGroup, nullptr, scores, kGroup);
  else
    gemm_rows<kTileRows, kTileVectors, false>(count, plan.d, keys, d, 1, plan.panel(i), kGroup, scores, kGroup);
  for (int64_t j = count * kGroup; j < round_up(count, 4) * kGroup; ++j) scores[j] = 0;

  // A score counts steps of the product, of 1 in float32.
  vf step[kTileVectors], high[kTileVectors], largest[kTileVectors], m[kTileVectors], old_m[kTileVectors];
  for (int v = 0; v < kTileVectors; ++v) {
    vf low = splat(INFINITY);
    high[v] = splat(-INFINITY);
    for (int64_t j = 0; j < count; ++j) {
      const vf s = load(scores + j * kGroup + v * V);
      high[v] = max(s, high[v]);  // a NaN is left to the sums
      low = min(s, low);
    }
    largest[v] = max(high[v], -low);
    step[v] = plan.rounded ? load(plan.steps + i * kGroup + v * V) * plan.measured[block].score_step : splat(1);
    old_m[v] = load(cell + v * V);
    m[v] = max(old_m[v], high[v] * step[v]);
    store(cell + v * V, m[v]);
  }
  for (int t = 0; t < at.count; ++t) {
    float* z = plan.normalizer(cell, t);
    float* o = at.mean[t] ? plan.mean(cell, t) : nullptr;
    vf total[kTileVectors];
    if (at.flat[t]) {
      flat_remainders<kGroup>(scores, count, largest, step, at.value[t], dither, words, p_step, total);
      for (int r = 0; r < kGroup; ++r) p_step[r] *= plan.measured[block].byte_step;
      for (int v = 0; v < kTileVectors; ++v) store(z + v * V, load(z + v * V) + total[v]);
      if (o) integer_products<Bits::k8, kGroup>((count + 3) / 4, words, plan.block_bytes(block), d, p_step, o);
      continue;
    }
    if (plan.rounded)
      rounded_exponentials<kGroup>(scores, count, high, step, at.value[t], dither, words, total);
    else
      exponentials(scores, count, m, at.value[t], p, total);
    const float scale = 1.44269504088896341f / at.value[t];
    for (int v = 0; v < kTileVectors; ++v) {
      const vf old_share = exp2_negative((old_m[v] - m[v]) * scale);
      const vf share = plan.rounded ? exp2_negative((high[v] * step[v] - m[v]) * scale) : splat(1);
      store(factor + v * V, old_share);
      if (plan.rounded) store(p_step + v * V, share * (plan.measured[block].key_step / kLevels));
      store(z + v * V, load(z + v * V) * old_share + total[v] * share);
    }
    if (!o) continue;
    rescale(factor, d, o);
    if (plan.rounded)
      integer_products<Bits::k16, kGroup>((count + 1) / 2, words, plan.block_pairs(block), d, p_step, o);
    else
      add_products<kGroup>(count, p, kGroup, keys, 0, d, o);
  }
}

// Some groups of rows (first to last of all widths' groups) against one chunk of the queue, block by block, so that a
// block is in cache for all of them.
void add_cells(const InfoNceArgs& args, const Plan& plan, const float* queue, int64_t chunk, int64_t first,
               int64_t last, const float* dither) {
  for (int64_t i = first; i < last; ++i) {
    float* cell = plan.cell(chunk, i);
    memset(cell, 0, plan.cell_floats * sizeof(float));
    for (int r = 0; r < kGroup; ++r) cell[r] = -INFINITY;
  }
  const int64_t end = min64(args.k, (chunk + 1) * plan.chunk);
  for (int64_t j = chunk * plan.chunk; j < end; j += kBlock)
    for (int64_t i = first; i < last; ++i)
      add_block(plan, temperatures_of(args, i / plan.groups, plan.flat_from), i, queue + j * plan.padded_d,
                min64(kBlock, end - j), j / kBlock, dither, plan.cell(chunk, i));
}

// Σ k and the upper triangle of Σ k·kᵀ, kGroup rows of it, over one chunk.
void add_moments(const Plan& plan, const float* queue, int64_t queue_rows, int64_t first_row, float* moments) {
  const int64_t d = plan.padded_d;
  float* matrix = moments + d + first_row * d;
  const int64_t rows = min64(kGroup, d - first_row);
  memset(matrix, 0, rows * d * sizeof(float));
  if (first_row == 0) memset(moments, 0, d * sizeof(float));
  for (int64_t j = 0; j < queue_rows; j += kBlock) {
    const int64_t count = min64(kBlock, queue_rows - j);
    const float* keys = queue + j * d;
    if (rows == kGroup)
      add_products<kGroup>(count, keys + first_row, d, keys, first_row, d, matrix);
    else
      add_products<V>(count, keys + first_row, d, keys, first_row, d, matrix);
    for (int64_t i = 0; first_row == 0 && i < d; i += V) {
      vf total = {};
      for (int64_t r = 0; r < count; ++r) total += load(keys + r * d + i);
      store(moments + i, load(moments + i) + total);
    }
  }
}

// Adds the chunks' moments into the first and mirrors the triangle.
void combine_moments(const Plan& plan) {
  const int64_t d = plan.padded_d;
  float* first = plan.moment(0);
  for (int64_t c = 1; c < plan.chunks; ++c)
    for (int64_t i = 0; i < (1 + d) * d; ++i) first[i] += plan.moment(c)[i];
  float* matrix = first + d;
  for (int64_t i = 0; i < d; ++i)
    for (int64_t x = 0; x < i; ++x) matrix[i * d + x] = matrix[x * d + i];
}

// Adds the cells of one row and the positive key, in place in the first cell: the mean of the keys becomes
// O/Z − positive and the normaliser log Z − s⁺/t, so that a nearly solved row loses no digits.
void combine_row(const InfoNceArgs& args, const Plan& plan, const Temperatures& at, int64_t width, int64_t row) {
  const int64_t group = row / kGroup, r = row % kGroup;
  const float* q = args.queries[width] + row * args.d;
  const float* key = args.key + row * args.d;
  double positive = 0;
  for (int64_t i = 0; i < args.d; ++i) positive += static_cast<double>(q[i]) * key[i];
  double largest = positive;
  for (int64_t c = 0; c < plan.chunks; ++c) {
    const double m = plan.cell(c, width * plan.groups + group)[r];
    largest = m > largest ? m : largest;
  }
  float* first = plan.cell(0, width * plan.groups + group);
  for (int t = 0; t < at.count; ++t) {
    const double inverse = 1.0 / at.value[t];
    const double maximum = at.flat[t] ? 0 : largest;
    double negatives = 0;
    float* o = plan.mean(first, t) + r * plan.padded_d;
    for (int64_t c = 0; c < plan.chunks; ++c) {
      float* cell = plan.cell(c, width * plan.groups + group);
      const double factor = at.flat[t] ? 1 : ::exp((cell[r] - maximum) * inverse);
      negatives += plan.normalizer(cell, t)[r] * factor;
      if (!at.mean[t]) continue;
      const float* from = plan.mean(cell, t) + r * plan.padded_d;
      const float f = static_cast<float>(factor);
      for (int64_t i = 0; i < args.d; ++i) o[i] = c == 0 ? from[i] * f : o[i] + from[i] * f;
    }
    if (at.flat[t]) {
      const float* moment = plan.moment(0);
      double total = 0;
      for (int64_t i = 0; i < args.d; ++i) total += static_cast<double>(q[i]) * moment[i];
      negatives += args.k + total * inverse;
      for (int64_t y = 0; at.mean[t] && y < args.d; ++y) {
        const float f = static_cast<float>(q[y] * inverse);
        const float* row_of_matrix = moment + (1 + y) * plan.padded_d;
        for (int64_t i = 0; i < args.d; ++i) o[i] += f * row_of_matrix[i];
      }
      for (int64_t i = 0; at.mean[t] && i < args.d; ++i) o[i] += moment[i];
    }
    const double x = (positive - maximum) * inverse;
    const double total = negatives + ::exp(x);
    plan.normalizer(first, t)[r] = static_cast<float>(x == 0 ? log1p(negatives) : log(total) - x);
    if (!at.mean[t]) continue;
    const float inverse_total = static_cast<float>(1 / total), share = static_cast<float>(negatives / total);
    for (int64_t i = 0; i < args.d; ++i) o[i] = o[i] * inverse_total - share * key[i];
  }
}

// Loss and gradient of one row of one width from the combined cells of all widths.
void finish_row(const InfoNceArgs& args, const Plan& plan, int64_t width, int64_t row) {
  const int64_t group = row / kGroup, r = row % kGroup;
  const Temperatures at = temperatures_of(args, width, plan.flat_from);
  float* cell = plan.cell(0, width * plan.groups + group);
  const double aux = at.student >= 0 ? args.aux : 0;
  double loss = (1 - aux) * plan.normalizer(cell, at.contrastive)[r];
  float* gradient = args.gradients ? args.gradients[width] + row * args.d : nullptr;
  const double scale = static_cast<double>(args.weights[width]) / args.n;
  if (gradient) {
    const float* o = plan.mean(cell, at.contrastive) + r * plan.padded_d;
    const float f = static_cast<float>(scale * (1 - aux) / args.temperature);
    for (int64_t i = 0; i < args.d; ++i) gradient[i] = f * o[i];
  }
  if (at.student >= 0) {
    const double t = args.student_temperature;
    const float* q = args.queries[width] + row * args.d;
    const float* student = plan.mean(cell, at.student) + r * plan.padded_d;
    const int64_t teachers = args.full_distill ? width : 1;
    const float f = static_cast<float>(scale * aux * t);
    double expected = 0;  // q·(O_t − positive)
    for (int64_t v = 0; v < teachers; ++v) {
      const float* teacher =
          plan.mean(plan.cell(0, v * plan.groups + group), temperatures_of(args, v, plan.flat_from).teacher) +
          r * plan.padded_d;
      for (int64_t i = 0; i < args.d; ++i) expected += static_cast<double>(q[i]) * teacher[i];
      if (!gradient) continue;
      const float g = f / static_cast<float>(teachers);
      for (int64_t i = 0; i < args.d; ++i) gradient[i] += g * (student[i] - teacher[i]);
    }
    loss += aux * (t * t * plan.normalizer(cell, at.student)[r] - t * expected / teachers);
  }
  plan.losses[width * args.n + row] = static_cast<float>(loss);
}

// Finds from which temperature on |s/t| ≤ kFlatLargest holds, by Cauchy–Schwarz, and whether the temperatures are high
// enough for rounding; then rounds what is to be rounded. Nothing is flat or rounded if a value is not finite.
void round_queue(const InfoNceArgs& args, const float* queue, const float* dither, Plan* plan) {
  const int64_t d = plan->padded_d, panels = plan->widths * plan->groups;
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < plan->blocks; ++b)
    plan->measured[b] = measure_keys(queue + b * kBlock * d, min64(kBlock, args.k - b * kBlock), d);
  float key = 0, query = 0;
  for (int64_t b = 0; b < plan->blocks; ++b) key = larger_or_nan(plan->measured[b].norm, key);
  for (int64_t i = 0; i < args.widths * args.n; ++i) {
    const float* q = args.queries[i / args.n] + i % args.n * args.d;
    float square = 0;
    for (int64_t x = 0; x < args.d; ++x) square += q[x] * q[x];
    query = larger_or_nan(sqrtf(square), query);
  }
  // A little slack, so that rounding does not decide for unit rows and t = 2 or t = 0.2.
  const float largest = 0.999f * key * query;
  plan->flat_from = largest / kFlatLargest;
  plan->flat = false;
  bool sharp = false;
  for (int64_t w = 0; w < args.widths; ++w) {
    const Temperatures at = temperatures_of(args, w, plan->flat_from);
    for (int t = 0; t < at.count; ++t) {
      plan->flat |= at.flat[t];
      sharp |= !(at.value[t] >= largest * kRoundedFrom);
    }
  }
  plan->rounded = plan->rounded && !sharp;
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < plan->blocks; ++b) {
    const float* keys = queue + b * kBlock * d;
    const int64_t count = min64(kBlock, args.k - b * kBlock);
    if (plan->flat) round_to_bytes(keys, count, d, plan->measured[b], dither, plan->block_bytes(b));
    if (plan->rounded) round_to_words(keys, count, d, plan->measured[b], plan->block_rows(b), plan->block_pairs(b));
  }
  for (int64_t i = 0; plan->rounded && i < panels; ++i)
    round_queries<kGroup>(plan->panel(i), plan->d, d, plan->panel_words(i), plan->steps + i * kGroup);
}

void sum_moments(const InfoNceArgs& args, const float* queue, const Plan& plan) {
  const int64_t parts = (plan.padded_d + kGroup - 1) / kGroup;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < plan.chunks * parts; ++i) {
    const int64_t begin = i / parts * plan.chunk;
    add_moments(plan, queue + begin * plan.padded_d, min64(plan.chunk, args.k - begin), i % parts * kGroup,
                plan.moment(i / parts));
  }
  combine_moments(plan);
}

int64_t scratch_bytes(const InfoNceArgs& args) {
  InfoNceArgs sizes = args;
  sizes.scratch = nullptr;
  return plan_of(sizes).floats * static_cast<int64_t>(sizeof(float));
}

void info_nce(const InfoNceArgs& args) {
  Plan plan = plan_of(args);
  const int64_t panels = args.widths * plan.groups;

#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < panels; ++i) {
    const int64_t width = i / plan.groups, group = i % plan.groups;
    float* panel = plan.panel(i);
    for (int64_t r = 0; r < kGroup; ++r) {
      const int64_t row = group * kGroup + r;
      for (int64_t x = 0; x < args.d; ++x)
        panel[x * kGroup + r] = row < args.n ? args.queries[width][row * args.d + x] : 0.0f;
    }
  }
  const float* queue = args.queue;
  if (plan.padded_d != args.d) {
    queue = plan.queue;
#pragma omp parallel for schedule(static)
    for (int64_t j = 0; j < args.k; ++j) {
      memcpy(plan.queue + j * plan.padded_d, args.queue + j * args.d, args.d * sizeof(float));
      memset(plan.queue + j * plan.padded_d + args.d, 0, (plan.padded_d - args.d) * sizeof(float));
    }
  }
  // A low-discrepancy sequence of pairs (Roberts' R2) for the roundings of probabilities and keys.
  float dither[kBlock], key_dither[kBlock];
  for (int j = 0; j < kBlock; ++j) {
    dither[j] = fmodf(0.75487767f * static_cast<float>(j + 1), 1.0f);
    key_dither[j] = fmodf(0.56984029f * static_cast<float>(j + 1), 1.0f);
  }
  if (plan.flat) round_queue(args, queue, key_dither, &plan);
  if (plan.flat) sum_moments(args, queue, plan);
  const int64_t batches = (panels + kBatch - 1) / kBatch;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < plan.chunks * batches; ++i) {
    const int64_t first = i % batches * kBatch;
    add_cells(args, plan, queue, i / batches, first, min64(first + kBatch, panels), dither);
  }
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < args.n; ++row) {
    for (int64_t w = 0; w < args.widths; ++w) combine_row(args, plan, temperatures_of(args, w, plan.flat_from), w, row);
    for (int64_t w = 0; w < args.widths; ++w) finish_row(args, plan, w, row);
  }
  double loss = 0;
  for (int64_t w = 0; w < args.widths; ++w) {
    double sum = 0;
    for (int64_t row = 0; row < args.n; ++row) sum += plan.losses[w * args.n + row];
    const double mean = sum / args.n;
    if (args.per_width) args.per_width[w] = static_cast<float>(mean);
    loss += args.weights[w] * mean;
  }
  *args.loss = static_cast<float>(loss);
}

}  // namespace

extern const InfoNceKernels info_nce_kernels;
const InfoNceKernels info_nce_kernels = {scratch_bytes, info_nce};

}  // namespace slimclr::cpu::SLIMCLR_ISA
