// A device: its memory, its stream and the backend that implements the ops on it.
#pragma once

#include <memory>
#include <string>

#include "core/allocator.h"
#include "core/stream.h"
#include "core/tensor.h"

namespace slimclr {

class Backend;
class Recording;

class Device {
 public:
  Device(std::string name, std::shared_ptr<Stream> stream, std::shared_ptr<Allocator> memory);
  ~Device();
  const std::string& name() const { return name_; }
  Stream& stream() { return *stream_; }
  const std::shared_ptr<Stream>& stream_share() const { return stream_; }
  Allocator& memory() { return *memory_; }
  const std::shared_ptr<Allocator>& memory_share() const { return memory_; }
  Backend& backend() { return *backend_; }
  void set_backend(std::unique_ptr<Backend> backend);
  // The recording that takes up what is enqueued at present, or null.
  Recording* recording() const { return recording_; }
  void set_recording(Recording* recording) { recording_ = recording; }
  // For what a recording cannot hold: throws while there is one.
  void check_not_recording(const char* op, const char* what) const;

  Tensor empty(const char* op, Shape shape, DType dtype);
  // As `empty`, in the layout the backend prefers for such an activation.
  Tensor empty_activation(const char* op, Shape shape, DType dtype);

  // Throws where the device cannot hold such elements.
  void check_holds(const char* op, DType dtype) const;

 private:
  std::string name_;
  std::shared_ptr<Stream> stream_;
  std::shared_ptr<Allocator> memory_;
  std::unique_ptr<Backend> backend_;
  Recording* recording_ = nullptr;
};

std::unique_ptr<Device> make_cpu_device();            // native/cpu
std::unique_ptr<Device> make_cuda_device(int index);  // native/cuda, or native/no_cuda: throws with the way out
std::string cuda_status();                            // one line: the devices found, or why there are none

}  // namespace slimclr
