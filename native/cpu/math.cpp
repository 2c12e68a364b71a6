// Copies, conversions, element-wise ops, reductions and row-wise functions.
#include <cstring>
#include <memory>

#include "core/philox.h"
#include "cpu/cpu_backend.h"

namespace slimclr::cpu {

void CpuBackend::write(const Tensor& dst, const void* host, size_t bytes) {
  // The caller's memory may change at once, and earlier tasks may still use the block: copy now, write in turn.
  std::shared_ptr<char[]> held(new char[bytes]);
  std::memcpy(held.get(), host, bytes);
  run([held, to = dst.data(), bytes] { std::memcpy(to, held.get(), bytes); });
}

void CpuBackend::read(const Tensor& src, void* host) {
  run([from = src.data(), host, bytes = src.bytes()] { std::memcpy(host, from, bytes); });
}

void CpuBackend::convert(const Tensor& src, const Tensor& dst) {
  const ElementwiseKernels& e = k_.elementwise;
  if (src.dtype == DType::u8 || src.dtype == DType::i32) {
    if (dst.dtype == DType::f32 && dst.block == 1) {
      run([&e, x = src.data(), y = floats(dst), n = src.size(), bytes = src.dtype == DType::u8] {
        if (bytes)
          e.from_uint8(static_cast<const uint8_t*>(x), y, n);
        else
          e.from_int32(static_cast<const int32_t*>(x), y, n);
      });
    } else {
      Tensor plain = src.device->empty("cast", src.shape, DType::f32);
      convert(src, plain);
      convert(plain, dst);
    }
  } else if (src.block == dst.block) {
    run([&e, x = src.data(), y = dst.data(), from = elem_of(src.dtype), to = elem_of(dst.dtype), n = src.stored()] {
      e.convert(from, x, to, y, n);
    });
  } else {
    run([&e, x = act(src), y = act(dst)] { e.relayout(x, y); });
  }
}

void CpuBackend::copy(const Tensor& src, const Tensor& dst) {
  run([x = src.data(), y = dst.data(), bytes = src.bytes()] { std::memmove(y, x, bytes); });
}

void CpuBackend::fill(const std::vector<Tensor>& tensors, double value) {
  if (value == 0) {
    std::vector<ZeroItem> items;
    for (const Tensor& t : tensors) items.push_back({t.data(), static_cast<int64_t>(t.bytes())});
    run([kernel = k_.optimizer.zero, items = std::move(items)] {
      kernel(items.data(), static_cast<int64_t>(items.size()));
    });
    return;
  }
  for (const Tensor& t : tensors)
    run([kernel = k_.elementwise.fill, y = t.data(), value = static_cast<float>(value), n = t.size()] {
      kernel(Elem::f32, y, value, n);
    });
}

void CpuBackend::randn(const Tensor& out, uint64_t seed, uint32_t stream, uint64_t offset, float mean, float std) {
  run([=, y = floats(out), n = out.size()] { philox_randn(y, n, seed, stream, offset, mean, std); });
}

void CpuBackend::index_select(const std::vector<Tensor>& inputs, const Tensor& index, const Tensor& y) {
  std::vector<RowsPart> parts;
  for (const Tensor& x : inputs) parts.push_back({x.data(), x.dim(0)});
  int64_t m = y.dim(0), bytes = static_cast<int64_t>(y.bytes()) / m;
  run([kernel = k_.rows.select, parts = std::move(parts), index = int32s(index), m, bytes, y = y.data()] {
    int64_t bad = kernel(parts.data(), static_cast<int64_t>(parts.size()), index, m, bytes, y);
    check_range(bad == 0, "indexSelect", "expected indices of rows that there are, received ", bad, " of ", m,
                " outside");
  });
}

void CpuBackend::index_add(const Tensor& dy, const Tensor& index, int64_t first, const Tensor& dx) {
  run([kernel = k_.rows.add, dy = floats(dy), index = int32s(index), m = dy.dim(0), first, rows = dx.dim(0),
       d = dx.size() / dx.dim(0), dx = floats(dx)] { kernel(dy, index, m, d, first, rows, dx); });
}

void CpuBackend::relu_forward(const Tensor& x, const Tensor& y) {
  run([kernel = k_.elementwise.relu, elem = elem_of(x.dtype), x = x.data(), y = y.data(), n = x.stored()] {
    kernel(elem, x, y, n);
  });
}

void CpuBackend::relu_backward(const Tensor& y, const Tensor& dy, const Tensor& dx) {
  run([kernel = k_.elementwise.relu_backward, elem = elem_of(y.dtype), y = y.data(), dy = dy.data(), dx = dx.data(),
       n = y.stored()] { kernel(elem, y, dy, dx, n); });
}

void CpuBackend::add(const Tensor& a, const Tensor& b, const Tensor& y) {
  run([kernel = k_.elementwise.add, elem = elem_of(a.dtype), a = a.data(), b = b.data(), y = y.data(), n = a.stored()] {
    kernel(elem, a, b, y, n);
  });
}

void CpuBackend::accumulate(const Tensor& x, const Tensor& y) {
  run([kernel = k_.elementwise.accumulate, elem = elem_of(x.dtype), x = x.data(), y = y.data(), n = x.stored()] {
    kernel(elem, x, elem, y, 1.0f, n);
  });
}

void CpuBackend::scale(const Tensor& x, double s, const Tensor& scalar, const Tensor& y) {
  run([kernel = k_.elementwise.scale, elem = elem_of(x.dtype), x = x.data(), s, scalar = floats(scalar), y = y.data(),
       n = x.stored()] { kernel(elem, x, static_cast<float>(scalar ? s * *scalar : s), y, n); });
}

void CpuBackend::sum(const Tensor& x, double factor, const Tensor& y) {
  run([kernel = k_.elementwise.sum, elem = elem_of(x.dtype), x = x.data(), factor, y = floats(y), n = x.stored()] {
    kernel(elem, x, factor, y, n);
  });
}

void CpuBackend::broadcast(const Tensor& scalar, double factor, const Tensor& y) {
  run([kernel = k_.elementwise.broadcast, scalar = floats(scalar), factor = static_cast<float>(factor), y = y.data(),
       n = y.size()] { kernel(Elem::f32, y, scalar, factor, n); });
}

void CpuBackend::l2_normalize_forward(const Tensor& x, const Tensor& y, const Tensor& norm, double eps) {
  NormalizeArgs a{x.data(), Elem::f32, y.data(), Elem::f32, floats(norm), x.dim(0), x.dim(1), static_cast<float>(eps)};
  run([kernel = k_.elementwise.l2_normalize, a] { kernel(a); });
}

void CpuBackend::l2_normalize_backward(const Tensor& y, const Tensor& norm, const Tensor& dy, const Tensor& dx,
                                       double eps) {
  NormalizeBackwardArgs a{y.data(),  dy.data(), Elem::f32, floats(norm),           dx.data(),
                          Elem::f32, y.dim(0),  y.dim(1),  static_cast<float>(eps)};
  run([kernel = k_.elementwise.l2_normalize_backward, a] { kernel(a); });
}

void CpuBackend::softmax(const Tensor& x, const Tensor& y) {
  run([kernel = k_.softmax.softmax, x = x.data(), y = floats(y), n = x.dim(0), c = x.dim(1)] {
    kernel(Elem::f32, x, y, n, c);
  });
}

namespace {

template <typename ArgsT>
void set_target(ArgsT& a, const Tensor& target) {
  if (target.dtype == DType::i32)
    a.labels = target.as<int32_t>();
  else
    a.targets = target.as<float>();
}

}  // namespace

void CpuBackend::softmax_cross_entropy_forward(const Tensor& x, const Tensor& target, const Tensor& probabilities,
                                               const Tensor& loss, double label_smoothing) {
  CrossEntropyArgs a;
  a.logits = x.data();
  a.n = x.dim(0);
  a.c = x.dim(1);
  set_target(a, target);
  a.smoothing = static_cast<float>(label_smoothing);
  a.probabilities = floats(probabilities);
  a.loss = floats(loss);
  run([kernel = k_.softmax.cross_entropy_forward, a] {
    int64_t bad = kernel(a);
    check_range(bad == 0, "softmaxCrossEntropy", "expected labels in 0…", a.c - 1, ", received ", bad, " of ", a.n,
                " outside");
  });
}

void CpuBackend::softmax_cross_entropy_backward(const Tensor& probabilities, const Tensor& target, const Tensor& dloss,
                                                const Tensor& dx, double label_smoothing) {
  CrossEntropyBackwardArgs a;
  a.probabilities = floats(probabilities);
  a.n = dx.dim(0);
  a.c = dx.dim(1);
  set_target(a, target);
  a.smoothing = static_cast<float>(label_smoothing);
  a.dloss = floats(dloss);
  a.dlogits = dx.data();
  run([kernel = k_.softmax.cross_entropy_backward, a] { kernel(a); });
}

}  // namespace slimclr::cpu
