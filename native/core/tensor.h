// A tensor: a shape, an element type and a share in a buffer of one device.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/allocator.h"
#include "core/dtype.h"
#include "core/error.h"

namespace slimclr {

class Device;
using Shape = std::vector<int64_t>;

inline std::string to_string(const Shape& shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? ", " : "") + std::to_string(shape[i]);
  return s + "]";
}

// Number of elements; a negative dimension or a product beyond 2^48 is an error.
inline int64_t count(const char* op, const Shape& shape) {
  constexpr int64_t most = int64_t{1} << 48;
  int64_t n = 1;
  for (int64_t d : shape) {
    check_range(d >= 0, op, "expected dimensions >= 0, received ", to_string(shape));
    check_range(d == 0 || n <= most / d, op, "expected at most 2^48 elements, received ", to_string(shape));
    n *= d;
  }
  return n;
}

struct Tensor {
  Shape shape;
  DType dtype = DType::f32;
  // Activations [N, C, H, W] may be stored as [N][ceil(C / block)][H][W][block], the channels beyond C zero; 1 is
  // plain.
  int64_t block = 1;
  Device* device = nullptr;
  std::shared_ptr<Buffer> buffer;

  int64_t size() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  // Elements stored, padding included.
  int64_t stored() const {
    if (block == 1) return size();
    return shape[0] * ((shape[1] + block - 1) / block * block) * shape[2] * shape[3];
  }
  size_t bytes() const { return static_cast<size_t>(stored()) * size_of(dtype); }
  int64_t dim(size_t i) const { return shape[i]; }
  void* data() const { return buffer->data(); }
  template <typename T>
  T* as() const {
    return static_cast<T*>(buffer->data());
  }
};

}  // namespace slimclr
