#include "cuda/gemm.h"

#include <cublasLt.h>

#include <compare>
#include <map>

#include "core/error.h"
#include "cuda/library.h"

namespace slimclr::cuda {

namespace {

constexpr size_t kWorkspace = size_t{32} << 20;  // what NVIDIA recommends for Hopper

struct Api {
  decltype(cublasLtCreate)* create;
  decltype(cublasLtDestroy)* destroy;
  decltype(cublasLtGetVersion)* version;
  decltype(cublasLtGetStatusString)* status_string;
  decltype(cublasLtMatmulDescCreate)* desc_create;
  decltype(cublasLtMatmulDescDestroy)* desc_destroy;
  decltype(cublasLtMatmulDescSetAttribute)* desc_set;
  decltype(cublasLtMatrixLayoutCreate)* layout_create;
  decltype(cublasLtMatrixLayoutDestroy)* layout_destroy;
  decltype(cublasLtMatmulPreferenceCreate)* preference_create;
  decltype(cublasLtMatmulPreferenceDestroy)* preference_destroy;
  decltype(cublasLtMatmulPreferenceSetAttribute)* preference_set;
  decltype(cublasLtMatmulAlgoGetHeuristic)* heuristic;
  decltype(cublasLtMatmul)* matmul;

  Api() {
    Library library("cuBLASLt",
                    places("libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR), {"CUDA_PATH"}, SLIMCLR_CUBLAS_FOLDER));
    library.load(create, "cublasLtCreate");
    library.load(destroy, "cublasLtDestroy");
    library.load(version, "cublasLtGetVersion");
    library.load(status_string, "cublasLtGetStatusString");
    library.load(desc_create, "cublasLtMatmulDescCreate");
    library.load(desc_destroy, "cublasLtMatmulDescDestroy");
    library.load(desc_set, "cublasLtMatmulDescSetAttribute");
    library.load(layout_create, "cublasLtMatrixLayoutCreate");
    library.load(layout_destroy, "cublasLtMatrixLayoutDestroy");
    library.load(preference_create, "cublasLtMatmulPreferenceCreate");
    library.load(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    library.load(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    library.load(heuristic, "cublasLtMatmulAlgoGetHeuristic");
    library.load(matmul, "cublasLtMatmul");
  }
};

// Loaded on first use.
const Api& api() {
  static const Api loaded;
  return loaded;
}

void check(cublasStatus_t status, const char* op, const char* step) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(ErrorKind::runtime, op, "cuBLASLt failed to ", step, ": ", api().status_string(status));
}

// The descriptors for products of one shape and the algorithm chosen for them.
struct Made {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm;

  Made() = default;
  Made(const Made&) = delete;
  ~Made() {
    for (cublasLtMatrixLayout_t layout : {a, b, c})
      if (layout) api().layout_destroy(layout);
    if (desc) api().desc_destroy(desc);
  }
};

struct Key {
  bool transa, transb, beta;
  int64_t m, n, k, lda, ldb, ldc;
  Elem in, out;
  explicit Key(const Product& p)
      : transa(p.transa == 'T'),
        transb(p.transb == 'T'),
        beta(p.beta != 0),
        m(p.m),
        n(p.n),
        k(p.k),
        lda(p.lda),
        ldb(p.ldb),
        ldc(p.ldc),
        in(p.in),
        out(p.out) {}
  auto operator<=>(const Key&) const = default;
};

cudaDataType_t type_of(Elem elem) {
  return elem == Elem::bf16 ? CUDA_R_16BF : elem == Elem::f16 ? CUDA_R_16F : CUDA_R_32F;
}

}  // namespace

struct Gemm::State {
  cublasLtHandle_t handle = nullptr;
  cudaStream_t stream;
  cublasComputeType_t compute;
  std::map<Key, std::unique_ptr<Made>> made;

  const Made& make(const char* op, const Key& key);
};

// cuBLASLt's matrices are column-major: it computes cᵀ = bᵀ · aᵀ, and sees every row-major matrix transposed.
const Made& Gemm::State::make(const char* op, const Key& key) {
  std::unique_ptr<Made>& slot = made[key];
  if (slot) return *slot;
  auto p = std::make_unique<Made>();
  check(api().desc_create(&p->desc, key.in == Elem::f32 ? compute : CUBLAS_COMPUTE_32F, CUDA_R_32F), op,
        "describe the product");
  const cublasOperation_t first = key.transb ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = key.transa ? CUBLAS_OP_T : CUBLAS_OP_N;
  check(api().desc_set(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first), op, "describe the product");
  check(api().desc_set(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second), op, "describe the product");
  auto layout = [&](cublasLtMatrixLayout_t* to, Elem elem, int64_t rows, int64_t columns, int64_t leading) {
    check(api().layout_create(to, type_of(elem), static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), leading),
          op, "describe a matrix");
  };
  layout(&p->b, key.in, key.transb ? key.k : key.n, key.transb ? key.n : key.k, key.ldb);
  layout(&p->a, key.in, key.transa ? key.m : key.k, key.transa ? key.k : key.m, key.lda);
  layout(&p->c, key.out, key.n, key.m, key.ldc);

  cublasLtMatmulPreference_t preference = nullptr;
  check(api().preference_create(&preference), op, "choose an algorithm");
  std::unique_ptr<void, void (*)(void*)> owner(
      preference, [](void* it) { api().preference_destroy(static_cast<cublasLtMatmulPreference_t>(it)); });
  const size_t workspace = kWorkspace;
  check(api().preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace), op,
        "choose an algorithm");
  // Sums in float32 in an order that does not change.
  const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  check(api().preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions),
        op, "choose an algorithm");
  cublasLtMatmulHeuristicResult_t result = {};
  int found = 0;
  check(api().heuristic(handle, p->desc, p->b, p->a, p->c, p->c, preference, 1, &result, &found), op,
        "choose an algorithm");
  if (found == 0 || result.state != CUBLAS_STATUS_SUCCESS)
    fail(ErrorKind::runtime, op, "cuBLASLt has no algorithm for a product of ", key.m, " x ", key.k, " by ", key.k,
         " x ", key.n);
  p->algorithm = result.algo;
  return *(slot = std::move(p));
}

Gemm::Gemm(cudaStream_t stream, bool tf32) : state_(std::make_unique<State>()) {
  state_->stream = stream;
  state_->compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  check(api().create(&state_->handle), "device", "start");
}

Gemm::~Gemm() {
  state_->made.clear();
  if (state_->handle) api().destroy(state_->handle);
}

std::string Gemm::version() {
  const size_t v = api().version();  // e.g. 130100
  return concat(v / 10000, '.', v / 100 % 100, '.', v % 100);
}

size_t Gemm::workspace_bytes() { return kWorkspace; }

void Gemm::run(const char* op, const Product& p, void* workspace) {
  const Made& made = state_->make(op, Key(p));
  const float one = 1;
  check(api().matmul(state_->handle, made.desc, &one, p.b, made.b, p.a, made.a, &p.beta, p.c, made.c, p.c, made.c,
                     &made.algorithm, workspace, kWorkspace, state_->stream),
        op, "multiply");
}

}  // namespace slimclr::cuda
