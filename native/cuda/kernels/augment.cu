// A block per image, on 8-bit pixels, rounded after every operation as PIL does. A pixel of the working image is a word
// 0x00BBGGRR. Compiled without fused multiply-add: the same bytes as on the CPU, and PIL's roundings.
#include "cuda/kernels/augment.h"

#include <cmath>

#include "core/augment_draw.h"
#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

namespace {

constexpr int kImageThreads = 512;
constexpr int kWeightBits = 22;     // PIL's fixed point for the weights of a resize
constexpr float kMaxSigma = 64;     // as on the CPU
constexpr int kTableWords = 10240;  // shared memory for the weights of a resize

// v as a whole number in [low, high]; NaN becomes low.
__device__ int64_t clamp_int(float v, int64_t low, int64_t high) {
  if (!(v > static_cast<float>(low))) return low;
  if (v >= static_cast<float>(high)) return high;
  const int64_t i = static_cast<int64_t>(v);
  return i < low ? low : i;
}
__device__ float clamp_float(float v, float low, float high, float if_nan) {
  if (v != v) return if_nan;
  return v < low ? low : v > high ? high : v;
}
__device__ int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

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
__device__ int64_t window_start(float v, int64_t resized, int64_t out) {
  const int64_t room = resized - out;
  if (v < 0) return room / 2 + ((room & 3) == 3);
  return clamp_int(v, 0, room);
}

__device__ Plan make_plan(const AugmentArgs& a, int64_t image) {
  const float* p = a.params + image * kAugmentColumns;
  const int64_t h = a.sizes[2 * image], w = a.sizes[2 * image + 1];
  constexpr int64_t kMaxResize = 1 << 24;

  Plan plan;
  const int64_t top = clamp_int(p[kCropTop], 0, h - 1), left = clamp_int(p[kCropLeft], 0, w - 1);
  plan.height = clamp_int(p[kCropHeight], 0, h - top);
  plan.width = clamp_int(p[kCropWidth], 0, w - left);
  if (plan.height == 0) plan.height = h - top;
  if (plan.width == 0) plan.width = w - left;
  plan.row_bytes = w * 3;
  plan.crop = a.pixels + a.offsets[image] + top * plan.row_bytes + left * 3;

  plan.resized_h = larger(clamp_int(p[kResizeHeight], 0, kMaxResize), a.h);
  plan.resized_w = larger(clamp_int(p[kResizeWidth], 0, kMaxResize), a.w);
  plan.window_top = window_start(p[kWindowTop], plan.resized_h, a.h);
  plan.window_left = window_start(p[kWindowLeft], plan.resized_w, a.w);

  for (int i = 0; i < 4; ++i) plan.order[i] = static_cast<int>(clamp_int(p[kJitter0 + i], 0, 4));
  plan.brightness = clamp_float(p[kBrightness], 0, 1e6f, 1);
  plan.contrast = clamp_float(p[kContrast], 0, 1e6f, 1);
  plan.saturation = clamp_float(p[kSaturation], 0, 1e6f, 1);
  plan.hue = static_cast<int>(static_cast<double>(clamp_float(p[kHue], -0.5f, 0.5f, 0)) * 255.0) & 255;
  plan.gray = static_cast<int>(clamp_int(p[kGray], 0, 2));
  plan.sigma = clamp_float(p[kBlurSigma], 0, kMaxSigma, 0);
  const float t = p[kSolarize];
  plan.solarize = t >= 0 && t <= 255 ? static_cast<int>(ceilf(t)) : 256;
  plan.flip = p[kFlip] >= 0.5f;
  return plan;
}

// ---- resize

// PIL's antialiased bilinear filter: a triangle as wide as two inputs or two outputs, whichever is larger. The inputs
// of one output, and the sum of their weights.
struct Taps {
  int64_t first, count;
  double centre, inverse, total;

  __device__ Taps(int64_t in, int64_t resized, int64_t output) {
    const double scale = static_cast<double>(in) / static_cast<double>(resized);
    const double support = scale < 1 ? 1 : scale;
    inverse = 1.0 / support;
    centre = (static_cast<double>(output) + 0.5) * scale;
    first = larger(static_cast<int64_t>(centre - support + 0.5), 0);
    const int64_t end = static_cast<int64_t>(centre + support + 0.5);
    count = (end < in ? end : in) - first;
    total = 0;
    for (int64_t k = 0; k < count; ++k) total += triangle(k);
  }
  __device__ double triangle(int64_t k) const {
    const double x = fabs((static_cast<double>(k + first) - centre + 0.5) * inverse);
    return x < 1 ? 1 - x : 0.0;
  }
  __device__ int32_t weight(int64_t k) const {
    return static_cast<int32_t>(0.5 + triangle(k) / total * (1 << kWeightBits));
  }
};

// The most inputs an output can have, as on the CPU.
__device__ int64_t taps_per_output(int64_t in, int64_t resized) {
  const double ratio = static_cast<double>(larger(in, resized)) / static_cast<double>(resized);
  return 2 * static_cast<int64_t>(ceil(ratio)) + 1;
}

struct Sum {
  uint32_t r, g, b;
};
__device__ void add(Sum& sum, uint32_t r, uint32_t g, uint32_t b, int32_t weight) {
  sum.r += r * static_cast<uint32_t>(weight);
  sum.g += g * static_cast<uint32_t>(weight);
  sum.b += b * static_cast<uint32_t>(weight);
}
__device__ uint32_t round_weighted(uint32_t v) {
  const int32_t x = static_cast<int32_t>((v + (1u << (kWeightBits - 1))) >> kWeightBits);
  return static_cast<uint32_t>(x > 255 ? 255 : x);
}

// The weights of one axis: from a table in shared memory where they fit into it, else computed where they are needed.
struct Axis {
  int64_t in, resized, window;
  const int32_t* table;  // [outputs][stride], or null
  int64_t stride;
};

// Rows of the crop are resized along x and rounded before the column is, as PIL does; each output pixel does it anew
// for the rows it is made of.
__device__ void resize(const Plan& plan, const Axis& ax, const Axis& ay, int64_t h, int64_t w, uint32_t* image) {
  for (int64_t i = threadIdx.x; i < h * w; i += blockDim.x) {
    const int64_t x = i % w, y = i / w;
    const Taps tx(ax.in, ax.resized, ax.window + x), ty(ay.in, ay.resized, ay.window + y);
    Sum column = {};
    for (int64_t l = 0; l < ty.count; ++l) {
      const int32_t wy = ay.table ? ay.table[y * ay.stride + l] : ty.weight(l);
      if (wy == 0) continue;
      const uint8_t* from = plan.crop + (ty.first + l) * plan.row_bytes + tx.first * 3;
      Sum row = {};
      for (int64_t k = 0; k < tx.count; ++k)
        add(row, from[3 * k], from[3 * k + 1], from[3 * k + 2], ax.table ? ax.table[x * ax.stride + k] : tx.weight(k));
      add(column, round_weighted(row.r), round_weighted(row.g), round_weighted(row.b), wy);
    }
    image[i] = round_weighted(column.r) | round_weighted(column.g) << 8 | round_weighted(column.b) << 16;
  }
}

__device__ void fill_table(const Axis& axis, int64_t outputs, int32_t* table) {
  for (int64_t o = threadIdx.x; o < outputs; o += blockDim.x) {
    const Taps taps(axis.in, axis.resized, axis.window + o);
    for (int64_t k = 0; k < taps.count; ++k) table[o * axis.stride + k] = taps.weight(k);
  }
}

// ---- colour

__device__ int32_t red(uint32_t p) { return static_cast<int32_t>(p & 255); }
__device__ int32_t green(uint32_t p) { return static_cast<int32_t>(p >> 8 & 255); }
__device__ int32_t blue(uint32_t p) { return static_cast<int32_t>(p >> 16 & 255); }
__device__ uint32_t rgb(int32_t r, int32_t g, int32_t b) { return static_cast<uint32_t>(r | g << 8 | b << 16); }

// PIL's 'L': ITU-R 601 luma in 16-bit fixed point.
__device__ int32_t luma(uint32_t p) { return (19595 * red(p) + 38470 * green(p) + 7471 * blue(p) + 0x8000) >> 16; }

// PIL's Image.blend from `base` to `v`, which also extrapolates.
__device__ int32_t blend(int32_t base, int32_t v, float factor) {
  const float x = static_cast<float>(base) + factor * static_cast<float>(v - base);
  return x <= 0 ? 0 : x >= 255 ? 255 : static_cast<int32_t>(x);
}
__device__ uint32_t blend_pixel(int32_t base, uint32_t p, float factor) {
  return rgb(blend(base, red(p), factor), blend(base, green(p), factor), blend(base, blue(p), factor));
}

// Through PIL's 8-bit HSV. Its float32 and float64 steps decide values that fall on a whole number, so they are kept.
__device__ uint32_t shift_hue(uint32_t p, int32_t shift) {
  int32_t r = red(p), g = green(p), b = blue(p);
  int32_t high = r > g ? r : g, low = r < g ? r : g;
  high = high > b ? high : b;
  low = low < b ? low : b;
  const int32_t range = high - low;

  // Hue in sixths of a turn: base + plus − minus.
  const bool is_red = r == high, is_green = g == high;
  const int32_t base = is_red ? 0 : is_green ? 2 : 4;
  const float plus = static_cast<float>(high - (is_red ? b : is_green ? r : g));
  const float minus = static_cast<float>(high - (is_red ? g : is_green ? b : r));
  const float span = static_cast<float>(range > 0 ? range : 1);
  double wide = static_cast<double>(static_cast<float>(base)) + static_cast<double>(plus / span) -
                static_cast<double>(minus / span);
  const float sixths = static_cast<float>(wide);
  wide = static_cast<double>(sixths) / 6.0 + 1.0;
  if (sixths >= 0) wide -= 1.0;  // PIL's fmod(turns, 1)
  const float turns = static_cast<float>(wide);
  const float saturation = static_cast<float>(range) / static_cast<float>(high > 0 ? high : 1);
  int32_t h = static_cast<int32_t>(static_cast<double>(turns) * 255.0);
  const int32_t s = static_cast<int32_t>(static_cast<double>(saturation) * 255.0);
  h = (h + shift) & 255;

  // Back: sector = floor(6h/255) with remainder k/85; the three values are high, high·(1 − s) and one between.
  int32_t sector = (h * 2 * 771) >> 16, k = h * 2 - sector * 85;
  k = (sector & 1) == 1 ? k : 85 - k;
  sector = sector == 6 ? 0 : sector;
  constexpr int32_t kUnit = 255 * 85;
  const int32_t lo = (high * (kUnit - s * 85) + kUnit / 2) / kUnit;
  const int32_t mid = (high * (kUnit - s * k) + kUnit / 2) / kUnit;
  r = sector == 0 || sector == 5 ? high : sector == 1 || sector == 4 ? mid : lo;
  g = sector == 1 || sector == 2 ? high : sector == 0 || sector == 3 ? mid : lo;
  b = sector == 3 || sector == 4 ? high : sector == 2 || sector == 5 ? mid : lo;
  return rgb(r, g, b);
}

__device__ uint32_t solarize(uint32_t p, int32_t threshold) {
  const int32_t r = red(p), g = green(p), b = blue(p);
  return rgb(r < threshold ? r : 255 - r, g < threshold ? g : 255 - g, b < threshold ? b : 255 - b);
}

// Every pixel of the image becomes f of itself; the block waits before and after.
template <typename F>
__device__ void each_pixel(uint32_t* image, int64_t count, F f) {
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) image[i] = f(image[i]);
  __syncthreads();
}

__device__ int32_t mean_luma(const uint32_t* image, int64_t count) {
  long long total = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) total += luma(image[i]);
  total = block_sum(total);
  return static_cast<int32_t>(static_cast<double>(total) / static_cast<double>(count) + 0.5);
}

// ---- blur

// A box of 2·radius + 1 pixels of weight `inner` and one more on each side of weight `outer`, in 24-bit fixed point.
struct Box {
  int radius;
  uint32_t inner, outer;
};

// PIL's GaussianBlur: the box that, applied three times, has the variance sigma² (Gwosdek et al. 2011).
__device__ Box gaussian_box(float sigma) {
  const float variance = sigma * sigma / 3;
  const float length = static_cast<float>(sqrt(12.0 * static_cast<double>(variance) + 1.0));
  const float whole = static_cast<float>(floor(static_cast<double>((length - 1) / 2)));
  float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance);
  part /= 6 * (variance - (whole + 1) * (whole + 1));
  const float radius = whole + part;
  Box box;
  box.radius = static_cast<int>(radius);
  box.inner = static_cast<uint32_t>(static_cast<float>(1 << 24) / (radius * 2 + 1));
  box.outer = ((1u << 24) - static_cast<uint32_t>(box.radius * 2 + 1) * box.inner) / 2;
  return box;
}

// One pass along x (step 1) or y (step w); edge pixels are repeated outwards.
__device__ void box_pass(const uint32_t* from, uint32_t* to, int64_t h, int64_t w, bool along_x, const Box& box) {
  const int64_t length = along_x ? w : h, step = along_x ? 1 : w;
  for (int64_t i = threadIdx.x; i < h * w; i += blockDim.x) {
    const int64_t place = along_x ? i % w : i / w;
    const uint32_t* line = from + (i - place * step);
    auto pixel = [&](int64_t k) {
      const int64_t p = place + k;
      return line[(p < 0 ? 0 : p >= length ? length - 1 : p) * step];
    };
    Sum inner = {};
    for (int k = -box.radius; k <= box.radius; ++k) {
      const uint32_t p = pixel(k);
      inner.r += p & 255;
      inner.g += p >> 8 & 255;
      inner.b += p >> 16 & 255;
    }
    const uint32_t p = pixel(-box.radius - 1), q = pixel(box.radius + 1);
    auto weigh = [&](uint32_t in, uint32_t out) { return (in * box.inner + out * box.outer + (1u << 23)) >> 24; };
    to[i] = weigh(inner.r, (p & 255) + (q & 255)) | weigh(inner.g, (p >> 8 & 255) + (q >> 8 & 255)) << 8 |
            weigh(inner.b, (p >> 16 & 255) + (q >> 16 & 255)) << 16;
  }
  __syncthreads();
}

// ---- output

template <typename T>
__device__ void write_pixels(const AugmentArgs& a, int64_t image, const uint32_t* pixels, bool flip) {
  const int64_t hw = a.h * a.w, block = a.out.block;
  float scale[3], shift[3];
  for (int c = 0; c < 3; ++c) {
    scale[c] = 1 / (255 * a.std[c]);
    shift[c] = -a.mean[c] / a.std[c];
  }
  T* out = static_cast<T*>(a.out.data) + image * a.out.blocks() * block * hw;
  for (int64_t i = threadIdx.x; i < hw; i += blockDim.x) {
    const uint32_t p = pixels[flip ? i - i % a.w + a.w - 1 - i % a.w : i];
    for (int c = 0; c < 3; ++c) {
      const float v = static_cast<float>(p >> (8 * c) & 255) * scale[c] + shift[c];
      out[block == 1 ? c * hw + i : i * block + c] = from_float<T>(v);
    }
    for (int64_t c = 3; c < block; ++c) out[i * block + c] = from_float<T>(0.0f);
  }
}

__device__ void write_bytes(const AugmentArgs& a, int64_t image, const uint32_t* pixels, bool flip) {
  const int64_t hw = a.h * a.w;
  uint8_t* out = a.raw + image * hw * 3;
  for (int64_t i = threadIdx.x; i < hw; i += blockDim.x) {
    const uint32_t p = pixels[flip ? i - i % a.w + a.w - 1 - i % a.w : i];
    for (int c = 0; c < 3; ++c) out[i * 3 + c] = static_cast<uint8_t>(p >> (8 * c) & 255);
  }
}

// ---- kernels

__global__ void find_outside_kernel(AugmentArgs a) {
  __shared__ unsigned long long first;
  if (threadIdx.x == 0) first = ~0ull;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < a.n; i += blockDim.x) {
    const int64_t offset = a.offsets[i], h = a.sizes[2 * i], w = a.sizes[2 * i + 1];
    const bool sane = offset >= 0 && offset <= a.pixel_bytes && h >= 1 && w >= 1;
    if (!sane || h * w > (a.pixel_bytes - offset) / 3) atomicMin(&first, static_cast<unsigned long long>(i));
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  const int64_t i = first == ~0ull ? -1 : static_cast<int64_t>(first);
  *a.outside = i;
  if (i < 0 || a.report->kind != Report::none) return;
  a.report->values[0] = i;
  a.report->values[1] = a.pixel_bytes;
  a.report->values[2] = a.offsets[i];
  a.report->values[3] = a.sizes[2 * i];
  a.report->values[4] = a.sizes[2 * i + 1];
  a.report->kind = Report::image_outside;
}

__global__ void __launch_bounds__(kImageThreads) augment_kernel(AugmentArgs a) {
  __shared__ int32_t table[kTableWords];
  if (*a.outside >= 0) return;
  const int64_t index = blockIdx.x, count = a.h * a.w;
  uint32_t* image = a.images + index * count;
  uint32_t* other = a.images + (a.n + index) * count;
  const Plan plan = make_plan(a, index);

  Axis ax = {plan.width, plan.resized_w, plan.window_left, nullptr, taps_per_output(plan.width, plan.resized_w)};
  Axis ay = {plan.height, plan.resized_h, plan.window_top, nullptr, taps_per_output(plan.height, plan.resized_h)};
  if (ax.stride * a.w + ay.stride * a.h <= kTableWords) {
    fill_table(ax, a.w, table);
    fill_table(ay, a.h, table + ax.stride * a.w);
    ax.table = table;
    ay.table = table + ax.stride * a.w;
    __syncthreads();
  }
  resize(plan, ax, ay, a.h, a.w, image);
  __syncthreads();

  auto gray = [](uint32_t p) { return static_cast<uint32_t>(luma(p)) * 0x010101u; };
  if (plan.gray == 2) each_pixel(image, count, gray);
  for (int op : plan.order) {
    if (op == kJitterBrightness)
      each_pixel(image, count, [&](uint32_t p) { return blend_pixel(0, p, plan.brightness); });
    if (op == kJitterContrast) {
      const int32_t mean = mean_luma(image, count);
      each_pixel(image, count, [&](uint32_t p) { return blend_pixel(mean, p, plan.contrast); });
    }
    if (op == kJitterSaturation)
      each_pixel(image, count, [&](uint32_t p) { return blend_pixel(luma(p), p, plan.saturation); });
    if (op == kJitterHue) each_pixel(image, count, [&](uint32_t p) { return shift_hue(p, plan.hue); });
  }
  if (plan.gray == 1) each_pixel(image, count, gray);
  if (plan.sigma > 0) {
    const Box box = gaussian_box(plan.sigma);
    for (int pass = 0; pass < 6; ++pass)
      box_pass(pass & 1 ? other : image, pass & 1 ? image : other, a.h, a.w, pass < 3, box);
  }
  if (plan.solarize < 256) each_pixel(image, count, [&](uint32_t p) { return solarize(p, plan.solarize); });
  if (a.raw)
    write_bytes(a, index, image, plan.flip);
  else if (a.out.elem == Elem::bf16)
    write_pixels<bf16>(a, index, image, plan.flip);
  else if (a.out.elem == Elem::f16)
    write_pixels<f16>(a, index, image, plan.flip);
  else
    write_pixels<float>(a, index, image, plan.flip);
}

__global__ void draw_kernel(AugmentRecipe recipe, const int32_t* sizes, int64_t n, uint64_t seed, uint64_t stream,
                            const int64_t* offset, float* params) {
  const int64_t i = grid_index();
  if (i >= n) return;
  const ImageDraws draw = {seed, stream, static_cast<uint64_t>(*offset) + static_cast<uint64_t>(i)};
  draw_augment_row(recipe, sizes[2 * i], sizes[2 * i + 1], draw, params + i * kAugmentColumns);
}

}  // namespace

void draw_augment_params(const Launch& on, const AugmentRecipe& recipe, const int32_t* sizes, int64_t n, uint64_t seed,
                         uint64_t stream, const int64_t* offset, float* params) {
  launch(on, dim3(static_cast<unsigned>((n + kThreads - 1) / kThreads)), dim3(kThreads), 0, draw_kernel, recipe, sizes,
         n, seed, stream, offset, params);
}

void augment(const Launch& on, const AugmentArgs& a) {
  launch(on, dim3(1), dim3(kThreads), 0, find_outside_kernel, a);
  launch(on, dim3(static_cast<unsigned>(a.n)), dim3(kImageThreads), 0, augment_kernel, a);
}

}  // namespace slimclr::cuda
