#include "cuda/context.h"

#include <type_traits>

#include "cuda/status.h"

namespace slimclr::cuda {

namespace {

// What a kernel reported, in words.
[[noreturn]] void fail_with(const Report& r) {
  const int64_t* v = r.values;
  if (r.kind == Report::bad_labels)
    fail(ErrorKind::range, "softmaxCrossEntropy", "expected labels in 0…", v[0], ", received ", v[1], " of ", v[2],
         " outside");
  if (r.kind == Report::bad_positives)
    fail(ErrorKind::range, "distill", "expected positives in 0…", v[0], ", received ", v[1], " of ", v[2], " outside");
  if (r.kind == Report::bad_rows)
    fail(ErrorKind::range, "indexSelect", "expected indices of rows that there are, received ", v[0], " of ", v[1],
         " outside");
  fail(ErrorKind::range, "augment", "image ", v[0], " of the batch does not lie within the ", v[1],
       " bytes of pixels: offset ", v[2], ", size ", v[3], " x ", v[4]);
}

}  // namespace

Context::Context(int index) : index_(index) {
  enter();
  check_cuda(cudaGetDeviceProperties(&properties_, index), "device");
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "device");
  void* report = nullptr;
  check_cuda(cudaHostAlloc(&report, sizeof(Report), cudaHostAllocMapped | cudaHostAllocPortable), "device");
  report_ = static_cast<Report*>(report);
  *report_ = Report{};
}

// Statuses are not looked at: at the end of the process the runtime may be gone already.
Context::~Context() {
  cudaSetDevice(index_);
  for (auto& [bytes, block] : free_) {
    cudaEventDestroy(block.passed);
    cudaFreeHost(block.memory);
  }
  if (report_) cudaFreeHost(report_);
  if (stream_) cudaStreamDestroy(stream_);
}

void Context::enter() const { check_cuda(cudaSetDevice(index_), "device"); }

void Context::settle() {
  check_cuda(cudaStreamSynchronize(stream_), "synchronize");
  if (report_->kind == Report::none) return;
  const Report found = *report_;
  *report_ = Report{};
  fail_with(found);
}

Stream::Task Context::capture(const std::vector<Stream::Task>& tasks) {
  // Thread-local: meanwhile other threads may allocate memory.
  check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "record");
  std::exception_ptr error;
  try {
    for (const Stream::Task& task : tasks) task();
  } catch (...) {
    error = std::current_exception();
  }
  cudaGraph_t captured = nullptr;
  cudaError_t status = cudaStreamEndCapture(stream_, &captured);
  std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, cudaError_t (*)(cudaGraph_t)> graph(captured, cudaGraphDestroy);
  if (error) {
    cudaGetLastError();  // of the capture that was broken off
    std::rethrow_exception(error);
  }
  check_cuda(status, "record");
  cudaGraphExec_t made = nullptr;
  check_cuda(cudaGraphInstantiate(&made, graph.get(), 0), "record");
  std::shared_ptr<std::remove_pointer_t<cudaGraphExec_t>> executable(made, cudaGraphExecDestroy);
  return [this, executable] { check_cuda(cudaGraphLaunch(executable.get(), stream_), "replay"); };
}

std::shared_ptr<void> Context::staging(size_t bytes) {
  size_t size = 4096;
  while (size < bytes) size *= 2;
  Block block = {};
  {
    std::lock_guard lock(mutex_);
    auto [first, last] = free_.equal_range(size);
    for (auto it = first; it != last; ++it)
      if (cudaEventQuery(it->second.passed) == cudaSuccess) {
        block = it->second;
        free_.erase(it);
        break;
      }
    cudaGetLastError();  // an event that has not passed is no error
  }
  if (!block.memory) {
    enter();
    check_cuda(cudaHostAlloc(&block.memory, size, cudaHostAllocDefault), "write");
    check_cuda(cudaEventCreateWithFlags(&block.passed, cudaEventDisableTiming), "write");
  }
  return {block.memory, [this, size, block](void*) { give_back(size, block); }};
}

void Context::give_back(size_t bytes, Block block) {
  cudaEventRecord(block.passed, stream_);
  std::lock_guard lock(mutex_);
  free_.emplace(bytes, block);
}

}  // namespace slimclr::cuda
