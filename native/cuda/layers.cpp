// Batch normalisation, pooling and linear layers.
#include "cuda/cuda_backend.h"
#include "cuda/kernels/batch_norm.h"
#include "cuda/kernels/elementwise.h"
#include "cuda/kernels/pool.h"

namespace slimclr::cuda {

Tensor CudaBackend::empty_channels_last(const Tensor& like) {
  Tensor t{like.shape, like.dtype, activation_block(like.shape), like.device, nullptr};
  t.buffer = std::make_shared<Buffer>(device_.memory_share(), t.bytes());
  return t;
}

Tensor CudaBackend::channels_last(const Tensor& t) {
  if (!t.buffer || t.shape.size() != 4 || t.block == activation_block(t.shape)) return t;
  Tensor out = empty_channels_last(t);
  convert(t, out);
  return out;
}

void CudaBackend::batch_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                     const Tensor& running_mean, const Tensor& running_var, const Tensor& residual,
                                     const Tensor& y, const Tensor& mean, const Tensor& rstd, const BatchNorm& p) {
  const Tensor rows = channels_last(x), added = channels_last(residual);
  const bool direct = rows.buffer == x.buffer;
  const Tensor out = direct ? y : empty_channels_last(y);
  BatchNormArgs a;
  a.x = act(rows);
  a.y = out.data();
  a.residual = data(added);
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
  const BatchNormGrid grid = batch_norm_grid(a.x.rows(), a.x.pitch(), processors());
  Buffer partial = scratch(batch_norm_partials(grid, a.x.pitch()) * static_cast<int64_t>(sizeof(double)));
  a.partial = static_cast<double*>(partial.data());
  run("batchNorm", [a](const Launch& on) { cuda::batch_norm_forward(on, a); });
  if (!direct) convert(out, y);
}

void CudaBackend::batch_norm_backward(const Tensor& x, const Tensor& y, const Tensor& dy, const Tensor& dy2,
                                      const Tensor& weight, const Tensor& bias, const Tensor& mean, const Tensor& rstd,
                                      const Tensor& dx, const Tensor& dresidual, const Tensor& dweight,
                                      const Tensor& dbias, const BatchNorm& p) {
  const Tensor rows = channels_last(x), activated = channels_last(y), first = channels_last(dy);
  const Tensor second = channels_last(dy2);
  const bool direct = rows.buffer == x.buffer;
  const Tensor out = direct ? dx : empty_channels_last(dx);
  const Tensor residual_out = direct || !dresidual.buffer ? dresidual : empty_channels_last(dresidual);
  BatchNormBackwardArgs a;
  a.x = act(rows);
  a.dy = first.data();
  a.dy2 = data(second);
  a.y = data(activated);
  a.dx = out.data();
  a.dresidual = data(residual_out);
  a.weight = floats(weight);
  a.bias = floats(bias);
  a.mean = floats(mean);
  a.rstd = floats(rstd);
  a.dweight = floats(dweight);
  a.dbias = floats(dbias);
  a.training = p.training;
  a.relu = p.relu;
  a.mask_from_y = dresidual.buffer && !p.residual_last;
  a.residual_last = p.residual_last;
  const int64_t pitch = a.x.pitch();
  const BatchNormGrid grid = batch_norm_grid(a.x.rows(), pitch, processors());
  Buffer partial = scratch(batch_norm_partials(grid, pitch) * static_cast<int64_t>(sizeof(double)));
  Buffer coefficients = scratch(2 * pitch * static_cast<int64_t>(sizeof(float)));
  a.partial = static_cast<double*>(partial.data());
  a.offset = static_cast<float*>(coefficients.data());
  a.slope = a.offset + pitch;
  run("batchNormBackward", [a](const Launch& on) { cuda::batch_norm_backward(on, a); });
  if (!direct) convert(out, dx);
  if (!direct && dresidual.buffer) convert(residual_out, dresidual);
}

void CudaBackend::max_pool2d_forward(const Tensor& x, const Tensor& y, const Tensor& index, const Pool& p) {
  run("maxPool2d",
      [x = act(x), y = act(y), index = index.as<uint8_t>(), window = PoolWindow{p.kernel, p.stride, p.padding}](
          const Launch& on) { max_pool_forward(on, x, y, index, window); });
}

void CudaBackend::max_pool2d_backward(const Tensor& dy, const Tensor& index, const Tensor& dx, const Pool& p) {
  run("maxPool2dBackward",
      [dy = act(dy), dx = act(dx), index = index.as<uint8_t>(), window = PoolWindow{p.kernel, p.stride, p.padding}](
          const Launch& on) { max_pool_backward(on, dy, index, dx, window); });
}

void CudaBackend::global_avg_pool2d_forward(const Tensor& x, const Tensor& y) {
  run("globalAvgPool2d", [x = act(x), y = floats(y)](const Launch& on) { global_avg_pool_forward(on, x, y); });
}

void CudaBackend::global_avg_pool2d_backward(const Tensor& dy, const Tensor& dx) {
  run("globalAvgPool2dBackward",
      [dy = floats(dy), dx = act(dx)](const Launch& on) { global_avg_pool_backward(on, dy, dx); });
}

void CudaBackend::linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) {
  const int64_t n = x.dim(0), in = x.dim(1), out = y.dim(1), row = w.dim(1);
  Buffer workspace = scratch(static_cast<int64_t>(Gemm::workspace_bytes()));
  run("linear", [=, this, x = floats(x), w = floats(w), bias = floats(bias), y = floats(y),
                 workspace = workspace.data()](const Launch& on) {
    gemm_.run(on.op, {'N', 'T', n, out, in, x, in, w, row, 0, y, out}, workspace);
    if (bias) add_bias(on, bias, y, n, out);
  });
}

void CudaBackend::linear_backward_data(const Tensor& dy, const Tensor& w, const Tensor& dx) {
  const int64_t n = dy.dim(0), out = dy.dim(1), in = dx.dim(1), row = w.dim(1);
  Buffer workspace = scratch(static_cast<int64_t>(Gemm::workspace_bytes()));
  run("linearBackwardData",
      [=, this, dy = floats(dy), w = floats(w), dx = floats(dx), workspace = workspace.data()](const Launch& on) {
        gemm_.run(on.op, {'N', 'N', n, in, out, dy, out, w, row, 0, dx, in}, workspace);
      });
}

void CudaBackend::linear_backward_weight(const Tensor& x, const Tensor& dy, const Tensor& dw, const Tensor& dbias) {
  const int64_t n = x.dim(0), in = x.dim(1), out = dy.dim(1), row = dw.dim(1);
  Buffer workspace = scratch(static_cast<int64_t>(Gemm::workspace_bytes()));
  run("linearBackwardWeight", [=, this, x = floats(x), dy = floats(dy), dw = floats(dw), dbias = floats(dbias),
                               workspace = workspace.data()](const Launch& on) {
    gemm_.run(on.op, {'T', 'N', out, in, n, dy, out, x, in, 1, dw, row}, workspace);
    if (dbias) column_sums(on, dy, dbias, n, out);
  });
}

}  // namespace slimclr::cuda
