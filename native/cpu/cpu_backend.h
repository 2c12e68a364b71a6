// The CPU backend: oneDNN convolutions and the kernels of this folder, run by the device's stream.
#pragma once

#include <atomic>

#include "core/backend.h"
#include "core/device.h"
#include "cpu/kernels/activation.h"
#include "cpu/kernels/kernels.h"
#include "cpu/onednn.h"

namespace slimclr::cpu {

inline Elem elem_of(DType t) { return t == DType::bf16 ? Elem::bf16 : Elem::f32; }

// An activation [N, C, H, W] or a matrix [N, C] as kernels see it; without buffer, one without data.
inline Act act(const Tensor& t) {
  if (!t.buffer) return {};
  if (t.shape.size() == 4) return {t.data(), elem_of(t.dtype), t.dim(0), t.dim(1), t.dim(2), t.dim(3), t.block};
  if (t.shape.size() == 2) return {t.data(), elem_of(t.dtype), t.dim(0), t.dim(1), 1, 1, 1};
  return {t.data(), elem_of(t.dtype), 1, t.size(), 1, 1, 1};
}

inline float* floats(const Tensor& t) { return t.buffer ? t.as<float>() : nullptr; }
inline const int32_t* int32s(const Tensor& t) { return t.buffer ? t.as<int32_t>() : nullptr; }

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(Device& device);

  std::map<std::string, std::string> info() const override;
  bool supports(DType dtype, std::string* why) const override;
  void set_num_threads(int n) override;
  int num_threads() const override { return threads_; }
  int64_t activation_block(const Shape& shape) const override;

  void write(const Tensor& dst, const void* host, size_t bytes) override;
  void read(const Tensor& src, void* host) override;
  void convert(const Tensor& src, const Tensor& dst) override;
  void copy(const Tensor& src, const Tensor& dst) override;
  void fill(const std::vector<Tensor>& tensors, double value) override;
  void randn(const Tensor& out, uint64_t seed, uint32_t stream, uint64_t offset, float mean, float std) override;

  void pack_weights(const std::vector<Conv2dSlice>&, DType) override {}  // convolutions read the weights themselves
  void conv2d_forward(const Tensor& x, const Tensor& w, const Tensor& y, const Conv2d& p) override;
  void conv2d_backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx, const Conv2d& p) override;
  void conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dw, const Conv2d& p) override;

  void batch_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& running_mean,
                          const Tensor& running_var, const Tensor& residual, const Tensor& y, const Tensor& mean,
                          const Tensor& rstd, const BatchNorm& p) override;
  void batch_norm_backward(const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& dy2, const Tensor& weight,
                           const Tensor& bias, const Tensor& mean, const Tensor& rstd, const Tensor& dx,
                           const Tensor& dresidual, const Tensor& dweight, const Tensor& dbias,
                           const BatchNorm& p) override;

  void max_pool2d_forward(const Tensor& x, const Tensor& y, const Tensor& index, const Pool& p) override;
  void max_pool2d_backward(const Tensor& dy, const Tensor& index, const Tensor& dx, const Pool& p) override;
  void global_avg_pool2d_forward(const Tensor& x, const Tensor& y) override;
  void global_avg_pool2d_backward(const Tensor& dy, const Tensor& dx) override;

  void linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) override;
  void linear_backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx) override;
  void linear_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dw, const Tensor& dbias) override;

  void index_select(const std::vector<Tensor>& inputs, const Tensor& index, const Tensor& y) override;
  void index_add(const Tensor& dy, const Tensor& index, int64_t first, const Tensor& dx) override;

  void relu_forward(const Tensor& x, const Tensor& y) override;
  void relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) override;
  void add(const Tensor& a, const Tensor& b, const Tensor& y) override;
  void accumulate(const Tensor& x, const Tensor& y) override;
  void scale(const Tensor& x, double s, const Tensor& scalar, const Tensor& y) override;
  void sum(const Tensor& x, double factor, const Tensor& y) override;
  void broadcast(const Tensor& scalar, double factor, const Tensor& y) override;
  void l2_normalize_forward(const Tensor& x, const Tensor& y, const Tensor& norm, double eps) override;
  void l2_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, const Tensor& dx,
                             double eps) override;
  void softmax(const Tensor& x, const Tensor& y) override;
  void softmax_cross_entropy_forward(const Tensor& x, const Tensor& target, const Tensor& probabilities,
                                     const Tensor& loss, double label_smoothing) override;
  void softmax_cross_entropy_backward(const Tensor& probabilities, const Tensor& target, const Tensor& dloss,
                                      const Tensor& dx, double label_smoothing) override;

  void info_nce(const std::vector<Tensor>& queries, const Tensor& key, const Tensor& queue, const Tensor& weights,
                const Tensor& loss, const Tensor& per_width, const std::vector<Tensor>& gradients,
                const InfoNce& p) override;

  void distill(const Tensor& student, const Tensor& teacher, const Tensor& positives, const Tensor& loss,
               const Tensor& gradient, const Distill& p) override;

  void sgd(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& momenta,
           const Tensor& lr, const Sgd& p) override;
  void lars(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& momenta,
            const Tensor& lr, const Lars& p) override;
  void adamw(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& exp_avgs,
             const std::vector<Tensor>& exp_avg_sqs, const std::vector<Tensor>& steps, const Tensor& lr,
             const AdamW& p) override;
  void rescale(const std::vector<Tensor>& tensors, double factor) override;
  void clip_grad_norm(const std::vector<Tensor>& grads, double max_norm, const Tensor& norm) override;
  void unscale(const std::vector<Tensor>& grads, const Tensor& scale, const Tensor& found) override;
  void update_scale(const Tensor& scale, const Tensor& good_steps, const Tensor& found, const ScaleRule& r) override;
  void ema(const std::vector<Tensor>& targets, const std::vector<Tensor>& sources, const Tensor& m) override;
  void enqueue(const Tensor& queue, const Tensor& keys, const Tensor& pointer) override;

  void augment_params(const AugmentRecipe& recipe, const Tensor& sizes, uint64_t seed, uint32_t stream,
                      const Tensor& offset, const Tensor& params) override;
  void augment(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
               const Tensor& out, const Augment& p) override;
  void augment_raw(const Tensor& pixels, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
                   const Tensor& out) override;

  void knn(const Tensor& query, const Tensor& bank, const Tensor& labels, int64_t k, double temperature,
           const Tensor& scores) override;

 private:
  enum class Engine { direct, winograd, onednn };
  Engine engine_for(const ConvolutionKey& key, const ConvArgs& args) const;
  void convolve(const Tensor& x, const Tensor& y, const Tensor& w, const Conv2d& p, ConvolutionPass pass);
  // Memory for one op. Freed as soon as the op is enqueued: later users come later on the stream.
  Buffer scratch(int64_t bytes) { return Buffer(device_.memory_share(), static_cast<size_t>(bytes > 0 ? bytes : 1)); }
  template <typename F>
  void run(F task) {
    device_.stream().enqueue(std::move(task));
  }

  Device& device_;
  const Kernels& k_;
  OneDnn onednn_;
  int threads_;
};

}  // namespace slimclr::cpu
