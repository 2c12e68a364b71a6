// Convolutions by cuDNN's graph API: NHWC, channel counts padded to a multiple of 8, filters packed [K][R][S][C].
// This pair of files is the only place that sees cudnn.h.
#pragma once

#include <cuda_runtime_api.h>

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace slimclr::cuda {

enum class ConvolutionPass : uint8_t { forward, backward_data, backward_weights };
// tf32: float32 whose products tensor cores compute with 10 bits of mantissa.
enum class Precision : uint8_t { f32, tf32, bf16, f16 };

// What a plan is made for; also the key under which it is kept.
struct ConvolutionShape {
  ConvolutionPass pass;
  Precision precision;
  int64_t n, c, h, w;  // x
  int64_t k, oh, ow;   // y
  int64_t kernel_h, kernel_w, stride, padding;
  auto operator<=>(const ConvolutionShape&) const = default;
};

std::string to_string(const ConvolutionShape& shape);

// Whether it is a matrix product of pixels and channels: a window of 1×1, without stride or padding.
inline bool is_product(const ConvolutionShape& s) {
  return s.kernel_h == 1 && s.kernel_w == 1 && s.stride == 1 && s.padding == 0;
}

// One way to compute a convolution, as numbers that mean the same in every process with the same GPU and version of
// cuDNN.
struct KnobChoice {
  int64_t type, value;
  bool operator==(const KnobChoice&) const = default;
};
struct PlanChoice {
  bool product = false;  // by cuBLASLt; the rest is cuDNN's
  bool rounded = false;  // float32 by TF32, where nothing else serves
  int64_t engine = 0;
  std::vector<KnobChoice> knobs;
  bool operator==(const PlanChoice&) const = default;
};

// One way to compute a convolution. forward reads x, w and writes y; backward_data reads y, w and writes x;
// backward_weights reads x, y and writes w. All are of one type: what cuDNN has in store for a float32 weight gradient
// of 16-bit tensors is compiled at run time, a second or two for each shape.
class ConvolutionPlan {
 public:
  virtual ~ConvolutionPlan() = default;
  virtual size_t workspace_bytes() const = 0;
  virtual PlanChoice choice() const = 0;
  virtual void run(void* x, void* w, void* y, void* workspace) const = 0;
};

class Convolutions {
 public:
  // For a device; everything runs on the stream.
  explicit Convolutions(cudaStream_t stream);
  // For a device that need not exist, described as in cuDNN's serialised device properties: plans can be made only.
  explicit Convolutions(const std::string& device_json);
  ~Convolutions();

  static std::string version();  // of the library; throws where it cannot be loaded

  // At most `most` deterministic plans, the one that cuDNN thinks fastest first. Where there are none, `why` says so.
  std::vector<std::shared_ptr<ConvolutionPlan>> plans(const ConvolutionShape& shape, size_t most,
                                                      std::string* why) const;
  // The plan of an earlier choice; null where cuDNN refuses it.
  std::shared_ptr<ConvolutionPlan> plan(ConvolutionShape shape, const PlanChoice& choice) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace slimclr::cuda
