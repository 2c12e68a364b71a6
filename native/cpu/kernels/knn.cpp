#include "cpu/kernels/knn.h"

#include <math.h>

#include "cpu/kernels/gemm.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int kGroup = kTileVectors * V;  // queries worked on together, side by side in vectors
constexpr int kBlock = 96;                // bank rows per step
constexpr int kBatch = 4;                 // groups that share a block in cache

int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

struct Neighbour {
  float similarity;
  int32_t index;
};

bool farther(Neighbour a, Neighbour b) {
  return a.similarity < b.similarity || (a.similarity == b.similarity && a.index > b.index);
}

// A binary heap whose root is the farthest of the neighbours kept.
void push(Neighbour* heap, int64_t size, Neighbour x) {
  int64_t i = size;
  for (; i > 0 && farther(x, heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
  heap[i] = x;
}
void replace_root(Neighbour* heap, int64_t size, Neighbour x) {
  int64_t i = 0;
  for (int64_t child = 1; child < size; child = 2 * i + 1) {
    if (child + 1 < size && farther(heap[child + 1], heap[child])) ++child;
    if (!farther(heap[child], x)) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = x;
}

// Offers bank rows begin … begin + count with scores[count][kGroup] to the heaps of the group's `queries` queries.
void select_block(const float* scores, int64_t begin, int64_t count, int64_t queries, int64_t k, Neighbour* heaps) {
  alignas(64) float high[kGroup];
  for (int v = 0; v < kTileVectors; ++v) {
    vf h = splat(-INFINITY);
    for (int64_t j = 0; j < count; ++j) h = max(h, load(scores + j * kGroup + v * V));
    store(high + v * V, h);
  }
  for (int64_t r = 0; r < queries; ++r) {
    Neighbour* heap = heaps + r * k;
    if (begin >= k && !(high[r] > heap[0].similarity)) continue;
    for (int64_t j = 0; j < count; ++j) {
      const Neighbour x = {scores[j * kGroup + r], static_cast<int32_t>(begin + j)};
      if (begin + j < k)
        push(heap, begin + j, x);
      else if (x.similarity > heap[0].similarity)
        replace_root(heap, k, x);
    }
  }
}

int64_t neighbours(const KnnArgs& args) { return min64(args.k, args.m); }
int64_t groups_of(const KnnArgs& args) { return (args.n + kGroup - 1) / kGroup; }

int64_t scratch_bytes(const KnnArgs& args) {
  const int64_t rows = groups_of(args) * kGroup;
  return rows * args.d * static_cast<int64_t>(sizeof(float)) +
         rows * neighbours(args) * static_cast<int64_t>(sizeof(Neighbour));
}

void knn(const KnnArgs& args) {
  const int64_t groups = groups_of(args), k = neighbours(args);
  float* panels = static_cast<float*>(args.scratch);  // [groups][d][kGroup], zeros beyond n
  Neighbour* heaps = reinterpret_cast<Neighbour*>(panels + groups * args.d * kGroup);  // [groups][kGroup][k]

#pragma omp parallel for schedule(static)
  for (int64_t first = 0; first < groups; first += kBatch) {
    const int64_t last = min64(first + kBatch, groups);
    for (int64_t row = first * kGroup; row < last * kGroup; ++row)
      for (int64_t i = 0; i < args.d; ++i)
        panels[(row / kGroup * args.d + i) * kGroup + row % kGroup] =
            row < args.n ? args.query[row * args.d + i] : 0.0f;

    alignas(64) float scores[kBlock * kGroup];
    for (int64_t j = 0; j < args.m; j += kBlock)
      for (int64_t g = first; g < last; ++g) {
        const int64_t count = min64(kBlock, args.m - j);
        gemm_rows<kTileRows, kTileVectors, false>(count, args.d, args.bank + j * args.d, args.d, 1,
                                                  panels + g * args.d * kGroup, kGroup, scores, kGroup);
        select_block(scores, j, count, min64(kGroup, args.n - g * kGroup), k, heaps + g * kGroup * k);
      }

    for (int64_t row = first * kGroup; row < min64(last * kGroup, args.n); ++row) {
      float* out = args.scores + row * args.classes;
      for (int64_t c = 0; c < args.classes; ++c) out[c] = 0;
      for (int64_t i = 0; i < k; ++i) {
        const Neighbour x = heaps[row * k + i];
        const int32_t label = args.labels[x.index];
        if (label >= 0 && label < args.classes) out[label] += expf(x.similarity / args.temperature);
      }
    }
  }
}

}  // namespace

extern const KnnKernels knn_kernels;
const KnnKernels knn_kernels = {scratch_bytes, knn};

}  // namespace slimclr::cpu::SLIMCLR_ISA
