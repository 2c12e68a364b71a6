// What a CUDA device needs beside its memory: its stream, its properties, and host memory that the device can read.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/stream.h"
#include "cuda/kernels/report.h"

namespace slimclr::cuda {

class Context {
 public:
  // Throws, saying what to do, where the device cannot be used.
  explicit Context(int index);
  ~Context();
  Context(const Context&) = delete;

  // Makes this thread's CUDA calls mean this device.
  void enter() const;
  // Waits for the stream; throws what CUDA or a kernel has found wrong.
  void settle();

  // What the tasks do as a CUDA graph: a task that launches it.
  Stream::Task capture(const std::vector<Stream::Task>& tasks);

  // Page-locked host memory; with its last owner it goes back, to be used again when the stream has passed it.
  std::shared_ptr<void> staging(size_t bytes);

  int index() const { return index_; }
  cudaStream_t stream() const { return stream_; }
  const cudaDeviceProp& properties() const { return properties_; }
  Report* report() const { return report_; }

 private:
  struct Block {
    void* memory;
    cudaEvent_t passed;
  };
  void give_back(size_t bytes, Block block);

  int index_;
  cudaStream_t stream_ = nullptr;
  cudaDeviceProp properties_;
  Report* report_ = nullptr;
  std::mutex mutex_;
  std::multimap<size_t, Block> free_;
};

}  // namespace slimclr::cuda
