// The CPU device: its memory and threads.
#include <omp.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <thread>

#include "cpu/cpu_backend.h"

namespace slimclr {

namespace cpu {

namespace {

int default_threads() {
  if (const char* wanted = std::getenv("SLIMCLR_THREADS")) {
    int n = std::atoi(wanted);
    if (n >= 1 && n <= 1024) return n;
  }
  int n = omp_get_num_procs();
  return n >= 1 ? n : 1;
}

}  // namespace

CpuBackend::CpuBackend(Device& device) : device_(device), k_(kernels()), threads_(0) {
  set_num_threads(default_threads());
}

void CpuBackend::set_num_threads(int n) {
  device_.stream().drain();
  onednn_.forget();
  threads_ = n;
  omp_set_num_threads(n);  // the caller's: oneDNN plans primitives for it
  run([n] { omp_set_num_threads(n); });
}

std::map<std::string, std::string> CpuBackend::info() const {
  return {{"device", "cpu"},
          {"kernels", k_.isa},
          {"oneDNN", OneDnn::version()},
          {"oneDNN instruction set", OneDnn::isa()},
          {"threads", std::to_string(threads_)},
          {"cores", std::to_string(omp_get_num_procs())},
          {"memory", std::to_string(device_.memory().capacity())}};
}

bool CpuBackend::supports(DType dtype, std::string* why) const {
  if (dtype != DType::f16) return true;
  *why = "float16 is for CUDA; bfloat16 serves on the CPU";
  return false;
}

int64_t CpuBackend::activation_block(const Shape& shape) const {
  return shape[1] > 0 && shape[1] % k_.block == 0 ? k_.block : 1;
}

}  // namespace cpu

namespace {

// Bytes that this process may use: the machine's, or what its container allows (beyond that the kernel kills it).
size_t memory_capacity() {
  size_t bytes = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (const char* file : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    size_t limit = 0;
    if (std::ifstream(file) >> limit && limit > 0 && limit < bytes) bytes = limit;  // "max" is no number
  }
  return bytes;
}

}  // namespace

std::unique_ptr<Device> make_cpu_device() {
  auto stream = std::make_shared<Stream>();
  RawMemory raw;
  raw.allocate = [](size_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); };
  raw.release = [](void* block, size_t) { std::free(block); };
  raw.wait = [stream] { stream->drain(); };
  raw.capacity = memory_capacity();
  auto device = std::make_unique<Device>("cpu", stream, std::make_shared<Allocator>(std::move(raw)));
  device->set_backend(std::make_unique<cpu::CpuBackend>(*device));
  return device;
}

}  // namespace slimclr
