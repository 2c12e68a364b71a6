#include "cuda/kernels/softmax.h"

#include <cmath>

#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

namespace {

// y = softmax(x) by one block; returns log Σ exp. A NaN or +inf in x makes the row NaN, −inf has probability 0.
__device__ float softmax_row(const float* x, float* y, int64_t c) {
  float peak = -INFINITY;
  for (int64_t i = threadIdx.x; i < c; i += blockDim.x) peak = fmaxf(peak, x[i]);
  peak = block_max(peak);
  float total = 0;
  for (int64_t i = threadIdx.x; i < c; i += blockDim.x) {
    const float e = expf(x[i] - peak);
    y[i] = e;
    total += e;
  }
  total = block_sum(total);
  const float inverse = 1.0f / total;
  for (int64_t i = threadIdx.x; i < c; i += blockDim.x) y[i] *= inverse;
  return peak + static_cast<float>(log(static_cast<double>(total)));
}

__global__ void softmax_kernel(const float* x, float* y, int64_t c) {
  const int64_t row = blockIdx.x;
  softmax_row(x + row * c, y + row * c, c);
}

__global__ void cross_entropy_kernel(CrossEntropyArgs a) {
  const int64_t row = blockIdx.x;
  const float* x = a.logits + row * a.c;
  const float lse = softmax_row(x, a.probabilities + row * a.c, a.c);
  const double keep = 1.0 - static_cast<double>(a.smoothing);
  const double spread = static_cast<double>(a.smoothing) / static_cast<double>(a.c);
  const bool bad = !a.targets && (a.labels[row] < 0 || a.labels[row] >= a.c);
  double loss = 0;
  if (!bad && (a.targets || a.smoothing != 0)) {
    for (int64_t i = threadIdx.x; i < a.c; i += blockDim.x) {
      const double weight = (a.targets ? keep * static_cast<double>(a.targets[row * a.c + i]) : 0.0) + spread;
      if (weight != 0) loss += weight * (static_cast<double>(lse) - static_cast<double>(x[i]));
    }
  }
  loss = block_sum(loss);
  if (!bad && !a.targets) loss += keep * (static_cast<double>(lse) - static_cast<double>(x[a.labels[row]]));
  if (threadIdx.x == 0) a.row_loss[row] = loss;
}

__global__ void mean_loss_kernel(CrossEntropyArgs a) {
  double loss = 0, bad = 0;
  for (int64_t row = threadIdx.x; row < a.n; row += blockDim.x) {
    loss += a.row_loss[row];
    if (!a.targets && (a.labels[row] < 0 || a.labels[row] >= a.c)) bad += 1;
  }
  loss = block_sum(loss);
  bad = block_sum(bad);
  if (threadIdx.x != 0) return;
  *a.loss = static_cast<float>(loss / static_cast<double>(a.n));
  if (bad > 0 && a.report->kind == Report::none) {
    a.report->values[0] = a.c - 1;
    a.report->values[1] = static_cast<int64_t>(bad);
    a.report->values[2] = a.n;
    a.report->kind = Report::bad_labels;
  }
}

__global__ void cross_entropy_backward_kernel(CrossEntropyBackwardArgs a) {
  const int64_t row = blockIdx.x;
  const float upstream = *a.dloss / static_cast<float>(a.n), keep = 1.0f - a.smoothing;
  const float spread = a.smoothing / static_cast<float>(a.c);
  const float* p = a.probabilities + row * a.c;
  const float* t = a.targets ? a.targets + row * a.c : nullptr;
  float* out = a.dlogits + row * a.c;
  float total = 1;
  if (t) {
    total = 0;
    for (int64_t i = threadIdx.x; i < a.c; i += blockDim.x) total += t[i];
    total = keep * block_sum(total) + a.smoothing;
  }
  const int64_t label = t ? -1 : a.labels[row];
  const bool bad = !t && (label < 0 || label >= a.c);
  for (int64_t i = threadIdx.x; i < a.c; i += blockDim.x) {
    const float target = (t ? keep * t[i] : i == label ? keep : 0.0f) + spread;
    out[i] = bad ? 0.0f : upstream * (p[i] * total - target);
  }
}

}  // namespace

void softmax(const Launch& on, const float* x, float* y, int64_t n, int64_t c) {
  if (n > 0 && c > 0) launch(on, dim3(static_cast<unsigned>(n)), dim3(kThreads), 0, softmax_kernel, x, y, c);
}

void cross_entropy_forward(const Launch& on, const CrossEntropyArgs& a) {
  launch(on, dim3(static_cast<unsigned>(a.n)), dim3(kThreads), 0, cross_entropy_kernel, a);
  launch(on, dim3(1), dim3(kThreads), 0, mean_loss_kernel, a);
}

void cross_entropy_backward(const Launch& on, const CrossEntropyBackwardArgs& a) {
  if (a.n > 0 && a.c > 0)
    launch(on, dim3(static_cast<unsigned>(a.n)), dim3(kThreads), 0, cross_entropy_backward_kernel, a);
}

}  // namespace slimclr::cuda
