#include "cuda/kernels/optimizer.h"

#include "cuda/kernels/vector.cuh"

namespace slimclr::cuda {

namespace {

// The entry that holds a chunk.
__device__ const ListItem& item_of(const List& list, int64_t chunk) {
  int64_t low = 0, high = list.count - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (list.items[middle].begin <= chunk)
      low = middle;
    else
      high = middle - 1;
  }
  return list.items[low];
}

// Calls update(item, element) for every element; a block takes whole chunks.
template <typename Update>
__global__ void list_kernel(List list, Update update) {
  for (int64_t chunk = blockIdx.x; chunk < list.chunks; chunk += gridDim.x) {
    const ListItem& item = item_of(list, chunk);
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

struct Zero {
  __device__ void operator()(const ListItem& item, int64_t i) const { item.data[i] = 0; }
};

template <typename Update>
void update_list(const Launch& on, const List& list, Update update) {
  if (list.chunks == 0) return;
  const int64_t most = static_cast<int64_t>(on.processors) * 8;
  launch(on, dim3(static_cast<unsigned>(list.chunks < most ? list.chunks : most)), dim3(kThreads), 0,
         list_kernel<Update>, list, update);
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

void sgd(const Launch& on, const List& list, const float* lr, float momentum, bool nesterov) {
  update_list(on, list, SgdUpdate{lr, momentum, nesterov});
}

void ema(const Launch& on, const List& list, const float* m) { update_list(on, list, EmaUpdate{m}); }

void zero(const Launch& on, const List& list) { update_list(on, list, Zero{}); }

void enqueue(const Launch& on, float* queue, int64_t k, const float* keys, int64_t n, int64_t d, int64_t* pointer) {
  launch_flat(on, n * d, enqueue_kernel, queue, k, keys, n, d, pointer);
  launch(on, dim3(1), dim3(1), 0, advance_kernel, pointer, k, n);
}

}  // namespace slimclr::cuda
