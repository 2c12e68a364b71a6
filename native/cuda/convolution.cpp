// Convolutions over channel slices.
#include <algorithm>
#include <functional>

#include "cuda/cuda_backend.h"

namespace slimclr::cuda {

namespace {

// Plans of cuDNN's that are timed when a shape is first seen.
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

std::string CudaBackend::planned() const {
  const auto products = std::count_if(ways_.begin(), ways_.end(), [](const auto& way) { return way.second.product; });
  return concat(static_cast<int64_t>(ways_.size()) - products, " by cuDNN, ", products, " by cuBLASLt");
}

void CudaBackend::multiply(const Launch& on, const Operands& o, void* workspace) {
  const ConvolutionShape& s = o.shape;
  const int64_t pixels = s.n * s.h * s.w;
  Product p{};
  if (s.pass == ConvolutionPass::forward)
    p = {'N', 'T', pixels, s.k, s.c, o.x, s.c, o.packed, s.c, 0, o.y, s.k, o.elem, o.elem};
  else if (s.pass == ConvolutionPass::backward_data)
    p = {'N', 'N', pixels, s.c, s.k, o.y, s.k, o.packed, s.c, 0, o.x, s.c, o.elem, o.elem};
  else
    p = {'T', 'N', o.slice.out, o.slice.in, pixels, o.y, s.k, o.x, s.c, 1, o.weight, o.slice.full_in, o.elem};
  gemm_.run(on.op, p, workspace);
}

void CudaBackend::compute(const Launch& on, const Way& way, const Operands& o, void* workspace) {
  if (way.product) return multiply(on, o, workspace);
  try {
    way.plan->run(o.x, o.packed, o.y, workspace);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    fail(ErrorKind::runtime, on.op, to_string(o.shape), ": ", e.what());
  }
  if (o.shape.pass == ConvolutionPass::backward_weights) add_weight_gradient(on, o.elem, o.packed, o.weight, o.slice);
}

CudaBackend::Way CudaBackend::fastest(const char* op, const std::vector<Way>& ways, Operands o) {
  const Launch on{op, context_->stream(), processors()};
  // Gradients are added to; the weight's own is not for trials.
  Buffer gradient = scratch(o.slice.out * o.slice.full_in * o.slice.taps * static_cast<int64_t>(sizeof(float)));
  o.weight = static_cast<float*>(gradient.data());
  const Event begin, end;
  Way best;
  float best_time = 0;
  for (const Way& way : ways) {
    try {
      Buffer workspace = scratch(static_cast<int64_t>(way.workspace_bytes()));
      compute(on, way, o, workspace.data());
      check_cuda(cudaEventRecord(begin, on.stream), op);
      for (int i = 0; i < kRepeats; ++i) compute(on, way, o, workspace.data());
      check_cuda(cudaEventRecord(end, on.stream), op);
      check_cuda(cudaEventSynchronize(end), op);
      float time = 0;
      check_cuda(cudaEventElapsedTime(&time, begin, end), op);
      if (!best || time < best_time) {
        best = way;
        best_time = time;
      }
    } catch (const std::exception&) {
      // Too large a workspace, or an engine that does not run here: another one serves.
      check_cuda(cudaStreamSynchronize(on.stream), op);
    }
  }
  return best;
}

const CudaBackend::Way& CudaBackend::way_for(const char* op, const Operands& o) {
  const ConvolutionShape& shape = o.shape;
  Way& slot = ways_[shape];
  if (slot) return slot;
  context_->enter();
  // Nothing else runs meanwhile: trials are timed, and a handle of cuDNN's is for one thread at a time.
  device_.stream().drain();
  if (const auto choice = autotune_ ? plan_store_.find(shape) : std::nullopt) {
    const Way stored{choice->product, choice->product ? nullptr : convolutions_.plan(shape, *choice)};
    if (stored) slot = fastest(op, {stored}, o);  // none where it does not run, as for want of memory
    if (slot) return slot;
  }
  std::string why;
  bool rounded = false;
  auto plans = convolutions_.plans(shape, autotune_ ? kCandidates : 1, &why);
  if (plans.empty() && shape.precision == Precision::f32 && !is_product(shape)) {
    // Rather with fewer digits than not at all.
    ConvolutionShape other = shape;
    other.precision = Precision::tf32;
    plans = convolutions_.plans(other, autotune_ ? kCandidates : 1, &why);
    rounded = true;
  }
  std::vector<Way> ways;
  for (auto& plan : plans) ways.push_back({false, std::move(plan)});
  if (is_product(shape) && (autotune_ || ways.empty())) ways.push_back({true, nullptr});
  if (ways.size() == 1)
    slot = ways[0];
  else if (!ways.empty())
    slot = fastest(op, ways, o);
  if (!slot) {
    if (why.empty()) why = "no engine ran";
    fail(ErrorKind::runtime, op, "cuDNN ", Convolutions::version(), " cannot compute ", to_string(shape), ": ", why);
  }
  if (autotune_) {
    PlanChoice made;
    if (slot.plan) made = slot.plan->choice();
    made.product = slot.product;
    made.rounded = rounded;
    plan_store_.add(shape, made);
  }
  return slot;
}

PackedSlice CudaBackend::new_packed(const WeightSlice& slice, DType dtype) {
  const size_t bytes = static_cast<size_t>(slice.packed()) * size_of(dtype);
  return {std::make_shared<Buffer>(device_.memory_share(), bytes), std::make_shared<bool>(false)};
}

void CudaBackend::pack_weights(const std::vector<Conv2dSlice>& slices, DType dtype) {
  const Elem elem = elem_of(dtype);
  std::vector<PackItem> items;
  std::vector<std::shared_ptr<bool>> filled;
  std::vector<std::function<void()>> keep;
  for (const Conv2dSlice& s : slices) {
    Buffer& weight = *s.weight.buffer;
    const int64_t out = s.out_channels, in = s.in_channels;
    const WeightSlice slice{out, in, s.weight.dim(1), s.weight.dim(2) * s.weight.dim(3), padded(out), padded(in)};
    if (weight.pool() || find_packed(weight, elem, slice).memory) continue;
    PackedSlice packed = new_packed(slice, dtype);
    items.push_back({floats(s.weight), packed.memory->data(), slice, slice.packed()});
    filled.push_back(packed.filled);
    keep.push_back([&weight, elem, slice, packed] { keep_packed(weight, elem, slice, packed); });
  }
  run_list("packWeights", std::move(items), kNoScratch,
           [elem, filled = std::move(filled)](const Launch& on, const ListOf<PackItem>& list, void*) {
             cuda::pack_weights(on, elem, list);
             for (const std::shared_ptr<bool>& it : filled) *it = true;
           });
  for (const auto& it : keep) it();
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
  if (first) packed = new_packed(slice, x.dtype);
  const Operands operands{shape, slice, elem, x.data(), y.data(), packed.memory->data(), floats(w)};
  const Way& way = way_for(op, operands);
  Buffer workspace = scratch(static_cast<int64_t>(way.workspace_bytes()));
  run(op, [=, this, filled = packed.filled, workspace = workspace.data()](const Launch& on) {
    // The first task always packs: recorded, it may run again.
    if (reads_weight && (first || !*filled)) {
      pack_weight(on, operands.weight, elem, operands.packed, slice);
      *filled = true;
    }
    compute(on, way, operands, workspace);
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
