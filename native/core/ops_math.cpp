// Element-wise ops, reductions, copies and row-wise functions.
#include <cmath>
#include <cstdint>

#include "core/checks.h"
#include "core/ops.h"

namespace slimclr::ops {

namespace {

const Tensor none;

Tensor empty_like(const Tensor& x) {
  Tensor y = x;
  y.buffer = std::make_shared<Buffer>(x.buffer->allocator(), x.bytes());
  return y;
}

void check_finite(const char* op, const char* name, double value) {
  check_range(std::isfinite(value), op, "expected a finite ", name, ", received ", value);
}

void check_rows(const char* op, const char* name, const Tensor& x) {
  check_rank(op, name, x, 2);
  check_dtype(op, name, x, DType::f32);
}

void check_scalar(const char* op, const char* name, const Tensor& t, const Tensor& x) {
  check_dtype(op, name, t, DType::f32);
  check_range(t.size() == 1, op, "expected ", name, " of one element, received ", describe(t));
  check_device(op, t, x);
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  const char* op = "reshape";
  check_range(count(op, shape) == x.size(), op, "expected a shape of ", x.size(), " elements for ", describe(x),
              ", received ", to_string(shape));
  check_type(x.block == 1, op, "expected a tensor in plain layout, received an activation ", describe(x));
  Tensor y = x;
  y.shape = shape;
  return y;
}

namespace {

void check_index(const char* op, const Tensor& index, const Tensor& x) {
  check_rank(op, "index", index, 1);
  check_dtype(op, "index", index, DType::i32);
  check_device(op, index, x);
}

}  // namespace

Tensor index_select(const std::vector<Tensor>& inputs, const Optional& index) {
  const char* op = "indexSelect";
  check_range(!inputs.empty() && inputs.size() <= 1024, op, "expected 1…1024 inputs, received ", inputs.size());
  const Tensor& first = inputs[0];
  std::vector<Tensor> alike;
  int64_t rows = 0;
  for (const Tensor& x : inputs) {
    check_type(!x.shape.empty(), op, "expected inputs of at least 1 dimension, received ", describe(x));
    check_device(op, x, first);
    check_range(x.dtype == first.dtype &&
                    Shape(x.shape.begin() + 1, x.shape.end()) == Shape(first.shape.begin() + 1, first.shape.end()),
                op, "expected inputs alike but for the first dimension, received ", describe(first), " and ",
                describe(x));
    if (x.block != first.block) check_floating(op, "inputs", x);  // only activations change their layout
    alike.push_back(in_block(op, x, first.block));
    rows += x.dim(0);
  }
  check_range(rows <= INT32_MAX, op, "expected below 2^31 rows, received ", rows);
  if (index) check_index(op, *index, first);
  Tensor y = first;
  y.shape[0] = index ? index->dim(0) : rows;
  count(op, y.shape);
  y.buffer = std::make_shared<Buffer>(first.buffer->allocator(), y.bytes());
  if (y.size() > 0) first.device->backend().index_select(alike, index.value_or(none), y);
  return y;
}

Tensor index_select_backward(const Tensor& dy, const Optional& index, int64_t first, const Shape& shape) {
  const char* op = "indexSelectBackward";
  check_dtype(op, "dy", dy, DType::f32);
  check_type(dy.block == 1, op, "expected dy in plain layout, received an activation ", describe(dy));
  check_type(!dy.shape.empty(), op, "expected dy of at least 1 dimension, received ", describe(dy));
  if (index) check_index(op, *index, dy);
  check_range(first >= 0 && first <= INT32_MAX, op, "expected first in 0…2^31 - 1, received ", first);
  check_type(!shape.empty(), op, "expected a shape of at least 1 dimension");
  Shape expected = shape;
  expected[0] = index ? index->dim(0) : dy.dim(0);
  check_shape(op, "dy", dy, expected);
  Tensor dx = dy.device->empty(op, shape, DType::f32);
  if (dx.size() > 0) dy.device->backend().index_add(dy, index.value_or(none), first, dx);
  return dx;
}

Tensor relu(const Tensor& x) {
  check_floating("relu", "x", x);
  Tensor y = empty_like(x);
  x.device->backend().relu_forward(x, y);
  return y;
}

Tensor relu_backward(const Tensor& y, const Tensor& dy) {
  const char* op = "reluBackward";
  check_floating(op, "y", y);
  check_like(op, "dy", dy, "y", y);
  check_device(op, dy, y);
  Tensor dx = empty_like(y);
  y.device->backend().relu_backward(y, in_block(op, dy, y.block), dx);
  return dx;
}

Tensor add(const Tensor& a, const Tensor& b) {
  const char* op = "add";
  check_floating(op, "a", a);
  check_like(op, "b", b, "a", a);
  check_device(op, b, a);
  Tensor y = empty_like(a);
  a.device->backend().add(a, in_block(op, b, a.block), y);
  return y;
}

void accumulate(const Tensor& x, const Tensor& y) {
  const char* op = "accumulate";
  check_floating(op, "x", x);
  check_like(op, "x", x, "y", y);
  check_device(op, x, y);
  y.device->backend().accumulate(in_block(op, x, y.block), y);
}

Tensor scale(const Tensor& x, double factor, const Optional& scalar) {
  const char* op = "scale";
  check_floating(op, "x", x);
  check_finite(op, "factor", factor);
  if (scalar) check_scalar(op, "scalar", *scalar, x);
  Tensor y = empty_like(x);
  x.device->backend().scale(x, factor, scalar ? *scalar : none, y);
  return y;
}

Tensor sum(const Tensor& x, double factor) {
  const char* op = "sum";
  check_floating(op, "x", x);
  check_finite(op, "factor", factor);
  Tensor y = x.device->empty(op, {}, DType::f32);
  x.device->backend().sum(x, factor, y);
  return y;
}

Tensor broadcast(const Tensor& scalar, double factor, const Shape& shape) {
  const char* op = "broadcast";
  check_scalar(op, "scalar", scalar, scalar);
  check_finite(op, "factor", factor);
  Tensor y = scalar.device->empty(op, shape, DType::f32);
  scalar.device->backend().broadcast(scalar, factor, y);
  return y;
}

Tensor cast(const Tensor& x, DType dtype) {
  const char* op = "cast";
  check_type(x.dtype == dtype || (x.dtype != DType::i64 && is_floating(dtype)), op,
             "expected a conversion to float32, bfloat16 or float16, received ", describe(x), " to ", name_of(dtype));
  if (x.dtype == dtype) return clone(x);
  check_type(x.block == 1 || is_floating(x.dtype), op, "expected a tensor in plain layout, received ", describe(x));
  Tensor y = x.device->empty_activation(op, x.shape, dtype);
  x.device->backend().convert(x, y);
  return y;
}

Tensor clone(const Tensor& x) {
  Tensor y = empty_like(x);
  x.device->backend().copy(x, y);
  return y;
}

void copy(const Tensor& src, const Tensor& dst) {
  const char* op = "copy";
  check_like(op, "source", src, "the destination", dst);
  check_device(op, src, dst);
  if (src.block == dst.block) {
    dst.device->backend().copy(src, dst);
    return;
  }
  check_floating(op, "source", src);  // only activations change their layout
  dst.device->backend().convert(src, dst);
}

void fill(const std::vector<Tensor>& tensors, double value) {
  const char* op = "fill";
  if (tensors.empty()) return;
  check_range(!std::isnan(value), op, "expected a number, received NaN");
  for (const Tensor& t : tensors) {
    check_device(op, t, tensors[0]);
    check_dtype(op, "tensors", t, DType::f32);
    check_range(value == 0 || t.block == 1, op, "expected tensors in plain layout for a value other than 0");
  }
  tensors[0].device->backend().fill(tensors, value);
}

Tensor zeros(Device& device, const Shape& shape, DType dtype) {
  Tensor t = device.empty("zeros", shape, dtype);
  device.backend().fill({t}, 0);
  return t;
}

Tensor randn(Device& device, const Shape& shape, uint64_t seed, uint32_t stream, uint64_t offset, double mean,
             double std) {
  const char* op = "randn";
  check_finite(op, "mean", mean);
  check_finite(op, "std", std);
  Tensor t = device.empty(op, shape, DType::f32);
  device.backend().randn(t, seed, stream, offset, static_cast<float>(mean), static_cast<float>(std));
  return t;
}

std::pair<Tensor, Tensor> l2_normalize(const Tensor& x, double eps) {
  const char* op = "l2Normalize";
  check_rows(op, "x", x);
  check_range(eps > 0 && eps <= 1, op, "expected eps in (0, 1], received ", eps);
  Tensor y = empty_like(x);
  Tensor norm = x.device->empty(op, {x.dim(0)}, DType::f32);
  x.device->backend().l2_normalize_forward(x, y, norm, eps);
  return {y, norm};
}

Tensor l2_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, double eps) {
  const char* op = "l2NormalizeBackward";
  check_rows(op, "y", y);
  check_like(op, "dy", dy, "y", y);
  check_dtype(op, "norm", norm, DType::f32);
  check_shape(op, "norm", norm, {y.dim(0)});
  check_device(op, dy, y);
  check_device(op, norm, y);
  check_range(eps > 0 && eps <= 1, op, "expected eps in (0, 1], received ", eps);
  Tensor dx = empty_like(y);
  y.device->backend().l2_normalize_backward(y, norm, dy, dx, eps);
  return dx;
}

Tensor softmax(const Tensor& x) {
  const char* op = "softmax";
  check_rows(op, "x", x);
  Tensor y = empty_like(x);
  x.device->backend().softmax(x, y);
  return y;
}

namespace {

void check_target(const char* op, const Tensor& target, const Tensor& x, double label_smoothing) {
  check_type(target.dtype == DType::i32 || (target.dtype == DType::f32 && target.shape.size() == 2), op,
             "expected target of int32 labels [N] or float32 probabilities [N, C], received ", describe(target));
  check_shape(op, "target", target, target.dtype == DType::i32 ? Shape{x.dim(0)} : x.shape);
  check_device(op, target, x);
  check_range(label_smoothing >= 0 && label_smoothing < 1, op, "expected labelSmoothing in [0, 1), received ",
              label_smoothing);
}

}  // namespace

std::pair<Tensor, Tensor> softmax_cross_entropy(const Tensor& x, const Tensor& target, double label_smoothing) {
  const char* op = "softmaxCrossEntropy";
  check_rows(op, "logits", x);
  check_range(x.size() > 0, op, "expected logits that are not empty, received ", describe(x));
  check_target(op, target, x, label_smoothing);
  Tensor loss = x.device->empty(op, {}, DType::f32);
  Tensor probabilities = empty_like(x);
  x.device->backend().softmax_cross_entropy_forward(x, target, probabilities, loss, label_smoothing);
  return {loss, probabilities};
}

Tensor softmax_cross_entropy_backward(const Tensor& probabilities, const Tensor& target, const Tensor& dloss,
                                      double label_smoothing) {
  const char* op = "softmaxCrossEntropyBackward";
  check_rows(op, "probabilities", probabilities);
  check_target(op, target, probabilities, label_smoothing);
  check_scalar(op, "dloss", dloss, probabilities);
  Tensor dx = empty_like(probabilities);
  dx.device->backend().softmax_cross_entropy_backward(probabilities, target, dloss, dx, label_smoothing);
  return dx;
}

}  // namespace slimclr::ops
