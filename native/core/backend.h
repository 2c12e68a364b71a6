// What a device must implement. Arguments were checked in ops.cpp, outputs are allocated; each call enqueues its work
// on the device's stream and returns. Gradients of parameters are added to what the gradient tensor holds.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/augment_params.h"
#include "core/tensor.h"

namespace slimclr {

struct Conv2d {
  int64_t out_channels, in_channels;  // the slice weight[:out_channels, :in_channels]
  int64_t kernel_h, kernel_w, stride, padding;
};

// What a width uses of a convolution's weight [O, I, kh, kw]: weight[:out_channels, :in_channels].
struct Conv2dSlice {
  Tensor weight;
  int64_t out_channels, in_channels;
};

struct BatchNorm {
  bool training, relu;
  bool residual_last;  // relu(bn(x)) + residual instead of relu(bn(x) + residual)
  double momentum, eps;
};

struct Pool {
  int64_t kernel, stride, padding;
};

struct InfoNce {
  double temperature, teacher_temperature, student_temperature, aux;
  bool similarity;    // distillation of the similarity distribution; else InfoNCE alone
  bool full_distill;  // teach by the mean of all larger widths
};

struct Distill {
  enum class Kind { kd, mse, atkd, dkd } kind;
  double teacher_temperature, student_temperature;  // of kd
};

struct Sgd {
  double momentum;
  bool nesterov;
  std::vector<float> weight_decay;  // one per parameter
  Tensor skip = {};                 // float32 [1]: unless 0, the step is left out; may be without buffer
};

struct Lars {
  double momentum, weight_decay, trust_coefficient;
  Tensor skip = {};  // as of Sgd
};

struct AdamW {
  double beta1, beta2, eps;
  std::vector<float> weight_decay;  // one per parameter
  Tensor skip = {};                 // as of Sgd
};

struct ScaleRule {
  double growth, backoff;
  int64_t interval;  // steps without overflow until the scale grows
};

struct Augment {
  int64_t height, width;
  float mean[3], std[3];
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::map<std::string, std::string> info() const = 0;  // libraries, instruction sets, threads: for `doctor`
  virtual bool supports(DType dtype, std::string* why) const = 0;
  virtual void set_num_threads(int n) = 0;
  virtual int num_threads() const = 0;
  // The channel block an activation of this shape is stored with; 1 for plain NCHW.
  virtual int64_t activation_block(const Shape& shape) const = 0;

  // `bytes` of host memory are read at once; `write` may be called on any tensor, in its own layout.
  virtual void write(const Tensor& dst, const void* host, size_t bytes) = 0;
  // Plain row-major copy into host memory that must live until the work is done.
  virtual void read(const Tensor& src, void* host) = 0;

  virtual void convert(const Tensor& src, const Tensor& dst) = 0;  // element type and layout
  virtual void copy(const Tensor& src, const Tensor& dst) = 0;     // same type, shape and layout
  virtual void fill(const std::vector<Tensor>& tensors, double value) = 0;
  virtual void randn(const Tensor& out, uint64_t seed, uint32_t stream, uint64_t offset, float mean, float std) = 0;

  // Brings slices into the form that convolutions of activations of this type read, all at once. Only saves time: a
  // convolution does it where it was not done since the weight's last change. None twice, none of weights from within a
  // recording.
  virtual void pack_weights(const std::vector<Conv2dSlice>& slices, DType dtype) = 0;
  virtual void conv2d_forward(const Tensor& x, const Tensor& w, const Tensor& y, const Conv2d& p) = 0;
  virtual void conv2d_backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx, const Conv2d& p) = 0;
  virtual void conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dw, const Conv2d& p) = 0;

  // weight, bias: [C] or without buffer. residual: like x or without buffer. mean, rstd: float32 [C], saved for
  // backward.
  virtual void batch_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                                  const Tensor& running_var, const Tensor& residual, const Tensor& y,
                                  const Tensor& mean, const Tensor& rstd, const BatchNorm& p) = 0;
  // y is read where a residual was added before the ReLU (dresidual has a buffer); else the ReLU's mask comes from x,
  // weight and bias.
  // dy2: a second gradient of y to be added to dy, or without buffer. dweight, dbias: may be without buffer.
  virtual void batch_norm_backward(const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& dy2,
                                   const Tensor& weight, const Tensor& bias, const Tensor& mean, const Tensor& rstd,
                                   const Tensor& dx, const Tensor& dresidual, const Tensor& dweight,
                                   const Tensor& dbias, const BatchNorm& p) = 0;

  virtual void max_pool2d_forward(const Tensor& x, const Tensor& y, const Tensor& index, const Pool& p) = 0;
  virtual void max_pool2d_backward(const Tensor& dy, const Tensor& index, const Tensor& dx, const Pool& p) = 0;
  virtual void global_avg_pool2d_forward(const Tensor& x, const Tensor& y) = 0;
  virtual void global_avg_pool2d_backward(const Tensor& dy, const Tensor& dx) = 0;

  // y = x · weight[:o, :i]ᵀ + bias[:o], x [N, i], y [N, o]
  virtual void linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) = 0;
  virtual void linear_backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx) = 0;
  virtual void linear_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dw, const Tensor& dbias) = 0;

  // y[m] = row index[m] (int32) of all inputs on top of each other; rows are of one type, shape and layout. An index
  // without buffer is 0, 1, 2, …
  virtual void index_select(const std::vector<Tensor>& inputs, const Tensor& index, const Tensor& y) = 0;
  // dx[r] = Σ dy[m] over the m with index[m] = first + r; float32.
  virtual void index_add(const Tensor& dy, const Tensor& index, int64_t first, const Tensor& dx) = 0;

  virtual void relu_forward(const Tensor& x, const Tensor& y) = 0;
  virtual void relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) = 0;
  virtual void add(const Tensor& a, const Tensor& b, const Tensor& y) = 0;
  virtual void accumulate(const Tensor& x, const Tensor& y) = 0;  // y += x
  // y = x · s · scalar[0]; scalar may be without buffer.
  virtual void scale(const Tensor& x, double s, const Tensor& scalar, const Tensor& y) = 0;
  virtual void sum(const Tensor& x, double factor, const Tensor& y) = 0;  // y[0] = factor · Σx
  // y[:] = factor · scalar[0]
  virtual void broadcast(const Tensor& scalar, double factor, const Tensor& y) = 0;
  virtual void l2_normalize_forward(const Tensor& x, const Tensor& y, const Tensor& norm, double eps) = 0;
  virtual void l2_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, const Tensor& dx,
                                     double eps) = 0;
  virtual void softmax(const Tensor& x, const Tensor& y) = 0;
  // target: int32 [N] or float32 [N, C]; probabilities [N, C] are saved for backward; loss [].
  virtual void softmax_cross_entropy_forward(const Tensor& x, const Tensor& target, const Tensor& probabilities,
                                             const Tensor& loss, double label_smoothing) = 0;
  virtual void softmax_cross_entropy_backward(const Tensor& probabilities, const Tensor& target, const Tensor& dloss,
                                              const Tensor& dx, double label_smoothing) = 0;

  // gradients[w] = ∂loss/∂queries[w]; gradients may be empty.
  virtual void info_nce(const std::vector<Tensor>& queries, const Tensor& key, const Tensor& queue,
                        const Tensor& weights, const Tensor& loss, const Tensor& per_width,
                        const std::vector<Tensor>& gradients, const InfoNce& p) = 0;

  // Distillation of teacher into student, [N, C] each; positives int32 [N] for dkd, else without buffer. gradient =
  // ∂loss/∂student, or without buffer.
  virtual void distill(const Tensor& student, const Tensor& teacher, const Tensor& positives, const Tensor& loss,
                       const Tensor& gradient, const Distill& p) = 0;

  virtual void sgd(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                   const std::vector<Tensor>& momenta, const Tensor& lr, const Sgd& p) = 0;
  // Parameters of one dimension or none are neither decayed nor scaled.
  virtual void lars(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                    const std::vector<Tensor>& momenta, const Tensor& lr, const Lars& p) = 0;
  // steps: one element per parameter, counted up.
  virtual void adamw(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                     const std::vector<Tensor>& exp_avgs, const std::vector<Tensor>& exp_avg_sqs,
                     const std::vector<Tensor>& steps, const Tensor& lr, const AdamW& p) = 0;
  virtual void rescale(const std::vector<Tensor>& tensors, double factor) = 0;
  // norm[0] = the norm of all; above max_norm every element is scaled by max_norm / (norm + 1e-6).
  virtual void clip_grad_norm(const std::vector<Tensor>& grads, double max_norm, const Tensor& norm) = 0;
  // Every element *= 1 / scale[0]; found[0] = 1 where one is not finite, else 0.
  virtual void unscale(const std::vector<Tensor>& grads, const Tensor& scale, const Tensor& found) = 0;
  // As PyTorch's GradScaler: scale[0] *= backoff after an overflow, *= growth after `interval` steps without one.
  // good_steps: int64 [1], the steps since either.
  virtual void update_scale(const Tensor& scale, const Tensor& good_steps, const Tensor& found, const ScaleRule& r) = 0;
  virtual void ema(const std::vector<Tensor>& targets, const std::vector<Tensor>& sources, const Tensor& m) = 0;
  virtual void enqueue(const Tensor& queue, const Tensor& keys, const Tensor& pointer) = 0;

  virtual void augment_params(const AugmentRecipe& recipe, const Tensor& sizes, uint64_t seed, uint32_t stream,
                              const Tensor& offset, const Tensor& params) = 0;
  virtual void augment(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
                       const Tensor& out, const Augment& p) = 0;
  // The same without normalisation, rounded: uint8 [N, H, W, 3].
  virtual void augment_raw(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
                           const Tensor& out) = 0;

  virtual void knn(const Tensor& query, const Tensor& bank, const Tensor& labels, int64_t k, double temperature,
                   const Tensor& scores) = 0;
};

}  // namespace slimclr
