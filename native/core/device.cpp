#include "core/device.h"

#include "core/backend.h"
#include "core/recording.h"

namespace slimclr {

Device::Device(std::string name, std::shared_ptr<Stream> stream, std::shared_ptr<Allocator> memory)
    : name_(std::move(name)), stream_(std::move(stream)), memory_(std::move(memory)) {}

Device::~Device() { stream_->drain(); }

void Device::set_backend(std::unique_ptr<Backend> backend) { backend_ = std::move(backend); }

void Device::check_not_recording(const char* op, const char* what) const {
  if (recording_) recording_->refuse(op, what);
}

void Device::check_holds(const char* op, DType dtype) const {
  std::string why;
  check_type(backend_->supports(dtype, &why), op, "expected another element type on ", name_, " than ", name_of(dtype),
             ": ", why);
}

Tensor Device::empty(const char* op, Shape shape, DType dtype) {
  check_holds(op, dtype);
  Tensor t{std::move(shape), dtype, 1, this, nullptr};
  t.buffer = std::make_shared<Buffer>(memory_, static_cast<size_t>(count(op, t.shape)) * size_of(dtype));
  return t;
}

Tensor Device::empty_activation(const char* op, Shape shape, DType dtype) {
  check_holds(op, dtype);
  count(op, shape);
  int64_t block = shape.size() == 4 ? backend_->activation_block(shape) : 1;
  Tensor t{std::move(shape), dtype, block, this, nullptr};
  t.buffer = std::make_shared<Buffer>(memory_, t.bytes());
  return t;
}

}  // namespace slimclr
