// Layers: convolution, batch normalisation, pooling, linear.
#include "core/checks.h"
#include "core/ops.h"

namespace slimclr {

namespace {

// Memory for a tensor whose shape, type and layout are set, from the pool of another.
void allocate_like(Tensor& t, const Tensor& other) {
  t.buffer = std::make_shared<Buffer>(other.buffer->allocator(), t.bytes());
}

}  // namespace

Tensor in_block(const char* op, const Tensor& t, int64_t block) {
  if (t.block == block) return t;
  count(op, t.shape);
  Tensor out{t.shape, t.dtype, block, t.device, nullptr};
  allocate_like(out, t);
  t.device->backend().convert(t, out);
  return out;
}

namespace ops {

namespace {

const Tensor none;

const Tensor& or_none(const Optional& t) { return t ? *t : none; }

int64_t out_size(const char* op, const char* axis, int64_t in, int64_t kernel, int64_t stride, int64_t padding) {
  check_range(in >= 1, op, "expected images that are not empty, received ", axis, " ", in);
  int64_t span = in + 2 * padding - kernel;
  check_range(span >= 0, op, "expected an input at least as large as the kernel: ", axis, " ", in, " with padding ",
              padding, " is smaller than kernel ", kernel);
  return span / stride + 1;
}

void check_window(const char* op, int64_t stride, int64_t padding) {
  check_range(stride >= 1 && stride <= 1024, op, "expected stride in 1…1024, received ", stride);
  check_range(padding >= 0 && padding <= 1024, op, "expected padding in 0…1024, received ", padding);
}

Shape check_image_shape(const char* op, const Shape& shape) {
  check_type(shape.size() == 4, op, "expected xShape of 4 dimensions, received ", to_string(shape));
  count(op, shape);
  return shape;
}

Conv2d conv_geometry(const char* op, const Tensor& weight, int64_t out_channels, int64_t in_channels, int64_t stride,
                     int64_t padding) {
  check_rank(op, "weight", weight, 4);
  check_dtype(op, "weight", weight, DType::f32);
  check_range(weight.block == 1, op, "expected weight in plain layout, received an activation");
  check_window(op, stride, padding);
  check_range(out_channels >= 1 && out_channels <= weight.dim(0), op, "expected outChannels in 1…", weight.dim(0),
              " (weight is ", to_string(weight.shape), "), received ", out_channels);
  check_range(in_channels >= 1 && in_channels <= weight.dim(1), op, "expected inChannels in 1…", weight.dim(1),
              " (weight is ", to_string(weight.shape), "), received ", in_channels);
  check_range(weight.dim(2) >= 1 && weight.dim(3) >= 1 && weight.dim(2) <= 1024 && weight.dim(3) <= 1024, op,
              "expected a kernel of 1…1024, received weight ", to_string(weight.shape));
  return {out_channels, in_channels, weight.dim(2), weight.dim(3), stride, padding};
}

Shape conv_out_shape(const char* op, const Shape& x, const Conv2d& p) {
  return {x[0], p.out_channels, out_size(op, "height", x[2], p.kernel_h, p.stride, p.padding),
          out_size(op, "width", x[3], p.kernel_w, p.stride, p.padding)};
}

}  // namespace

void pack_weights(const std::vector<Tensor>& weights, const std::vector<int64_t>& out_channels,
                  const std::vector<int64_t>& in_channels, DType dtype) {
  const char* op = "packWeights";
  check_range(out_channels.size() == weights.size() && in_channels.size() == weights.size(), op, "expected ",
              weights.size(), " outChannels and inChannels, one of each per weight, received ", out_channels.size(),
              " and ", in_channels.size());
  check_type(is_floating(dtype), op, "expected dtype to be a floating type, received ", name_of(dtype));
  std::vector<Conv2dSlice> slices;
  for (size_t i = 0; i < weights.size(); ++i) {
    check_device(op, weights[i], weights[0]);
    conv_geometry(op, weights[i], out_channels[i], in_channels[i], 1, 0);
    slices.push_back({weights[i], out_channels[i], in_channels[i]});
  }
  if (!slices.empty()) weights[0].device->backend().pack_weights(slices, dtype);
}

Tensor conv2d(const Tensor& x, const Tensor& weight, int64_t out_channels, int64_t in_channels, int64_t stride,
              int64_t padding) {
  const char* op = "conv2d";
  Conv2d p = conv_geometry(op, weight, out_channels, in_channels, stride, padding);
  check_device(op, weight, x);
  check_rank(op, "x", x, 4);
  check_floating(op, "x", x);
  check_range(x.dim(1) == in_channels, op, "expected x of ", in_channels,
              " channels for the slice weight[:", out_channels, ", :", in_channels, "], received ", to_string(x.shape));
  Tensor y = x.device->empty_activation(op, conv_out_shape(op, x.shape, p), x.dtype);
  if (y.size() > 0) x.device->backend().conv2d_forward(x, weight, y, p);
  return y;
}

Tensor conv2d_backward_data(const Tensor& dy, const Tensor& weight, const Shape& x_shape, int64_t stride,
                            int64_t padding) {
  const char* op = "conv2dBackwardData";
  check_rank(op, "dy", dy, 4);
  check_floating(op, "dy", dy);
  check_device(op, weight, dy);
  check_image_shape(op, x_shape);
  Conv2d p = conv_geometry(op, weight, dy.dim(1), x_shape[1], stride, padding);
  check_shape(op, "dy", dy, conv_out_shape(op, x_shape, p));
  Tensor dx = dy.device->empty_activation(op, x_shape, dy.dtype);
  if (dx.size() > 0) dy.device->backend().conv2d_backward_data(dy, weight, dx, p);
  return dx;
}

void conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dweight, int64_t stride, int64_t padding) {
  const char* op = "conv2dBackwardWeight";
  check_rank(op, "x", x, 4);
  check_rank(op, "dy", dy, 4);
  check_floating(op, "x", x);
  check_dtype(op, "dy", dy, x.dtype);
  check_device(op, dy, x);
  check_device(op, dweight, x);
  Conv2d p = conv_geometry(op, dweight, dy.dim(1), x.dim(1), stride, padding);
  check_shape(op, "dy", dy, conv_out_shape(op, x.shape, p));
  if (dy.size() > 0) x.device->backend().conv2d_backward_weight(x, dy, dweight, p);
}

namespace {

void check_channel_vector(const char* op, const char* name, const Tensor& t, const Tensor& x) {
  check_dtype(op, name, t, DType::f32);
  check_shape(op, name, t, {x.dim(1)});
  check_device(op, t, x);
}

void check_batch_norm(const char* op, const Tensor& x, const Optional& weight, const Optional& bias,
                      const BatchNorm& p) {
  check_type(x.shape.size() == 2 || x.shape.size() == 4, op, "expected x [N, C] or [N, C, H, W], received ",
             describe(x));
  check_floating(op, "x", x);
  check_range(x.size() > 0, op, "expected a batch that is not empty, received ", describe(x));
  check_range(p.eps > 0 && p.eps <= 1, op, "expected eps in (0, 1], received ", p.eps);
  check_range(p.momentum >= 0 && p.momentum <= 1, op, "expected momentum in [0, 1], received ", p.momentum);
  check_type(p.relu || !p.residual_last, op, "expected relu where residualLast is set");
  check_type(weight.has_value() == bias.has_value(), op, "expected weight and bias, or neither");
  if (weight) check_channel_vector(op, "weight", *weight, x);
  if (bias) check_channel_vector(op, "bias", *bias, x);
}

Tensor empty_like(const Tensor& x) {
  Tensor y = x;
  allocate_like(y, x);
  return y;
}

}  // namespace

BatchNormResult batch_norm(const Tensor& x, const Optional& weight, const Optional& bias, const Tensor& running_mean,
                           const Tensor& running_var, const Optional& residual, const BatchNorm& p) {
  const char* op = "batchNorm";
  check_batch_norm(op, x, weight, bias, p);
  check_channel_vector(op, "runningMean", running_mean, x);
  check_channel_vector(op, "runningVar", running_var, x);
  Optional r;
  if (residual) {
    check_like(op, "residual", *residual, "x", x);
    check_device(op, *residual, x);
    r = in_block(op, *residual, x.block);
  }
  BatchNormResult out{empty_like(x), x.device->empty(op, {x.dim(1)}, DType::f32),
                      x.device->empty(op, {x.dim(1)}, DType::f32)};
  x.device->backend().batch_norm_forward(x, or_none(weight), or_none(bias), running_mean, running_var, or_none(r),
                                         out.y, out.mean, out.rstd, p);
  return out;
}

std::pair<Tensor, Optional> batch_norm_backward(const Tensor& x, const Optional& y, const Tensor& dy,
                                                const Optional& dy2, const Optional& weight, const Optional& bias,
                                                const Tensor& mean, const Tensor& rstd, const Optional& dweight,
                                                const Optional& dbias, bool residual, const BatchNorm& p) {
  const char* op = "batchNormBackward";
  check_batch_norm(op, x, weight, bias, p);
  auto like_x = [&](const char* name, const Tensor& t) {
    check_like(op, name, t, "x", x);
    check_device(op, t, x);
    return in_block(op, t, x.block);
  };
  check_type(y || !(residual && p.relu && !p.residual_last), op, "expected y for the mask of a ReLU after a residual");
  Tensor dy_ = like_x("dy", dy);
  Optional y_, dy2_, dresidual;
  if (y) y_ = like_x("y", *y);
  if (dy2) dy2_ = like_x("dy2", *dy2);
  check_channel_vector(op, "mean", mean, x);
  check_channel_vector(op, "rstd", rstd, x);
  if (dweight) check_channel_vector(op, "dweight", *dweight, x);
  if (dbias) check_channel_vector(op, "dbias", *dbias, x);
  Tensor dx = empty_like(x);
  if (residual) dresidual = empty_like(x);
  x.device->backend().batch_norm_backward(x, or_none(y_), dy_, or_none(dy2_), or_none(weight), or_none(bias), mean,
                                          rstd, dx, or_none(dresidual), or_none(dweight), or_none(dbias), p);
  return {dx, dresidual};
}

namespace {

void check_pool(const char* op, int64_t kernel, int64_t stride, int64_t padding) {
  check_window(op, stride, padding);
  check_range(kernel >= 1 && kernel <= 16, op, "expected kernelSize in 1…16, received ", kernel);
  check_range(padding <= kernel / 2, op, "expected padding of at most half the kernel (", kernel, "), received ",
              padding);
}

Shape pool_out_shape(const char* op, const Shape& x, int64_t kernel, int64_t stride, int64_t padding) {
  return {x[0], x[1], out_size(op, "height", x[2], kernel, stride, padding),
          out_size(op, "width", x[3], kernel, stride, padding)};
}

}  // namespace

std::pair<Tensor, Tensor> max_pool2d(const Tensor& x, int64_t kernel, int64_t stride, int64_t padding) {
  const char* op = "maxPool2d";
  check_rank(op, "x", x, 4);
  check_floating(op, "x", x);
  check_pool(op, kernel, stride, padding);
  Tensor y{pool_out_shape(op, x.shape, kernel, stride, padding), x.dtype, x.block, x.device, nullptr};
  count(op, y.shape);
  Tensor index{y.shape, DType::u8, x.block, x.device, nullptr};
  allocate_like(y, x);
  allocate_like(index, x);
  if (y.size() > 0) x.device->backend().max_pool2d_forward(x, y, index, {kernel, stride, padding});
  return {y, index};
}

Tensor max_pool2d_backward(const Tensor& dy, const Tensor& index, const Shape& x_shape, int64_t kernel, int64_t stride,
                           int64_t padding) {
  const char* op = "maxPool2dBackward";
  check_rank(op, "dy", dy, 4);
  check_floating(op, "dy", dy);
  check_pool(op, kernel, stride, padding);
  check_dtype(op, "index", index, DType::u8);
  check_device(op, index, dy);
  check_image_shape(op, x_shape);
  Shape y_shape = pool_out_shape(op, x_shape, kernel, stride, padding);
  check_shape(op, "dy", dy, y_shape);
  check_shape(op, "index", index, y_shape);
  Tensor dx{x_shape, dy.dtype, index.block, dy.device, nullptr};
  allocate_like(dx, dy);
  if (dx.size() > 0)
    dy.device->backend().max_pool2d_backward(in_block(op, dy, index.block), index, dx, {kernel, stride, padding});
  return dx;
}

Tensor global_avg_pool2d(const Tensor& x) {
  const char* op = "globalAvgPool2d";
  check_rank(op, "x", x, 4);
  check_floating(op, "x", x);
  check_range(x.dim(2) > 0 && x.dim(3) > 0, op, "expected images that are not empty, received ", describe(x));
  Tensor y = x.device->empty(op, {x.dim(0), x.dim(1)}, DType::f32);
  if (y.size() > 0) x.device->backend().global_avg_pool2d_forward(x, y);
  return y;
}

Tensor global_avg_pool2d_backward(const Tensor& dy, const Shape& x_shape, DType dtype) {
  const char* op = "globalAvgPool2dBackward";
  check_dtype(op, "dy", dy, DType::f32);
  check_image_shape(op, x_shape);
  check_shape(op, "dy", dy, {x_shape[0], x_shape[1]});
  check_type(is_floating(dtype), op, "expected float32, bfloat16 or float16, received ", name_of(dtype));
  Tensor dx = dy.device->empty_activation(op, x_shape, dtype);
  if (dx.size() > 0) dy.device->backend().global_avg_pool2d_backward(dy, dx);
  return dx;
}

namespace {

void check_matrix(const char* op, const char* name, const Tensor& t) {
  check_rank(op, name, t, 2);
  check_dtype(op, name, t, DType::f32);
}

void check_bias(const char* op, const char* name, const Tensor& bias, const Tensor& weight, const Tensor& x) {
  check_dtype(op, name, bias, DType::f32);
  check_shape(op, name, bias, {weight.dim(0)});
  check_device(op, bias, x);
}

void check_slice(const char* op, const Tensor& weight, int64_t out_features, int64_t in_features) {
  check_range(out_features >= 1 && out_features <= weight.dim(0), op, "expected outFeatures in 1…", weight.dim(0),
              " (weight is ", to_string(weight.shape), "), received ", out_features);
  check_range(in_features >= 1 && in_features <= weight.dim(1), op, "expected inFeatures in 1…", weight.dim(1),
              " (weight is ", to_string(weight.shape), "), received ", in_features);
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Optional& bias, int64_t out_features, int64_t in_features) {
  const char* op = "linear";
  check_matrix(op, "x", x);
  check_matrix(op, "weight", weight);
  check_device(op, weight, x);
  check_slice(op, weight, out_features, in_features);
  check_range(x.dim(1) == in_features, op, "expected x of ", in_features,
              " features for the slice weight[:", out_features, ", :", in_features, "], received ", to_string(x.shape));
  if (bias) check_bias(op, "bias", *bias, weight, x);
  Tensor y = x.device->empty(op, {x.dim(0), out_features}, DType::f32);
  if (y.size() > 0) x.device->backend().linear_forward(x, weight, or_none(bias), y);
  return y;
}

Tensor linear_backward_data(const Tensor& dy, const Tensor& weight, int64_t in_features) {
  const char* op = "linearBackwardData";
  check_matrix(op, "dy", dy);
  check_matrix(op, "weight", weight);
  check_device(op, weight, dy);
  check_slice(op, weight, dy.dim(1), in_features);
  Tensor dx = dy.device->empty(op, {dy.dim(0), in_features}, DType::f32);
  if (dx.size() > 0) dy.device->backend().linear_backward_data(dy, weight, dx);
  return dx;
}

void linear_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dweight, const Optional& dbias) {
  const char* op = "linearBackwardWeight";
  check_matrix(op, "x", x);
  check_matrix(op, "dy", dy);
  check_matrix(op, "dweight", dweight);
  check_device(op, dy, x);
  check_device(op, dweight, x);
  check_range(x.dim(0) == dy.dim(0), op, "expected x and dy of one batch size, received ", describe(x), " and ",
              describe(dy));
  check_slice(op, dweight, dy.dim(1), x.dim(1));
  if (dbias) check_bias(op, "dbias", *dbias, dweight, x);
  if (x.dim(0) > 0) x.device->backend().linear_backward_weight(x, dy, dweight, or_none(dbias));
}

}  // namespace ops
}  // namespace slimclr
