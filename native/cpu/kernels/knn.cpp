#include "cpu/kernels/knn.h"

#include "cpu/kernels/gemm.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int64_t kQueries = 64;       // per task
constexpr int64_t kBank = 2 * V;       // bank rows per tile

struct Neighbour {
  float similarity;
  int32_t row;
};

// Whether a is farther than b: the order of the heap, whose top is the farthest neighbour kept.
SLIMCLR_INLINE bool farther(Neighbour a, Neighbour b) {
  return a.similarity < b.similarity || (a.similarity == b.similarity && a.row > b.row);
}

void sift_down(Neighbour* heap, int64_t size, int64_t at) {
  Neighbour item = heap[at];
  for (;;) {
    int64_t child = 2 * at + 1;
    if (child >= size) break;
    if (child + 1 < size && farther(heap[child + 1], heap[child])) ++child;
    if (!farther(heap[child], item)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = item;
}

void sift_up(Neighbour* heap, int64_t at) {
  Neighbour item = heap[at];
  while (at > 0 && farther(item, heap[(at - 1) / 2])) {
    heap[at] = heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  heap[at] = item;
}

int64_t task_floats(const KnnArgs& a) { return (a.d + kQueries) * kBank + kQueries * a.k * 2; }

int64_t tasks(const KnnArgs& a) { return (a.n + kQueries - 1) / kQueries; }

int64_t scratch_bytes(const KnnArgs& a) { return tasks(a) * task_floats(a) * (int64_t)sizeof(float); }

void knn(const KnnArgs& a) {
#pragma omp parallel for schedule(static)
  for (int64_t task = 0; task < tasks(a); ++task) {
    float* tile = (float*)a.scratch + task * task_floats(a);  // [d][kBank], the bank's rows transposed
    float* similarities = tile + a.d * kBank;                 // [kQueries][kBank]
    Neighbour* heaps = (Neighbour*)(similarities + kQueries * kBank);
    int64_t first = task * kQueries, rows = a.n - first < kQueries ? a.n - first : kQueries;
    for (int64_t j0 = 0; j0 < a.m; j0 += kBank) {
      int64_t columns = a.m - j0 < kBank ? a.m - j0 : kBank;
      for (int64_t p = 0; p < a.d; ++p)
        for (int64_t j = 0; j < kBank; ++j) tile[p * kBank + j] = j < columns ? a.bank[(j0 + j) * a.d + p] : 0;
      gemm_rows<kTileRows, 2, false>(rows, a.d, a.query + first * a.d, a.d, 1, tile, kBank, similarities, kBank);
      for (int64_t i = 0; i < rows; ++i) {
        Neighbour* heap = heaps + i * a.k;
        for (int64_t j = 0; j < columns; ++j) {
          Neighbour next{similarities[i * kBank + j], (int32_t)(j0 + j)};
          if (j0 + j < a.k) {
            heap[j0 + j] = next;
            sift_up(heap, j0 + j);
          } else if (farther(heap[0], next)) {
            heap[0] = next;
            sift_down(heap, a.k, 0);
          }
        }
      }
    }
    for (int64_t i = 0; i < rows; ++i) {
      float* scores = a.scores + (first + i) * a.classes;
      for (int64_t c = 0; c < a.classes; ++c) scores[c] = 0;
      for (int64_t j = 0; j < a.k; ++j) {
        Neighbour neighbour = heaps[i * a.k + j];
        int32_t label = a.labels[neighbour.row];
        if (label < 0 || label >= a.classes) continue;
        float weight[V];
        store(weight, exp(splat(neighbour.similarity / a.temperature)));
        scores[label] += weight[0];
      }
    }
  }
}

}  // namespace

extern const KnnKernels knn_kernels;
const KnnKernels knn_kernels = {scratch_bytes, knn};

}  // namespace slimclr::cpu::SLIMCLR_ISA
