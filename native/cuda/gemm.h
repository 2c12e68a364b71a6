// Matrix products by cuBLASLt. This pair of files is the only place that sees cublasLt.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>

#include "cuda/kernels/activation.h"

namespace slimclr::cuda {

// c [m, n] = a · b + beta · c, row-major; 'T' reads a matrix transposed. Leading dimensions make slices. Sums are in
// float32. Matrices begin at multiples of 256 bytes.
struct Product {
  char transa, transb;
  int64_t m, n, k;
  const void* a;
  int64_t lda;
  const void* b;
  int64_t ldb;
  float beta;
  void* c;
  int64_t ldc;
  Elem in = Elem::f32, out = Elem::f32;  // of a and b, of c
};

class Gemm {
 public:
  Gemm(cudaStream_t stream, bool tf32);
  ~Gemm();

  static std::string version();  // throws where the library cannot be loaded
  static size_t workspace_bytes();

  void run(const char* op, const Product& product, void* workspace);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace slimclr::cuda
