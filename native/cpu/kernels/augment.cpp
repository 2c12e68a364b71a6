// Works image by image on 8-bit pixels, rounded after every operation as PIL does. A pixel of the working image is a
// word 0x??BBGGRR; its top byte is of any value. Buffers are kSlack bytes longer than their pixels, so that rows can be
// read and written in whole vectors; what is written past a row's end lies in the next row, which is written later.
// Compiled without fused multiply-add (CMakeLists.txt): the same bytes for every instruction set, and PIL's roundings.

#include "augment.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "core/augment_params.h"
#include "vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

typedef double vd __attribute__((vector_size(SLIMCLR_VEC * 8)));
typedef uint32_t Uint4 __attribute__((vector_size(16)));
typedef int32_t Int4 __attribute__((vector_size(16)));
typedef float Float4 __attribute__((vector_size(16)));
typedef uint16_t Half4 __attribute__((vector_size(8)));

constexpr int64_t kSlack = 64;
constexpr int kWeightBits = 22;  // PIL's fixed point for the weights of a resize
constexpr float kMaxSigma = 64;  // keeps the box sums of a blur within 16 bits

SLIMCLR_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
SLIMCLR_INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

SLIMCLR_INLINE vu load_words(const uint32_t* p) {
  vu v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
SLIMCLR_INLINE void store_words(uint32_t* p, vu v) { std::memcpy(p, &v, sizeof v); }
SLIMCLR_INLINE vi choose(vi mask, vi a, vi b) { return (mask & a) | (~mask & b); }

// v as a whole number in [low, high]; NaN becomes low.
SLIMCLR_INLINE int64_t clamp_int(float v, int64_t low, int64_t high) {
  if (!(v > (float)low)) return low;
  return v >= (float)high ? high : max64((int64_t)v, low);
}
SLIMCLR_INLINE float clamp_float(float v, float low, float high, float if_nan) {
  if (v != v) return if_nan;
  return v < low ? low : v > high ? high : v;
}

// One row of the table, checked and clamped.
struct Plan {
  const uint8_t* crop;  // first pixel of the crop
  int64_t row_bytes;    // of the source image
  int64_t height, width;
  int64_t resized_h, resized_w, window_top, window_left;
  int order[4];
  float brightness, contrast, saturation;
  int hue;  // in PIL's steps, of 256 a turn
  int gray;
  float sigma;
  int solarize;  // 256: none
  bool flip;
};

// torchvision centres with Python's round, which takes halves to the even number.
int64_t window_start(float v, int64_t resized, int64_t out) {
  int64_t room = resized - out;
  if (v < 0) return room / 2 + ((room & 3) == 3);
  return clamp_int(v, 0, room);
}

Plan make_plan(const AugmentArgs& a, int64_t image) {
  const float* p = a.params + image * kAugmentColumns;
  int64_t h = a.sizes[2 * image], w = a.sizes[2 * image + 1];
  constexpr int64_t kMaxResize = 1 << 24;

  Plan plan;
  int64_t top = clamp_int(p[kCropTop], 0, h - 1), left = clamp_int(p[kCropLeft], 0, w - 1);
  plan.height = clamp_int(p[kCropHeight], 0, h - top);
  plan.width = clamp_int(p[kCropWidth], 0, w - left);
  if (plan.height == 0) plan.height = h - top;
  if (plan.width == 0) plan.width = w - left;
  plan.row_bytes = w * 3;
  plan.crop = a.pixels + a.offsets[image] + top * plan.row_bytes + left * 3;

  plan.resized_h = max64(clamp_int(p[kResizeHeight], 0, kMaxResize), a.h);
  plan.resized_w = max64(clamp_int(p[kResizeWidth], 0, kMaxResize), a.w);
  plan.window_top = window_start(p[kWindowTop], plan.resized_h, a.h);
  plan.window_left = window_start(p[kWindowLeft], plan.resized_w, a.w);

  for (int i = 0; i < 4; ++i) plan.order[i] = (int)clamp_int(p[kJitter0 + i], 0, 4);
  plan.brightness = clamp_float(p[kBrightness], 0, 1e6f, 1);
  plan.contrast = clamp_float(p[kContrast], 0, 1e6f, 1);
  plan.saturation = clamp_float(p[kSaturation], 0, 1e6f, 1);
  plan.hue = (int)((double)clamp_float(p[kHue], -0.5f, 0.5f, 0) * 255.0) & 255;
  plan.gray = (int)clamp_int(p[kGray], 0, 2);
  plan.sigma = clamp_float(p[kBlurSigma], 0, kMaxSigma, 0);
  float t = p[kSolarize];
  plan.solarize = t >= 0 && t <= 255 ? (int)std::ceil(t) : 256;
  plan.flip = p[kFlip] >= 0.5f;
  return plan;
}

// ---- resize ----

// For each of the outputs: which inputs it is made of, and their weights in fixed point.
struct Taps {
  int32_t* first;
  int32_t* count;
  int32_t* weight;
  int64_t stride;  // weights per output
};

int64_t taps_per_output(int64_t in, int64_t resized) {
  return 2 * (int64_t)std::ceil((double)max64(in, resized) / (double)resized) + 1;
}

// PIL's antialiased bilinear filter: a triangle as wide as two inputs or two outputs, whichever is larger.
void make_taps(int64_t in, int64_t resized, int64_t window, int64_t outputs, const Taps& taps) {
  double scale = (double)in / (double)resized;
  double support = scale < 1 ? 1 : scale, inverse = 1.0 / support;
  for (int64_t o = 0; o < outputs; ++o) {
    double centre = ((double)(window + o) + 0.5) * scale;
    int64_t first = max64((int64_t)(centre - support + 0.5), 0);
    int64_t count = min64((int64_t)(centre + support + 0.5), in) - first;
    auto triangle = [&](int64_t k) {
      double x = std::fabs(((double)(k + first) - centre + 0.5) * inverse);
      return x < 1 ? 1 - x : 0.0;
    };
    double total = 0;
    for (int64_t k = 0; k < count; ++k) total += triangle(k);
    int32_t* weight = taps.weight + o * taps.stride;
    for (int64_t k = 0; k < count; ++k) weight[k] = (int32_t)(0.5 + triangle(k) / total * (1 << kWeightBits));
    while (count > 1 && weight[count - 1] == 0) --count;
    taps.first[o] = (int32_t)first;
    taps.count[o] = (int32_t)count;
  }
}

// The input behind the last that any output takes.
int64_t taps_end(const Taps& taps, int64_t outputs) {
  int64_t end = 0;
  for (int64_t o = 0; o < outputs; ++o) end = max64(end, (int64_t)taps.first[o] + taps.count[o]);
  return end;
}

// The three colours of V pixels, summed with weights.
struct Sum {
  vu r, g, b;
};
SLIMCLR_INLINE void add(Sum& sum, vu pixels, int32_t weight) {
  sum.r += (pixels & 255u) * (uint32_t)weight;
  sum.g += (pixels >> 8 & 255u) * (uint32_t)weight;
  sum.b += (pixels >> 16 & 255u) * (uint32_t)weight;
}
SLIMCLR_INLINE vu round_weighted(vu v) {
  vi x = (vi)((v + (1u << (kWeightBits - 1))) >> kWeightBits);
  return (vu)choose(x > 255, vi{} + 255, x);
}
SLIMCLR_INLINE vu rounded(const Sum& sum) {
  return round_weighted(sum.r) | round_weighted(sum.g) << 8 | round_weighted(sum.b) << 16;
}

// Resizes rows along x, V rows at a time: `columns` holds their pixels of one column side by side.
void resize_x(const Plan& plan, const Taps& taps, int64_t row0, int64_t rows, int64_t out_w, uint32_t* columns,
              uint32_t* out) {
  int64_t x0 = taps.first[0], x1 = taps_end(taps, out_w);
  for (int64_t y = 0; y < rows; y += V) {
    int64_t group = min64(V, rows - y);
    for (int64_t r = 0; r < V; ++r) {  // past the last row: the last row again
      const uint8_t* row = plan.crop + (row0 + y + min64(r, group - 1)) * plan.row_bytes;
      uint32_t* to = columns + r;
      for (int64_t x = x0; x < x1 - 1; ++x, to += V) std::memcpy(to, row + x * 3, 4);
      const uint8_t* last = row + (x1 - 1) * 3;  // the byte behind it may not be ours to read
      *to = last[0] | (uint32_t)last[1] << 8 | (uint32_t)last[2] << 16;
    }
    for (int64_t x = 0; x < out_w; ++x) {
      const uint32_t* from = columns + (taps.first[x] - x0) * V;
      const int32_t* weight = taps.weight + x * taps.stride;
      Sum sum = {};
      for (int32_t k = 0; k < taps.count[x]; ++k) add(sum, load_words(from + k * V), weight[k]);
      uint32_t column[V];
      store_words(column, rounded(sum));
      uint32_t* to = out + y * out_w + x;
      for (int64_t r = 0; r < group; ++r) to[r * out_w] = column[r];
    }
  }
}

// Resizes columns; `rows` starts at source row row0.
void resize_y(const uint32_t* rows, int64_t row0, const Taps& taps, int64_t out_h, int64_t out_w, uint32_t* out) {
  for (int64_t y = 0; y < out_h; ++y) {
    const uint32_t* from = rows + (taps.first[y] - row0) * out_w;
    const int32_t* weight = taps.weight + y * taps.stride;
    for (int64_t x = 0; x < out_w; x += V) {
      Sum sum = {};
      for (int32_t k = 0; k < taps.count[y]; ++k) add(sum, load_words(from + k * out_w + x), weight[k]);
      store_words(out + y * out_w + x, rounded(sum));
    }
  }
}

// ---- colour ----

SLIMCLR_INLINE int32_t red(uint32_t p) { return (int32_t)(p & 255); }
SLIMCLR_INLINE int32_t green(uint32_t p) { return (int32_t)(p >> 8 & 255); }
SLIMCLR_INLINE int32_t blue(uint32_t p) { return (int32_t)(p >> 16 & 255); }
SLIMCLR_INLINE uint32_t rgb(int32_t r, int32_t g, int32_t b) { return (uint32_t)(r | g << 8 | b << 16); }

// PIL's 'L': ITU-R 601 luma in 16-bit fixed point.
SLIMCLR_INLINE int32_t luma(uint32_t p) { return (19595 * red(p) + 38470 * green(p) + 7471 * blue(p) + 0x8000) >> 16; }

// PIL's Image.blend from `base` to `v`, which also extrapolates.
SLIMCLR_INLINE int32_t blend(int32_t base, int32_t v, float factor) {
  int32_t x = (int32_t)((float)base + factor * (float)(v - base));
  x = x < 0 ? 0 : x;
  return x > 255 ? 255 : x;
}

void blend_with(uint32_t* image, int64_t count, int32_t base, float factor) {
  uint8_t* bytes = (uint8_t*)image;
  for (int64_t i = 0; i < count * 4; ++i) bytes[i] = (uint8_t)blend(base, bytes[i], factor);
}

int32_t mean_luma(const uint32_t* image, int64_t count) {
  int64_t total = 0;
  for (int64_t i = 0; i < count;) {
    int32_t part = 0;
    for (int64_t end = min64(i + 4096, count); i < end; ++i) part += luma(image[i]);
    total += part;
  }
  return (int32_t)((double)total / (double)count + 0.5);
}

void saturate(uint32_t* image, int64_t count, float factor) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t p = image[i];
    int32_t l = luma(p);
    image[i] = rgb(blend(l, red(p), factor), blend(l, green(p), factor), blend(l, blue(p), factor));
  }
}

void gray(uint32_t* image, int64_t count) {
  for (int64_t i = 0; i < count; ++i) image[i] = (uint32_t)luma(image[i]) * 0x010101u;
}

SLIMCLR_INLINE vf to_float(vi v) { return __builtin_convertvector(v, vf); }

// Through PIL's 8-bit HSV. Its float32 and float64 steps decide values that fall on a whole number, so they are kept.
void shift_hue(uint32_t* image, int64_t count, int32_t shift) {
  const vi zero = {}, one = zero + 1;
  for (int64_t i = 0; i < count; i += V) {
    vi p = (vi)load_words(image + i);
    vi r = p & 255, g = p >> 8 & 255, b = p >> 16 & 255;
    vi high = choose(r > g, r, g), low = choose(r < g, r, g);
    high = choose(high > b, high, b);
    low = choose(low < b, low, b);
    vi range = high - low;

    // Hue in sixths of a turn: base + plus - minus.
    vi is_red = r == high, is_green = g == high;
    vi base = choose(is_red, zero, choose(is_green, one * 2, one * 4));
    vf plus = to_float(high - choose(is_red, b, choose(is_green, r, g)));
    vf minus = to_float(high - choose(is_red, g, choose(is_green, b, r)));
    vf span = to_float(choose(range > 0, range, one));
    vd wide_plus = __builtin_convertvector(plus / span, vd), wide_minus = __builtin_convertvector(minus / span, vd);
    vd wide = __builtin_convertvector(to_float(base), vd) + wide_plus - wide_minus;
    vf sixths = __builtin_convertvector(wide, vf);
    wide = __builtin_convertvector(sixths, vd) / 6.0 + 1.0;
    wide -= __builtin_convertvector(to_float((sixths >= 0) & 1), vd);  // PIL's fmod(turns, 1)
    vf turns = __builtin_convertvector(wide, vf), saturation = to_float(range) / to_float(choose(high > 0, high, one));
    vi h = __builtin_convertvector(__builtin_convertvector(turns, vd) * 255.0, vi);
    vi s = __builtin_convertvector(__builtin_convertvector(saturation, vd) * 255.0, vi);
    h = (h + shift) & 255;

    // Back: sector = floor(6h/255) with remainder k/85; the three values are high, high·(1 - s) and one between.
    vi sector = (h * 2 * 771) >> 16, k = h * 2 - sector * 85;
    k = choose((sector & 1) == 1, k, 85 - k);
    sector = choose(sector == 6, zero, sector);
    // Quotients of whole numbers by 255·85, to the nearest. None is a tie, and the 0.5 keeps float32 off whole numbers.
    constexpr int32_t kUnit = 255 * 85;
    vi lo = high * (kUnit - s * 85) + kUnit / 2, mid = high * (kUnit - s * k) + kUnit / 2;
    lo = __builtin_convertvector((to_float(lo) + 0.5f) / (float)kUnit, vi);
    mid = __builtin_convertvector((to_float(mid) + 0.5f) / (float)kUnit, vi);
    r = choose((sector == 0) | (sector == 5), high, choose((sector == 1) | (sector == 4), mid, lo));
    g = choose((sector == 1) | (sector == 2), high, choose((sector == 0) | (sector == 3), mid, lo));
    b = choose((sector == 3) | (sector == 4), high, choose((sector == 2) | (sector == 5), mid, lo));
    store_words(image + i, (vu)(r | g << 8 | b << 16));
  }
}

void solarize(uint32_t* image, int64_t count, int32_t threshold) {
  uint8_t* bytes = (uint8_t*)image;
  for (int64_t i = 0; i < count * 4; ++i) bytes[i] = bytes[i] < threshold ? bytes[i] : (uint8_t)(255 - bytes[i]);
}

// ---- blur ----

// A box of 2·radius + 1 pixels of weight `inner` and one more on each side of weight `outer`, in 24-bit fixed point.
struct Box {
  int radius;
  uint32_t inner, outer;
};
constexpr int kMaxRadius = 64;

// PIL's GaussianBlur: the box that, applied three times, has the variance sigma² (Gwosdek et al. 2011).
Box gaussian_box(float sigma) {
  float variance = sigma * sigma / 3;
  float length = (float)std::sqrt(12.0 * (double)variance + 1.0);
  float whole = (float)std::floor((double)((length - 1) / 2));
  float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  part /= 6 * (variance - (whole + 1) * (whole + 1));
  float radius = whole + part;
  Box box;
  box.radius = (int)radius;
  box.inner = (uint32_t)((float)(1 << 24) / (radius * 2 + 1));
  box.outer = ((1u << 24) - (uint32_t)(box.radius * 2 + 1) * box.inner) / 2;
  return box;
}

// out = the weighted sum of the box's 2·radius + 3 lines of w pixels. Two colours are summed at once in 16 bits each.
template <int kRadius>
SLIMCLR_INLINE void box_sum(const uint32_t* const* lines, int64_t w, const Box& box, uint32_t* out) {
  const int radius = kRadius < 0 ? box.radius : kRadius;
  for (int64_t x = 0; x < w; x += V) {
    vu red_blue = {}, green = {};
    for (int k = 1; k <= 2 * radius + 1; ++k) {
      vu p = load_words(lines[k] + x);
      red_blue += p & 0xff00ffu;
      green += p & 0xff00u;
    }
    vu p = load_words(lines[0] + x), q = load_words(lines[2 * radius + 2] + x);
    vu outer_red_blue = (p & 0xff00ffu) + (q & 0xff00ffu), outer_green = (p & 0xff00u) + (q & 0xff00u);
    auto weigh = [&](vu inner, vu outer) { return (inner * box.inner + outer * box.outer + (1u << 23)) >> 24; };
    vu r = weigh(red_blue & 0xffffu, outer_red_blue & 0xffffu);
    vu g = weigh(green >> 8, outer_green >> 8);
    vu b = weigh(red_blue >> 16, outer_red_blue >> 16);
    store_words(out + x, r | g << 8 | b << 16);
  }
}
void box_line(const uint32_t* const* lines, int64_t w, const Box& box, uint32_t* out) {
  if (box.radius == 0) return box_sum<0>(lines, w, box, out);
  if (box.radius == 1) return box_sum<1>(lines, w, box, out);
  box_sum<-1>(lines, w, box, out);
}

int64_t padded_line(int64_t w) { return w + 2 * (kMaxRadius + 1) + kSlack / 4; }

// Three passes along x, then three along y; edge pixels are repeated outwards. The result is in `image`; `other` is as
// large, `padded` holds two padded lines.
void blur(uint32_t* image, uint32_t* other, uint32_t* padded, int64_t h, int64_t w, float sigma) {
  Box box = gaussian_box(sigma);
  const int reach = box.radius + 1, count = 2 * box.radius + 3;
  const uint32_t* lines[2 * kMaxRadius + 3];

  for (int64_t y = 0; y < h; ++y) {
    uint32_t* line[2] = {padded + reach, padded + padded_line(w) + reach};
    std::memcpy(line[0], image + y * w, (size_t)w * 4);
    for (int pass = 0; pass < 3; ++pass) {
      uint32_t* from = line[pass & 1];
      for (int k = 1; k <= reach; ++k) {
        from[-k] = from[0];
        from[w - 1 + k] = from[w - 1];
      }
      for (int k = 0; k < count; ++k) lines[k] = from + k - reach;
      box_line(lines, w, box, pass == 2 ? other + y * w : line[(pass + 1) & 1]);
    }
  }
  for (int pass = 0; pass < 3; ++pass) {
    uint32_t* from = pass & 1 ? image : other;
    uint32_t* to = pass & 1 ? other : image;
    for (int64_t y = 0; y < h; ++y) {
      for (int k = 0; k < count; ++k) lines[k] = from + min64(max64(y + k - reach, 0), h - 1) * w;
      box_line(lines, w, box, to + y * w);
    }
  }
}

// ---- output ----

template <class T>
void write_planes(const uint32_t* line, int64_t w, const float* scale, const float* shift, T* out, int64_t plane) {
  for (int c = 0; c < 3; ++c, out += plane) {
    float s = scale[c], t = shift[c];
    int64_t x = 0;
    for (; x + V <= w; x += V) store(out + x, to_float((vi)(load_words(line + x) >> (8 * c) & 255u)) * s + t);
    for (; x < w; ++x) store1(out + x, (float)(line[x] >> (8 * c) & 255u) * s + t);
  }
}

SLIMCLR_INLINE void store4(float* p, Float4 v) { std::memcpy(p, &v, sizeof v); }
SLIMCLR_INLINE void store4(uint16_t* p, Float4 v) {  // finite: rounds to nearest even
  Uint4 u = (Uint4)v;
  Half4 half = __builtin_convertvector((u + 0x7fffu + (u >> 16 & 1u)) >> 16, Half4);
  std::memcpy(p, &half, sizeof half);
}

template <class T, int kBlock>
void write_block(const uint32_t* line, int64_t w, const float* scale, const float* shift, T* out) {
  const Float4 s = {scale[0], scale[1], scale[2], 0}, t = {shift[0], shift[1], shift[2], 0};
  for (int64_t x = 0; x < w; ++x, out += kBlock) {
    Uint4 p = Uint4{} + line[x];
    store4(out, __builtin_convertvector((Int4)(p >> Uint4{0, 8, 16, 24} & 255u), Float4) * s + t);
    std::memset(out + 4, 0, (kBlock - 4) * sizeof(T));
  }
}

template <class T>
void write_line(const AugmentArgs& a, const uint32_t* line, int64_t image, int64_t y, const float* scale,
                const float* shift) {
  T* out = (T*)a.out.data;
  int64_t plane = a.h * a.w;
  if (a.out.block == 1) return write_planes(line, a.w, scale, shift, out + image * 3 * plane + y * a.w, plane);
  out += (image * plane + y * a.w) * a.out.block;
  if (a.out.block == 8) return write_block<T, 8>(line, a.w, scale, shift, out);
  write_block<T, 16>(line, a.w, scale, shift, out);
}

void write_image(const AugmentArgs& a, const uint32_t* pixels, int64_t image, bool flip, uint32_t* line) {
  float scale[3], shift[3];
  for (int c = 0; c < 3; ++c) {
    scale[c] = 1 / (255 * a.std[c]);
    shift[c] = -a.mean[c] / a.std[c];
  }
  for (int64_t y = 0; y < a.h; ++y) {
    const uint32_t* from = pixels + y * a.w;
    if (flip) {
      for (int64_t x = 0; x < a.w; ++x) line[x] = from[a.w - 1 - x];
      from = line;
    }
    if (a.raw) {
      uint8_t* to = a.raw + (image * a.h + y) * a.w * 3;
      for (int64_t x = 0; x < a.w; ++x) std::memcpy(to + x * 3, from + x, 3);
    } else if (a.out.elem == Elem::bf16) {
      write_line<uint16_t>(a, from, image, y, scale, shift);
    } else {
      write_line<float>(a, from, image, y, scale, shift);
    }
  }
}

// ---- one image ----

// Takes pieces of a thread's scratch in turn; with no memory behind it, measures how much one image needs.
struct Arena {
  uint8_t* base;
  int64_t used = 0;
  template <class T>
  T* take(int64_t count) {
    T* piece = base ? (T*)(base + used) : nullptr;
    used += (count * (int64_t)sizeof(T) + kSlack + 63) / 64 * 64;
    return piece;
  }
};

struct Scratch {
  Taps x, y;
  uint32_t* columns;
  uint32_t* resized_x;  // also the blur's second image
  uint32_t* image;
  uint32_t* padded;
  uint32_t* line;
};

Scratch make_scratch(const AugmentArgs& a, const Plan& plan, Arena& arena) {
  auto taps = [&](int64_t in, int64_t resized, int64_t outputs) {
    Taps t;
    t.stride = taps_per_output(in, resized);
    t.first = arena.take<int32_t>(outputs);
    t.count = arena.take<int32_t>(outputs);
    t.weight = arena.take<int32_t>(outputs * t.stride);
    return t;
  };
  Scratch s;
  s.x = taps(plan.width, plan.resized_w, a.w);
  s.y = taps(plan.height, plan.resized_h, a.h);
  s.columns = arena.take<uint32_t>(plan.width * V);
  s.resized_x = arena.take<uint32_t>(max64(plan.height, a.h) * a.w);
  s.image = arena.take<uint32_t>(a.h * a.w);
  s.padded = arena.take<uint32_t>(2 * padded_line(a.w));
  s.line = arena.take<uint32_t>(a.w);
  return s;
}

void augment_image(const AugmentArgs& a, int64_t image, const Plan& plan, const Scratch& s) {
  make_taps(plan.width, plan.resized_w, plan.window_left, a.w, s.x);
  make_taps(plan.height, plan.resized_h, plan.window_top, a.h, s.y);
  int64_t row0 = s.y.first[0], rows = taps_end(s.y, a.h) - row0;
  resize_x(plan, s.x, row0, rows, a.w, s.columns, s.resized_x);
  resize_y(s.resized_x, row0, s.y, a.h, a.w, s.image);

  int64_t count = a.h * a.w;
  if (plan.gray == 2) gray(s.image, count);
  for (int op : plan.order) {
    if (op == kJitterBrightness) blend_with(s.image, count, 0, plan.brightness);
    if (op == kJitterContrast) blend_with(s.image, count, mean_luma(s.image, count), plan.contrast);
    if (op == kJitterSaturation) saturate(s.image, count, plan.saturation);
    if (op == kJitterHue) shift_hue(s.image, count, plan.hue);
  }
  if (plan.gray == 1) gray(s.image, count);
  if (plan.sigma > 0) blur(s.image, s.resized_x, s.padded, a.h, a.w, plan.sigma);
  if (plan.solarize < 256) solarize(s.image, count, plan.solarize);
  write_image(a, s.image, image, plan.flip, s.line);
}

bool within(const AugmentArgs& a, int64_t image) {
  int64_t offset = a.offsets[image], h = a.sizes[2 * image], w = a.sizes[2 * image + 1];
  if (offset < 0 || offset > a.pixel_bytes || h < 1 || w < 1) return false;
  return h * w <= (a.pixel_bytes - offset) / 3;
}

int64_t augment(const AugmentArgs& a) {
  if (a.n <= 0 || a.h <= 0 || a.w <= 0) return kAugmentOk;
  int64_t bytes = 0;
  for (int64_t i = 0; i < a.n; ++i) {
    if (!within(a, i)) return i;
    Arena needed = {nullptr};
    make_scratch(a, make_plan(a, i), needed);
    bytes = max64(bytes, needed.used);
  }

  int threads = 1;
#ifdef _OPENMP
  threads = (int)min64(omp_get_max_threads(), a.n);
#endif
  uint8_t* memory = (uint8_t*)std::aligned_alloc(64, (size_t)(bytes * threads));
  if (!memory) return kAugmentOutOfMemory;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic) num_threads(threads)
#endif
  for (int64_t i = 0; i < a.n; ++i) {
    int64_t thread = 0;
#ifdef _OPENMP
    thread = omp_get_thread_num();
#endif
    Plan plan = make_plan(a, i);
    Arena arena = {memory + thread * bytes};
    augment_image(a, i, plan, make_scratch(a, plan, arena));
  }
  std::free(memory);
  return kAugmentOk;
}

}  // namespace

extern const AugmentKernels augment_kernels;
const AugmentKernels augment_kernels = {augment};

}  // namespace slimclr::cpu::SLIMCLR_ISA
