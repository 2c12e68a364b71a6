// The CUDA devices: what there is, and why one cannot be used.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include "cuda/cuda_backend.h"
#include "cuda/status.h"

namespace slimclr {

namespace cuda {

namespace {

bool set_to(const char* variable, const char* value) {
  const char* is = std::getenv(variable);
  return is && std::string(is) == value;
}

std::string version_string(int v) { return concat(v / 1000, '.', v % 1000 / 10); }

// Whether there are devices; else why not, in a line, and what to do.
bool find_devices(int* count, std::string* why) {
  *count = 0;
  cudaError_t status = cudaGetDeviceCount(count);
  if (status == cudaSuccess && *count > 0) return true;
  cudaGetLastError();
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0)
    *why = "no CUDA device: this machine has no NVIDIA driver";
  else if (status == cudaErrorInsufficientDriver)
    *why = concat("the NVIDIA driver is for CUDA ", version_string(driver), ", this build needs ",
                  version_string(CUDART_VERSION), ": install a newer driver, or build with an older CUDA");
  else if (status == cudaErrorNoDevice || status == cudaSuccess)
    *why = std::getenv("CUDA_VISIBLE_DEVICES")
               ? concat("no CUDA device: CUDA_VISIBLE_DEVICES is '", std::getenv("CUDA_VISIBLE_DEVICES"), "'")
               : "the NVIDIA driver finds no CUDA device";
  else
    *why = concat("CUDA does not start: ", cudaGetErrorString(status), "; see what nvidia-smi says");
  return false;
}

std::string describe(int index) {
  cudaDeviceProp p;
  if (cudaGetDeviceProperties(&p, index) != cudaSuccess) return concat("cuda:", index);
  return concat("cuda:", index, ' ', p.name, " (sm_", p.major, p.minor, ", ", p.totalGlobalMem >> 30, " GiB)");
}

// What a choice among ways to compute a convolution holds for.
std::string plan_target(const cudaDeviceProp& p) {
  return concat(p.name, " sm_", p.major, p.minor, " x", p.multiProcessorCount, " cuDNN ", Convolutions::version(),
                " cuBLASLt ", Gemm::version());
}

}  // namespace

CudaBackend::CudaBackend(Device& device, std::shared_ptr<Context> context)
    : device_(device),
      context_(std::move(context)),
      tf32_(set_to("SLIMCLR_TF32", "1")),
      autotune_(!set_to("SLIMCLR_CUDA_AUTOTUNE", "0")),
      convolutions_(context_->stream()),
      plan_store_(cache_folder(), plan_target(context_->properties()),
                  [](const std::string& line) { std::fprintf(stderr, "slimclr: %s\n", line.c_str()); }),
      gemm_(context_->stream(), tf32_) {
  device_.stream().enqueue([context = context_] { context->enter(); });  // the worker thread's device
}

CudaBackend::~CudaBackend() { cudaSetDevice(context_->index()); }

std::map<std::string, std::string> CudaBackend::info() const {
  const cudaDeviceProp& p = context_->properties();
  int driver = 0;
  cudaDriverGetVersion(&driver);
  std::map<std::string, std::string> info = {
      {"device", device_.name()},
      {"name", p.name},
      {"compute capability", concat(p.major, '.', p.minor)},
      {"multiprocessors", std::to_string(p.multiProcessorCount)},
      {"memory", std::to_string(p.totalGlobalMem)},
      {"driver for CUDA", version_string(driver)},
      {"CUDA", version_string(CUDART_VERSION)},
      {"cuDNN", Convolutions::version()},
      {"cuBLASLt", Gemm::version()},
      {"plans kept in", plan_store_.file().empty() ? "no folder" : plan_store_.file()},
      {"float32 products", tf32_ ? "TF32" : "float32"}};
  if (!ways_.empty()) info["convolutions planned"] = planned();
  return info;
}

bool CudaBackend::supports(DType, std::string*) const { return true; }

}  // namespace cuda

std::string cuda_status() {
  int count = 0;
  std::string line;
  if (!cuda::find_devices(&count, &line)) return line + "; the CPU is used";
  for (int i = 0; i < count; ++i) line += (i ? ", " : "CUDA ") + cuda::describe(i);
  try {
    line += concat("; cuDNN ", cuda::Convolutions::version(), ", cuBLASLt ", cuda::Gemm::version());
  } catch (const Error& e) {
    line += concat("; not usable: ", e.what());
  }
  return line;
}

std::unique_ptr<Device> make_cuda_device(int index) {
  auto refuse = [&](const auto&... why) {
    fail(ErrorKind::runtime, "device", "cuda:", index, " cannot be used: ", why..., ". Use --device cpu or auto");
  };
  int count = 0;
  std::string why;
  if (!cuda::find_devices(&count, &why)) refuse(why);
  if (index >= count) refuse("there are ", count, " CUDA devices, from cuda:0 on");
  auto context = std::make_shared<cuda::Context>(index);
  const cudaDeviceProp& properties = context->properties();
  if (properties.major < 8)
    refuse(properties.name, " has compute capability ", properties.major, '.', properties.minor,
           ", the kernels need 8.0 or more");

  auto stream = std::make_shared<Stream>([context] { context->settle(); },
                                         [context](const auto& tasks) { return context->capture(tasks); });
  RawMemory raw;
  raw.allocate = [context](size_t bytes) -> void* {
    context->enter();
    void* block = nullptr;
    cudaError_t status = cudaMalloc(&block, bytes);
    if (status == cudaSuccess) return block;
    cudaGetLastError();
    if (status != cudaErrorMemoryAllocation) cuda::check_cuda(status, "allocate");
    return nullptr;
  };
  raw.release = [context](void* block, size_t) { cudaFree(block); };
  raw.wait = [stream] { stream->drain(); };
  raw.capacity = properties.totalGlobalMem;
  auto device = std::make_unique<Device>(concat("cuda:", index), stream, std::make_shared<Allocator>(std::move(raw)));
  device->set_backend(std::make_unique<cuda::CudaBackend>(*device, context));
  return device;
}

}  // namespace slimclr
