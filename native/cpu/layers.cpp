// Batch normalisation, pooling and linear layers.
#include "cpu/cpu_backend.h"

namespace slimclr::cpu {

void CpuBackend::batch_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                    const Tensor& running_mean, const Tensor& running_var, const Tensor& residual,
                                    const Tensor& y, const Tensor& mean, const Tensor& rstd, const BatchNorm& p) {
  BatchNormArgs a;
  a.x = act(x);
  a.y = act(y);
  a.residual = act(residual);
  a.weight = floats(weight);
  a.bias = floats(bias);
  a.running_mean = floats(running_mean);
  a.running_var = floats(running_var);
  a.mean = floats(mean);
  a.rstd = floats(rstd);
  a.training = p.training;
  a.relu = p.relu;
  a.residual_last = p.residual_last;
  a.momentum = static_cast<float>(p.momentum);
  a.eps = static_cast<float>(p.eps);
  run([kernel = k_.batch_norm.forward, a] { kernel(a); });
}

void CpuBackend::batch_norm_backward(const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& dy2,
                                     const Tensor& weight, const Tensor& bias, const Tensor& mean, const Tensor& rstd,
                                     const Tensor& dx, const Tensor& dresidual, const Tensor& dweight,
                                     const Tensor& dbias, const BatchNorm& p) {
  BatchNormBackwardArgs a;
  a.x = act(x);
  a.y = act(y);
  a.dy = act(dy);
  a.dy2 = act(dy2);
  a.dx = act(dx);
  a.dresidual = act(dresidual);
  a.weight = floats(weight);
  a.bias = floats(bias);
  a.mean = floats(mean);
  a.rstd = floats(rstd);
  a.dweight = floats(dweight);
  a.dbias = floats(dbias);
  a.training = p.training;
  a.relu = p.relu;
  a.residual_last = p.residual_last;
  a.residual = dresidual.buffer != nullptr;
  run([kernel = k_.batch_norm.backward, a] { kernel(a); });
}

void CpuBackend::max_pool2d_forward(const Tensor& x, const Tensor& y, const Tensor& index, const Pool& p) {
  MaxPoolArgs a{act(x), act(y), index.as<uint8_t>(), p.kernel, p.stride, p.padding};
  run([kernel = k_.pool.max_pool_forward, a] { kernel(a); });
}

void CpuBackend::max_pool2d_backward(const Tensor& dy, const Tensor& index, const Tensor& dx, const Pool& p) {
  MaxPoolBackwardArgs a{act(dy), act(dx), index.as<uint8_t>(), p.kernel, p.stride, p.padding};
  run([kernel = k_.pool.max_pool_backward, a] { kernel(a); });
}

void CpuBackend::global_avg_pool2d_forward(const Tensor& x, const Tensor& y) {
  run([kernel = k_.pool.global_avg_pool_forward, x = act(x), y = floats(y)] { kernel(x, y); });
}

void CpuBackend::global_avg_pool2d_backward(const Tensor& dy, const Tensor& dx) {
  run([kernel = k_.pool.global_avg_pool_backward, dy = floats(dy), dx = act(dx)] { kernel(dy, dx); });
}

void CpuBackend::linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) {
  int64_t n = x.dim(0), in = x.dim(1), out = y.dim(1), row = w.dim(1);
  run([=, x = floats(x), w = floats(w), bias = floats(bias), y = floats(y), add_bias = k_.elementwise.add_bias] {
    sgemm('N', 'T', n, out, in, x, in, w, row, 0, y, out);
    if (bias) add_bias(Elem::f32, y, bias, y, n, out);
  });
}

void CpuBackend::linear_backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx) {
  int64_t n = dy.dim(0), out = dy.dim(1), in = dx.dim(1), row = w.dim(1);
  run([=, dy = floats(dy), w = floats(w), dx = floats(dx)] {
    sgemm('N', 'N', n, in, out, dy, out, w, row, 0, dx, in);
  });
}

void CpuBackend::linear_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dw, const Tensor& dbias) {
  int64_t n = x.dim(0), in = x.dim(1), out = dy.dim(1), row = dw.dim(1);
  run([=, x = floats(x), dy = floats(dy), dw = floats(dw), dbias = floats(dbias),
       bias_gradient = k_.elementwise.bias_gradient] {
    sgemm('T', 'N', out, in, n, dy, out, x, in, 1, dw, row);
    if (dbias) bias_gradient(Elem::f32, dy, dbias, n, out);
  });
}

}  // namespace slimclr::cpu
