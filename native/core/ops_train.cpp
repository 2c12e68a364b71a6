// The contrastive loss, the optimizer, the queue, augmentations and kNN.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/checks.h"
#include "core/ops.h"

namespace slimclr::ops {

InfoNceResult info_nce(const std::vector<Tensor>& queries, const Tensor& key, const Tensor& queue,
                       const Tensor& weights, bool want_gradients, const InfoNce& p) {
  const char* op = "slimInfoNCE";
  auto matrix = [&](const char* name, const Tensor& t) {
    check_rank(op, name, t, 2);
    check_dtype(op, name, t, DType::f32);
    check_device(op, t, key);
  };
  int64_t widths = static_cast<int64_t>(queries.size());
  check_range(widths >= 1 && widths <= 64, op, "expected 1…64 queries, one per width, received ", widths);
  matrix("key", key);
  check_range(key.size() > 0, op, "expected a batch that is not empty, received key ", to_string(key.shape));
  for (const Tensor& q : queries) {
    matrix("queries", q);
    check_shape(op, "queries", q, key.shape);
  }
  matrix("queue", queue);
  check_range(queue.dim(1) == key.dim(1) && queue.dim(0) >= 1, op, "expected queue [K, ", key.dim(1),
              "] with K >= 1, received ", to_string(queue.shape));
  check_dtype(op, "weights", weights, DType::f32);
  check_device(op, weights, key);
  check_shape(op, "weights", weights, {widths});
  auto positive = [&](const char* name, double v) {
    check_range(std::isfinite(v) && v >= 1e-3, op, "expected ", name, " >= 0.001, received ", v);
  };
  positive("temperature", p.temperature);
  positive("teacherTemperature", p.teacher_temperature);
  positive("studentTemperature", p.student_temperature);
  check_range(p.aux >= 0 && p.aux <= 1, op, "expected aux in [0, 1], received ", p.aux);
  InfoNceResult out;
  out.loss = key.device->empty(op, {}, DType::f32);
  out.per_width = key.device->empty(op, {widths}, DType::f32);
  if (want_gradients)
    for (int64_t i = 0; i < widths; ++i) out.gradients.push_back(key.device->empty(op, key.shape, DType::f32));
  key.device->backend().info_nce(queries, key, queue, weights, out.loss, out.per_width, out.gradients, p);
  return out;
}

DistillResult distill(const Tensor& student, const Tensor& teacher, const Optional& positives, bool want_gradient,
                      const Distill& p) {
  const char* op = "distill";
  check_rank(op, "student", student, 2);
  check_dtype(op, "student", student, DType::f32);
  check_like(op, "teacher", teacher, "student", student);
  check_device(op, teacher, student);
  bool dkd = p.kind == Distill::Kind::dkd;
  int64_t least = dkd ? 2 : 1;
  check_range(student.dim(0) >= 1 && student.dim(1) >= least, op,
              "expected student [N, C] with N >= 1 and C >= ", least, ", received ", describe(student));
  check_type(positives.has_value() == dkd, op, "expected positives ", dkd ? "for dkd" : "to be null but for dkd");
  if (dkd) {
    check_dtype(op, "positives", *positives, DType::i32);
    check_shape(op, "positives", *positives, {student.dim(0)});
    check_device(op, *positives, student);
  }
  for (auto [name, v] :
       {std::pair{"teacherTemperature", p.teacher_temperature}, {"studentTemperature", p.student_temperature}})
    check_range(std::isfinite(v) && v >= 1e-3, op, "expected ", name, " >= 0.001, received ", v);
  DistillResult out;
  out.loss = student.device->empty(op, {}, DType::f32);
  if (want_gradient) out.gradient = student.device->empty(op, student.shape, DType::f32);
  student.device->backend().distill(student, teacher, positives.value_or(Tensor{}), out.loss,
                                    out.gradient.value_or(Tensor{}), p);
  return out;
}

namespace {

void check_scalar(const char* op, const char* name, const Tensor& t) {
  check_dtype(op, name, t, DType::f32);
  check_range(t.size() == 1, op, "expected ", name, " of one element, received ", describe(t));
}

void check_skip(const char* op, const Tensor& skip, const Tensor& lr) {
  if (!skip.buffer) return;
  check_scalar(op, "skip", skip);
  check_device(op, skip, lr);
}

// Per parameter, in one order.
void check_decays(const char* op, const std::vector<float>& decays, const std::vector<Tensor>& params) {
  check_range(decays.size() == params.size(), op, "expected ", params.size(), " weight decays, received ",
              decays.size());
  for (float wd : decays) check_range(std::isfinite(wd), op, "expected finite weight decays, received ", wd);
}

void check_fraction(const char* op, const char* name, double v) {
  check_range(v >= 0 && v < 1, op, "expected ", name, " in [0, 1), received ", v);
}

void check_list(const char* op, const char* name, const std::vector<Tensor>& list, const std::vector<Tensor>& like,
                const Tensor& scalar) {
  check_range(list.size() == like.size(), op, "expected ", like.size(), ' ', name, ", received ", list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    check_dtype(op, name, list[i], DType::f32);
    check_shape(op, name, list[i], like[i].shape);
    check_range(list[i].block == 1, op, "expected ", name, " in plain layout, received an activation");
    check_device(op, list[i], scalar);
  }
}

}  // namespace

void sgd(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& momenta,
         const Tensor& lr, const Sgd& p) {
  const char* op = "sgd";
  check_scalar(op, "lr", lr);
  check_list(op, "params", params, params, lr);
  check_list(op, "grads", grads, params, lr);
  check_list(op, "momentumBuffers", momenta, params, lr);
  check_decays(op, p.weight_decay, params);
  check_fraction(op, "momentum", p.momentum);
  check_skip(op, p.skip, lr);
  if (!params.empty()) lr.device->backend().sgd(params, grads, momenta, lr, p);
}

void lars(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& momenta,
          const Tensor& lr, const Lars& p) {
  const char* op = "lars";
  check_scalar(op, "lr", lr);
  check_list(op, "params", params, params, lr);
  check_list(op, "grads", grads, params, lr);
  check_list(op, "momentumBuffers", momenta, params, lr);
  check_fraction(op, "momentum", p.momentum);
  check_skip(op, p.skip, lr);
  check_range(std::isfinite(p.weight_decay), op, "expected a finite weightDecay, received ", p.weight_decay);
  check_range(std::isfinite(p.trust_coefficient) && p.trust_coefficient > 0, op,
              "expected trustCoefficient > 0, received ", p.trust_coefficient);
  if (!params.empty()) lr.device->backend().lars(params, grads, momenta, lr, p);
}

void adamw(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& exp_avgs,
           const std::vector<Tensor>& exp_avg_sqs, const std::vector<Tensor>& steps, const Tensor& lr, const AdamW& p) {
  const char* op = "adamw";
  check_scalar(op, "lr", lr);
  check_list(op, "params", params, params, lr);
  check_list(op, "grads", grads, params, lr);
  check_list(op, "expAvgs", exp_avgs, params, lr);
  check_list(op, "expAvgSqs", exp_avg_sqs, params, lr);
  check_range(steps.size() == params.size(), op, "expected ", params.size(), " steps, received ", steps.size());
  for (const Tensor& t : steps) {
    check_scalar(op, "steps", t);
    check_device(op, t, lr);
  }
  check_decays(op, p.weight_decay, params);
  check_fraction(op, "beta1", p.beta1);
  check_fraction(op, "beta2", p.beta2);
  check_skip(op, p.skip, lr);
  check_range(std::isfinite(p.eps) && p.eps > 0, op, "expected eps > 0, received ", p.eps);
  if (!params.empty()) lr.device->backend().adamw(params, grads, exp_avgs, exp_avg_sqs, steps, lr, p);
}

void rescale(const std::vector<Tensor>& tensors, double factor) {
  const char* op = "rescale";
  check_range(std::isfinite(factor), op, "expected a finite factor, received ", factor);
  if (tensors.empty()) return;
  check_list(op, "tensors", tensors, tensors, tensors[0]);
  tensors[0].device->backend().rescale(tensors, factor);
}

Tensor clip_grad_norm(const std::vector<Tensor>& grads, double max_norm) {
  const char* op = "clipGradNorm";
  check_range(max_norm > 0, op, "expected maxNorm > 0, received ", max_norm);
  check_range(!grads.empty(), op, "expected gradients, received none");
  check_list(op, "grads", grads, grads, grads[0]);
  Tensor norm = grads[0].device->empty(op, {1}, DType::f32);
  grads[0].device->backend().clip_grad_norm(grads, max_norm, norm);
  return norm;
}

Tensor unscale(const std::vector<Tensor>& grads, const Tensor& scale) {
  const char* op = "unscale";
  check_scalar(op, "scale", scale);
  check_list(op, "grads", grads, grads, scale);
  Tensor found = scale.device->empty(op, {1}, DType::f32);
  scale.device->backend().unscale(grads, scale, found);
  return found;
}

void update_scale(const Tensor& scale, const Tensor& good_steps, const Tensor& found, const ScaleRule& r) {
  const char* op = "updateScale";
  check_scalar(op, "scale", scale);
  check_scalar(op, "found", found);
  check_dtype(op, "goodSteps", good_steps, DType::i64);
  check_range(good_steps.size() == 1, op, "expected goodSteps of one element, received ", describe(good_steps));
  check_device(op, good_steps, scale);
  check_device(op, found, scale);
  check_range(std::isfinite(r.growth) && r.growth >= 1, op, "expected growth >= 1, received ", r.growth);
  check_range(r.backoff > 0 && r.backoff <= 1, op, "expected backoff in (0, 1], received ", r.backoff);
  check_range(r.interval >= 1, op, "expected interval >= 1, received ", r.interval);
  scale.device->backend().update_scale(scale, good_steps, found, r);
}

void ema(const std::vector<Tensor>& targets, const std::vector<Tensor>& sources, const Tensor& m) {
  const char* op = "ema";
  check_scalar(op, "m", m);
  check_list(op, "targets", targets, targets, m);
  check_list(op, "sources", sources, targets, m);
  if (!targets.empty()) m.device->backend().ema(targets, sources, m);
}

void enqueue(const Tensor& queue, const Tensor& keys, const Tensor& pointer) {
  const char* op = "enqueue";
  check_rank(op, "queue", queue, 2);
  check_dtype(op, "queue", queue, DType::f32);
  check_rank(op, "keys", keys, 2);
  check_dtype(op, "keys", keys, DType::f32);
  check_range(queue.dim(0) >= 1 && keys.dim(1) == queue.dim(1), op, "expected keys [N, ", queue.dim(1), "] for queue ",
              to_string(queue.shape), ", received ", to_string(keys.shape));
  check_range(keys.buffer != queue.buffer, op, "expected keys apart from the queue itself");
  check_dtype(op, "pointer", pointer, DType::i64);
  check_range(pointer.size() == 1, op, "expected pointer of one element, received ", describe(pointer));
  check_device(op, keys, queue);
  check_device(op, pointer, queue);
  queue.device->backend().enqueue(queue, keys, pointer);
}

namespace {

void check_recipe(const char* op, const AugmentRecipe& r) {
  auto within = [&](const char* name, double v, double low, double high) {
    check_range(v >= low && v <= high, op, "expected recipe.", name, " in ", low, "…", high, ", received ", v);
  };
  for (auto [name, p] : {std::pair{"jitterP", r.jitter_p},
                         {"grayP", r.gray_p},
                         {"blurP", r.blur_p},
                         {"solarizeP", r.solarize_p},
                         {"flipP", r.flip_p}})
    within(name, p, 0, 1);
  for (auto [name, strength] :
       {std::pair{"brightness", r.brightness}, {"contrast", r.contrast}, {"saturation", r.saturation}})
    within(name, strength, 0, 1000);
  within("hue", r.hue, 0, 0.5);
  within("cropMin", r.crop_min, 0, 1);
  within("cropMax", r.crop_max, 0, 1);
  check_range(r.crop_min <= r.crop_max, op, "expected recipe.cropMin <= recipe.cropMax, received ", r.crop_min, " and ",
              r.crop_max);
  check_range(r.crop_max > 0, op, "expected recipe.cropMax > 0, received ", r.crop_max);
  within("solarizeThreshold", r.solarize_threshold, 0, 256);
  within("sigmaMin", r.sigma_min, 0, 64);
  within("sigmaMax", r.sigma_max, 0, 64);
  check_range(r.sigma_min <= r.sigma_max, op, "expected recipe.sigmaMin <= recipe.sigmaMax, received ", r.sigma_min,
              " and ", r.sigma_max);
}

}  // namespace

Tensor augment_params(const AugmentRecipe& recipe, const Tensor& sizes, uint64_t seed, uint32_t stream,
                      const Tensor& offset) {
  const char* op = "augmentParams";
  check_recipe(op, recipe);
  check_rank(op, "sizes", sizes, 2);
  check_dtype(op, "sizes", sizes, DType::i32);
  check_range(sizes.dim(1) == 2, op, "expected sizes [N, 2] (height, width), received ", to_string(sizes.shape));
  check_dtype(op, "offset", offset, DType::i64);
  check_range(offset.size() == 1, op, "expected offset of one element, received ", describe(offset));
  check_device(op, offset, sizes);
  Tensor params = sizes.device->empty(op, {sizes.dim(0), kAugmentColumns}, DType::f32);
  if (params.size() > 0) sizes.device->backend().augment_params(recipe, sizes, seed, stream, offset, params);
  return params;
}

namespace {

void check_augment(const char* op, const Tensor& pixels, const Tensor& offsets, const Tensor& sizes,
                   const Tensor& params, int64_t height, int64_t width) {
  check_rank(op, "pixels", pixels, 1);
  check_dtype(op, "pixels", pixels, DType::u8);
  check_rank(op, "offsets", offsets, 1);
  check_dtype(op, "offsets", offsets, DType::i64);
  check_dtype(op, "sizes", sizes, DType::i32);
  check_shape(op, "sizes", sizes, {offsets.dim(0), 2});
  check_dtype(op, "params", params, DType::f32);
  check_shape(op, "params", params, {offsets.dim(0), kAugmentColumns});
  for (const Tensor* t : {&offsets, &sizes, &params}) check_device(op, *t, pixels);
  check_range(height >= 1 && height <= 16384 && width >= 1 && width <= 16384, op,
              "expected an output of 1…16384 pixels a side, received ", height, " x ", width);
}

}  // namespace

Tensor augment(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params, DType dtype,
               const Augment& p) {
  const char* op = "augment";
  check_augment(op, pixels, offsets, sizes, params, p.height, p.width);
  check_type(is_floating(dtype), op, "expected float32, bfloat16 or float16, received ", name_of(dtype));
  for (int c = 0; c < 3; ++c)
    check_range(std::isfinite(p.mean[c]) && std::isfinite(p.std[c]) && p.std[c] > 0, op,
                "expected a finite mean and std > 0 per channel, received ", p.mean[c], " and ", p.std[c]);
  Tensor out = pixels.device->empty_activation(op, {offsets.dim(0), 3, p.height, p.width}, dtype);
  if (out.size() > 0) pixels.device->backend().augment(pixels, offsets, sizes, params, out, p);
  return out;
}

Tensor augment_raw(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
                   int64_t height, int64_t width) {
  const char* op = "augmentRaw";
  check_augment(op, pixels, offsets, sizes, params, height, width);
  Tensor out = pixels.device->empty(op, {offsets.dim(0), height, width, 3}, DType::u8);
  if (out.size() > 0) pixels.device->backend().augment_raw(pixels, offsets, sizes, params, out);
  return out;
}

Tensor knn(const Tensor& query, const Tensor& bank, const Tensor& labels, int64_t k, double temperature,
           int64_t classes) {
  const char* op = "knn";
  for (auto [name, t] : {std::pair{"query", &query}, {"bank", &bank}}) {
    check_rank(op, name, *t, 2);
    check_dtype(op, name, *t, DType::f32);
    check_device(op, *t, query);
  }
  check_range(bank.dim(0) >= 1 && bank.dim(1) == query.dim(1) && bank.dim(1) >= 1, op, "expected bank [M, ",
              query.dim(1), "] with M >= 1, received ", to_string(bank.shape));
  check_dtype(op, "labels", labels, DType::i32);
  check_shape(op, "labels", labels, {bank.dim(0)});
  check_device(op, labels, query);
  check_range(bank.dim(0) <= INT32_MAX, op, "expected a bank below 2^31 rows, received ", to_string(bank.shape));
  check_range(k >= 1, op, "expected k >= 1, received ", k);
  check_range(classes >= 1 && classes <= (1 << 20), op, "expected classes in 1…2^20, received ", classes);
  check_range(std::isfinite(temperature) && temperature >= 1e-3, op, "expected temperature >= 0.001, received ",
              temperature);
  Tensor scores = query.device->empty(op, {query.dim(0), classes}, DType::f32);
  if (scores.size() > 0)
    query.device->backend().knn(query, bank, labels, std::min(k, bank.dim(0)), temperature, scores);
  return scores;
}

}  // namespace slimclr::ops
