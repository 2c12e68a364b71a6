// The contrastive loss, the optimizer, the queue, augmentations and kNN.
#include "core/loss_scale.h"
#include "cpu/cpu_backend.h"

namespace slimclr::cpu {

void CpuBackend::info_nce(const std::vector<Tensor>& queries, const Tensor& key, const Tensor& queue,
                          const Tensor& weights, const Tensor& loss, const Tensor& per_width,
                          const std::vector<Tensor>& gradients, const InfoNce& p) {
  std::vector<const float*> q;
  std::vector<float*> dq;
  for (const Tensor& t : queries) q.push_back(floats(t));
  for (const Tensor& t : gradients) dq.push_back(floats(t));
  InfoNceArgs a;
  a.widths = static_cast<int64_t>(queries.size());
  a.n = key.dim(0);
  a.d = key.dim(1);
  a.k = queue.dim(0);
  a.key = floats(key);
  a.queue = floats(queue);
  a.weights = floats(weights);
  a.temperature = static_cast<float>(p.temperature);
  a.teacher_temperature = static_cast<float>(p.teacher_temperature);
  a.student_temperature = static_cast<float>(p.student_temperature);
  a.aux = static_cast<float>(p.aux);
  a.distill = p.similarity;
  a.full_distill = p.full_distill;
  a.loss = floats(loss);
  a.per_width = floats(per_width);
  a.queries = q.data();
  a.gradients = dq.empty() ? nullptr : dq.data();
  Buffer memory = scratch(k_.info_nce.scratch_bytes(a));
  a.scratch = memory.data();
  run([kernel = k_.info_nce.info_nce, a, q = std::move(q), dq = std::move(dq)]() mutable {
    a.queries = q.data();
    a.gradients = dq.empty() ? nullptr : dq.data();
    kernel(a);
  });
}

void CpuBackend::distill(const Tensor& student, const Tensor& teacher, const Tensor& positives, const Tensor& loss,
                         const Tensor& gradient, const Distill& p) {
  DistillArgs a;
  a.kind = p.kind == Distill::Kind::kd     ? DistillArgs::Kind::kd
           : p.kind == Distill::Kind::mse  ? DistillArgs::Kind::mse
           : p.kind == Distill::Kind::atkd ? DistillArgs::Kind::atkd
                                           : DistillArgs::Kind::dkd;
  a.student = floats(student);
  a.teacher = floats(teacher);
  a.positives = int32s(positives);
  a.n = student.dim(0);
  a.c = student.dim(1);
  a.teacher_temperature = static_cast<float>(p.teacher_temperature);
  a.student_temperature = static_cast<float>(p.student_temperature);
  a.loss = floats(loss);
  a.gradient = floats(gradient);
  run([kernel = k_.distill.distill, a] {
    int64_t bad = kernel(a);
    check_range(bad == 0, "distill", "expected positives in 0…", a.c - 1, ", received ", bad, " of ", a.n, " outside");
  });
}

namespace {

bool is_set(const float* skip) { return skip && *skip != 0; }

}  // namespace

void CpuBackend::sgd(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                     const std::vector<Tensor>& momenta, const Tensor& lr, const Sgd& p) {
  std::vector<SgdItem> items;
  for (size_t i = 0; i < params.size(); ++i)
    items.push_back({floats(params[i]), floats(grads[i]), floats(momenta[i]), params[i].size(), p.weight_decay[i]});
  SgdArgs a;
  a.count = static_cast<int64_t>(items.size());
  a.lr = floats(lr);
  a.momentum = static_cast<float>(p.momentum);
  a.nesterov = p.nesterov;
  run([kernel = k_.optimizer.sgd, a, items = std::move(items), skip = floats(p.skip)]() mutable {
    a.items = items.data();
    if (!is_set(skip)) kernel(a);
  });
}

void CpuBackend::lars(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                      const std::vector<Tensor>& momenta, const Tensor& lr, const Lars& p) {
  std::vector<LarsItem> items;
  for (size_t i = 0; i < params.size(); ++i) {
    LarsItem item;
    item.param = floats(params[i]);
    item.grad = floats(grads[i]);
    item.momentum = floats(momenta[i]);
    item.size = params[i].size();
    item.adapt = params[i].shape.size() > 1;
    item.weight_decay = item.adapt ? static_cast<float>(p.weight_decay) : 0;
    items.push_back(item);
  }
  LarsArgs a;
  a.items = items.data();
  a.count = static_cast<int64_t>(items.size());
  a.lr = floats(lr);
  a.momentum = static_cast<float>(p.momentum);
  a.trust = static_cast<float>(p.trust_coefficient);
  Buffer memory = scratch(k_.optimizer.lars_scratch_bytes(a));
  a.scratch = memory.data();
  run([kernel = k_.optimizer.lars, a, items = std::move(items), skip = floats(p.skip)]() mutable {
    a.items = items.data();
    if (!is_set(skip)) kernel(a);
  });
}

void CpuBackend::adamw(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                       const std::vector<Tensor>& exp_avgs, const std::vector<Tensor>& exp_avg_sqs,
                       const std::vector<Tensor>& steps, const Tensor& lr, const AdamW& p) {
  std::vector<AdamWItem> items;
  for (size_t i = 0; i < params.size(); ++i) {
    AdamWItem item;
    item.param = floats(params[i]);
    item.grad = floats(grads[i]);
    item.exp_avg = floats(exp_avgs[i]);
    item.exp_avg_sq = floats(exp_avg_sqs[i]);
    item.step = floats(steps[i]);
    item.size = params[i].size();
    item.weight_decay = p.weight_decay[i];
    items.push_back(item);
  }
  AdamWArgs a;
  a.count = static_cast<int64_t>(items.size());
  a.lr = floats(lr);
  a.beta1 = p.beta1;
  a.beta2 = p.beta2;
  a.eps = static_cast<float>(p.eps);
  run([kernel = k_.optimizer.adamw, a, items = std::move(items), skip = floats(p.skip)]() mutable {
    a.items = items.data();
    if (!is_set(skip)) kernel(a);
  });
}

namespace {

std::vector<ScaleItem> scale_items(const std::vector<Tensor>& tensors) {
  std::vector<ScaleItem> items;
  for (const Tensor& t : tensors) {
    ScaleItem item;
    item.data = floats(t);
    item.size = t.size();
    items.push_back(item);
  }
  return items;
}

}  // namespace

void CpuBackend::rescale(const std::vector<Tensor>& tensors, double factor) {
  run([kernel = k_.optimizer.rescale, items = scale_items(tensors), factor = static_cast<float>(factor)] {
    kernel(items.data(), static_cast<int64_t>(items.size()), factor);
  });
}

void CpuBackend::clip_grad_norm(const std::vector<Tensor>& grads, double max_norm, const Tensor& norm) {
  std::vector<ScaleItem> items = scale_items(grads);
  ClipArgs a;
  a.items = items.data();
  a.count = static_cast<int64_t>(items.size());
  a.max_norm = static_cast<float>(max_norm);
  a.norm = floats(norm);
  Buffer memory = scratch(k_.optimizer.clip_scratch_bytes(a));
  a.scratch = memory.data();
  run([kernel = k_.optimizer.clip, a, items = std::move(items)]() mutable {
    a.items = items.data();
    kernel(a);
  });
}

void CpuBackend::unscale(const std::vector<Tensor>& grads, const Tensor& scale, const Tensor& found) {
  run([kernel = k_.optimizer.unscale, items = scale_items(grads), scale = floats(scale), found = floats(found)] {
    *found = kernel(items.data(), static_cast<int64_t>(items.size()), 1 / *scale) ? 0.0f : 1.0f;
  });
}

void CpuBackend::update_scale(const Tensor& scale, const Tensor& good_steps, const Tensor& found, const ScaleRule& r) {
  run([scale = floats(scale), good_steps = good_steps.as<int64_t>(), found = floats(found), r] {
    next_scale(scale, good_steps, *found, static_cast<float>(r.growth), static_cast<float>(r.backoff), r.interval);
  });
}

void CpuBackend::ema(const std::vector<Tensor>& targets, const std::vector<Tensor>& sources, const Tensor& m) {
  std::vector<EmaItem> items;
  for (size_t i = 0; i < targets.size(); ++i)
    items.push_back({floats(targets[i]), floats(sources[i]), targets[i].size()});
  run([kernel = k_.optimizer.ema, items = std::move(items), m = floats(m)] {
    kernel(items.data(), static_cast<int64_t>(items.size()), m);
  });
}

void CpuBackend::enqueue(const Tensor& queue, const Tensor& keys, const Tensor& pointer) {
  run([kernel = k_.optimizer.enqueue, queue = floats(queue), k = queue.dim(0), keys = floats(keys), n = keys.dim(0),
       d = keys.dim(1), pointer = pointer.as<int64_t>()] { kernel(queue, k, keys, n, d, pointer); });
}

void CpuBackend::augment_params(const AugmentRecipe& recipe, const Tensor& sizes, uint64_t seed, uint32_t stream,
                                const Tensor& offset, const Tensor& params) {
  run([recipe, sizes = sizes.as<int32_t>(), n = sizes.dim(0), seed, stream, offset = offset.as<int64_t>(),
       params = floats(params)] {
    draw_augment_params(recipe, sizes, n, seed, stream, static_cast<uint64_t>(*offset), params);
  });
}

namespace {

AugmentArgs augment_args(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params) {
  AugmentArgs a;
  a.pixels = pixels.as<uint8_t>();
  a.pixel_bytes = pixels.size();
  a.offsets = offsets.as<int64_t>();
  a.sizes = sizes.as<int32_t>();
  a.params = floats(params);
  a.n = offsets.dim(0);
  return a;
}

void run_augment(const AugmentKernels& kernels, const AugmentArgs& a) {
  int64_t result = kernels.augment(a);
  check_range(result != kAugmentOutOfMemory, "augment", "out of memory for ", a.n, " images of ", a.h, " x ", a.w);
  check_range(result == kAugmentOk, "augment", "image ", result, " of the batch does not lie within the ",
              a.pixel_bytes, " bytes of pixels: offset ", a.offsets[result >= 0 ? result : 0], ", size ",
              a.sizes[result >= 0 ? 2 * result : 0], " x ", a.sizes[result >= 0 ? 2 * result + 1 : 1]);
}

}  // namespace

void CpuBackend::augment(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
                         const Tensor& out, const Augment& p) {
  AugmentArgs a = augment_args(pixels, offsets, sizes, params);
  a.h = p.height;
  a.w = p.width;
  for (int c = 0; c < 3; ++c) {
    a.mean[c] = p.mean[c];
    a.std[c] = p.std[c];
  }
  a.out = act(out);
  run([&kernels = k_.augment, a] { run_augment(kernels, a); });
}

void CpuBackend::augment_raw(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
                             const Tensor& out) {
  AugmentArgs a = augment_args(pixels, offsets, sizes, params);
  a.h = out.dim(1);
  a.w = out.dim(2);
  a.raw = out.as<uint8_t>();
  run([&kernels = k_.augment, a] { run_augment(kernels, a); });
}

void CpuBackend::knn(const Tensor& query, const Tensor& bank, const Tensor& labels, int64_t k, double temperature,
                     const Tensor& scores) {
  KnnArgs a;
  a.query = floats(query);
  a.bank = floats(bank);
  a.labels = labels.as<int32_t>();
  a.n = query.dim(0);
  a.m = bank.dim(0);
  a.d = query.dim(1);
  a.k = k;
  a.classes = scores.dim(1);
  a.temperature = static_cast<float>(temperature);
  a.scores = floats(scores);
  Buffer memory = scratch(k_.knn.scratch_bytes(a));
  a.scratch = memory.data();
  run([kernel = k_.knn.knn, a] { kernel(a); });
}

}  // namespace slimclr::cpu
