// Convolutions by oneDNN, 2.x or 3.x. This pair of files is the only place that sees the difference.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "cpu/kernels/activation.h"

namespace slimclr::cpu {

enum class ConvolutionPass : uint8_t { forward, backward_data, backward_weights };

// What a primitive is made for. Activations have the given channel blocks; the weight is a slice of a float32 tensor.
struct ConvolutionKey {
  ConvolutionPass pass;
  Elem elem;
  int64_t n, c, h, w, x_block;      // x
  int64_t o, oh, ow, y_block;       // y
  int64_t kh, kw, stride, padding;  // window
  int64_t w_row;                    // elements between two output channels of the full weight
  auto operator<=>(const ConvolutionKey&) const = default;
};

// A convolution of one shape with the reorders of its weight slice; made once, then only executed.
class Convolution {
 public:
  virtual ~Convolution() = default;
  virtual size_t scratch_bytes() const = 0;
  // forward reads x, w and writes y; backward_data reads y, w and writes x; backward_weights reads x, y and adds to w.
  virtual void run(void* x, void* y, float* w, void* scratch) = 0;
};

class OneDnn {
 public:
  OneDnn();
  ~OneDnn();
  static std::string version();
  static std::string isa();
  std::shared_ptr<Convolution> convolution(const ConvolutionKey& key);
  void forget();  // primitives are made for a number of threads

 private:
  struct Engine;
  std::unique_ptr<Engine> engine_;
  std::map<ConvolutionKey, std::shared_ptr<Convolution>> made_;
};

// c [m, n] = a · b + beta · c, row-major; 'T' reads a matrix transposed. Leading dimensions make slices.
void sgemm(char transa, char transb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
           int64_t ldb, float beta, float* c, int64_t ldc);

}  // namespace slimclr::cpu
