// A block per row.
#include "cuda/kernels/distill.h"

#include <cmath>

#include "cuda/kernels/reduce.cuh"

namespace slimclr::cuda {

namespace {

constexpr float kAtkdTemperature = 4, kAtkdGain = 2, kLayerNormEps = 1e-5f;
constexpr float kDkdOthers = 0.5f;

// Logits u_i = a · x_i + b of a row of c elements, that at `skip` left out.
struct Row {
  const float* x;
  int64_t c;
  float a = 1, b = 0;
  int64_t skip = -1;

  __device__ float operator()(int64_t i) const { return x[i] * a + b; }
};

__device__ float log_sum_exp(const Row& r) {
  float peak = -INFINITY;
  for (int64_t i = threadIdx.x; i < r.c; i += blockDim.x)
    if (i != r.skip) peak = fmaxf(peak, r(i));
  peak = block_max(peak);
  double total = 0;
  for (int64_t i = threadIdx.x; i < r.c; i += blockDim.x)
    if (i != r.skip) total += static_cast<double>(expf(r(i) - peak));
  return peak + static_cast<float>(log(block_sum(total)));
}

// The thread's share of the sum of f(i, p_s, p_t, log p_s, log p_t) over the row.
template <typename F>
__device__ double each(const Row& s, const Row& t, F f) {
  const float s_lse = log_sum_exp(s), t_lse = log_sum_exp(t);
  double total = 0;
  for (int64_t i = threadIdx.x; i < s.c; i += blockDim.x) {
    if (i == s.skip) continue;
    const float s_log = s(i) - s_lse, t_log = t(i) - t_lse;
    total += static_cast<double>(f(i, expf(s_log), expf(t_log), s_log, t_log));
  }
  return total;
}

__device__ double kd_row(const DistillArgs& a, const float* s, const float* t, float* g) {
  const float ts = a.student_temperature, factor = ts / static_cast<float>(a.n);
  const double loss = each({s, a.c, 1 / ts}, {t, a.c, 1 / a.teacher_temperature},
                           [&](int64_t i, float ps, float pt, float s_log, float) {
                             if (g) g[i] = (ps - pt) * factor;
                             return -pt * s_log;
                           });
  return block_sum(loss) * static_cast<double>(ts) * static_cast<double>(ts);
}

__device__ double mse_row(const DistillArgs& a, const float* s, const float* t, float* g) {
  const float factor = 2 / (static_cast<float>(a.n) * static_cast<float>(a.c));
  double loss = 0;
  for (int64_t i = threadIdx.x; i < a.c; i += blockDim.x) {
    const float d = s[i] - t[i];
    loss += static_cast<double>(d * d);
    if (g) g[i] = d * factor;
  }
  return block_sum(loss) / static_cast<double>(a.c);
}

struct Normed {
  float mean, rstd;
};
__device__ Normed layer_norm(const float* x, int64_t c) {
  double total = 0;
  for (int64_t i = threadIdx.x; i < c; i += blockDim.x) total += static_cast<double>(x[i]);
  const double mean = block_sum(total) / static_cast<double>(c);
  double squares = 0;
  for (int64_t i = threadIdx.x; i < c; i += blockDim.x) {
    const double d = static_cast<double>(x[i]) - mean;
    squares += d * d;
  }
  squares = block_sum(squares);
  const double var = squares / static_cast<double>(c) + static_cast<double>(kLayerNormEps);
  return {static_cast<float>(mean), static_cast<float>(1 / sqrt(var))};
}
// The row as logits 2 · layer_norm(x) / T.
__device__ Row logits_of(const float* x, int64_t c, const Normed& n) {
  const float a = kAtkdGain / kAtkdTemperature * n.rstd;
  return {x, c, a, -n.mean * a};
}

__device__ double atkd_row(const DistillArgs& a, const float* s, const float* t, float* g) {
  const Normed of = layer_norm(s, a.c);
  const Row student = logits_of(s, a.c, of), teacher = logits_of(t, a.c, layer_norm(t, a.c));
  const Row normed = {s, a.c, of.rstd, -of.mean * of.rstd};
  double along = 0;  // Σ dz_i · z_i, z the layer norm
  const double loss = block_sum(each(student, teacher, [&](int64_t i, float ps, float pt, float s_log, float t_log) {
    along += static_cast<double>((ps - pt) * normed(i));
    return pt * (t_log - s_log);
  }));
  along = block_sum(along);
  if (g) {
    const float factor = kAtkdGain * kAtkdTemperature * of.rstd / static_cast<float>(a.n);
    const float mean_along = static_cast<float>(along / static_cast<double>(a.c));
    each(student, teacher, [&](int64_t i, float ps, float pt, float, float) {
      g[i] = (ps - pt - normed(i) * mean_along) * factor;
      return 0.0f;
    });
  }
  return loss * static_cast<double>(kAtkdTemperature) * static_cast<double>(kAtkdTemperature);
}

// log(1 + e^v)
__device__ double softplus(double v) { return v > 0 ? v + log1p(exp(-v)) : log1p(exp(v)); }

__device__ double dkd_row(const DistillArgs& a, const float* s, const float* t, int64_t positive, float* g) {
  const Row student = {s, a.c, 1, 0, positive}, teacher = {t, a.c, 1, 0, positive};
  // Log odds of the positive against all others.
  const double vs = static_cast<double>(s[positive]) - static_cast<double>(log_sum_exp(student));
  const double vt = static_cast<double>(t[positive]) - static_cast<double>(log_sum_exp(teacher));
  const double ps = 1 / (1 + exp(-vs)), pt = 1 / (1 + exp(-vt)), qt = 1 / (1 + exp(vt));
  const double loss = pt * (softplus(-vs) - softplus(-vt)) + qt * (softplus(vs) - softplus(vt));
  const float factor = 1 / static_cast<float>(a.n), odds = static_cast<float>(ps - pt);
  const double others = block_sum(each(student, teacher, [&](int64_t i, float p, float q, float s_log, float t_log) {
    if (g) g[i] = (kDkdOthers * (p - q) - odds * p) * factor;
    return q * (t_log - s_log);
  }));
  if (g && threadIdx.x == 0) g[positive] = odds * factor;
  return loss + static_cast<double>(kDkdOthers) * others;
}

__device__ bool is_bad(const DistillArgs& a, int64_t row) {
  return a.kind == DistillArgs::Kind::dkd && (a.positives[row] < 0 || a.positives[row] >= a.c);
}

__global__ void distill_kernel(DistillArgs a) {
  const int64_t row = blockIdx.x;
  const float *s = a.student + row * a.c, *t = a.teacher + row * a.c;
  float* g = a.gradient ? a.gradient + row * a.c : nullptr;
  double loss = 0;
  if (is_bad(a, row)) {
    for (int64_t i = threadIdx.x; g && i < a.c; i += blockDim.x) g[i] = 0;
  } else if (a.kind == DistillArgs::Kind::kd) {
    loss = kd_row(a, s, t, g);
  } else if (a.kind == DistillArgs::Kind::mse) {
    loss = mse_row(a, s, t, g);
  } else if (a.kind == DistillArgs::Kind::atkd) {
    loss = atkd_row(a, s, t, g);
  } else {
    loss = dkd_row(a, s, t, a.positives[row], g);
  }
  if (threadIdx.x == 0) a.row_loss[row] = loss;
}

__global__ void mean_loss_kernel(DistillArgs a) {
  double loss = 0, bad = 0;
  for (int64_t row = threadIdx.x; row < a.n; row += blockDim.x) {
    loss += a.row_loss[row];
    bad += is_bad(a, row);
  }
  loss = block_sum(loss);
  bad = block_sum(bad);
  if (threadIdx.x != 0) return;
  *a.loss = static_cast<float>(loss / static_cast<double>(a.n));
  if (bad > 0 && a.report->kind == Report::none) {
    a.report->values[0] = a.c - 1;
    a.report->values[1] = static_cast<int64_t>(bad);
    a.report->values[2] = a.n;
    a.report->kind = Report::bad_positives;
  }
}

}  // namespace

void distill(const Launch& on, const DistillArgs& a) {
  launch(on, dim3(static_cast<unsigned>(a.n)), dim3(kThreads), 0, distill_kernel, a);
  launch(on, dim3(1), dim3(kThreads), 0, mean_loss_kernel, a);
}

}  // namespace slimclr::cuda
