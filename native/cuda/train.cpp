// The contrastive loss, the optimizer, the queue, augmentations and kNN.
#include <algorithm>

#include "cuda/cuda_backend.h"
#include "cuda/kernels/distill.h"
#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/info_nce.h"
#include "cuda/kernels/knn.h"

namespace slimclr::cuda {

void CudaBackend::info_nce(const std::vector<Tensor>& queries, const Tensor& key, const Tensor& queue,
                           const Tensor& weights, const Tensor& loss, const Tensor& per_width,
                           const std::vector<Tensor>& gradients, const InfoNce& p) {
  InfoNceArgs a;
  a.widths = static_cast<int>(queries.size());
  a.n = key.dim(0);
  a.d = key.dim(1);
  a.k = queue.dim(0);
  for (size_t i = 0; i < queries.size(); ++i) {
    a.queries[i] = floats(queries[i]);
    a.gradients[i] = gradients.empty() ? nullptr : floats(gradients[i]);
  }
  a.want_gradients = !gradients.empty();
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
  Buffer memory = scratch(info_nce_scratch_bytes({"slimInfoNCE", nullptr, processors()}, a));
  a.scratch = memory.data();
  run("slimInfoNCE", [a](const Launch& on) { cuda::info_nce(on, a); });
}

void CudaBackend::distill(const Tensor& student, const Tensor& teacher, const Tensor& positives, const Tensor& loss,
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
  a.report = context_->report();
  Buffer row_loss = scratch(a.n * static_cast<int64_t>(sizeof(double)));
  a.row_loss = static_cast<double*>(row_loss.data());
  run("distill", [a](const Launch& on) { cuda::distill(on, a); });
}

namespace {

std::vector<ListItem> items_of(const std::vector<Tensor>& tensors) {
  std::vector<ListItem> items(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    items[i].data = floats(tensors[i]);
    items[i].size = tensors[i].stored();
  }
  return items;
}

}  // namespace

void CudaBackend::sgd(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                      const std::vector<Tensor>& momenta, const Tensor& lr, const Sgd& p) {
  std::vector<ListItem> items = items_of(params);
  for (size_t i = 0; i < params.size(); ++i) {
    items[i].source = floats(grads[i]);
    items[i].first = floats(momenta[i]);
    items[i].weight_decay = p.weight_decay[i];
  }
  run_list("sgd", std::move(items), kNoScratch,
           [lr = floats(lr), momentum = static_cast<float>(p.momentum), nesterov = p.nesterov, skip = floats(p.skip)](
               const Launch& on, const List& list, void*) { cuda::sgd(on, list, lr, momentum, nesterov, skip); });
}

void CudaBackend::lars(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                       const std::vector<Tensor>& momenta, const Tensor& lr, const Lars& p) {
  std::vector<ListItem> items = items_of(params);
  for (size_t i = 0; i < params.size(); ++i) {
    items[i].source = floats(grads[i]);
    items[i].first = floats(momenta[i]);
    items[i].adapt = params[i].shape.size() > 1;
    items[i].weight_decay = items[i].adapt ? static_cast<float>(p.weight_decay) : 0;
  }
  run_list("lars", std::move(items), lars_scratch_bytes,
           [lr = floats(lr), momentum = static_cast<float>(p.momentum), trust = static_cast<float>(p.trust_coefficient),
            skip = floats(p.skip)](const Launch& on, const List& list, void* memory) {
             cuda::lars(on, list, lr, momentum, trust, skip, memory);
           });
}

void CudaBackend::adamw(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                        const std::vector<Tensor>& exp_avgs, const std::vector<Tensor>& exp_avg_sqs,
                        const std::vector<Tensor>& steps, const Tensor& lr, const AdamW& p) {
  std::vector<ListItem> items = items_of(params);
  for (size_t i = 0; i < params.size(); ++i) {
    items[i].source = floats(grads[i]);
    items[i].first = floats(exp_avgs[i]);
    items[i].second = floats(exp_avg_sqs[i]);
    items[i].step = floats(steps[i]);
    items[i].weight_decay = p.weight_decay[i];
  }
  run_list("adamw", std::move(items), adamw_scratch_bytes,
           [lr = floats(lr), beta1 = p.beta1, beta2 = p.beta2, eps = static_cast<float>(p.eps), skip = floats(p.skip)](
               const Launch& on, const List& list, void* memory) {
             cuda::adamw(on, list, lr, beta1, beta2, eps, skip, memory);
           });
}

void CudaBackend::rescale(const std::vector<Tensor>& tensors, double factor) {
  run_list("rescale", items_of(tensors), kNoScratch,
           [factor = static_cast<float>(factor)](const Launch& on, const List& list, void*) {
             cuda::rescale(on, list, factor);
           });
}

void CudaBackend::clip_grad_norm(const std::vector<Tensor>& grads, double max_norm, const Tensor& norm) {
  fill({norm}, 0);  // stays where there is nothing to sum
  run_list("clipGradNorm", items_of(grads), clip_scratch_bytes,
           [max_norm = static_cast<float>(max_norm), norm = floats(norm)](
               const Launch& on, const List& list, void* memory) { clip(on, list, max_norm, norm, memory); });
}

void CudaBackend::unscale(const std::vector<Tensor>& grads, const Tensor& scale, const Tensor& found) {
  fill({found}, 0);
  run_list("unscale", items_of(grads), kNoScratch,
           [scale = floats(scale), found = floats(found)](const Launch& on, const List& list, void*) {
             cuda::unscale(on, list, scale, found);
           });
}

void CudaBackend::update_scale(const Tensor& scale, const Tensor& good_steps, const Tensor& found, const ScaleRule& r) {
  run("updateScale",
      [scale = floats(scale), good_steps = good_steps.as<int64_t>(), found = floats(found), r](const Launch& on) {
        cuda::update_scale(on, scale, good_steps, found, static_cast<float>(r.growth), static_cast<float>(r.backoff),
                           r.interval);
      });
}

void CudaBackend::ema(const std::vector<Tensor>& targets, const std::vector<Tensor>& sources, const Tensor& m) {
  std::vector<ListItem> items = items_of(targets);
  for (size_t i = 0; i < targets.size(); ++i) items[i].source = floats(sources[i]);
  run_list("ema", std::move(items), kNoScratch,
           [m = floats(m)](const Launch& on, const List& list, void*) { cuda::ema(on, list, m); });
}

void CudaBackend::fill(const std::vector<Tensor>& tensors, double value) {
  if (value != 0) {
    for (const Tensor& t : tensors)
      run("fill", [y = floats(t), n = t.size(), value = static_cast<float>(value)](const Launch& on) {
        cuda::fill(on, y, value, n);
      });
    return;
  }
  if (tensors.size() == 1) {
    const Tensor& t = tensors[0];
    if (t.bytes() > 0)
      run("fill", [y = t.data(), bytes = t.bytes()](const Launch& on) {
        check_cuda(cudaMemsetAsync(y, 0, bytes, on.stream), on.op);
      });
    return;
  }
  run_list("fill", items_of(tensors), kNoScratch, [](const Launch& on, const List& list, void*) { zero(on, list); });
}

void CudaBackend::enqueue(const Tensor& queue, const Tensor& keys, const Tensor& pointer) {
  run("enqueue",
      [queue = floats(queue), k = queue.dim(0), keys = floats(keys), n = keys.dim(0), d = keys.dim(1),
       pointer = pointer.as<int64_t>()](const Launch& on) { cuda::enqueue(on, queue, k, keys, n, d, pointer); });
}

void CudaBackend::augment_params(const AugmentRecipe& recipe, const Tensor& sizes, uint64_t seed, uint32_t stream,
                                 const Tensor& offset, const Tensor& params) {
  run("augmentParams", [recipe, sizes = sizes.as<int32_t>(), n = sizes.dim(0), seed, stream,
                        offset = offset.as<int64_t>(), params = floats(params)](const Launch& on) {
    draw_augment_params(on, recipe, sizes, n, seed, stream, offset, params);
  });
}

void CudaBackend::run_augment(const char* op, AugmentArgs a, const Tensor& pixels, const Tensor& offsets,
                              const Tensor& sizes, const Tensor& params) {
  a.pixels = pixels.as<uint8_t>();
  a.pixel_bytes = pixels.size();
  a.offsets = offsets.as<int64_t>();
  a.sizes = sizes.as<int32_t>();
  a.params = floats(params);
  a.n = offsets.dim(0);
  a.report = context_->report();
  Buffer images = scratch(2 * a.n * a.h * a.w * static_cast<int64_t>(sizeof(uint32_t)));
  Buffer outside = scratch(sizeof(int64_t));
  a.images = static_cast<uint32_t*>(images.data());
  a.outside = static_cast<int64_t*>(outside.data());
  run(op, [a](const Launch& on) { cuda::augment(on, a); });
}

void CudaBackend::augment(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
                          const Tensor& out, const Augment& p) {
  AugmentArgs a;
  a.h = p.height;
  a.w = p.width;
  std::copy(p.mean, p.mean + 3, a.mean);
  std::copy(p.std, p.std + 3, a.std);
  a.out = act(out);
  run_augment("augment", a, pixels, offsets, sizes, params);
}

void CudaBackend::augment_raw(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
                              const Tensor& out) {
  AugmentArgs a;
  a.h = out.dim(1);
  a.w = out.dim(2);
  a.raw = out.as<uint8_t>();
  run_augment("augmentRaw", a, pixels, offsets, sizes, params);
}

void CudaBackend::knn(const Tensor& query, const Tensor& bank, const Tensor& labels, int64_t k, double temperature,
                      const Tensor& scores) {
  // Similarities of so many queries at a time that they fill at most 256 MiB; whole groups of 64 keep rows aligned.
  const int64_t n = query.dim(0), m = bank.dim(0), d = query.dim(1), classes = scores.dim(1);
  const int64_t rows = std::min(n, std::max<int64_t>(1, (int64_t{64} << 20) / m / 64) * 64);
  Buffer similarities = scratch(rows * m * static_cast<int64_t>(sizeof(float)));
  Buffer nearest = scratch(rows * k * static_cast<int64_t>(sizeof(int32_t)));
  Buffer workspace = scratch(static_cast<int64_t>(Gemm::workspace_bytes()));
  KnnArgs a;
  a.similarities = static_cast<const float*>(similarities.data());
  a.labels = labels.as<int32_t>();
  a.m = m;
  a.k = k;
  a.classes = classes;
  a.temperature = static_cast<float>(temperature);
  a.nearest = static_cast<int32_t*>(nearest.data());
  run("knn", [=, this, query = floats(query), bank = floats(bank), scores = floats(scores),
              similarities = static_cast<float*>(similarities.data()),
              workspace = workspace.data()](const Launch& on) mutable {
    for (int64_t begin = 0; begin < n; begin += rows) {
      a.n = std::min(rows, n - begin);
      a.scores = scores + begin * classes;
      gemm_.run(on.op, {'N', 'T', a.n, m, d, query + begin * d, d, bank, d, 0, similarities, m}, workspace);
      cuda::knn(on, a);
    }
  });
}

}  // namespace slimclr::cuda
