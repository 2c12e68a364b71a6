#include "cpu/kernels/distill.h"

#include <cmath>

#include "cpu/kernels/vec.h"

namespace slimclr::cpu::SLIMCLR_ISA {
namespace {

constexpr int64_t kParallel = 1 << 13;  // elements below which one thread does it all
constexpr int64_t kParts = 64;          // partial sums over rows

constexpr float kAtkdTemperature = 4, kAtkdGain = 2, kLayerNormEps = 1e-5f;
constexpr float kDkdOthers = 0.5f;

// Logits u_i = a * x_i + b of a row of c elements, that at `skip` left out.
struct Row {
  const float* x;
  int64_t c;
  float a = 1, b = 0;
  int64_t skip = -1;
};

// All ones in the lanes that hold elements of the row.
SLIMCLR_INLINE vi lanes(const Row& r, int64_t i) {
  vi at;
  for (int k = 0; k < V; ++k) at[k] = (int32_t)(i + k < r.c && i + k != r.skip ? -1 : 0);
  return at;
}

SLIMCLR_INLINE bool is_whole(const Row& r, int64_t i) { return i + V <= r.c && (r.skip < i || r.skip >= i + V); }

SLIMCLR_INLINE vf load_logits(const Row& r, int64_t i) {
  if (i + V <= r.c) return load(r.x + i) * r.a + r.b;
  float part[V];
  for (int k = 0; k < V; ++k) part[k] = i + k < r.c ? r.x[i + k] : 0.0f;
  return load(part) * r.a + r.b;
}

float log_sum_exp(const Row& r) {
  const vf low = splat(-__builtin_inff());
  vf top = low;
  for (int64_t i = 0; i < r.c; i += V) {
    const vf u = load_logits(r, i);
    top = max(is_whole(r, i) ? u : select(lanes(r, i), u, low), top);
  }
  float peak = top[0];
  for (int k = 1; k < V; ++k) peak = top[k] > peak ? top[k] : peak;
  double total = 0;
  for (int64_t i = 0; i < r.c; i += V) {
    const vf e = exp(load_logits(r, i) - peak);
    total += sum(is_whole(r, i) ? e : select(lanes(r, i), e, vf{}));
  }
  return peak + (float)log(total);
}

SLIMCLR_INLINE void store_part(float* y, vf v, int64_t count) {
  if (count >= V) return store(y, v);
  for (int k = 0; k < count; ++k) y[k] = v[k];
}

// Calls f(i, p_s, p_t, log p_s, log p_t) for each vector of a row; left-out lanes have probability 0.
template <class F>
SLIMCLR_INLINE void for_each(const Row& s, const Row& t, F f) {
  const float s_lse = log_sum_exp(s), t_lse = log_sum_exp(t);
  for (int64_t i = 0; i < s.c; i += V) {
    const vf s_log = load_logits(s, i) - s_lse, t_log = load_logits(t, i) - t_lse;
    if (is_whole(s, i)) {
      f(i, exp(s_log), exp(t_log), s_log, t_log);
    } else {
      const vi live = lanes(s, i);
      f(i, select(live, exp(s_log), vf{}), select(live, exp(t_log), vf{}), select(live, s_log, vf{}),
        select(live, t_log, vf{}));
    }
  }
}

double kd_row(const DistillArgs& a, const float* s, const float* t, float* g) {
  const float ts = a.student_temperature, factor = ts / (float)a.n;
  double loss = 0;
  for_each({s, a.c, 1 / ts}, {t, a.c, 1 / a.teacher_temperature}, [&](int64_t i, vf ps, vf pt, vf s_log, vf) {
    loss -= sum(pt * s_log);
    if (g) store_part(g + i, (ps - pt) * factor, a.c - i);
  });
  return loss * ts * ts;
}

double mse_row(const DistillArgs& a, const float* s, const float* t, float* g) {
  const float factor = 2 / ((float)a.n * (float)a.c);
  double loss = 0;
  for (int64_t i = 0; i < a.c; i += V) {
    const vf d = load_logits({s, a.c}, i) - load_logits({t, a.c}, i);
    loss += sum(d * d);
    if (g) store_part(g + i, d * factor, a.c - i);
  }
  return loss / (double)a.c;
}

// The row as logits 2 * layer_norm(x) / T.
Row layer_norm(const float* x, int64_t c, float* mean, float* rstd) {
  double total = 0, squares = 0;
  for (int64_t i = 0; i < c; ++i) total += x[i];
  const double m = total / (double)c;
  for (int64_t i = 0; i < c; ++i) squares += (x[i] - m) * (x[i] - m);
  *mean = (float)m;
  *rstd = (float)(1 / sqrt(squares / (double)c + kLayerNormEps));
  const float a = kAtkdGain / kAtkdTemperature * *rstd;
  return {x, c, a, -*mean * a};
}

double atkd_row(const DistillArgs& a, const float* s, const float* t, float* g) {
  float mean, rstd, t_mean, t_rstd;
  const Row student = layer_norm(s, a.c, &mean, &rstd), teacher = layer_norm(t, a.c, &t_mean, &t_rstd);
  const Row normed = {s, a.c, rstd, -mean * rstd};
  double loss = 0, along = 0;  // along: sum_i dz_i * z_i, z the layer norm
  for_each(student, teacher, [&](int64_t i, vf ps, vf pt, vf s_log, vf t_log) {
    loss += sum(pt * (t_log - s_log));
    along += sum((ps - pt) * load_logits(normed, i));
  });
  if (g) {
    const float factor = kAtkdGain * kAtkdTemperature * rstd / (float)a.n, mean_along = (float)(along / (double)a.c);
    for_each(student, teacher, [&](int64_t i, vf ps, vf pt, vf, vf) {
      store_part(g + i, (ps - pt - load_logits(normed, i) * mean_along) * factor, a.c - i);
    });
  }
  return loss * kAtkdTemperature * kAtkdTemperature;
}

// log(1 + e^v)
double softplus(double v) { return v > 0 ? v + log1p(::exp(-v)) : log1p(::exp(v)); }

double dkd_row(const DistillArgs& a, const float* s, const float* t, int64_t positive, float* g) {
  const Row student = {s, a.c, 1, 0, positive}, teacher = {t, a.c, 1, 0, positive};
  // Log odds of the positive against all others.
  const double vs = (double)s[positive] - log_sum_exp(student), vt = (double)t[positive] - log_sum_exp(teacher);
  const double ps = 1 / (1 + ::exp(-vs)), pt = 1 / (1 + ::exp(-vt)), qt = 1 / (1 + ::exp(vt));
  double loss = pt * (softplus(-vs) - softplus(-vt)) + qt * (softplus(vs) - softplus(vt));
  const float scale = 1 / (float)a.n, odds = (float)(ps - pt);
  double others = 0;
  for_each(student, teacher, [&](int64_t i, vf p, vf q, vf s_log, vf t_log) {
    others += sum(q * (t_log - s_log));
    if (g) store_part(g + i, (kDkdOthers * (p - q) - odds * p) * scale, a.c - i);
  });
  if (g) g[positive] = odds * scale;
  return loss + kDkdOthers * others;
}

int64_t distill(const DistillArgs& a) {
  double partial[kParts];
  int64_t bad[kParts];
#pragma omp parallel for schedule(static) if (a.n * a.c > kParallel)
  for (int64_t part = 0; part < kParts; ++part) {
    partial[part] = 0;
    bad[part] = 0;
    for (int64_t r = a.n * part / kParts; r < a.n * (part + 1) / kParts; ++r) {
      const float *s = a.student + r * a.c, *t = a.teacher + r * a.c;
      float* g = a.gradient ? a.gradient + r * a.c : nullptr;
      switch (a.kind) {
        case DistillArgs::Kind::kd:
          partial[part] += kd_row(a, s, t, g);
          break;
        case DistillArgs::Kind::mse:
          partial[part] += mse_row(a, s, t, g);
          break;
        case DistillArgs::Kind::atkd:
          partial[part] += atkd_row(a, s, t, g);
          break;
        case DistillArgs::Kind::dkd:
          if (a.positives[r] >= 0 && a.positives[r] < a.c) {
            partial[part] += dkd_row(a, s, t, a.positives[r], g);
          } else {
            ++bad[part];
            if (g) memset(g, 0, sizeof(float) * (size_t)a.c);
          }
          break;
      }
    }
  }
  double loss = 0;
  int64_t bad_positives = 0;
  for (int64_t part = 0; part < kParts; ++part) {
    loss += partial[part];
    bad_positives += bad[part];
  }
  *a.loss = (float)(loss / (double)a.n);
  return bad_positives;
}

}  // namespace

extern const DistillKernels distill_kernels;
const DistillKernels distill_kernels = {distill};

}  // namespace slimclr::cpu::SLIMCLR_ISA
