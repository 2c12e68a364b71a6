// Every pass unpacks an image once into zero-padded planes ("tap planes"), laid out so that the input under one kernel
// tap is, for a vector of output positions, one contiguous load. The convolution is then a matrix product whose
// right-hand rows are pointers into the planes: no im2col, and no lane spent on channels, so that 4 channels run as
// efficiently as 64.
#include "direct_conv.h"

#include <cstdint>
#include <cstring>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

// Register tiles: channels x vectors of positions (forward, data gradient), channels x taps (weight gradient).
constexpr int kTileChannels = 6;
constexpr int kTileVectors = V == 16 ? 4 : 2;
constexpr int kGradChannels = 4;
constexpr int kGradTaps = V == 16 ? 6 : 3;
constexpr int64_t kGradGroup = 16;  // input channels of one weight-gradient work item

int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }
int64_t floor_div(int64_t a, int64_t b) { return -ceil_div(-a, b); }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

int thread_index() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// Whether the processor has bfloat16 products. Their instructions are written out (in asm) because this file is
// compiled for processors without them too; kPairs says whether the code is there, have_pairs() whether it may be used.
#if defined(__AVX512F__)
constexpr bool kPairs = true;
bool have_pairs() { return __builtin_cpu_supports("avx512bf16"); }
#else
constexpr bool kPairs = false;
bool have_pairs() { return false; }
#endif

// ---- Interleaving ----

#if SLIMCLR_VEC == 16
#define LANES 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define ZIP_LO 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_HI 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define LAST_THEN 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
#define FROM_SECOND 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#elif SLIMCLR_VEC == 8
#define LANES 0, 1, 2, 3, 4, 5, 6, 7
#define ZIP_LO 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_HI 4, 12, 5, 13, 6, 14, 7, 15
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#define LAST_THEN 7, 8, 9, 10, 11, 12, 13, 14
#define FROM_SECOND 1, 2, 3, 4, 5, 6, 7, 8
#else
#define LANES 0, 1, 2, 3
#define ZIP_LO 0, 4, 1, 5
#define ZIP_HI 2, 6, 3, 7
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#define LAST_THEN 3, 4, 5, 6
#define FROM_SECOND 1, 2, 3, 4
#endif

SLIMCLR_INLINE vf zip_lo(vf a, vf b) { return __builtin_shufflevector(a, b, ZIP_LO); }
SLIMCLR_INLINE vf zip_hi(vf a, vf b) { return __builtin_shufflevector(a, b, ZIP_HI); }
SLIMCLR_INLINE vf even(vf a, vf b) { return __builtin_shufflevector(a, b, EVEN); }
SLIMCLR_INLINE vf odd(vf a, vf b) { return __builtin_shufflevector(a, b, ODD); }
SLIMCLR_INLINE vf last_then(vf a, vf b) { return __builtin_shufflevector(a, b, LAST_THEN); }
SLIMCLR_INLINE vf from_second(vf a, vf b) { return __builtin_shufflevector(a, b, FROM_SECOND); }

// Each stage rotates the index bits of the N * V elements left by one: log2(R) stages transpose [R][N V / R].
template <int N, int R>
SLIMCLR_INLINE void transpose(vf* r) {
#pragma GCC unroll 4
  for (int step = 1; step < R; step *= 2) {
    vf t[N];
#pragma GCC unroll 16
    for (int i = 0; i < N / 2; ++i) {
      t[2 * i] = zip_lo(r[i], r[i + N / 2]);
      t[2 * i + 1] = zip_hi(r[i], r[i + N / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) r[i] = t[i];
  }
}

// Lane i is the sum over the lanes of r[i].
SLIMCLR_INLINE vf sum_each(vf (&r)[V]) {
#pragma GCC unroll 4
  for (int n = V / 2; n >= 1; n /= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) r[i] = zip_lo(r[i], r[i + n]) + zip_hi(r[i], r[i + n]);
  }
  return r[0];
}

// ---- Activations <-> planes [C][H W] of 32-bit elements ----

// What one element of a plane holds: a float32, or two bfloat16 (of two channels, or of two images) whose products a
// bfloat16 dot product adds. Filling planes only moves bits, so both share all code but the loads here.
enum class Form : uint8_t { f32, channel_pairs, image_pairs };

struct F32Source {
  const float* p;
  F32Source at(int64_t i) const { return {p + i}; }
  vf vec(int64_t i) const { return load(p + i); }
  float one(int64_t i) const { return p[i]; }
};
struct Bf16Source {
  const uint16_t* p;
  Bf16Source at(int64_t i) const { return {p + i}; }
  vf vec(int64_t i) const { return load(p + i); }
  float one(int64_t i) const { return load1(p + i); }
};
struct PairSource {
  const uint16_t *lo, *hi;  // hi may be null: zeros
  PairSource at(int64_t i) const { return {lo + i, hi ? hi + i : nullptr}; }
  vf vec(int64_t i) const {
    vh a, b = {};
    std::memcpy(&a, lo + i, sizeof a);
    if (hi) std::memcpy(&b, hi + i, sizeof b);
    return (vf)(__builtin_convertvector(a, vu) | (__builtin_convertvector(b, vu) << 16));
  }
  float one(int64_t i) const {
    const uint32_t u = lo[i] | (uint32_t)(hi ? hi[i] : 0) << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  }
};

template <int B, class Source>
void unpack_blocked(const Source src, int64_t hw, int64_t c0, int64_t channels, float* dst, int64_t plane) {
  for (int64_t c = 0; c < channels; c += B) {
    const int64_t cn = min64(B, channels - c), from = (c0 + c) * hw;
    float* out = dst + c * plane;
    int64_t p = 0;
    for (; p + V <= hw; p += V) {
      vf r[B];
#pragma GCC unroll 16
      for (int i = 0; i < B; ++i) r[i] = src.vec(from + p * B + i * V);
      transpose<B, V>(r);
#pragma GCC unroll 16
      for (int i = 0; i < B; ++i) {
        if (i < cn) store(out + i * plane + p, r[i]);
      }
    }
    for (; p < hw; ++p)
      for (int64_t i = 0; i < cn; ++i) out[i * plane + p] = src.one(from + p * B + i);
  }
}

template <class Source>
void unpack_plane(const Source src, int64_t hw, float* dst) {
  int64_t p = 0;
  for (; p + V <= hw; p += V) store(dst + p, src.vec(p));
  for (; p < hw; ++p) dst[p] = src.one(p);
}

// Channels [c0, c0 + channels) into dst [channels][plane]; c0 is a multiple of the block.
template <class Source>
void unpack_image(const Source src, int64_t block, int64_t hw, int64_t c0, int64_t channels, float* dst,
                  int64_t plane) {
  if (block == 16) return unpack_blocked<16>(src, hw, c0, channels, dst, plane);
  if (block == 8) return unpack_blocked<8>(src, hw, c0, channels, dst, plane);
  if (block == 4) return unpack_blocked<4>(src, hw, c0, channels, dst, plane);
  for (int64_t c = 0; c < channels; ++c) unpack_plane(src.at((c0 + c) * hw), hw, dst + c * plane);
}

struct F32Target {
  float* p;
  void vec(int64_t i, vf v) const { store(p + i, v); }
  void one(int64_t i, float v) const { p[i] = v; }
};
template <bool Native>
struct Bf16Target {
  uint16_t* p;
  void vec(int64_t i, vf v) const {
#if defined(__AVX512F__)
    if constexpr (Native) {
      vh h;
      asm("vcvtneps2bf16 %1, %0" : "=v"(h) : "v"(v));
      std::memcpy(p + i, &h, sizeof h);
      return;
    }
#endif
    store(p + i, v);
  }
  void one(int64_t i, float v) const { store1(p + i, v); }
};

// Positions [p0, p0 + count) of channels [c0, c0 + channels); src [channels][plane] starts at p0.
template <int B, class Target>
void pack_blocked(const float* src, int64_t plane, int64_t hw, int64_t p0, int64_t count, int64_t c0, int64_t channels,
                  const Target dst) {
  for (int64_t c = 0; c < channels; c += B) {
    const int64_t cn = min64(B, channels - c), to = (c0 + c) * hw + p0 * B;
    const float* in = src + c * plane;
    int64_t p = 0;
    for (; p + V <= count; p += V) {
      vf r[B];
#pragma GCC unroll 16
      for (int i = 0; i < B; ++i) r[i] = i < cn ? load(in + i * plane + p) : vf{};
      transpose<B, B>(r);
#pragma GCC unroll 16
      for (int i = 0; i < B; ++i) dst.vec(to + p * B + i * V, r[i]);
    }
    for (; p < count; ++p)
      for (int64_t i = 0; i < B; ++i) dst.one(to + p * B + i, i < cn ? in[i * plane + p] : 0.0f);
  }
}

template <class Target>
void pack_image(const float* src, int64_t plane, int64_t block, int64_t hw, int64_t p0, int64_t count, int64_t c0,
                int64_t channels, const Target dst) {
  if (block == 16) return pack_blocked<16>(src, plane, hw, p0, count, c0, channels, dst);
  if (block == 8) return pack_blocked<8>(src, plane, hw, p0, count, c0, channels, dst);
  for (int64_t c = 0; c < channels; ++c) {
    const float* in = src + c * plane;
    const int64_t to = (c0 + c) * hw + p0;
    int64_t p = 0;
    for (; p + V <= count; p += V) dst.vec(to + p, load(in + p));
    for (; p < count; ++p) dst.one(to + p, in[p]);
  }
}

int64_t image_elements(const Act& a) { return round_up(a.c, a.block) * a.h * a.w; }
bool is_planes(const Act& a) { return a.block == 1 && a.elem == Elem::f32; }
float* image_f32(const Act& a, int64_t n) { return (float*)a.data + n * image_elements(a); }
uint16_t* image_bf16(const Act& a, int64_t n) { return (uint16_t*)a.data + n * image_elements(a); }

void pack(const float* src, int64_t plane, const Act& a, int64_t n, int64_t p0, int64_t count, int64_t c0,
          int64_t channels) {
  const int64_t hw = a.h * a.w;
  if (a.elem == Elem::f32)
    pack_image(src, plane, a.block, hw, p0, count, c0, channels, F32Target{image_f32(a, n)});
  else if (have_pairs())
    pack_image(src, plane, a.block, hw, p0, count, c0, channels, Bf16Target<kPairs>{image_bf16(a, n)});
  else
    pack_image(src, plane, a.block, hw, p0, count, c0, channels, Bf16Target<false>{image_bf16(a, n)});
}

int64_t form_channels(Form form, int64_t channels) {
  return form == Form::channel_pairs ? (channels + 1) / 2 : channels;
}

// Planes [c0, c0 + channels) of image n (and n + 1 for image pairs) into dst [channels][plane]; c0 is a multiple of 16.
void unpack(const Act& a, Form form, int64_t n, int64_t c0, int64_t channels, float* dst, int64_t plane) {
  const int64_t hw = a.h * a.w;
  if (form == Form::image_pairs) {
    const PairSource src{image_bf16(a, n), n + 1 < a.n ? image_bf16(a, n + 1) : nullptr};
    return unpack_image(src, a.block, hw, c0, channels, dst, plane);
  }
  if (form == Form::channel_pairs) {
    const uint16_t* image = image_bf16(a, n);
    // Blocks hold channels side by side: they are blocks of pairs already.
    if (a.block > 1) return unpack_image(F32Source{(const float*)image}, a.block / 2, hw, c0, channels, dst, plane);
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t lo = 2 * (c0 + c);
      unpack_plane(PairSource{image + lo * hw, lo + 1 < a.c ? image + (lo + 1) * hw : nullptr}, hw, dst + c * plane);
    }
    return;
  }
  if (a.elem == Elem::f32) return unpack_image(F32Source{image_f32(a, n)}, a.block, hw, c0, channels, dst, plane);
  unpack_image(Bf16Source{image_bf16(a, n)}, a.block, hw, c0, channels, dst, plane);
}

// ---- Tap planes ----

// Per source channel, `copies` planes; copy j holds, at row r of row phase p and column q, the source element
// [r stride + p + row_lo][q stride + j + col_lo], zero outside the image. Output positions are row-major over [ph, pw].
// `dense`: rows are pw long and there is one copy per column tap, so that vectors run across rows (narrow images);
// otherwise pw is a multiple of V, rows are wider and column taps are shifts within one copy per column phase.
struct TapPlanes {
  int64_t h, w, stride, row_lo, col_lo;
  int64_t ph, pw, columns, pitch, rows, row_phases, copies;
  int64_t phase_size, copy_size, channel_size;
  int64_t vectors;  // per channel of the output
  int64_t floats;   // of all channels, with room for a vector past the end
  bool dense;

  int64_t tap(int64_t dy, int64_t dx) const {  // offset of the tap dy, dx from (row_lo, col_lo)
    const int64_t row = (dy % stride) * phase_size + (dy / stride) * pitch;
    return row + (dense ? dx * copy_size : (dx % stride) * copy_size + dx / stride);
  }
  int64_t vector_offset(int64_t v) const {
    if (dense) return v * V;
    const int64_t per_row = pw / V;
    return v / per_row * pitch + v % per_row * V;
  }
};

// `row_major` puts the channels of a row side by side (what one tile of positions reads is then one stretch of memory).
TapPlanes tap_planes(const Act& a, int64_t channels, bool row_major, int64_t stride, int64_t row_lo, int64_t col_lo,
                     int64_t tap_rows, int64_t tap_columns, int64_t ph, int64_t pw) {
  TapPlanes t;
  t.h = a.h, t.w = a.w, t.stride = stride, t.row_lo = row_lo, t.col_lo = col_lo, t.ph = ph, t.pw = pw;
  t.dense = pw % V != 0;
  t.columns = t.dense ? pw : pw + (tap_columns - 1) / stride;
  t.rows = ph + (tap_rows - 1) / stride;
  t.row_phases = min64(stride, tap_rows);
  t.copies = t.dense ? tap_columns : min64(stride, tap_columns);
  row_major = row_major && !t.dense;
  t.pitch = row_major ? t.columns * channels : t.columns;
  t.phase_size = t.rows * t.pitch;
  t.copy_size = t.row_phases * t.phase_size;
  t.channel_size = row_major ? t.columns : t.copies * t.copy_size;
  t.vectors = ceil_div(ph * pw, V);
  t.floats = round_up((row_major ? t.copies * t.copy_size : channels * t.channel_size) + 2 * V, 16);
  return t;
}

// Fills the planes of one channel from src [h][w]. What lies outside the image was zeroed once and stays zero.
void fill_rows(const TapPlanes& t, const float* src, float* dst) {
  for (int64_t j = 0; j < t.copies; ++j) {
    const int64_t shift = t.col_lo + j;
    const int64_t lo = max64(0, ceil_div(-shift, t.stride));
    const int64_t hi = min64(t.columns, floor_div(t.w - 1 - shift, t.stride) + 1);
    for (int64_t p = 0; p < t.row_phases; ++p) {
      for (int64_t r = 0; r < t.rows; ++r) {
        const int64_t row = r * t.stride + p + t.row_lo;
        if (row < 0 || row >= t.h) continue;
        const float* in = src + row * t.w + shift;
        float* out = dst + j * t.copy_size + p * t.phase_size + r * t.pitch;
        int64_t q = lo;
        if (t.stride == 1) {
          for (; q + V <= hi; q += V) store(out + q, load(in + q));
        } else if (t.stride == 2) {
          // An odd start reads from one element earlier, so that no load leaves the row.
          const bool late = (shift & 1) != 0;
          for (; q + V <= hi && (late || shift + 2 * (q + V) <= t.w); q += V) {
            const float* from = in + 2 * q - late;
            const vf a = load(from), b = load(from + V);
            store(out + q, late ? odd(a, b) : even(a, b));
          }
        }
        for (; q < hi; ++q) out[q] = in[q * t.stride];
      }
    }
  }
}

// Lanes that a shift by one column (-1, 0, 1) moves across the edge of a row of `width` lanes become zero.
SLIMCLR_INLINE vf keep_inside(vf v, int64_t shift, int64_t width) {
  const vi lane = {LANES};
  const vi column = lane & (int32_t)(width - 1);
  const vi edge = column == (int32_t)(shift < 0 ? 0 : width - 1);
  return shift == 0 ? v : (vf)(~edge & (vi)v);
}

// Several whole rows per vector, stride 1, output as wide as the input.
void fill_short_rows(const TapPlanes& t, const float* src, float* dst) {
  const int64_t hw = t.h * t.w;
  for (int64_t j = 0; j < t.copies; ++j) {
    const int64_t shift = t.col_lo + j;
    float* out = dst + j * t.copy_size - t.row_lo * t.pitch;
    vf before = {}, now = load(src);
    for (int64_t p = 0; p < hw; p += V) {
      const vf after = p + V < hw ? load(src + p + V) : vf{};
      const vf v = shift < 0 ? last_then(before, now) : shift > 0 ? from_second(now, after) : now;
      store(out + p, keep_inside(v, shift, t.w));
      before = now, now = after;
    }
  }
}

// Rows of exactly one vector, stride 2: two rows of one row phase make one vector of each column phase.
void fill_row_pairs(const TapPlanes& t, const float* src, float* dst) {
  for (int64_t p = 0; p < t.row_phases; ++p) {
    const int64_t first = max64(0, ceil_div(-(p + t.row_lo), 2));
    const int64_t last = min64(t.rows, floor_div(t.h - 1 - p - t.row_lo, 2) + 1);
    for (int64_t r = first; r < last; r += 2) {
      const float* in = src + (2 * r + p + t.row_lo) * t.w;
      const vf a = load(in), b = r + 1 < last ? load(in + 2 * t.w) : vf{};
      for (int64_t j = 0; j < t.copies; ++j) {
        const int64_t shift = t.col_lo + j;
        vf v = shift == 0 ? even(a, b) : odd(a, b);
        if (shift < 0) v = keep_inside(last_then(vf{}, v), -1, t.pw);
        store(dst + j * t.copy_size + p * t.phase_size + r * t.pitch, v);
      }
    }
  }
}

typedef void (*FillFn)(const TapPlanes&, const float*, float*);
FillFn choose_fill(const TapPlanes& t) {
  const bool shifts_by_one = t.dense && t.col_lo >= -1 && t.col_lo + t.copies <= 2;
  if (shifts_by_one && t.stride == 1 && t.pw == t.w && V % t.w == 0 && t.h * t.w % V == 0 && t.row_lo <= 0 &&
      t.rows >= t.h - t.row_lo)
    return fill_short_rows;
  // (Rows of a phase must come in pairs, or the last vector would reach into the next phase.)
  if (shifts_by_one && t.stride == 2 && t.w == V && t.pw == V / 2 && t.h % 4 == 0 && t.row_lo >= -1)
    return fill_row_pairs;
  return fill_rows;
}

// The planes of channels [c0, c0 + channels); temp holds min(channels, 16) source planes where they must be unpacked.
void fill_channels(const TapPlanes& t, const Act& a, Form form, int64_t n, int64_t c0, int64_t channels, float* temp,
                   float* dst) {
  const FillFn fill = choose_fill(t);
  const int64_t hw = t.h * t.w, step = a.block == 1 ? 1 : 16;
  for (int64_t c = 0; c < channels; c += step) {
    const int64_t count = min64(step, channels - c);
    const float* src = temp;
    if (is_planes(a))
      src = image_f32(a, n) + (c0 + c) * hw;
    else
      unpack(a, form, n, c0 + c, count, temp, hw);
    for (int64_t i = 0; i < count; ++i) fill(t, src + i * hw, dst + (c + i) * t.channel_size);
  }
}

// The 32 bits at p in every lane, whatever they hold (splat() is arithmetic).
SLIMCLR_INLINE vf splat_bits(const float* p) {
  uint32_t u;
  std::memcpy(&u, p, 4);
  return (vf)(u | vu{});
}

// ---- Forward and data gradient: out[m][position] = sum_k w[k][m] planes[k_offset[k] + position] ----

struct TileArgs {
  int64_t k;
  const int32_t* k_offset;
  const float* w;  // [k][M]
  const float* planes;
  const int32_t* vector_offset;
  float* out;
  int64_t out_plane;
};

// acc += w b, or acc += the sum of the two bfloat16 products in each 32-bit element.
template <bool Pairs>
SLIMCLR_INLINE void multiply_add(vf& acc, vf w, vf b) {
#if defined(__AVX512F__)
  if constexpr (Pairs) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(w), "v"(b));
    return;
  }
#endif
  acc += w * b;
}

template <bool Pairs, int M, int N>
void tile(const TileArgs& a) {
  vf acc[M][N] = {};
  const float* base[N];
#pragma GCC unroll 8
  for (int v = 0; v < N; ++v) base[v] = a.planes + a.vector_offset[v];
  const float* w = a.w;
  for (int64_t k = 0; k < a.k; ++k, w += M) {
    const int64_t offset = a.k_offset[k];
    vf b[N];
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) b[v] = load(base[v] + offset);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const vf wm = Pairs ? splat_bits(w + m) : splat(w[m]);
#pragma GCC unroll 8
      for (int v = 0; v < N; ++v) multiply_add<Pairs>(acc[m][v], wm, b[v]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) store(a.out + m * a.out_plane + v * V, acc[m][v]);
  }
}

typedef void (*TileFn)(const TileArgs&);
template <bool Pairs, int M>
TileFn tile_of(int64_t n) {
  if constexpr (kTileVectors == 4) {
    if (n == 4) return tile<Pairs, M, 4>;
    if (n == 3) return tile<Pairs, M, 3>;
  }
  return n == 2 ? tile<Pairs, M, 2> : tile<Pairs, M, 1>;
}
template <bool Pairs>
TileFn tile_fn(int64_t m, int64_t n) {
  switch (m) {
    case 1:
      return tile_of<Pairs, 1>(n);
    case 2:
      return tile_of<Pairs, 2>(n);
    case 3:
      return tile_of<Pairs, 3>(n);
    case 4:
      return tile_of<Pairs, 4>(n);
    case 5:
      return tile_of<Pairs, 5>(n);
    default:
      return tile_of<Pairs, 6>(n);
  }
}

// Channels are cut into tiles of nearly equal size.
int64_t tile_count(int64_t channels) { return ceil_div(channels, kTileChannels); }
int64_t tile_begin(int64_t channels, int64_t i) { return channels * i / tile_count(channels); }

// One output phase of the data gradient (forward has one): the taps it sums.
struct Phase {
  int64_t k;
  int32_t* k_offset;
  float* w;  // tiles of [k][M]; pairs of bfloat16 where the planes hold channel pairs
};

// What forward and the data gradient have in common: a source, a destination, and `phases` phases per axis, of which
// phase (py, px) makes the destination [a phases + py][b phases + px].
struct Job {
  const Act* src;
  const Act* dst;
  Form form;
  int64_t src_channels, phases;
  TapPlanes planes;
  bool in_place;  // tiles store straight into dst
  int64_t out_plane, k_max, splits;
  int64_t source_floats, out_floats, merged_floats;  // per thread

  int64_t thread_floats() const { return planes.floats + source_floats + out_floats + merged_floats; }
};

Job make_job(const ConvArgs& a, ConvPass pass) {
  Job j;
  const bool forward = pass == ConvPass::forward;
  j.src = forward ? &a.x : &a.y, j.dst = forward ? &a.y : &a.x;
  j.form = a.bf16_weights && j.src->elem == Elem::bf16 && have_pairs() ? Form::channel_pairs : Form::f32;
  j.src_channels = form_channels(j.form, j.src->c);
  if (forward) {
    j.phases = 1;
    j.planes = tap_planes(a.x, j.src_channels, true, a.stride, -a.pad, -a.pad, a.kh, a.kw, a.y.h, a.y.w);
  } else {
    // dx[s a + p] sums dy[a + (p + pad - k) / s] w[k] over the taps k that make the division exact.
    const int64_t s = a.stride, hi = floor_div(s - 1 + a.pad, s);
    const int64_t row_lo = -floor_div(a.kh - 1 - a.pad, s), col_lo = -floor_div(a.kw - 1 - a.pad, s);
    j.phases = s;
    j.planes = tap_planes(a.y, j.src_channels, true, 1, row_lo, col_lo, max64(1, hi - row_lo + 1),
                          max64(1, hi - col_lo + 1), ceil_div(a.x.h, s), ceil_div(a.x.w, s));
  }
  const int64_t positions = j.planes.ph * j.planes.pw, block = kTileVectors * V;
  j.in_place = j.phases == 1 && is_planes(*j.dst) && positions % V == 0;
  j.out_plane = j.phases > 1 ? round_up(positions, V) : j.in_place ? positions : block;
  j.k_max = j.src_channels * a.kh * a.kw;
  // With fewer images than threads an image's channels are shared out too; blocks of channels are not cut.
  j.splits = j.dst->block > 1 || j.src->n >= a.threads
                 ? 1
                 : min64(tile_count(j.dst->c), ceil_div(a.threads, max64(1, j.src->n)));
  j.source_floats = is_planes(*j.src) ? 0 : round_up(min64(16, j.src_channels) * j.src->h * j.src->w, 16);
  j.out_floats = j.in_place ? 0 : round_up(j.dst->c * j.out_plane * j.phases * j.phases, 16);
  j.merged_floats = j.phases > 1 && !is_planes(*j.dst) ? round_up(j.dst->c * j.dst->h * j.dst->w, 16) : 0;
  return j;
}

// Hands out parts of the scratch, each aligned to a cache line.
struct Bump {
  char* p;
  template <class T>
  T* take(int64_t count) {
    T* r = (T*)p;
    p += round_up(count * (int64_t)sizeof(T), 64);
    return r;
  }
};

int64_t job_bytes(const ConvArgs& a, ConvPass pass) {
  const Job j = make_job(a, pass);
  const int64_t n = j.phases * j.phases;
  return round_up(n * (int64_t)sizeof(Phase), 64) + round_up(j.planes.vectors * 4, 64) + j.k_max * (1 + j.dst->c) * 4 +
         128 * n + a.threads * j.thread_floats() * 4;
}

// The taps and weights of phase (py, px); the memory for them is taken from bump.
Phase make_phase(const ConvArgs& a, const Job& j, bool forward, int64_t py, int64_t px, Bump& bump) {
  const TapPlanes& t = j.planes;
  const int64_t taps = a.kh * a.kw, dst_c = j.dst->c, tiles = tile_count(dst_c), s = a.stride;
  auto used = [&](int64_t tap) {
    return forward || ((py + a.pad - tap / a.kw) % s == 0 && (px + a.pad - tap % a.kw) % s == 0);
  };
  Phase p = {};
  for (int64_t tap = 0; tap < taps; ++tap) p.k += used(tap) ? j.src_channels : 0;
  p.k_offset = bump.take<int32_t>(p.k);
  p.w = bump.take<float>(p.k * dst_c);
  // The weight between source channel c and destination channel d.
  auto weight = [&](int64_t c, int64_t d, int64_t tap) {
    return forward ? a.w[d * a.w_row + c * taps + tap] : a.w[c * a.w_row + d * taps + tap];
  };
  int64_t k = 0;
  for (int64_t c = 0; c < j.src_channels; ++c) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      if (!used(tap)) continue;
      const int64_t ky = tap / a.kw, kx = tap % a.kw;
      const int64_t offset =
          forward ? t.tap(ky, kx) : t.tap((py + a.pad - ky) / s - t.row_lo, (px + a.pad - kx) / s - t.col_lo);
      p.k_offset[k] = (int32_t)(c * t.channel_size + offset);
      for (int64_t i = 0; i < tiles; ++i) {
        const int64_t d0 = tile_begin(dst_c, i), m = tile_begin(dst_c, i + 1) - d0;
        float* w = p.w + d0 * p.k + k * m;
        for (int64_t d = d0; d < d0 + m; ++d, ++w) {
          if (j.form == Form::f32) {
            *w = weight(c, d, tap);
          } else {
            uint16_t pair[2] = {};
            store1(&pair[0], weight(2 * c, d, tap));
            if (2 * c + 1 < j.src->c) store1(&pair[1], weight(2 * c + 1, d, tap));
            std::memcpy(w, pair, 4);
          }
        }
      }
      ++k;
    }
  }
  return p;
}

// Interleaves the phases of one channel into the plane dst [h][w]; a phase without taps is zero and was not computed.
void merge_phases(const Job& j, const Phase* phase, const float* src, float* dst) {
  const int64_t s = j.phases, h = j.dst->h, w = j.dst->w, pw = j.planes.pw;
  constexpr int64_t half = V / 2;
  if (s == 2 && w == 2 * pw && pw % half == 0 && h % 2 == 0) {
    for (int64_t py = 0; py < 2; ++py) {
      const bool left = phase[2 * py].k != 0, right = phase[2 * py + 1].k != 0;
      const float* in = src + 2 * py * j.out_plane;
      for (int64_t p = 0, q = half; p < j.planes.ph * pw; p += V, q += V) {
        const vf a = left ? load(in + p) : vf{}, b = right ? load(in + j.out_plane + p) : vf{};
        store(dst + (p / pw * 2 + py) * w + p % pw * 2, zip_lo(a, b));
        if (q < j.planes.ph * pw) store(dst + (q / pw * 2 + py) * w + q % pw * 2, zip_hi(a, b));
      }
    }
    return;
  }
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t px = 0; px < s; ++px) {
      const int64_t p = y % s * s + px;
      const float* in = src + p * j.out_plane + y / s * pw;
      for (int64_t x = px, q = 0; x < w; x += s, ++q) dst[y * w + x] = phase[p].k ? in[q] : 0.0f;
    }
  }
}

void convolve(const ConvArgs& a, ConvPass pass) {
  const Job j = make_job(a, pass);
  const TapPlanes& t = j.planes;
  const int64_t phases = j.phases * j.phases, dst_c = j.dst->c, tiles = tile_count(dst_c);
  const bool pairs = j.form == Form::channel_pairs;

  Bump bump{(char*)a.scratch};
  Phase* phase = bump.take<Phase>(phases);
  for (int64_t p = 0; p < phases; ++p)
    phase[p] = make_phase(a, j, pass == ConvPass::forward, p / j.phases, p % j.phases, bump);
  int32_t* vector_offset = bump.take<int32_t>(t.vectors);
  for (int64_t v = 0; v < t.vectors; ++v) vector_offset[v] = (int32_t)t.vector_offset(v);
  float* thread_scratch = (float*)bump.p;

#pragma omp parallel num_threads(a.threads)
  {
    float* planes = thread_scratch + thread_index() * j.thread_floats();
    float* source = planes + t.floats;
    float* out = source + j.source_floats;
    float* merged = out + j.out_floats;
    std::memset(planes, 0, t.floats * sizeof(float));
#pragma omp for schedule(static)
    for (int64_t item = 0; item < j.src->n * j.splits; ++item) {
      const int64_t n = item / j.splits, split = item % j.splits;
      const int64_t first = tiles * split / j.splits, last = tiles * (split + 1) / j.splits;
      const int64_t c0 = tile_begin(dst_c, first), channels = tile_begin(dst_c, last) - c0;
      fill_channels(t, *j.src, j.form, n, 0, j.src_channels, source, planes);
      for (int64_t v = 0; v < t.vectors; v += kTileVectors) {
        const int64_t vn = min64(kTileVectors, t.vectors - v);
        float* to = j.in_place ? image_f32(*j.dst, n) + v * V : phases > 1 ? out + v * V : out;
        for (int64_t p = 0; p < phases; ++p, to += j.out_plane) {
          if (phase[p].k == 0 && phases > 1) continue;
          for (int64_t i = first; i < last; ++i) {
            const int64_t d = tile_begin(dst_c, i), m = tile_begin(dst_c, i + 1) - d;
            const TileArgs args{phase[p].k,
                                phase[p].k_offset,
                                phase[p].w + d * phase[p].k,
                                planes,
                                vector_offset + v,
                                to + d * j.out_plane * phases,
                                j.out_plane * phases};
            (pairs ? tile_fn<kPairs>(m, vn) : tile_fn<false>(m, vn))(args);
          }
        }
        if (phases == 1 && !j.in_place)
          pack(out + c0 * j.out_plane, j.out_plane, *j.dst, n, v * V, min64(vn * V, t.ph * t.pw - v * V), c0, channels);
      }
      if (phases == 1) continue;
      const int64_t hw = j.dst->h * j.dst->w;
      float* dst = is_planes(*j.dst) ? image_f32(*j.dst, n) : merged;
      for (int64_t d = c0; d < c0 + channels; ++d) merge_phases(j, phase, out + d * j.out_plane * phases, dst + d * hw);
      if (!is_planes(*j.dst)) pack(merged + c0 * hw, hw, *j.dst, n, 0, hw, c0, channels);
    }
  }
}

void forward(const ConvArgs& a) { convolve(a, ConvPass::forward); }
void backward_data(const ConvArgs& a) { convolve(a, ConvPass::backward_data); }

// ---- Weight gradient: dw[o][k] = sum over positions of dy[o][position] planes[k_offset[k] + position] ----

struct GradArgs {
  int64_t images, vectors;
  const int32_t* vector_offset;
  const float* planes;
  int64_t planes_image;
  const int32_t* k_offset;
  const float* dy;
  int64_t dy_image, dy_plane;
  float* out;  // [M][row]
  int64_t row;
};

template <bool Pairs, int M, int K>
void grad_tile(const GradArgs& a) {
  vf acc[M][K] = {};
  for (int64_t n = 0; n < a.images; ++n) {
    const float* x[K];
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) x[k] = a.planes + n * a.planes_image + a.k_offset[k];
    const float* dy = a.dy + n * a.dy_image;
    for (int64_t v = 0; v < a.vectors; ++v, dy += V) {
      const int64_t offset = a.vector_offset[v];
      vf b[K];
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) b[k] = load(x[k] + offset);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const vf g = load(dy + m * a.dy_plane);
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) multiply_add<Pairs>(acc[m][k], g, b[k]);
      }
    }
  }
  float total[(M * K + V - 1) / V * V];
#pragma GCC unroll 8
  for (int i = 0; i < M * K; i += V) {
    vf r[V];
#pragma GCC unroll 16
    for (int l = 0; l < V; ++l) r[l] = i + l < M * K ? acc[(i + l) / K][(i + l) % K] : vf{};
    store(total + i, sum_each(r));
  }
  for (int m = 0; m < M; ++m)
    for (int k = 0; k < K; ++k) a.out[m * a.row + k] = total[m * K + k];
}

typedef void (*GradFn)(const GradArgs&);
template <bool Pairs, int M>
GradFn grad_of(int64_t k) {
  if constexpr (kGradTaps == 6) {
    if (k == 6) return grad_tile<Pairs, M, 6>;
    if (k == 5) return grad_tile<Pairs, M, 5>;
    if (k == 4) return grad_tile<Pairs, M, 4>;
  }
  return k == 3 ? grad_tile<Pairs, M, 3> : k == 2 ? grad_tile<Pairs, M, 2> : grad_tile<Pairs, M, 1>;
}
template <bool Pairs>
GradFn grad_fn(int64_t m, int64_t k) {
  return m == 4   ? grad_of<Pairs, 4>(k)
         : m == 3 ? grad_of<Pairs, 3>(k)
         : m == 2 ? grad_of<Pairs, 2>(k)
                  : grad_of<Pairs, 1>(k);
}

// A work item is a chunk of images (enough positions to pay for the sums over lanes) and a group of input channels.
struct GradJob {
  Form form;
  TapPlanes planes;
  int64_t chunk, chunks, groups, k;
  int64_t images;  // planes per channel of one chunk: images, or pairs of them
  bool dy_in_place;
  int64_t dy_plane;
  int64_t dy_floats, source_floats;  // per thread

  int64_t thread_floats() const { return images * planes.floats + dy_floats + source_floats; }
};

GradJob make_grad_job(const ConvArgs& a) {
  GradJob j;
  // Products of two bfloat16 are exact in float32, so pairs lose nothing here.
  j.form = a.x.elem == Elem::bf16 && a.y.elem == Elem::bf16 && have_pairs() ? Form::image_pairs : Form::f32;
  const int64_t group = min64(kGradGroup, a.x.c), positions = a.y.h * a.y.w, per = j.form == Form::image_pairs ? 2 : 1;
  j.planes = tap_planes(a.x, group, false, a.stride, -a.pad, -a.pad, a.kh, a.kw, a.y.h, a.y.w);
  j.images = min64(8, max64(1, 1024 / positions));
  j.chunk = j.images * per;
  j.chunks = ceil_div(a.x.n, j.chunk);
  j.groups = ceil_div(a.x.c, kGradGroup);
  j.k = a.x.c * a.kh * a.kw;
  j.dy_in_place = j.form == Form::f32 && is_planes(a.y) && positions % V == 0;
  j.dy_plane = round_up(positions, V);
  j.dy_floats = j.dy_in_place ? 0 : round_up(j.images * a.y.c * j.dy_plane, 16);
  j.source_floats = is_planes(a.x) ? 0 : round_up(group * a.x.h * a.x.w, 16);
  return j;
}

int64_t grad_bytes(const ConvArgs& a) {
  const GradJob j = make_grad_job(a);
  return a.threads * j.thread_floats() * 4 + round_up(j.k * 4, 64) + round_up(j.planes.vectors * 4, 64) +
         j.chunks * a.y.c * j.k * 4;
}

void backward_weights(const ConvArgs& a) {
  const GradJob j = make_grad_job(a);
  const TapPlanes& t = j.planes;
  const int64_t taps = a.kh * a.kw, out_c = a.y.c, per = j.chunk / j.images;
  if (a.x.n == 0) return;

  Bump bump{(char*)a.scratch};
  int32_t* vector_offset = bump.take<int32_t>(t.vectors);
  int32_t* k_offset = bump.take<int32_t>(j.k);  // from the first channel of a group
  for (int64_t v = 0; v < t.vectors; ++v) vector_offset[v] = (int32_t)t.vector_offset(v);
  for (int64_t k = 0; k < min64(j.k, kGradGroup * taps); ++k)
    k_offset[k] = (int32_t)(k / taps * t.channel_size + t.tap(k % taps / a.kw, k % taps % a.kw));
  float* thread_scratch = bump.take<float>(a.threads * j.thread_floats());
  float* partial = (float*)bump.p;  // [chunk][o][k]

#pragma omp parallel num_threads(a.threads)
  {
    float* planes = thread_scratch + thread_index() * j.thread_floats();
    float* dy_copy = planes + j.images * t.floats;
    float* source = dy_copy + j.dy_floats;
    std::memset(planes, 0, (source - planes) * sizeof(float));
#pragma omp for schedule(static)
    for (int64_t item = 0; item < j.chunks * j.groups; ++item) {
      const int64_t chunk = item / j.groups, n0 = chunk * j.chunk, c0 = item % j.groups * kGradGroup;
      const int64_t images = ceil_div(min64(j.chunk, a.x.n - n0), per), channels = min64(kGradGroup, a.x.c - c0);
      for (int64_t i = 0; i < images; ++i) {
        const int64_t n = n0 + i * per;
        fill_channels(t, a.x, j.form, n, c0, channels, source, planes + i * t.floats);
        if (!j.dy_in_place) unpack(a.y, j.form, n, 0, out_c, dy_copy + i * out_c * j.dy_plane, j.dy_plane);
      }
      const float* dy = j.dy_in_place ? image_f32(a.y, n0) : dy_copy;
      float* out = partial + chunk * out_c * j.k + c0 * taps;
      for (int64_t k = 0; k < channels * taps; k += kGradTaps) {
        const int64_t kn = min64(kGradTaps, channels * taps - k);
        for (int64_t o = 0; o < out_c; o += kGradChannels) {
          const int64_t on = min64(kGradChannels, out_c - o);
          const GradArgs args{images,       t.vectors,           vector_offset,      planes,     t.floats,
                              k_offset + k, dy + o * j.dy_plane, out_c * j.dy_plane, j.dy_plane, out + o * j.k + k,
                              j.k};
          (j.form == Form::image_pairs ? grad_fn<kPairs>(on, kn) : grad_fn<false>(on, kn))(args);
        }
      }
    }
#pragma omp for schedule(static)
    for (int64_t o = 0; o < out_c; ++o) {
      float* total = partial + o * j.k;
      for (int64_t chunk = 1; chunk < j.chunks; ++chunk) {
        const float* p = total + chunk * out_c * j.k;
        for (int64_t k = 0; k < j.k; ++k) total[k] += p[k];
      }
      for (int64_t k = 0; k < j.k; ++k) a.dw[o * a.w_row + k] += total[k];
    }
  }
}

int64_t scratch_bytes(const ConvArgs& a, ConvPass pass) {
  return pass == ConvPass::backward_weights ? grad_bytes(a) : job_bytes(a, pass);
}

}  // namespace

extern const DirectConvKernels direct_conv_kernels;
const DirectConvKernels direct_conv_kernels = {scratch_bytes, forward, backward_data, backward_weights};

}  // namespace slimclr::cpu::SLIMCLR_ISA
