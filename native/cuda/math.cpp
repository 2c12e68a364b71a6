// Copies, conversions, element-wise ops, reductions and row-wise functions.
#include <cstring>

#include "cuda/cuda_backend.h"
#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/rows.h"
#include "cuda/kernels/softmax.h"

namespace slimclr::cuda {

void CudaBackend::upload(const char* op, void* to, const void* host, size_t bytes) {
  std::shared_ptr<void> held = context_->staging(bytes);
  std::memcpy(held.get(), host, bytes);
  run(op, [held, to, bytes](const Launch& on) {
    check_cuda(cudaMemcpyAsync(to, held.get(), bytes, cudaMemcpyHostToDevice, on.stream), on.op);
  });
}

void CudaBackend::write(const Tensor& dst, const void* host, size_t bytes) {
  if (bytes > 0) upload("write", dst.data(), host, bytes);
}

void CudaBackend::read(const Tensor& src, void* host) {
  run("read", [from = src.data(), host, bytes = src.bytes()](const Launch& on) {
    check_cuda(cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, on.stream), on.op);
  });
}

void CudaBackend::convert(const Tensor& src, const Tensor& dst) {
  if (src.dtype == DType::u8 || src.dtype == DType::i32) {
    if (dst.block != 1 || dst.dtype != DType::f32) {
      Tensor plain = src.device->empty("cast", src.shape, DType::f32);
      convert(src, plain);
      convert(plain, dst);
      return;
    }
    run("cast", [x = src.data(), y = floats(dst), n = src.size(), bytes = src.dtype == DType::u8](const Launch& on) {
      if (bytes)
        from_uint8(on, static_cast<const uint8_t*>(x), y, n);
      else
        from_int32(on, static_cast<const int32_t*>(x), y, n);
    });
  } else if (src.block == dst.block) {
    run("cast", [x = src.data(), y = dst.data(), from = elem_of(src.dtype), to = elem_of(dst.dtype),
                 n = src.stored()](const Launch& on) { cuda::convert(on, from, x, to, y, n); });
  } else {
    run("cast", [x = act(src), y = act(dst)](const Launch& on) { relayout(on, x, y); });
  }
}

void CudaBackend::copy(const Tensor& src, const Tensor& dst) {
  if (src.bytes() == 0) return;
  run("copy", [x = src.data(), y = dst.data(), bytes = src.bytes()](const Launch& on) {
    check_cuda(cudaMemcpyAsync(y, x, bytes, cudaMemcpyDeviceToDevice, on.stream), on.op);
  });
}

void CudaBackend::randn(const Tensor& out, uint64_t seed, uint32_t stream, uint64_t offset, float mean, float std) {
  run("randn", [=, y = floats(out), n = out.size()](const Launch& on) {
    cuda::randn(on, y, n, seed, stream, offset, mean, std);
  });
}

void CudaBackend::index_select(const std::vector<Tensor>& inputs, const Tensor& index, const Tensor& y) {
  std::vector<RowsPart> parts;
  for (const Tensor& x : inputs) parts.push_back({x.data(), x.dim(0)});
  const int64_t m = y.dim(0), bytes = static_cast<int64_t>(y.bytes()) / m;
  Buffer table = scratch(static_cast<int64_t>(parts.size() * sizeof(RowsPart)));
  upload("indexSelect", table.data(), parts.data(), parts.size() * sizeof(RowsPart));
  run("indexSelect", [table = static_cast<const RowsPart*>(table.data()), count = static_cast<int64_t>(parts.size()),
                      index = int32s(index), m, bytes, y = y.data(), report = context_->report()](const Launch& on) {
    select_rows(on, table, count, index, m, bytes, y, report);
  });
}

void CudaBackend::index_add(const Tensor& dy, const Tensor& index, int64_t first, const Tensor& dx) {
  run("indexSelectBackward",
      [dy = floats(dy), index = int32s(index), m = dy.dim(0), first, rows = dx.dim(0), d = dx.size() / dx.dim(0),
       dx = floats(dx)](const Launch& on) { add_rows(on, dy, index, m, d, first, rows, dx); });
}

void CudaBackend::relu_forward(const Tensor& x, const Tensor& y) {
  run("relu", [elem = elem_of(x.dtype), x = x.data(), y = y.data(), n = x.stored()](const Launch& on) {
    cuda::relu(on, elem, x, y, n);
  });
}

void CudaBackend::relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) {
  run("reluBackward", [elem = elem_of(y.dtype), y = y.data(), dy = dy.data(), dx = dx.data(),
                       n = y.stored()](const Launch& on) { cuda::relu_backward(on, elem, y, dy, dx, n); });
}

void CudaBackend::add(const Tensor& a, const Tensor& b, const Tensor& y) {
  run("add", [elem = elem_of(a.dtype), a = a.data(), b = b.data(), y = y.data(), n = a.stored()](const Launch& on) {
    cuda::add(on, elem, a, b, y, n);
  });
}

void CudaBackend::accumulate(const Tensor& x, const Tensor& y) {
  run("accumulate", [elem = elem_of(x.dtype), x = x.data(), y = y.data(), n = x.stored()](const Launch& on) {
    cuda::add(on, elem, y, x, y, n);
  });
}

void CudaBackend::scale(const Tensor& x, double s, const Tensor& scalar, const Tensor& y) {
  run("scale", [elem = elem_of(x.dtype), x = x.data(), s = static_cast<float>(s), scalar = floats(scalar), y = y.data(),
                n = x.stored()](const Launch& on) { cuda::scale(on, elem, x, s, scalar, y, n); });
}

void CudaBackend::sum(const Tensor& x, double factor, const Tensor& y) {
  Buffer partial = scratch(kSumParts * static_cast<int64_t>(sizeof(double)));
  run("sum", [elem = elem_of(x.dtype), x = x.data(), factor, y = floats(y), n = x.stored(),
              partial = static_cast<double*>(partial.data())](const Launch& on) {
    cuda::sum(on, elem, x, factor, y, n, partial);
  });
}

void CudaBackend::broadcast(const Tensor& scalar, double factor, const Tensor& y) {
  run("broadcast", [scalar = floats(scalar), factor = static_cast<float>(factor), y = floats(y),
                    n = y.size()](const Launch& on) { cuda::broadcast(on, y, scalar, factor, n); });
}

void CudaBackend::l2_normalize_forward(const Tensor& x, const Tensor& y, const Tensor& norm, double eps) {
  run("l2Normalize", [x = floats(x), y = floats(y), norm = floats(norm), n = x.dim(0), d = x.dim(1),
                      eps = static_cast<float>(eps)](const Launch& on) { l2_normalize(on, x, y, norm, n, d, eps); });
}

void CudaBackend::l2_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, const Tensor& dx,
                                        double eps) {
  run("l2NormalizeBackward", [y = floats(y), norm = floats(norm), dy = floats(dy), dx = floats(dx), n = y.dim(0),
                              d = y.dim(1), eps = static_cast<float>(eps)](const Launch& on) {
    cuda::l2_normalize_backward(on, y, norm, dy, dx, n, d, eps);
  });
}

void CudaBackend::softmax(const Tensor& x, const Tensor& y) {
  run("softmax",
      [x = floats(x), y = floats(y), n = x.dim(0), c = x.dim(1)](const Launch& on) { cuda::softmax(on, x, y, n, c); });
}

namespace {

template <typename Args>
void set_target(Args& a, const Tensor& target) {
  if (target.dtype == DType::i32)
    a.labels = target.as<int32_t>();
  else
    a.targets = target.as<float>();
}

}  // namespace

void CudaBackend::softmax_cross_entropy_forward(const Tensor& x, const Tensor& target, const Tensor& probabilities,
                                                const Tensor& loss, double label_smoothing) {
  CrossEntropyArgs a;
  a.logits = floats(x);
  a.n = x.dim(0);
  a.c = x.dim(1);
  set_target(a, target);
  a.smoothing = static_cast<float>(label_smoothing);
  a.probabilities = floats(probabilities);
  a.loss = floats(loss);
  a.report = context_->report();
  Buffer row_loss = scratch(a.n * static_cast<int64_t>(sizeof(double)));
  a.row_loss = static_cast<double*>(row_loss.data());
  run("softmaxCrossEntropy", [a](const Launch& on) { cross_entropy_forward(on, a); });
}

void CudaBackend::softmax_cross_entropy_backward(const Tensor& probabilities, const Tensor& target, const Tensor& dloss,
                                                 const Tensor& dx, double label_smoothing) {
  CrossEntropyBackwardArgs a;
  a.probabilities = floats(probabilities);
  a.n = dx.dim(0);
  a.c = dx.dim(1);
  set_target(a, target);
  a.smoothing = static_cast<float>(label_smoothing);
  a.dloss = floats(dloss);
  a.dlogits = floats(dx);
  run("softmaxCrossEntropyBackward", [a](const Launch& on) { cross_entropy_backward(on, a); });
}

}  // namespace slimclr::cuda
