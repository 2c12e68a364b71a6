// Elementwise operations, conversions and reductions. Flat buffers are `size` stored elements: of an activation all of
// its N * ceil(C / block) * H * W * block, whose zero tail every operation here keeps (fill and broadcast aside).
// Outputs may be the buffer of an input of the same elem, except in relayout.
#pragma once

#include "cpu/kernels/activation.h"

namespace slimclr::cpu {

// y = x / max(|x|, eps) for each row of x [N, D].
struct NormalizeArgs {
  const void* x = nullptr;
  Elem x_elem = Elem::f32;
  void* y = nullptr;
  Elem y_elem = Elem::f32;
  float* norm = nullptr;  // [N] out: |x|
  int64_t n = 0, d = 0;
  float eps = 1e-12f;
};

// dx = (dy - y * (y . dy)) / |x|, or dy / eps where |x| < eps.
struct NormalizeBackwardArgs {
  const void* y = nullptr;
  const void* dy = nullptr;
  Elem y_elem = Elem::f32;  // of y and dy
  const float* norm = nullptr;
  void* dx = nullptr;
  Elem dx_elem = Elem::f32;
  int64_t n = 0, d = 0;
  float eps = 1e-12f;
};

struct ElementwiseKernels {
  void (*relu)(Elem elem, const void* x, void* y, int64_t size);                            // NaN stays NaN
  void (*relu_backward)(Elem elem, const void* y, const void* dy, void* dx, int64_t size);  // dx = y > 0 ? dy : 0
  void (*add)(Elem elem, const void* a, const void* b, void* y, int64_t size);
  void (*scale)(Elem elem, const void* x, float factor, void* y, int64_t size);
  void (*fill)(Elem elem, void* y, float value, int64_t size);
  void (*broadcast)(Elem elem, void* y, const float* value, float factor, int64_t size);  // y = *value * factor
  void (*accumulate)(Elem x_elem, const void* x, Elem y_elem, void* y, float factor, int64_t size);  // y += factor * x
  void (*convert)(Elem x_elem, const void* x, Elem y_elem, void* y, int64_t size);
  void (*from_uint8)(const uint8_t* x, float* y, int64_t size);
  void (*from_int32)(const int32_t* x, float* y, int64_t size);

  // Same n, c, h, w; any two layouts and elems. Writes the zero tail of y.
  void (*relayout)(const Act& x, const Act& y);

  void (*l2_normalize)(const NormalizeArgs&);
  void (*l2_normalize_backward)(const NormalizeBackwardArgs&);

  void (*add_bias)(Elem elem, const void* x, const float* bias, void* y, int64_t n, int64_t c);  // to rows of [N, C]
  void (*bias_gradient)(Elem elem, const void* dy, float* dbias, int64_t n, int64_t c);          // dbias += sum of rows

  // Sums are kept in float64; *out = factor * sum (the mean with factor = 1 / size).
  void (*sum)(Elem elem, const void* x, double factor, float* out, int64_t size);
  void (*sum_squares)(Elem elem, const void* x, double factor, float* out, int64_t size);
  bool (*all_finite)(Elem elem, const void* x, int64_t size);
};

}  // namespace slimclr::cpu
