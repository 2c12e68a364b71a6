// Take the places of cuDNN and cuBLASLt: plain loops with float32 sums.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <atomic>
#include <stdexcept>
#include <utility>
#include <vector>

#include "core/error.h"
#include "cuda/convolution_plan.h"
#include "cuda/gemm.h"
#include "cuda/kernels/launch.h"

namespace slimclr::cuda {

namespace {

using bf16 = __nv_bfloat16;
float get(const float* p, int64_t i) { return p[i]; }
float get(const bf16* p, int64_t i) { return __bfloat162float(p[i]); }
float get(const __half* p, int64_t i) { return __half2float(p[i]); }
void put(float* p, int64_t i, float v) { p[i] = v; }
void put(bf16* p, int64_t i, float v) { p[i] = __float2bfloat16_rn(v); }
void put(__half* p, int64_t i, float v) { p[i] = __float2half_rn(v); }

// A call that uses cuDNN's handle, which is for one thread at a time.
class HandleUse {
 public:
  explicit HandleUse(std::atomic<int>& users) : users_(users) {
    if (users_++ == 0) return;
    --users_;
    throw std::logic_error("two threads use cuDNN's handle at once");
  }
  ~HandleUse() { --users_; }
  HandleUse(const HandleUse&) = delete;

 private:
  std::atomic<int>& users_;
};

class PlainPlan : public ConvolutionPlan {
 public:
  PlainPlan(const ConvolutionShape& shape, std::shared_ptr<std::atomic<int>> users)
      : s_(shape), users_(std::move(users)) {}
  size_t workspace_bytes() const override { return 64; }
  PlanChoice choice() const override { return {false, false, 1, {{2, 3}}}; }
  void run(void* x, void* w, void* y, void*) const override {
    // For tests of what becomes of the tasks behind it.
    if (s_.kernel_h == 29) throw std::runtime_error("an emulated failure");
    const HandleUse use(*users_);
    ++emulator::clock;  // so that a product, where there is one, is found faster
    emulator::enqueue([plan = *this, x, w, y] {
      if (plan.s_.precision == Precision::bf16)
        plan.run_as(static_cast<bf16*>(x), static_cast<bf16*>(w), static_cast<bf16*>(y));
      else if (plan.s_.precision == Precision::f16)
        plan.run_as(static_cast<__half*>(x), static_cast<__half*>(w), static_cast<__half*>(y));
      else
        plan.run_as(static_cast<float*>(x), static_cast<float*>(w), static_cast<float*>(y));
    });
  }

 private:
  template <typename T>
  void run_as(T* x, T* w, T* y) const {
    const int64_t xs = s_.n * s_.h * s_.w * s_.c, ws = s_.k * s_.kernel_h * s_.kernel_w * s_.c;
    std::vector<float> sums(static_cast<size_t>(s_.pass == ConvolutionPass::backward_data      ? xs
                                                : s_.pass == ConvolutionPass::backward_weights ? ws
                                                                                               : 0));
    for (int64_t n = 0; n < s_.n; ++n)
      for (int64_t p = 0; p < s_.oh; ++p)
        for (int64_t q = 0; q < s_.ow; ++q)
          for (int64_t k = 0; k < s_.k; ++k) {
            const int64_t out = ((n * s_.oh + p) * s_.ow + q) * s_.k + k;
            const float dy = s_.pass == ConvolutionPass::forward ? 0 : get(y, out);
            float sum = 0;
            for (int64_t r = 0; r < s_.kernel_h; ++r)
              for (int64_t s = 0; s < s_.kernel_w; ++s) {
                const int64_t i = p * s_.stride + r - s_.padding, j = q * s_.stride + s - s_.padding;
                if (i < 0 || j < 0 || i >= s_.h || j >= s_.w) continue;
                for (int64_t c = 0; c < s_.c; ++c) {
                  const int64_t in = ((n * s_.h + i) * s_.w + j) * s_.c + c;
                  const int64_t tap = ((k * s_.kernel_h + r) * s_.kernel_w + s) * s_.c + c;
                  if (s_.pass == ConvolutionPass::forward)
                    sum += get(x, in) * get(w, tap);
                  else if (s_.pass == ConvolutionPass::backward_data)
                    sums[static_cast<size_t>(in)] += dy * get(w, tap);
                  else
                    sums[static_cast<size_t>(tap)] += dy * get(x, in);
                }
              }
            if (s_.pass == ConvolutionPass::forward) put(y, out, sum);
          }
    for (size_t i = 0; i < sums.size(); ++i)
      put(s_.pass == ConvolutionPass::backward_data ? x : w, static_cast<int64_t>(i), sums[i]);
  }

  ConvolutionShape s_;
  std::shared_ptr<std::atomic<int>> users_;
};

}  // namespace

struct Convolutions::State {
  std::shared_ptr<std::atomic<int>> users = std::make_shared<std::atomic<int>>(0);  // of the handle
};
Convolutions::Convolutions(cudaStream_t) : state_(std::make_unique<State>()) {}
Convolutions::~Convolutions() = default;
std::string Convolutions::version() { return "emulated"; }
std::string to_string(const ConvolutionShape&) { return "a convolution"; }
// Two, so that one must be chosen.
std::vector<std::shared_ptr<ConvolutionPlan>> Convolutions::plans(const ConvolutionShape& shape, size_t most,
                                                                  std::string*) const {
  const HandleUse use(*state_->users);
  return std::vector<std::shared_ptr<ConvolutionPlan>>(most < 2 ? 1 : 2,
                                                       std::make_shared<PlainPlan>(shape, state_->users));
}

std::shared_ptr<ConvolutionPlan> Convolutions::plan(ConvolutionShape shape, const PlanChoice&) const {
  const HandleUse use(*state_->users);
  return std::make_shared<PlainPlan>(shape, state_->users);
}

struct Gemm::State {};
Gemm::Gemm(cudaStream_t, bool) {}
Gemm::~Gemm() = default;
std::string Gemm::version() { return "emulated"; }
size_t Gemm::workspace_bytes() { return 64; }
namespace {

template <typename In, typename Out>
void multiply(const Product& p) {
  const In *a = static_cast<const In*>(p.a), *b = static_cast<const In*>(p.b);
  Out* c = static_cast<Out*>(p.c);
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < p.k; ++l)
        sum += get(a, p.transa == 'T' ? l * p.lda + i : i * p.lda + l) *
               get(b, p.transb == 'T' ? j * p.ldb + l : l * p.ldb + j);
      put(c, i * p.ldc + j, (p.beta != 0 ? p.beta * get(c, i * p.ldc + j) : 0) + sum);
    }
}

template <typename In>
void multiply(const Product& p) {
  if (p.out == Elem::f32)
    multiply<In, float>(p);
  else
    multiply<In, In>(p);
}

}  // namespace

void Gemm::run(const char*, const Product& p, void*) {
  emulator::enqueue([p] {
    if (p.in == Elem::bf16)
      multiply<bf16>(p);
    else if (p.in == Elem::f16)
      multiply<__half>(p);
    else
      multiply<float>(p);
  });
}

}  // namespace slimclr::cuda
