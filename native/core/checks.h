// Checks shared by the ops.
#pragma once

#include "core/device.h"
#include "core/tensor.h"

namespace slimclr {

inline std::string describe(const Tensor& t) { return concat(name_of(t.dtype), ' ', to_string(t.shape)); }

inline void check_rank(const char* op, const char* name, const Tensor& t, size_t rank) {
  check_type(t.shape.size() == rank, op, "expected ", name, " of ", rank, " dimensions, received ", describe(t));
}

inline void check_dtype(const char* op, const char* name, const Tensor& t, DType dtype) {
  check_type(t.dtype == dtype, op, "expected ", name, " of ", name_of(dtype), ", received ", describe(t),
             "; cast() converts");
}

inline void check_floating(const char* op, const char* name, const Tensor& t) {
  check_type(is_floating(t.dtype), op, "expected ", name, " of float32, bfloat16 or float16, received ", describe(t),
             "; cast() converts");
}

inline void check_shape(const char* op, const char* name, const Tensor& t, const Shape& shape) {
  check_range(t.shape == shape, op, "expected ", name, " of shape ", to_string(shape), ", received ", describe(t));
}

inline void check_like(const char* op, const char* name, const Tensor& t, const char* other_name, const Tensor& other) {
  check_range(t.shape == other.shape && t.dtype == other.dtype, op, "expected ", name, " like ", other_name, " (",
              describe(other), "), received ", describe(t));
}

inline void check_device(const char* op, const Tensor& t, const Tensor& other) {
  check_type(t.device == other.device, op, "expected all tensors on one device, received ", other.device->name(),
             " and ", t.device->name());
}

// The tensor in another channel block; itself where it has it already.
Tensor in_block(const char* op, const Tensor& t, int64_t block);

}  // namespace slimclr
