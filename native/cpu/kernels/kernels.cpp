#include "cpu/kernels/kernels.h"

#include <cstdlib>
#include <cstring>
#include <utility>

namespace slimclr::cpu {

#define SLIMCLR_DECLARE_KERNELS(isa)                   \
  namespace isa {                                      \
  extern const AugmentKernels augment_kernels;         \
  extern const BatchNormKernels batch_norm_kernels;    \
  extern const DirectConvKernels direct_conv_kernels;  \
  extern const DistillKernels distill_kernels;         \
  extern const ElementwiseKernels elementwise_kernels; \
  extern const InfoNceKernels info_nce_kernels;        \
  extern const KnnKernels knn_kernels;                 \
  extern const OptimizerKernels optimizer_kernels;     \
  extern const PoolKernels pool_kernels;               \
  extern const RowsKernels rows_kernels;               \
  extern const SoftmaxKernels softmax_kernels;         \
  extern const WinogradKernels winograd_kernels;       \
  }
#define SLIMCLR_KERNELS(isa, block)                                                                                   \
  {                                                                                                                   \
#isa, block, isa::augment_kernels, isa::batch_norm_kernels, isa::direct_conv_kernels, isa::distill_kernels,       \
        isa::elementwise_kernels, isa::info_nce_kernels, isa::knn_kernels, isa::optimizer_kernels, isa::pool_kernels, \
        isa::rows_kernels, isa::softmax_kernels, isa::winograd_kernels                                                \
  }

SLIMCLR_DECLARE_KERNELS(baseline)
#ifdef SLIMCLR_X86
SLIMCLR_DECLARE_KERNELS(avx2)
SLIMCLR_DECLARE_KERNELS(avx512)
SLIMCLR_DECLARE_KERNELS(avx512_bf16)
#endif

const Kernels& kernels() {
  static const Kernels* chosen = [] {
    static const Kernels baseline = SLIMCLR_KERNELS(baseline, 1);
    const Kernels* best = &baseline;
#ifdef SLIMCLR_X86
    static const Kernels avx2 = SLIMCLR_KERNELS(avx2, 8);
    static const Kernels avx512 = SLIMCLR_KERNELS(avx512, 16);
    static const Kernels avx512_bf16 = SLIMCLR_KERNELS(avx512_bf16, 16);
    __builtin_cpu_init();
    bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
    const std::pair<const Kernels*, bool> better[] = {
        {&avx2, has_avx2},
        {&avx512, has_avx512},
        {&avx512_bf16, has_avx512 && __builtin_cpu_supports("avx512bf16")},
    };
    const char* most = std::getenv("SLIMCLR_ISA");
    for (auto& [table, supported] : better) {
      if (most && !std::strcmp(most, best->isa)) break;
      if (supported) best = table;
    }
#endif
    return best;
  }();
  return *chosen;
}

}  // namespace slimclr::cpu
