// The ops: each checks its arguments, allocates its result and hands the work to the device's backend.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "core/backend.h"
#include "core/device.h"
#include "core/tensor.h"

namespace slimclr::ops {

using Optional = std::optional<Tensor>;

// Convolution over channel slices: uses weight[:out_channels, :in_channels].
Tensor conv2d(const Tensor& x, const Tensor& weight, int64_t out_channels, int64_t in_channels, int64_t stride,
              int64_t padding);
// Slices i, weights[i][:out_channels[i], :in_channels[i]], are made ready for conv2d of activations of this type.
void pack_weights(const std::vector<Tensor>& weights, const std::vector<int64_t>& out_channels,
                  const std::vector<int64_t>& in_channels, DType dtype);
Tensor conv2d_backward_data(const Tensor& dy, const Tensor& weight, const Shape& x_shape, int64_t stride,
                            int64_t padding);
void conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dweight, int64_t stride, int64_t padding);

struct BatchNormResult {
  Tensor y, mean, rstd;
};
BatchNormResult batch_norm(const Tensor& x, const Optional& weight, const Optional& bias, const Tensor& running_mean,
                           const Tensor& running_var, const Optional& residual, const BatchNorm& p);
// Returns dx and, where the forward pass had a residual, its gradient. y is needed where a ReLU came after it.
std::pair<Tensor, Optional> batch_norm_backward(const Tensor& x, const Optional& y, const Tensor& dy,
                                                const Optional& dy2, const Optional& weight, const Optional& bias,
                                                const Tensor& mean, const Tensor& rstd, const Optional& dweight,
                                                const Optional& dbias, bool residual, const BatchNorm& p);

std::pair<Tensor, Tensor> max_pool2d(const Tensor& x, int64_t kernel, int64_t stride, int64_t padding);
Tensor max_pool2d_backward(const Tensor& dy, const Tensor& index, const Shape& x_shape, int64_t kernel, int64_t stride,
                           int64_t padding);
Tensor global_avg_pool2d(const Tensor& x);
Tensor global_avg_pool2d_backward(const Tensor& dy, const Shape& x_shape, DType dtype);

Tensor linear(const Tensor& x, const Tensor& weight, const Optional& bias, int64_t out_features, int64_t in_features);
Tensor linear_backward_data(const Tensor& dy, const Tensor& weight, int64_t in_features);
void linear_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dweight, const Optional& dbias);

// The same memory under another shape of as many elements.
Tensor reshape(const Tensor& x, const Shape& shape);
// The rows (slices of the first dimension) that `index` names, of all inputs on top of each other; without index all.
Tensor index_select(const std::vector<Tensor>& inputs, const Optional& index);
// Its gradient with respect to the input that has the shape and begins at row `first` of all.
Tensor index_select_backward(const Tensor& dy, const Optional& index, int64_t first, const Shape& shape);

Tensor relu(const Tensor& x);
Tensor relu_backward(const Tensor& y, const Tensor& dy);
Tensor add(const Tensor& a, const Tensor& b);
void accumulate(const Tensor& x, const Tensor& y);  // y += x
Tensor scale(const Tensor& x, double factor, const Optional& scalar);
Tensor sum(const Tensor& x, double factor);
Tensor broadcast(const Tensor& scalar, double factor, const Shape& shape);
Tensor cast(const Tensor& x, DType dtype);
Tensor clone(const Tensor& x);
void copy(const Tensor& src, const Tensor& dst);
void fill(const std::vector<Tensor>& tensors, double value);
Tensor zeros(Device& device, const Shape& shape, DType dtype);
Tensor randn(Device& device, const Shape& shape, uint64_t seed, uint32_t stream, uint64_t offset, double mean,
             double std);

std::pair<Tensor, Tensor> l2_normalize(const Tensor& x, double eps);
Tensor l2_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, double eps);
Tensor softmax(const Tensor& x);
std::pair<Tensor, Tensor> softmax_cross_entropy(const Tensor& x, const Tensor& target, double label_smoothing);
Tensor softmax_cross_entropy_backward(const Tensor& probabilities, const Tensor& target, const Tensor& dloss,
                                      double label_smoothing);

struct InfoNceResult {
  Tensor loss, per_width;
  std::vector<Tensor> gradients;
};
InfoNceResult info_nce(const std::vector<Tensor>& queries, const Tensor& key, const Tensor& queue,
                       const Tensor& weights, bool want_gradients, const InfoNce& p);

struct DistillResult {
  Tensor loss;
  Optional gradient;
};
DistillResult distill(const Tensor& student, const Tensor& teacher, const Optional& positives, bool want_gradient,
                      const Distill& p);

void sgd(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& momenta,
         const Tensor& lr, const Sgd& p);
void lars(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& momenta,
          const Tensor& lr, const Lars& p);
void adamw(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& exp_avgs,
           const std::vector<Tensor>& exp_avg_sqs, const std::vector<Tensor>& steps, const Tensor& lr, const AdamW& p);
void rescale(const std::vector<Tensor>& tensors, double factor);
Tensor clip_grad_norm(const std::vector<Tensor>& grads, double max_norm);
Tensor unscale(const std::vector<Tensor>& grads, const Tensor& scale);
void update_scale(const Tensor& scale, const Tensor& good_steps, const Tensor& found, const ScaleRule& r);
void ema(const std::vector<Tensor>& targets, const std::vector<Tensor>& sources, const Tensor& m);
void enqueue(const Tensor& queue, const Tensor& keys, const Tensor& pointer);

Tensor augment_params(const AugmentRecipe& recipe, const Tensor& sizes, uint64_t seed, uint32_t stream,
                      const Tensor& offset);
Tensor augment(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params, DType dtype,
               const Augment& p);
Tensor augment_raw(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
                   int64_t height, int64_t width);

Tensor knn(const Tensor& query, const Tensor& bank, const Tensor& labels, int64_t k, double temperature,
           int64_t classes);

}  // namespace slimclr::ops
