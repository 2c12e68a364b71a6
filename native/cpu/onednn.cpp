#include "cpu/onednn.h"

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>
#include <utility>

#include "core/error.h"

namespace slimclr::cpu {

using dnnl::memory;

namespace {

dnnl::engine cpu_engine() {
  try {
    return dnnl::engine(dnnl::engine::kind::cpu, 0);
  } catch (const dnnl::error& e) {
    fail(ErrorKind::runtime, "cpu", "oneDNN ", OneDnn::version(), " has no engine for this CPU: ", e.what(),
         ". If it was made for SYCL, install Intel's OpenCL runtime for CPUs, or build slimclr with a oneDNN made for ",
         "OpenMP: ONEDNN_ROOT=FOLDER npm run build");
  }
}

}  // namespace

struct OneDnn::Engine {
  dnnl::engine engine = cpu_engine();
  dnnl::stream stream{engine};
};

namespace {

constexpr size_t kMostPrimitives = 4096;  // shapes beyond this are not a training run's; start over

struct Window {
  memory::desc x, w, y;
  memory::dims strides, padding;
};

using ForwardDesc = dnnl::convolution_forward::primitive_desc;
using BackwardDataDesc = dnnl::convolution_backward_data::primitive_desc;
using BackwardWeightsDesc = dnnl::convolution_backward_weights::primitive_desc;
// Not convolution_auto: it may take Winograd's, which is less exact and packs its weights slowly.
constexpr auto kDirect = dnnl::algorithm::convolution_direct;

// oneDNN's own scratchpads belong to the thread that makes a primitive; ours run on another.
dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

#if DNNL_VERSION_MAJOR >= 3
ForwardDesc forward_desc(const dnnl::engine& engine, dnnl::prop_kind kind, const Window& v) {
  return ForwardDesc(engine, kind, kDirect, v.x, v.w, v.y, v.strides, v.padding, v.padding, user_scratchpad());
}
BackwardDataDesc backward_data_desc(const dnnl::engine& engine, const Window& v, const ForwardDesc& hint) {
  return BackwardDataDesc(engine, kDirect, v.x, v.w, v.y, v.strides, v.padding, v.padding, hint, user_scratchpad());
}
BackwardWeightsDesc backward_weights_desc(const dnnl::engine& engine, const Window& v, const ForwardDesc& hint) {
  return BackwardWeightsDesc(engine, kDirect, v.x, v.w, v.y, v.strides, v.padding, v.padding, hint, user_scratchpad());
}
#else
ForwardDesc forward_desc(const dnnl::engine& engine, dnnl::prop_kind kind, const Window& v) {
  return ForwardDesc({kind, kDirect, v.x, v.w, v.y, v.strides, v.padding, v.padding}, user_scratchpad(), engine);
}
BackwardDataDesc backward_data_desc(const dnnl::engine& engine, const Window& v, const ForwardDesc& hint) {
  return BackwardDataDesc({kDirect, v.x, v.w, v.y, v.strides, v.padding, v.padding}, user_scratchpad(), engine, hint);
}
BackwardWeightsDesc backward_weights_desc(const dnnl::engine& engine, const Window& v, const ForwardDesc& hint) {
  return BackwardWeightsDesc({kDirect, v.x, v.w, v.y, v.strides, v.padding, v.padding}, user_scratchpad(), engine,
                             hint);
}
#endif

memory::format_tag tag_of(int64_t block) {
  return block == 16 ? memory::format_tag::nChw16c : block == 8 ? memory::format_tag::nChw8c : memory::format_tag::nchw;
}

class DnnlConvolution : public Convolution {
 public:
  DnnlConvolution(const ConvolutionKey& k, const dnnl::engine& engine, const dnnl::stream& stream)
      : pass_(k.pass), stream_(stream) {
    using type = memory::data_type;
    type activations = k.elem == Elem::f32 ? type::f32 : type::bf16;
    // The layout of the packed slice is oneDNN's choice; the weight's gradient is summed in float32.
    auto weight = [&](type t) { return memory::desc({k.o, k.c, k.kh, k.kw}, t, memory::format_tag::any); };
    Window v{memory::desc({k.n, k.c, k.h, k.w}, activations, tag_of(k.x_block)),
             weight(activations),
             memory::desc({k.n, k.o, k.oh, k.ow}, activations, tag_of(k.y_block)),
             {k.stride, k.stride},
             {k.padding, k.padding}};
    memory::desc slice({k.o, k.c, k.kh, k.kw}, type::f32, memory::dims{k.w_row, k.kh * k.kw, k.kw, 1});
    bool forward = pass_ == ConvolutionPass::forward;
    ForwardDesc hint =
        forward_desc(engine, forward ? dnnl::prop_kind::forward_inference : dnnl::prop_kind::forward_training, v);
    memory::desc packed, scratchpad;
    dnnl::primitive_attr attributes = user_scratchpad();
    if (forward) {
      packed = hint.weights_desc();
      scratchpad = hint.scratchpad_desc();
      primitive_ = dnnl::convolution_forward(hint);
    } else if (pass_ == ConvolutionPass::backward_data) {
      BackwardDataDesc desc = backward_data_desc(engine, v, hint);
      packed = desc.weights_desc();
      scratchpad = desc.scratchpad_desc();
      primitive_ = dnnl::convolution_backward_data(desc);
    } else {
      v.w = weight(type::f32);
      BackwardWeightsDesc desc = backward_weights_desc(engine, v, hint);
      packed = desc.diff_weights_desc();
      scratchpad = desc.scratchpad_desc();
      primitive_ = dnnl::convolution_backward_weights(desc);
      dnnl::post_ops add_to_gradient;
      add_to_gradient.append_sum(1.0f);
      attributes.set_post_ops(add_to_gradient);
    }
    x_ = memory(v.x, engine, nullptr);
    y_ = memory(v.y, engine, nullptr);
    slice_ = memory(slice, engine, nullptr);
    packed_ = memory(packed, engine, nullptr);
    bool unpack = pass_ == ConvolutionPass::backward_weights;
    dnnl::reorder::primitive_desc reorder(engine, unpack ? packed : slice, engine, unpack ? slice : packed, attributes);
    reorder_ = dnnl::reorder(reorder);
    scratchpad_ = memory(scratchpad, engine, nullptr);
    reorder_scratchpad_ = memory(reorder.scratchpad_desc(), engine, nullptr);
    packed_bytes_ = (packed.get_size() + 63) / 64 * 64;
    scratchpad_bytes_ = std::max(scratchpad.get_size(), reorder.scratchpad_desc().get_size());
  }

  size_t scratch_bytes() const override { return packed_bytes_ + scratchpad_bytes_; }

  void run(void* x, void* y, float* w, void* scratch) override {
    x_.set_data_handle(x);
    y_.set_data_handle(y);
    slice_.set_data_handle(w);
    packed_.set_data_handle(scratch);
    scratchpad_.set_data_handle(static_cast<char*>(scratch) + packed_bytes_);
    reorder_scratchpad_.set_data_handle(static_cast<char*>(scratch) + packed_bytes_);
    switch (pass_) {
      case ConvolutionPass::forward:
        reorder(slice_, packed_);
        execute({{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, packed_}, {DNNL_ARG_DST, y_}});
        break;
      case ConvolutionPass::backward_data:
        reorder(slice_, packed_);
        execute({{DNNL_ARG_DIFF_DST, y_}, {DNNL_ARG_WEIGHTS, packed_}, {DNNL_ARG_DIFF_SRC, x_}});
        break;
      case ConvolutionPass::backward_weights:
        execute({{DNNL_ARG_SRC, x_}, {DNNL_ARG_DIFF_DST, y_}, {DNNL_ARG_DIFF_WEIGHTS, packed_}});
        reorder(packed_, slice_);
        break;
    }
    stream_.wait();
  }

 private:
  void reorder(memory& from, memory& to) {
    reorder_.execute(stream_, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, reorder_scratchpad_}});
  }
  void execute(std::unordered_map<int, memory> arguments) {
    arguments.emplace(DNNL_ARG_SCRATCHPAD, scratchpad_);
    primitive_.execute(stream_, arguments);
  }

  ConvolutionPass pass_;
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  dnnl::reorder reorder_;
  memory x_, y_, slice_, packed_, scratchpad_, reorder_scratchpad_;
  size_t packed_bytes_ = 0, scratchpad_bytes_ = 0;
};

}  // namespace

OneDnn::OneDnn() : engine_(std::make_unique<Engine>()) {}
OneDnn::~OneDnn() = default;

std::string OneDnn::version() {
  const dnnl_version_t* v = dnnl_version();
  return concat(v->major, '.', v->minor, '.', v->patch);
}

std::string OneDnn::isa() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
      return "sse4.1";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    default:
      return concat("code ", static_cast<int>(dnnl::get_effective_cpu_isa()));
  }
}

std::shared_ptr<Convolution> OneDnn::convolution(const ConvolutionKey& key) {
  if (auto it = made_.find(key); it != made_.end()) return it->second;
  if (made_.size() >= kMostPrimitives) made_.clear();
  try {
    return made_[key] = std::make_shared<DnnlConvolution>(key, engine_->engine, engine_->stream);
  } catch (const dnnl::error& e) {
    made_.erase(key);
    fail(ErrorKind::runtime, "conv2d", "oneDNN ", version(), " cannot make a convolution of x [", key.n, ", ", key.c,
         ", ", key.h, ", ", key.w, "] to ", key.o, " channels, kernel ", key.kh, 'x', key.kw, ": ", e.what());
  }
}

void OneDnn::forget() { made_.clear(); }

void sgemm(char transa, char transb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
           int64_t ldb, float beta, float* c, int64_t ldc) {
  dnnl_status_t status = dnnl_sgemm(transa, transb, m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
  if (status != dnnl_success) fail(ErrorKind::runtime, "linear", "oneDNN's sgemm failed with status ", status);
}

}  // namespace slimclr::cpu
