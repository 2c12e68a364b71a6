// Takes the place of native/cuda/kernels/launch.h: a launch runs the kernel at once, or when its graph is launched.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <tuple>
#include <utility>

#include "cuda/status.h"

namespace emulator {
// Runs thread() for every thread of the grid.
void run(const char* op, dim3 blocks, dim3 threads, size_t shared, const std::function<void()>& thread);
// Does work of the stream at once, or puts it into the graph that this thread captures.
void enqueue(std::function<void()> work);
// What events measure: how many convolutions were run.
extern int64_t clock;
}  // namespace emulator

namespace slimclr::cuda {

struct Launch {
  const char* op;
  cudaStream_t stream;
  int processors;
};

template <typename... P>
void allow_shared(const Launch&, void (*)(P...), size_t) {}

template <typename... P, typename... A>
void launch(const Launch& on, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A&&... args) {
  std::tuple<P...> values(std::forward<A>(args)...);
  emulator::enqueue([=, op = on.op] { emulator::run(op, grid, block, shared, [&] { std::apply(kernel, values); }); });
}

constexpr int kThreads = 256;

inline int64_t blocks_for(const Launch& on, int64_t items) {
  int64_t blocks = (items + kThreads - 1) / kThreads, most = static_cast<int64_t>(on.processors) * 32;
  return blocks < most ? blocks : most;
}

template <typename... P, typename... A>
void launch_flat(const Launch& on, int64_t items, void (*kernel)(P...), A&&... args) {
  if (items <= 0) return;
  launch(on, dim3(static_cast<unsigned>(blocks_for(on, items))), dim3(kThreads), 0, kernel, std::forward<A>(args)...);
}

}  // namespace slimclr::cuda
