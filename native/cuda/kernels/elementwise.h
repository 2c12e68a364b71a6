// Element-wise operations, conversions, reductions and row-wise functions. Flat buffers are `size` stored elements, the
// zero channels of an activation included, which every operation here keeps (fill and broadcast aside). Outputs may be
// the buffer of an input, except in relayout.
#pragma once

#include "cuda/kernels/activation.h"
#include "cuda/kernels/launch.h"

namespace slimclr::cuda {

void relu(const Launch& on, Elem elem, const void* x, void* y, int64_t size);  // NaN stays NaN
void relu_backward(const Launch& on, Elem elem, const void* y, const void* dy, void* dx, int64_t size);
void add(const Launch& on, Elem elem, const void* a, const void* b, void* y, int64_t size);
// y = x · factor · scalar[0]; scalar may be null.
void scale(const Launch& on, Elem elem, const void* x, float factor, const float* scalar, void* y, int64_t size);
void fill(const Launch& on, float* y, float value, int64_t size);
void broadcast(const Launch& on, float* y, const float* scalar, float factor, int64_t size);
void convert(const Launch& on, Elem from, const void* x, Elem to, void* y, int64_t size);
void from_uint8(const Launch& on, const uint8_t* x, float* y, int64_t size);
void from_int32(const Launch& on, const int32_t* x, float* y, int64_t size);
void relayout(const Launch& on, const Act& x, const Act& y);  // any two layouts and types; writes y's zero channels

// As core/philox.h's philox_randn: the same numbers as on the CPU.
void randn(const Launch& on, float* y, int64_t size, uint64_t seed, uint64_t stream, uint64_t offset, float mean,
           float std);

// y[0] = factor · Σx, float32 in a thread and float64 beyond. partial: kSumParts doubles.
constexpr int kSumParts = 256;
void sum(const Launch& on, Elem elem, const void* x, double factor, float* y, int64_t size, double* partial);

// y = x / max(|x|, eps) per row of [n, d]; norm [n] receives |x|.
void l2_normalize(const Launch& on, const float* x, float* y, float* norm, int64_t n, int64_t d, float eps);
// dx = (dy − y·(y·dy)) / |x|, or dy / eps where |x| < eps.
void l2_normalize_backward(const Launch& on, const float* y, const float* norm, const float* dy, float* dx, int64_t n,
                           int64_t d, float eps);

void add_bias(const Launch& on, const float* bias, float* y, int64_t n, int64_t c);      // to rows of y [n, c]
void column_sums(const Launch& on, const float* dy, float* sums, int64_t n, int64_t c);  // sums [c] += Σ rows

}  // namespace slimclr::cuda
