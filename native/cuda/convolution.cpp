// Convolutions over channel slices.
#include "cuda/cuda_backend.h"
#include "cuda/kernels/weights.h"
#include "cuda/packed_weight.h"

namespace slimclr::cuda {

namespace {

// Plans that are timed when a shape is first seen.
constexpr size_t kCandidates = 8;
constexpr int kRepeats = 3;

class Event {
 public:
  Event() { check_cuda(cudaEventCreate(&event_), "conv2d"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  operator cudaEvent_t() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

std::shared_ptr<ConvolutionPlan> CudaBackend::fastest(const char* op,
                                                      const std::vector<std::shared_ptr<ConvolutionPlan>>& candidates,
                                                      void* x, void* w, void* y) {
  context_->enter();
  device_.stream().drain();  // nothing else runs meanwhile, on the device or with cuDNN's handle
  const Event begin, end;
  std::shared_ptr<ConvolutionPlan> best;
  float best_time = 0;
  for (const auto& plan : candidates) {
    try {
      Buffer workspace = scratch(static_cast<int64_t>(plan->workspace_bytes()));
      plan->run(x, w, y, workspace.data());
      check_cuda(cudaEventRecord(begin, context_->stream()), op);
      for (int i = 0; i < kRepeats; ++i) plan->run(x, w, y, workspace.data());
      check_cuda(cudaEventRecord(end, context_->stream()), op);
      check_cuda(cudaEventSynchronize(end), op);
      float time = 0;
      check_cuda(cudaEventElapsedTime(&time, begin, end), op);
      if (!best || time < best_time) {
        best = plan;
        best_time = time;
      }
    } catch (const std::exception&) {
      // Too large a workspace, or an engine that does not run here: another one serves.
      check_cuda(cudaStreamSynchronize(context_->stream()), op);
    }
  }
  return best;
}

std::shared_ptr<ConvolutionPlan> CudaBackend::plan_for(const char* op, ConvolutionShape shape, void* x, void* w,
                                                       void* y) {
  std::shared_ptr<ConvolutionPlan>& slot = plans_[shape];
  if (slot) return slot;
  context_->enter();
  const std::optional<PlanChoice> choice = autotune_ ? plan_store_.find(shape) : std::nullopt;
  const std::shared_ptr<ConvolutionPlan> stored = choice ? convolutions_.plan(shape, *choice) : nullptr;
  if (stored) slot = fastest(op, {stored}, x, w, y);  // null where it does not run, as for want of memory
  if (slot) return slot;
  std::string why;
  bool rounded = false;
  auto candidates = convolutions_.plans(shape, autotune_ ? kCandidates : 1, &why);
  if (candidates.empty() && shape.precision == Precision::f32) {
    // Rather with fewer digits than not at all.
    ConvolutionShape other = shape;
    other.precision = Precision::tf32;
    candidates = convolutions_.plans(other, autotune_ ? kCandidates : 1, &why);
    rounded = true;
  }
  if (candidates.size() == 1)
    slot = candidates[0];
  else if (!candidates.empty())
    slot = fastest(op, candidates, x, w, y);
  if (!slot) {
    if (why.empty()) why = "no engine ran";
    fail(ErrorKind::runtime, op, "cuDNN ", Convolutions::version(), " cannot compute ", to_string(shape), ": ", why);
  }
  if (autotune_) {
    PlanChoice made = slot->choice();
    made.rounded = rounded;
    plan_store_.add(shape, made);
  }
  return slot;
}

void CudaBackend::convolve(const char* op, const Tensor& x, const Tensor& y, const Tensor& w, const Conv2d& p,
                           ConvolutionPass pass) {
  const Precision precision = x.dtype == DType::bf16  ? Precision::bf16
                              : x.dtype == DType::f16 ? Precision::f16
                              : tf32_                 ? Precision::tf32
                                                      : Precision::f32;
  const ConvolutionShape shape{pass,     precision, x.dim(0),   x.block,    x.dim(2), x.dim(3), y.block,
                               y.dim(2), y.dim(3),  p.kernel_h, p.kernel_w, p.stride, p.padding};
  const WeightSlice slice{p.out_channels, p.in_channels, w.dim(1), p.kernel_h * p.kernel_w, y.block, x.block};
  const Elem elem = elem_of(x.dtype);
  const bool reads_weight = pass != ConvolutionPass::backward_weights;
  PackedSlice packed = reads_weight ? find_packed(*w.buffer, elem, slice) : PackedSlice{};
  const bool first = !packed.memory;
  if (first) {
    const size_t bytes = static_cast<size_t>(slice.packed()) * size_of(x.dtype);
    packed = {std::make_shared<Buffer>(device_.memory_share(), bytes), std::make_shared<bool>(false)};
  }
  std::shared_ptr<ConvolutionPlan> plan = plan_for(op, shape, x.data(), packed.memory->data(), y.data());
  Buffer workspace = scratch(static_cast<int64_t>(plan->workspace_bytes()));
  run(op, [=, x = x.data(), y = y.data(), weight = floats(w), filled = packed.filled, packed = packed.memory->data(),
           workspace = workspace.data()](const Launch& on) {
    // The first task always packs: recorded, it may run again.
    if (reads_weight && (first || !*filled)) {
      pack_weight(on, weight, elem, packed, slice);
      *filled = true;
    }
    try {
      plan->run(x, packed, y, workspace);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& e) {
      fail(ErrorKind::runtime, on.op, to_string(shape), ": ", e.what());
    }
    if (!reads_weight) add_weight_gradient(on, elem, packed, weight, slice);
  });
  if (reads_weight && first) keep_packed(*w.buffer, elem, slice, std::move(packed));
}

void CudaBackend::conv2d_forward(const Tensor& x, const Tensor& w, const Tensor& y, const Conv2d& p) {
  convolve("conv2d", channels_last(x), y, w, p, ConvolutionPass::forward);
}

void CudaBackend::conv2d_backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx, const Conv2d& p) {
  convolve("conv2dBackwardData", dx, channels_last(dy), w, p, ConvolutionPass::backward_data);
}

void CudaBackend::conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dw, const Conv2d& p) {
  convolve("conv2dBackwardWeight", channels_last(x), channels_last(dy), dw, p, ConvolutionPass::backward_weights);
}

}  // namespace slimclr::cuda
