// Per tile of 2x2 outputs: V = Bᵀ d B of its 4x4 inputs d, M = Σ_c U V elementwise in 16 places ("points"), and the
// outputs Aᵀ M A, with U = G g Gᵀ of the kernel g. The sums over channels are 16 matrix products, over kTiles tiles at
// once.
#include "winograd.h"

#ifdef _OPENMP
#include <omp.h>
#endif

#include "vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int kPoints = 16;
constexpr int64_t kTiles = 8;
constexpr int64_t kWorthwhile = 4096;  // values per image: 64 channels of 8x8; measured from there on

int thread_index() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// Blocks of destination channels that one product covers.
int64_t blocks_at_once(int64_t blocks) { return blocks % 2 == 0 ? 2 : blocks % 3 == 0 ? 3 : 1; }

// One pass: source and destination with the tiles of the destination.
struct Job {
  const Act *src, *dst;
  int64_t tile_rows, tile_columns, tiles, groups;
  // Floats from one point to the next, a cache line more than a power of two: else the stores of a tile meet in one
  // set.
  int64_t v_point, m_point;
  int64_t weight_floats, thread_floats;
};

Job make_job(const Act& src, const Act& dst) {
  Job j;
  j.src = &src, j.dst = &dst;
  j.tile_rows = (dst.h + 1) / 2, j.tile_columns = (dst.w + 1) / 2;
  j.tiles = dst.n * j.tile_rows * j.tile_columns;
  j.groups = (j.tiles + kTiles - 1) / kTiles;
  j.v_point = kTiles * src.c + 16;
  j.m_point = kTiles * blocks_at_once(dst.c / V) * V + 16;
  j.weight_floats = kPoints * src.c * dst.c;
  j.thread_floats = kPoints * (j.v_point + j.m_point);
  return j;
}

// U [point][dst.c / V][src.c][V] from the weights between source channel c and V destination channels from d on.
void transform_weights(const ConvArgs& a, const Job& j, bool forward, float* u, int64_t d, int64_t c) {
  vf g[3][3];
  for (int r = 0; r < 3; ++r) {
    for (int s = 0; s < 3; ++s) {
      float lanes[V];
      for (int i = 0; i < V; ++i) {
        lanes[i] = forward ? a.w[(d + i) * a.w_row + c * 9 + r * 3 + s]
                           : a.w[c * a.w_row + (d + i) * 9 + (2 - r) * 3 + (2 - s)];
      }
      g[r][s] = load(lanes);
    }
  }
  vf t[4][3];
  for (int s = 0; s < 3; ++s) {
    t[0][s] = g[0][s];
    t[1][s] = 0.5f * (g[0][s] + g[1][s] + g[2][s]);
    t[2][s] = 0.5f * (g[0][s] - g[1][s] + g[2][s]);
    t[3][s] = g[2][s];
  }
  const int64_t point = j.src->c * j.dst->c;
  float* out = u + d * j.src->c + c * V;
  for (int r = 0; r < 4; ++r, out += 4 * point) {
    store(out, t[r][0]);
    store(out + point, 0.5f * (t[r][0] + t[r][1] + t[r][2]));
    store(out + 2 * point, 0.5f * (t[r][0] - t[r][1] + t[r][2]));
    store(out + 3 * point, t[r][2]);
  }
}

struct Tile {
  int64_t n, row, column;  // of its first output
};

Tile tile_at(const Job& j, int64_t t) {
  const int64_t per_image = j.tile_rows * j.tile_columns, inside = t % per_image;
  return {t / per_image, inside / j.tile_columns * 2, inside % j.tile_columns * 2};
}

// Blocks of V channels of one image.
float* plane(const Act& a, int64_t n, int64_t block) {
  return (float*)a.data + (n * (a.c / V) + block) * a.h * a.w * V;
}

// V [point][tile][src.c] of one tile.
void transform_input(const Job& j, const Tile& tile, float* v) {
  const Act& x = *j.src;
  const int64_t top = tile.row - 1, left = tile.column - 1;
  const bool inside = top >= 0 && left >= 0 && top + 4 <= x.h && left + 4 <= x.w;
  for (int64_t block = 0; block < x.c / V; ++block, v += V) {
    const float* image = plane(x, tile.n, block);
    vf d[4][4];
    if (inside) {
      const float* from = image + (top * x.w + left) * V;
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r, from += x.w * V) {
#pragma GCC unroll 4
        for (int s = 0; s < 4; ++s) d[r][s] = load(from + s * V);
      }
    } else {
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        const bool row = top + r >= 0 && top + r < x.h;
#pragma GCC unroll 4
        for (int s = 0; s < 4; ++s) {
          const bool column = left + s >= 0 && left + s < x.w;
          d[r][s] = row && column ? load(image + ((top + r) * x.w + left + s) * V) : vf{};
        }
      }
    }
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) {
      const vf d0 = d[0][s], d1 = d[1][s], d2 = d[2][s], d3 = d[3][s];
      d[0][s] = d0 - d2, d[1][s] = d1 + d2, d[2][s] = d2 - d1, d[3][s] = d1 - d3;
    }
    float* out = v;
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r, out += 4 * j.v_point) {
      store(out, d[r][0] - d[r][2]);
      store(out + j.v_point, d[r][1] + d[r][2]);
      store(out + 2 * j.v_point, d[r][2] - d[r][1]);
      store(out + 3 * j.v_point, d[r][1] - d[r][3]);
    }
  }
}

// m[t][block] = Σ_c v[t][c] u[block][c] for T tiles and B blocks of V channels.
template <int T, int B>
void multiply(const float* v, int64_t channels, const float* u, float* m) {
  vf acc[T][B] = {};
  for (int64_t c = 0; c < channels; ++c) {
    vf w[B];
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) w[b] = load(u + (b * channels + c) * V);
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) {
      const vf x = splat(v[t * channels + c]);
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) acc[t][b] += x * w[b];
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) store(m + (t * B + b) * V, acc[t][b]);
  }
}

// The outputs of one tile and block from m [point].
void transform_output(const Job& j, const Tile& tile, int64_t block, const float* m) {
  const Act& y = *j.dst;
  vf t[2][4];
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s) {
    const vf m0 = load(m + s * j.m_point), m1 = load(m + (4 + s) * j.m_point), m2 = load(m + (8 + s) * j.m_point),
             m3 = load(m + (12 + s) * j.m_point);
    t[0][s] = m0 + m1 + m2;
    t[1][s] = m1 - m2 - m3;
  }
  float* out = plane(y, tile.n, block) + (tile.row * y.w + tile.column) * V;
  const bool right = tile.column + 1 < y.w;
  for (int r = 0; r < 2 && tile.row + r < y.h; ++r, out += y.w * V) {
    store(out, t[r][0] + t[r][1] + t[r][2]);
    if (right) store(out + V, t[r][1] - t[r][2] - t[r][3]);
  }
}

// `B` blocks of destination channels from `block` on, of a group of tiles whose inputs are transformed.
template <int T, int B>
void blocks(const Job& j, const float* u, const float* v, float* m, int64_t first, int64_t count, int64_t block) {
  const int64_t channels = j.src->c;
  for (int point = 0; point < kPoints; ++point) {
    const float* weights = u + (point * j.dst->c + block * V) * channels;
    for (int64_t t = 0; t < count; t += T) {
      multiply<T, B>(v + point * j.v_point + t * channels, channels, weights, m + point * j.m_point + t * B * V);
    }
  }
  for (int64_t t = 0; t < count; ++t) {
    const Tile tile = tile_at(j, first + t);
    for (int b = 0; b < B; ++b) transform_output(j, tile, block + b, m + (t * B + b) * V);
  }
}

void convolve(const ConvArgs& a, bool forward) {
  const Job j = forward ? make_job(a.x, a.y) : make_job(a.y, a.x);
  float* u = (float*)a.scratch;
  const int64_t source = j.src->c, destination = j.dst->c / V;
  // Register tiles: accumulators, B weights and a broadcast input fit into 32 registers (16 with AVX2).
  constexpr int kOne = V == 16 ? 8 : 8, kMore = V == 16 ? 8 : 4;
  const int64_t step = blocks_at_once(destination);
  const auto product = step == 1 ? blocks<kOne, 1> : step == 2 ? blocks<kMore, 2> : blocks<kMore, 3>;
#pragma omp parallel num_threads(a.threads)
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < destination * source; ++i) transform_weights(a, j, forward, u, i / source * V, i % source);
    float* v = u + j.weight_floats + thread_index() * j.thread_floats;
    float* m = v + kPoints * j.v_point;
#pragma omp for schedule(static)
    for (int64_t group = 0; group < j.groups; ++group) {
      const int64_t first = group * kTiles, count = j.tiles - first < kTiles ? j.tiles - first : kTiles;
      for (int64_t t = 0; t < count; ++t) transform_input(j, tile_at(j, first + t), v + t * source);
      for (int64_t block = 0; block < destination; block += step) product(j, u, v, m, first, count, block);
    }
  }
}

bool supports(const ConvArgs& a) {
  auto whole = [](const Act& t) { return t.elem == Elem::f32 && t.block == V && t.c % V == 0; };
  const int64_t values = a.y.c * a.y.h * a.y.w < a.x.c * a.x.h * a.x.w ? a.y.c * a.y.h * a.y.w : a.x.c * a.x.h * a.x.w;
  return V >= 8 && values >= kWorthwhile && a.kh == 3 && a.kw == 3 && a.stride == 1 && a.pad == 1 && whole(a.x) &&
         whole(a.y);
}

int64_t scratch_bytes(const ConvArgs& a) {
  const Job forward = make_job(a.x, a.y), backward = make_job(a.y, a.x);
  const int64_t per_thread =
      forward.thread_floats > backward.thread_floats ? forward.thread_floats : backward.thread_floats;
  return (forward.weight_floats + a.threads * per_thread) * (int64_t)sizeof(float);
}

void forward(const ConvArgs& a) { convolve(a, true); }
void backward_data(const ConvArgs& a) { convolve(a, false); }

}  // namespace

extern const WinogradKernels winograd_kernels;
const WinogradKernels winograd_kernels = {supports, scratch_bytes, forward, backward_data};

}  // namespace slimclr::cpu::SLIMCLR_ISA
