// The kernels of the instruction set that this machine has.
#pragma once

#include "cpu/kernels/augment.h"
#include "cpu/kernels/batch_norm.h"
#include "cpu/kernels/direct_conv.h"
#include "cpu/kernels/distill.h"
#include "cpu/kernels/elementwise.h"
#include "cpu/kernels/info_nce.h"
#include "cpu/kernels/knn.h"
#include "cpu/kernels/optimizer.h"
#include "cpu/kernels/pool.h"
#include "cpu/kernels/rows.h"
#include "cpu/kernels/softmax.h"
#include "cpu/kernels/winograd.h"

namespace slimclr::cpu {

struct Kernels {
  const char* isa;
  int64_t block;  // channels per block that suit the vectors: 16, 8 or, for plain NCHW, 1
  const AugmentKernels& augment;
  const BatchNormKernels& batch_norm;
  const DirectConvKernels& direct_conv;
  const DistillKernels& distill;
  const ElementwiseKernels& elementwise;
  const InfoNceKernels& info_nce;
  const KnnKernels& knn;
  const OptimizerKernels& optimizer;
  const PoolKernels& pool;
  const RowsKernels& rows;
  const SoftmaxKernels& softmax;
  const WinogradKernels& winograd;
};

// Chosen once; the environment variable SLIMCLR_ISA (baseline, avx2, avx512, avx512_bf16) may ask for less than the
// machine has.
const Kernels& kernels();

}  // namespace slimclr::cpu
