// Takes the place of native/cuda/kernels/shared_memory.cuh.
#pragma once

namespace emulator {
void* shared_memory(unsigned long bytes);
}

namespace slimclr::cuda {

template <typename T>
T& shared_memory() {
  return *static_cast<T*>(emulator::shared_memory(sizeof(T)));
}

}  // namespace slimclr::cuda
