// Attention with keys = values = queue. Every width is evaluated at one to three temperatures t (contrastive, student,
// teacher): a panel. The softmax at t needs Z = Σ_j e^((s_j − m)/t) and O = Σ_j e^((s_j − m)/t)·k_j. A first pass over
// the queue finds each row's largest and smallest similarity, so that m is known and half precision suffices for the
// probabilities.
//
// Where all |s/t| ≤ 1 (high temperatures) m is 0 and 1 is left out of every probability: Z = K + Σ expm1 and
// O = Σk + Σ expm1·k, which keeps the digits in which nearly uniform distributions differ.
//
// A query is the sum of two float16 vectors, since the rounding of one would shift all its similarities alike. The
// roundings of keys and probabilities average out over a long queue; over a short one they are sums of two as well.
//
// A block takes 64 query rows and a part of the queue (a split); the splits' Z and O are added in order afterwards.
//
// Shared memory and registers hold 256 dimensions. Longer rows come in slabs of 256: similarities add up over the
// slabs, and each block leaves O for one of them, so that blocks of the other slabs compute the same similarities
// again.
#include "cuda/kernels/info_nce.h"

#include <cuda_fp16.h>
#include <mma.h>

#include <cmath>

#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/shared_memory.cuh"

namespace slimclr::cuda {

namespace {

namespace wmma = nvcuda::wmma;

constexpr int kRows = 64;  // query rows of a block
constexpr int kKeys = 64;  // queue rows of a step
constexpr int kWarps = 4;  // 16 query rows each
constexpr int kTileThreads = kWarps * kWarp;
constexpr int kFragment = 16;
constexpr int64_t kSlab = 256;  // most dimensions of a row in shared memory
constexpr int kMomentBlocks = 64;
constexpr int64_t kShortQueue = 8192;

struct Panel {
  float temperature;
  int16_t width;
  bool mean;  // whether O is needed, not only Z
};

// The panels, and which of them serve a width: −1 where none does.
struct Panels {
  int count = 0;
  Panel at[kMaxWidths * 3];
  int16_t contrastive[kMaxWidths], student[kMaxWidths], teacher[kMaxWidths];
};

int16_t add_panel(Panels* p, int width, float temperature, bool mean) {
  for (int i = 0; i < p->count; ++i)
    if (p->at[i].width == width && p->at[i].temperature == temperature) {
      p->at[i].mean |= mean;
      return static_cast<int16_t>(i);
    }
  p->at[p->count] = {temperature, static_cast<int16_t>(width), mean};
  return static_cast<int16_t>(p->count++);
}

Panels panels_of(const InfoNceArgs& a) {
  Panels p;
  for (int w = 0; w < a.widths; ++w) {
    const bool teaches = a.full_distill ? w + 1 < a.widths : w == 0 && a.widths > 1;
    p.contrastive[w] = add_panel(&p, w, a.temperature, a.want_gradients);
    p.student[w] = a.distill && w > 0 ? add_panel(&p, w, a.student_temperature, a.want_gradients) : int16_t{-1};
    p.teacher[w] = a.distill && teaches ? add_panel(&p, w, a.teacher_temperature, true) : int16_t{-1};
  }
  return p;
}

// Sizes, and where everything lies in the scratch memory.
struct Plan {
  int64_t n, k, d;          // as given
  int64_t rows, keys, dim;  // padded: multiples of kRows and kKeys; 64, 128 or a multiple of kSlab
  int widths, panels, splits;
  int slabs;            // parts of a row
  __half* queries;      // [widths][rows][dim]
  __half* rests;        // [widths][rows][dim], what the rounding of queries left over
  __half* queue;        // [keys][dim]
  __half* queue_rests;  // [keys][dim] of a short queue, else null
  float2* ranges;       // [splits][widths][rows], least and largest similarity
  float* z;             // [splits][panels][rows]
  float* o;             // [splits][panels][rows][dim]
  double* moments;      // [kMomentBlocks][d], then their sum in the first row
  float* means;         // [panels][n][d], O/Z − positive
  float* log_z;         // [panels][n], log Z − s⁺/t
  double* losses;       // [widths][n]
  int64_t bytes;
};

Plan plan_of(const Launch& on, const InfoNceArgs& a, int panels) {
  Plan p;
  p.n = a.n;
  p.k = a.k;
  p.d = a.d;
  p.rows = (a.n + kRows - 1) / kRows * kRows;
  p.keys = (a.k + kKeys - 1) / kKeys * kKeys;
  p.dim = a.d <= 64 ? 64 : a.d <= 128 ? 128 : (a.d + kSlab - 1) / kSlab * kSlab;
  p.slabs = static_cast<int>((p.dim + kSlab - 1) / kSlab);
  p.widths = a.widths;
  p.panels = panels;
  // About three blocks for every multiprocessor.
  const int64_t blocks = panels * p.slabs * (p.rows / kRows), tiles = p.keys / kKeys;
  int64_t splits = (static_cast<int64_t>(on.processors) * 3 + blocks - 1) / blocks;
  splits = splits < 64 ? splits : 64;
  splits = splits < tiles ? splits : tiles;
  p.splits = static_cast<int>(splits);
  char* at = static_cast<char*>(a.scratch);
  auto take = [&](auto*& pointer, int64_t count) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(at);
    at += (count * static_cast<int64_t>(sizeof(*pointer)) + 255) / 256 * 256;
  };
  take(p.queries, p.widths * p.rows * p.dim);
  take(p.rests, p.widths * p.rows * p.dim);
  take(p.queue, p.keys * p.dim);
  take(p.queue_rests, p.keys <= kShortQueue ? p.keys * p.dim : 0);
  if (p.keys > kShortQueue) p.queue_rests = nullptr;
  take(p.ranges, splits * p.widths * p.rows);
  take(p.z, splits * panels * p.rows);
  take(p.o, splits * panels * p.rows * p.dim);
  take(p.moments, kMomentBlocks * p.d);
  take(p.means, panels * p.n * p.d);
  take(p.log_z, panels * p.n);
  take(p.losses, p.widths * p.n);
  p.bytes = at - static_cast<char*>(a.scratch);
  return p;
}

// half [padded rows][dim], zeros beyond [rows][d]. rest, unless null: what the rounding left over.
__global__ void halve_kernel(const float* x, int64_t rows, int64_t d, __half* y, __half* rest, int64_t dim,
                             int64_t size) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < size; i += stride) {
    const int64_t row = i / dim, column = i % dim;
    const float v = row < rows && column < d ? x[row * d + column] : 0.0f;
    y[i] = __float2half_rn(v);
    if (rest) rest[i] = __float2half_rn(v - __half2float(y[i]));
  }
}

// Σ of the queue's rows: each block its share, then one block the shares.
__global__ void moments_kernel(const float* queue, int64_t k, int64_t d, double* moments) {
  const int64_t begin = k * blockIdx.x / gridDim.x, end = k * (blockIdx.x + 1) / gridDim.x;
  for (int64_t i = threadIdx.x; i < d; i += blockDim.x) {
    double total = 0;
    for (int64_t row = begin; row < end; ++row) total += static_cast<double>(queue[row * d + i]);
    moments[blockIdx.x * d + i] = total;
  }
}
__global__ void add_moments_kernel(int64_t d, double* moments) {
  for (int64_t i = threadIdx.x; i < d; i += blockDim.x)
    for (int b = 1; b < kMomentBlocks; ++b) moments[i] += moments[b * d + i];
}

// m and what is left out of a probability (1 or 0), from a row's range of similarities.
struct Shift {
  float m, centre;
};
__device__ Shift shift_of(float2 range, float temperature) {
  const float largest = fmaxf(fabsf(range.x), fabsf(range.y));
  if (largest <= temperature) return {0, 1};
  return {range.y, 0};
}

__device__ float2 range_of(const Plan& p, int width, int64_t row) {
  float2 range = {INFINITY, -INFINITY};
  for (int s = 0; s < p.splits; ++s) {
    const float2 part = p.ranges[(static_cast<int64_t>(s) * p.widths + width) * p.rows + row];
    range.x = fminf(range.x, part.x);
    range.y = fmaxf(range.y, part.y);
  }
  return range;
}

// What a block keeps in shared memory. The rows are longer than their contents, so that fragments spread over the
// banks.
template <int D>
struct Tile {
  __half queries[kRows][D + 8];
  __half keys[kKeys][D + 8];
  float scores[kRows][kKeys + 4];
  __half p[kRows][kKeys + 8];
  Shift shift[kRows];
};

// Of rows that a tile holds whole, known to the compiler.
template <int D>
__device__ int64_t dim_of(const Plan& p) {
  return D < kSlab ? D : p.dim;
}
template <int D>
__device__ int slabs_of(const Plan& p) {
  return D < kSlab ? 1 : p.slabs;
}

// The first D numbers of rows that lie `stride` apart.
template <int D>
__device__ void copy_rows(__half (*to)[D + 8], const __half* from, int64_t stride) {
  constexpr int kWords = D / 8;  // of 16 bytes, in a row
  for (int i = threadIdx.x; i < kRows * kWords; i += kTileThreads) {
    const int row = i / kWords, column = i % kWords * 8;
    *reinterpret_cast<uint4*>(&to[row][column]) = *reinterpret_cast<const uint4*>(from + row * stride + column);
  }
}

// Rows in global memory: rounded to float16 and, unless null, what the rounding left over.
struct Halves {
  const __half *values, *rests;
  __device__ Halves from(int64_t i) const { return {values + i, rests ? rests + i : nullptr}; }
};

// scores = queries · keysᵀ, or += it, for the 16 query rows of this warp, which begin at `row`; of D dimensions. The
// values lie in the tile, the rests, unless null, in rows that are `stride` apart.
template <int D>
__device__ void multiply_keys(Tile<D>& tile, int row, const __half* query_rests, const __half* key_rests,
                              unsigned stride, bool add) {
  for (int key = 0; key < kKeys; key += kFragment) {
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> s;
    if (add)
      wmma::load_matrix_sync(s, &tile.scores[row][key], kKeys + 4, wmma::mem_row_major);
    else
      wmma::fill_fragment(s, 0.0f);
#pragma unroll
    for (int i = 0; i < D; i += kFragment) {
      wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> q, rest;
      wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> k;
      wmma::load_matrix_sync(q, &tile.queries[row][i], D + 8);
      wmma::load_matrix_sync(k, &tile.keys[key][i], D + 8);
      wmma::mma_sync(s, q, k, s);
      if (query_rests) {
        wmma::load_matrix_sync(rest, query_rests + row * static_cast<int64_t>(stride) + i, stride);
        wmma::mma_sync(s, rest, k, s);
      }
      if (key_rests) {
        wmma::load_matrix_sync(k, key_rests + key * static_cast<int64_t>(stride) + i, stride);
        wmma::mma_sync(s, q, k, s);
      }
    }
    wmma::store_matrix_sync(&tile.scores[row][key], s, kKeys + 4, wmma::mem_row_major);
  }
  __syncwarp();
}

// scores = queries · keysᵀ over all slabs, of which `last` is the last to be loaded. A single slab of queries was
// loaded before.
template <int D>
__device__ void multiply_slabs(const Plan& p, Tile<D>& tile, int row, const Halves& queries, const Halves& keys,
                               int last) {
  const int64_t dim = dim_of<D>(p);
  const int slabs = slabs_of<D>(p);
  for (int i = 1; i <= slabs; ++i) {
    const int64_t slab = (last + i) % slabs * static_cast<int64_t>(D);
    const Halves q = queries.from(slab), k = keys.from(slab);
    __syncthreads();  // what was loaded before has been read
    if (slabs > 1) copy_rows<D>(tile.queries, q.values, dim);
    copy_rows<D>(tile.keys, k.values, dim);
    __syncthreads();
    multiply_keys<D>(tile, row, q.rests, k.rests, static_cast<unsigned>(dim), i > 1);
  }
}

// Grid: splits, tiles of query rows, widths. Leaves the range of every row's similarities to the split's keys.
template <int D>
__global__ void __launch_bounds__(kTileThreads) range_kernel(Plan p) {
  Tile<D>& tile = shared_memory<Tile<D>>();
  const int lane = threadIdx.x % kWarp, strip = threadIdx.x / kWarp * kFragment, width = blockIdx.z;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kRows, tiles = p.keys / kKeys;
  const int64_t begin = tiles * blockIdx.x / p.splits, end = tiles * (blockIdx.x + 1) / p.splits;
  const int64_t dim = dim_of<D>(p);
  const Halves queries = {p.queries + (width * p.rows + first) * dim, nullptr};
  if (slabs_of<D>(p) == 1) copy_rows<D>(tile.queries, queries.values, dim);
  float low[kFragment], high[kFragment];
#pragma unroll
  for (int r = 0; r < kFragment; ++r) {
    low[r] = INFINITY;
    high[r] = -INFINITY;
  }
  for (int64_t t = begin; t < end; ++t) {
    multiply_slabs<D>(p, tile, strip, queries, {p.queue + t * kKeys * dim, nullptr}, 0);
#pragma unroll
    for (int r = 0; r < kFragment; ++r)
      for (int key = lane; key < kKeys; key += kWarp) {
        if (t * kKeys + key >= p.k) continue;
        const float s = tile.scores[strip + r][key];
        low[r] = fminf(low[r], s);
        high[r] = fmaxf(high[r], s);
      }
    __syncwarp();
  }
#pragma unroll
  for (int r = 0; r < kFragment; ++r) {
    const float least = -warp_max(-low[r]), most = warp_max(high[r]);
    if (lane == 0)
      p.ranges[(static_cast<int64_t>(blockIdx.x) * p.widths + width) * p.rows + first + strip + r] = {least, most};
  }
}

// o += p · keys for the 16 query rows of this warp; all have read p when it returns.
template <int D>
__device__ void add_products(const Tile<D>& tile, int row,
                             wmma::fragment<wmma::accumulator, 16, 16, 16, float> (&o)[D / kFragment],
                             const __half* keys, int64_t stride) {
  for (int key = 0; key < kKeys; key += kFragment) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> a;
    wmma::load_matrix_sync(a, &tile.p[row][key], kKeys + 8);
#pragma unroll
    for (int i = 0; i < D / kFragment; ++i) {
      wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> b;
      wmma::load_matrix_sync(b, keys + key * stride + i * kFragment, static_cast<unsigned>(stride));
      wmma::mma_sync(o[i], a, b, o[i]);
    }
  }
  __syncwarp();
}

// Grid: splits, tiles of query rows, slabs of all panels. Leaves the split's Z and a slab of its O.
template <int D>
__global__ void __launch_bounds__(kTileThreads) attend_kernel(Plan p, Panels panels) {
  Tile<D>& tile = shared_memory<Tile<D>>();
  const int lane = threadIdx.x % kWarp, strip = threadIdx.x / kWarp * kFragment;
  const int64_t dim = dim_of<D>(p);
  const int slabs = slabs_of<D>(p);
  const int index = static_cast<int>(blockIdx.z) / slabs, slab = static_cast<int>(blockIdx.z) % slabs;
  const Panel panel = panels.at[index];
  if (slab > 0 && !panel.mean) return;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * kRows, tiles = p.keys / kKeys;
  const int64_t begin = tiles * blockIdx.x / p.splits, end = tiles * (blockIdx.x + 1) / p.splits;
  const float exponent = 1.44269504088896341f / panel.temperature;
  const int64_t own = (panel.width * p.rows + first) * dim;
  const Halves queries = {p.queries + own, p.rests + own};
  if (slabs == 1) copy_rows<D>(tile.queries, queries.values, dim);
  if (threadIdx.x < kRows)
    tile.shift[threadIdx.x] = shift_of(range_of(p, panel.width, first + threadIdx.x), panel.temperature);

  wmma::fragment<wmma::accumulator, 16, 16, 16, float> o[D / kFragment];
#pragma unroll
  for (int i = 0; i < D / kFragment; ++i) wmma::fill_fragment(o[i], 0.0f);
  float z[kFragment] = {};
  for (int64_t t = begin; t < end; ++t) {
    const Halves keys = Halves{p.queue, p.queue_rests}.from(t * kKeys * dim);
    multiply_slabs<D>(p, tile, strip, queries, keys, slab);
#pragma unroll
    for (int r = 0; r < kFragment; ++r) {
      const Shift shift = tile.shift[strip + r];
      for (int key = lane; key < kKeys; key += kWarp) {
        const float e = exp2f((tile.scores[strip + r][key] - shift.m) * exponent) - shift.centre;
        const float value = t * kKeys + key < p.k ? e : 0.0f;
        z[r] += value;
        tile.scores[strip + r][key] = value;
        tile.p[strip + r][key] = __float2half_rn(value);
      }
    }
    __syncwarp();
    if (!panel.mean) continue;
    add_products<D>(tile, strip, o, &tile.keys[0][0], D + 8);
    if (!keys.rests) continue;
    add_products<D>(tile, strip, o, keys.rests + slab * D, dim);
    for (int r = 0; r < kFragment; ++r)
      for (int key = lane; key < kKeys; key += kWarp) {
        const float value = tile.scores[strip + r][key];
        tile.p[strip + r][key] = __float2half_rn(value - __half2float(tile.p[strip + r][key]));
      }
    __syncwarp();
    add_products<D>(tile, strip, o, &tile.keys[0][0], D + 8);
  }
  const int64_t cell = (static_cast<int64_t>(blockIdx.x) * p.panels + index) * p.rows + first + strip;
#pragma unroll
  for (int i = 0; i < D / kFragment; ++i)
    wmma::store_matrix_sync(p.o + cell * dim + slab * D + i * kFragment, o[i], static_cast<unsigned>(dim),
                            wmma::mem_row_major);
#pragma unroll
  for (int r = 0; r < kFragment; ++r) {
    const float total = warp_sum(z[r]);
    if (lane == 0 && slab == 0) p.z[cell + r] = total;
  }
}

// Grid: rows, panels. Adds the splits and the positive key: O/Z − positive and log Z − s⁺/t, so that a nearly solved
// row loses no digits.
__global__ void combine_kernel(Plan p, Panels panels, InfoNceArgs a) {
  const int64_t row = blockIdx.x;
  const int index = blockIdx.y;
  const Panel panel = panels.at[index];
  const float* q = a.queries[panel.width] + row * p.d;
  const float* key = a.key + row * p.d;
  double positive = 0;
  for (int64_t i = threadIdx.x; i < p.d; i += blockDim.x)
    positive += static_cast<double>(q[i]) * static_cast<double>(key[i]);
  positive = block_sum(positive);

  const Shift shift = shift_of(range_of(p, panel.width, row), panel.temperature);
  const double inverse = 1.0 / static_cast<double>(panel.temperature), m = static_cast<double>(shift.m);
  const double largest = shift.centre != 0 || positive < m ? m : positive;
  const double factor = exp((m - largest) * inverse);
  double negatives = 0;
  for (int s = 0; s < p.splits; ++s)
    negatives += static_cast<double>(p.z[(static_cast<int64_t>(s) * p.panels + index) * p.rows + row]);
  negatives = negatives * factor + static_cast<double>(shift.centre) * static_cast<double>(p.k);
  const double x = (positive - largest) * inverse, total = negatives + exp(x);
  if (threadIdx.x == 0) p.log_z[index * p.n + row] = static_cast<float>(x == 0 ? log1p(negatives) : log(total) - x);
  if (!panel.mean) return;
  const double share = negatives / total;
  for (int64_t i = threadIdx.x; i < p.d; i += blockDim.x) {
    double o = 0;
    for (int s = 0; s < p.splits; ++s)
      o += static_cast<double>(p.o[((static_cast<int64_t>(s) * p.panels + index) * p.rows + row) * p.dim + i]);
    o = o * factor + static_cast<double>(shift.centre) * p.moments[i];
    p.means[(index * p.n + row) * p.d + i] = static_cast<float>(o / total - share * static_cast<double>(key[i]));
  }
}

// Grid: rows, widths. Loss and gradient of a row from the panels of all widths.
__global__ void finish_kernel(Plan p, Panels panels, InfoNceArgs a) {
  const int64_t row = blockIdx.x;
  const int width = blockIdx.y, student = panels.student[width];
  const float* q = a.queries[width] + row * p.d;
  const double aux = student >= 0 ? static_cast<double>(a.aux) : 0.0;
  const double scale = static_cast<double>(a.weights[width]) / static_cast<double>(p.n);
  const double t = static_cast<double>(a.student_temperature);
  const int teachers = a.full_distill ? width : 1;
  const float* contrastive = p.means + (panels.contrastive[width] * p.n + row) * p.d;
  const float* learnt = student >= 0 ? p.means + (student * p.n + row) * p.d : nullptr;
  double expected = 0;  // q·(O_t − positive)
  for (int64_t i = threadIdx.x; i < p.d; i += blockDim.x) {
    double teacher = 0;
    if (student >= 0) {
      for (int v = 0; v < teachers; ++v)
        teacher += static_cast<double>(p.means[(panels.teacher[v] * p.n + row) * p.d + i]);
      teacher /= static_cast<double>(teachers);
      expected += static_cast<double>(q[i]) * teacher;
    }
    if (!a.want_gradients) continue;
    double g = scale * (1 - aux) / static_cast<double>(a.temperature) * static_cast<double>(contrastive[i]);
    if (student >= 0) g += scale * aux * t * (static_cast<double>(learnt[i]) - teacher);
    a.gradients[width][row * p.d + i] = static_cast<float>(g);
  }
  expected = block_sum(expected);
  if (threadIdx.x != 0) return;
  double loss = (1 - aux) * static_cast<double>(p.log_z[panels.contrastive[width] * p.n + row]);
  if (student >= 0) loss += aux * (t * t * static_cast<double>(p.log_z[student * p.n + row]) - t * expected);
  p.losses[width * p.n + row] = loss;
}

__global__ void loss_kernel(Plan p, InfoNceArgs a) {
  double loss = 0;
  for (int w = 0; w < p.widths; ++w) {
    double total = 0;
    for (int64_t row = threadIdx.x; row < p.n; row += blockDim.x) total += p.losses[w * p.n + row];
    const double mean = block_sum(total) / static_cast<double>(p.n);
    if (threadIdx.x == 0) a.per_width[w] = static_cast<float>(mean);
    loss += static_cast<double>(a.weights[w]) * mean;
  }
  if (threadIdx.x == 0) *a.loss = static_cast<float>(loss);
}

template <int D>
void attend(const Launch& on, const Plan& p, const Panels& panels) {
  const unsigned splits = static_cast<unsigned>(p.splits), rows = static_cast<unsigned>(p.rows / kRows);
  allow_shared(on, range_kernel<D>, sizeof(Tile<D>));
  allow_shared(on, attend_kernel<D>, sizeof(Tile<D>));
  launch(on, dim3(splits, rows, static_cast<unsigned>(p.widths)), dim3(kTileThreads), sizeof(Tile<D>), range_kernel<D>,
         p);
  launch(on, dim3(splits, rows, static_cast<unsigned>(p.panels * p.slabs)), dim3(kTileThreads), sizeof(Tile<D>),
         attend_kernel<D>, p, panels);
}

}  // namespace

int64_t info_nce_scratch_bytes(const Launch& on, const InfoNceArgs& a) {
  return plan_of(on, a, panels_of(a).count).bytes;
}

void info_nce(const Launch& on, const InfoNceArgs& a) {
  const Panels panels = panels_of(a);
  const Plan p = plan_of(on, a, panels.count);
  for (int w = 0; w < a.widths; ++w)
    launch_flat(on, p.rows * p.dim, halve_kernel, a.queries[w], p.n, p.d, p.queries + w * p.rows * p.dim,
                p.rests + w * p.rows * p.dim, p.dim, p.rows * p.dim);
  launch_flat(on, p.keys * p.dim, halve_kernel, a.queue, p.k, p.d, p.queue, p.queue_rests, p.dim, p.keys * p.dim);
  launch(on, dim3(kMomentBlocks), dim3(kThreads), 0, moments_kernel, a.queue, p.k, p.d, p.moments);
  launch(on, dim3(1), dim3(kThreads), 0, add_moments_kernel, p.d, p.moments);
  if (p.dim == 64)
    attend<64>(on, p, panels);
  else if (p.dim == 128)
    attend<128>(on, p, panels);
  else
    attend<kSlab>(on, p, panels);
  const unsigned rows = static_cast<unsigned>(p.n);
  launch(on, dim3(rows, static_cast<unsigned>(p.panels)), dim3(128), 0, combine_kernel, p, panels, a);
  launch(on, dim3(rows, static_cast<unsigned>(p.widths)), dim3(128), 0, finish_kernel, p, panels, a);
  launch(on, dim3(1), dim3(kThreads), 0, loss_kernel, p, a);
}

}  // namespace slimclr::cuda
