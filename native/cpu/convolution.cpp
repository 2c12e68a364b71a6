// Convolutions: by the direct kernels where channel slices are narrow, by oneDNN elsewhere.
#include "cpu/cpu_backend.h"

namespace slimclr::cpu {

namespace {

ConvPass direct_pass(ConvolutionPass pass) {
  return pass == ConvolutionPass::forward         ? ConvPass::forward
         : pass == ConvolutionPass::backward_data ? ConvPass::backward_data
                                                  : ConvPass::backward_weights;
}

}  // namespace

CpuBackend::Engine CpuBackend::engine_for(const ConvolutionKey& key, const ConvArgs& args) const {
  if (key.pass != ConvolutionPass::backward_weights && k_.winograd.supports(args)) return Engine::winograd;
  // oneDNN works in full blocks of channels (the stem's 3 input channels have kernels of their own), and in bfloat16
  // only with AVX-512.
  bool blocks = key.y_block > 1 && (key.x_block > 1 || key.c <= 4);
  bool type = key.elem == Elem::f32 || k_.block == 16;
  if (!blocks || !type) return Engine::direct;
  return prefer_direct(args, direct_pass(key.pass)) ? Engine::direct : Engine::onednn;
}

void CpuBackend::convolve(const Tensor& x, const Tensor& y, const Tensor& w, const Conv2d& p, ConvolutionPass pass) {
  ConvolutionKey key{pass,       elem_of(x.dtype), x.dim(0),  x.dim(1),
                     x.dim(2),   x.dim(3),         x.block,   y.dim(1),
                     y.dim(2),   y.dim(3),         y.block,   p.kernel_h,
                     p.kernel_w, p.stride,         p.padding, w.dim(1) * p.kernel_h * p.kernel_w};
  ConvArgs a;
  a.x = act(x);
  a.y = act(y);
  a.w = floats(w);
  a.dw = floats(w);
  a.w_row = key.w_row;
  a.kh = static_cast<int>(p.kernel_h);
  a.kw = static_cast<int>(p.kernel_w);
  a.stride = static_cast<int>(p.stride);
  a.pad = static_cast<int>(p.padding);
  a.threads = threads_;
  a.bf16_weights = key.elem == Elem::bf16;  // as oneDNN's bfloat16 convolutions
  switch (engine_for(key, a)) {
    case Engine::onednn: {
      std::shared_ptr<Convolution> convolution = onednn_.convolution(key);
      Buffer packed = scratch(static_cast<int64_t>(convolution->scratch_bytes()));
      run([convolution, a, packed = packed.data()] { convolution->run(a.x.data, a.y.data, a.dw, packed); });
      return;
    }
    case Engine::winograd: {
      Buffer memory = scratch(k_.winograd.scratch_bytes(a));
      a.scratch = memory.data();
      auto kernel = pass == ConvolutionPass::forward ? k_.winograd.forward : k_.winograd.backward_data;
      run([kernel, a] { kernel(a); });
      return;
    }
    case Engine::direct: {
      Buffer memory = scratch(k_.direct_conv.scratch_bytes(a, direct_pass(pass)));
      a.scratch = memory.data();
      auto kernel = pass == ConvolutionPass::forward         ? k_.direct_conv.forward
                    : pass == ConvolutionPass::backward_data ? k_.direct_conv.backward_data
                                                             : k_.direct_conv.backward_weights;
      run([kernel, a] { kernel(a); });
      return;
    }
  }
}

void CpuBackend::conv2d_forward(const Tensor& x, const Tensor& w, const Tensor& y, const Conv2d& p) {
  convolve(x, y, w, p, ConvolutionPass::forward);
}

void CpuBackend::conv2d_backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx, const Conv2d& p) {
  convolve(dx, dy, w, p, ConvolutionPass::backward_data);
}

void CpuBackend::conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dw, const Conv2d& p) {
  convolve(x, dy, dw, p, ConvolutionPass::backward_weights);
}

}  // namespace slimclr::cpu
