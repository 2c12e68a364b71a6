#include "cuda/kernels/optimizer.h"

#include "core/loss_scale.h"
#include "cuda/kernels/reduce.cuh"
#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

namespace {

// Calls update(item, element) for every element, unless told to skip; a block takes whole chunks.
template <typename Update>
__global__ void list_kernel(List list, Update update, const float* skip) {
  if (skip && *skip != 0) return;
  for (int64_t chunk = blockIdx.x; chunk < list.chunks; chunk += gridDim.x) {
    const ListItem& item = list.item_of(chunk);
    const int64_t begin = (chunk - item.begin) * kChunk;
    const int64_t end = begin + kChunk < item.size ? begin + kChunk : item.size;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) update(item, i);
  }
}

struct SgdUpdate {
  const float* lr;
  float momentum;
  bool nesterov;
  __device__ void operator()(const ListItem& item, int64_t i) const {
    const float p = item.data[i], g = item.source[i] + item.weight_decay * p, m = momentum * item.first[i] + g;
    item.first[i] = m;
    item.data[i] = p - *lr * (nesterov ? g + momentum * m : m);
  }
};

struct EmaUpdate {
  const float* m;
  __device__ void operator()(const ListItem& item, int64_t i) const {
    const float keep = *m, take = static_cast<float>(1.0 - static_cast<double>(*m));
    item.data[i] = keep * item.data[i] + take * item.source[i];
  }
};

struct LarsUpdate {
  const ListItem* items;
  const float* ratios;  // one per item
  const float* lr;
  float momentum;
  __device__ void operator()(const ListItem& item, int64_t i) const {
    const float p = item.data[i], g = item.source[i] + item.weight_decay * p;
    const float m = momentum * item.first[i] + ratios[&item - items] * g;
    item.first[i] = m;
    item.data[i] = p - *lr * m;
  }
};

// What a step makes of the learning rate and the decay rates of the averages.
struct AdamWRates {
  float decay, rate, correction;
};

struct AdamWUpdate {
  const ListItem* items;
  const AdamWRates* rates;  // one per item
  float beta1, rest1, beta2, rest2, eps;
  __device__ void operator()(const ListItem& item, int64_t i) const {
    const AdamWRates& r = rates[&item - items];
    const float g = item.source[i];
    const float m = beta1 * item.first[i] + rest1 * g, v = beta2 * item.second[i] + rest2 * g * g;
    item.first[i] = m;
    item.second[i] = v;
    item.data[i] = r.decay * item.data[i] - r.rate * m / (sqrtf(v) * r.correction + eps);
  }
};

struct Rescale {
  float factor;
  const float* scalar;  // takes the factor's place unless null
  __device__ void operator()(const ListItem& item, int64_t i) const {
    if (scalar && *scalar == 1.0f) return;
    item.data[i] *= scalar ? *scalar : factor;
  }
};

struct Unscale {
  const float* scale;
  float* found;
  __device__ void operator()(const ListItem& item, int64_t i) const {
    const float v = item.data[i];
    if (!(fabsf(v) <= 3.402823466e+38f)) *found = 1;  // whichever thread comes first, they all write the same
    item.data[i] = v * (1 / *scale);
  }
};

struct Zero {
  __device__ void operator()(const ListItem& item, int64_t i) const { item.data[i] = 0; }
};

template <typename Update>
void update_list(const Launch& on, const List& list, Update update, const float* skip = nullptr) {
  if (list.chunks == 0) return;
  launch(on, dim3(list.blocks(on.processors)), dim3(kThreads), 0, list_kernel<Update>, list, update, skip);
}

// ---- norms: the sums of squares of every chunk, then of every item or of all, in their order

// Leaves Σ data² and Σ (source + weight_decay · data)² of every chunk; the second only where there is a source.
__global__ void squares_kernel(List list, double* partial) {
  for (int64_t chunk = blockIdx.x; chunk < list.chunks; chunk += gridDim.x) {
    const ListItem& item = list.item_of(chunk);
    const int64_t begin = (chunk - item.begin) * kChunk;
    const int64_t end = begin + kChunk < item.size ? begin + kChunk : item.size;
    double squares = 0, gradients = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
      const double p = static_cast<double>(item.data[i]);
      squares += p * p;
      if (!item.source) continue;
      const double g = static_cast<double>(item.source[i]) + static_cast<double>(item.weight_decay) * p;
      gradients += g * g;
    }
    squares = block_sum(squares);
    gradients = block_sum(gradients);
    if (threadIdx.x != 0) continue;
    partial[2 * chunk] = squares;
    partial[2 * chunk + 1] = gradients;
  }
}

// A block per item.
__global__ void lars_ratios_kernel(List list, const double* partial, float trust, float* ratios) {
  const ListItem& item = list.items[blockIdx.x];
  const int64_t chunks = chunks_of(item.size);
  double param = 0, grad = 0;
  for (int64_t c = threadIdx.x; c < chunks; c += blockDim.x) {
    param += partial[2 * (item.begin + c)];
    grad += partial[2 * (item.begin + c) + 1];
  }
  param = block_sum(param);
  grad = block_sum(grad);
  if (threadIdx.x != 0) return;
  const bool adapt = item.adapt && param > 0 && grad > 0;
  ratios[blockIdx.x] = adapt ? static_cast<float>(static_cast<double>(trust) * sqrt(param / grad)) : 1.0f;
}

__global__ void clip_factor_kernel(List list, const double* partial, float max_norm, float* norm, float* factor) {
  double squares = 0;
  for (int64_t c = threadIdx.x; c < list.chunks; c += blockDim.x) squares += partial[2 * c];
  const double total = sqrt(block_sum(squares));
  if (threadIdx.x != 0) return;
  *norm = static_cast<float>(total);
  const bool fits = total <= static_cast<double>(max_norm);  // a NaN does not
  *factor = fits ? 1.0f : static_cast<float>(static_cast<double>(max_norm) / (total + 1e-6));
}

__global__ void adamw_rates_kernel(List list, const float* lr, double beta1, double beta2, const float* skip,
                                   AdamWRates* rates) {
  if (skip && *skip != 0) return;
  const int64_t i = grid_index();
  if (i >= list.count) return;
  const ListItem& item = list.items[i];
  const double rate = static_cast<double>(*lr), step = static_cast<double>(*item.step += 1);
  rates[i].decay = static_cast<float>(1 - rate * static_cast<double>(item.weight_decay));
  rates[i].rate = static_cast<float>(rate / (1 - pow(beta1, step)));
  rates[i].correction = static_cast<float>(1 / sqrt(1 - pow(beta2, step)));
}

int64_t partial_bytes(const List& list) { return 2 * list.chunks * static_cast<int64_t>(sizeof(double)); }

void sum_squares(const Launch& on, const List& list, double* partial) {
  launch(on, dim3(list.blocks(on.processors)), dim3(kThreads), 0, squares_kernel, list, partial);
}

__global__ void update_scale_kernel(float* scale, int64_t* good_steps, const float* found, float growth, float backoff,
                                    int64_t interval) {
  next_scale(scale, good_steps, *found, growth, backoff, interval);
}

__device__ int64_t first_row(const int64_t* pointer, int64_t k) {
  const int64_t at = *pointer % k;
  return at < 0 ? at + k : at;
}

__global__ void enqueue_kernel(float* queue, int64_t k, const float* keys, int64_t n, int64_t d,
                               const int64_t* pointer) {
  const int64_t at = first_row(pointer, k), skipped = n > k ? n - k : 0;
  for (int64_t i = skipped * d + grid_index(); i < n * d; i += grid_stride())
    queue[(at + i / d) % k * d + i % d] = keys[i];
}

__global__ void advance_kernel(int64_t* pointer, int64_t k, int64_t n) { *pointer = (first_row(pointer, k) + n) % k; }

}  // namespace

void sgd(const Launch& on, const List& list, const float* lr, float momentum, bool nesterov, const float* skip) {
  update_list(on, list, SgdUpdate{lr, momentum, nesterov}, skip);
}

int64_t lars_scratch_bytes(const List& list) {
  return partial_bytes(list) + list.count * static_cast<int64_t>(sizeof(float));
}

void lars(const Launch& on, const List& list, const float* lr, float momentum, float trust, const float* skip,
          void* scratch) {
  double* partial = static_cast<double*>(scratch);
  float* ratios = reinterpret_cast<float*>(partial + 2 * list.chunks);
  sum_squares(on, list, partial);
  launch(on, dim3(static_cast<unsigned>(list.count)), dim3(kThreads), 0, lars_ratios_kernel, list, partial, trust,
         ratios);
  update_list(on, list, LarsUpdate{list.items, ratios, lr, momentum}, skip);
}

int64_t adamw_scratch_bytes(const List& list) { return list.count * static_cast<int64_t>(sizeof(AdamWRates)); }

void adamw(const Launch& on, const List& list, const float* lr, double beta1, double beta2, float eps,
           const float* skip, void* scratch) {
  AdamWRates* rates = static_cast<AdamWRates*>(scratch);
  launch(on, dim3(static_cast<unsigned>((list.count + kThreads - 1) / kThreads)), dim3(kThreads), 0, adamw_rates_kernel,
         list, lr, beta1, beta2, skip, rates);
  update_list(on, list,
              AdamWUpdate{list.items, rates, static_cast<float>(beta1), static_cast<float>(1 - beta1),
                          static_cast<float>(beta2), static_cast<float>(1 - beta2), eps},
              skip);
}

void unscale(const Launch& on, const List& list, const float* scale, float* found) {
  update_list(on, list, Unscale{scale, found});
}

void update_scale(const Launch& on, float* scale, int64_t* good_steps, const float* found, float growth, float backoff,
                  int64_t interval) {
  launch(on, dim3(1), dim3(1), 0, update_scale_kernel, scale, good_steps, found, growth, backoff, interval);
}

void rescale(const Launch& on, const List& list, float factor) { update_list(on, list, Rescale{factor, nullptr}); }

int64_t clip_scratch_bytes(const List& list) { return partial_bytes(list) + static_cast<int64_t>(sizeof(float)); }

void clip(const Launch& on, const List& list, float max_norm, float* norm, void* scratch) {
  double* partial = static_cast<double*>(scratch);
  float* factor = reinterpret_cast<float*>(partial + 2 * list.chunks);
  sum_squares(on, list, partial);
  launch(on, dim3(1), dim3(kThreads), 0, clip_factor_kernel, list, partial, max_norm, norm, factor);
  update_list(on, list, Rescale{0, factor});
}

void ema(const Launch& on, const List& list, const float* m) { update_list(on, list, EmaUpdate{m}); }

void zero(const Launch& on, const List& list) { update_list(on, list, Zero{}); }

void enqueue(const Launch& on, float* queue, int64_t k, const float* keys, int64_t n, int64_t d, int64_t* pointer) {
  launch_flat(on, n * d, enqueue_kernel, queue, k, keys, n, d, pointer);
  launch(on, dim3(1), dim3(1), 0, advance_kernel, pointer, k, n);
}

}  // namespace slimclr::cuda
