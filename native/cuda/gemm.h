// Matrix products by cuBLASLt. This pair of files is the only place that sees cublasLt.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>

namespace slimclr::cuda {

class Gemm {
 public:
  Gemm(cudaStream_t stream, bool tf32);
  ~Gemm();

  static std::string version();  // throws where the library cannot be loaded
  static size_t workspace_bytes();

  // c [m, n] = a · b + beta · c in float32, row-major; 'T' reads a matrix transposed. Leading dimensions make slices.
  // Matrices begin at multiples of 256 bytes.
  void run(const char* op, char transa, char transb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
           const float* b, int64_t ldb, float beta, float* c, int64_t ldc, void* workspace);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace slimclr::cuda
