// Stands in for the CUDA backend where it is not built.
#include "core/device.h"

namespace slimclr {

std::string cuda_status() { return "this build has no CUDA backend; the CPU is used"; }

std::unique_ptr<Device> make_cuda_device(int index) {
  fail(ErrorKind::runtime, "device", "cuda:", index, " cannot be used: ", cuda_status(), ". Use --device cpu or auto");
}

}  // namespace slimclr
