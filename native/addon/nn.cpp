// Layers.
#include "addon/args.h"
#include "core/ops.h"

namespace slimclr {

namespace {

BatchNorm batch_norm_options(const Args& a, size_t i) {
  return {a.boolean(i, "training"), a.boolean(i + 1, "relu"), a.boolean(i + 2, "residualLast"),
          a.number(i + 3, "momentum"), a.number(i + 4, "eps")};
}

Napi::Value batch_norm(const Args& a) {
  ops::BatchNormResult r = ops::batch_norm(
      a.tensor(0, "x"), a.optional_tensor(1, "weight"), a.optional_tensor(2, "bias"), a.tensor(3, "runningMean"),
      a.tensor(4, "runningVar"), a.optional_tensor(5, "residual"), batch_norm_options(a, 6));
  return wrap_all(a, r.y, r.mean, r.rstd);
}

Napi::Value batch_norm_backward(const Args& a) {
  auto [dx, dresidual] = ops::batch_norm_backward(
      a.tensor(0, "x"), a.optional_tensor(1, "y"), a.tensor(2, "dy"), a.optional_tensor(3, "dy2"),
      a.optional_tensor(4, "weight"), a.optional_tensor(5, "bias"), a.tensor(6, "mean"), a.tensor(7, "rstd"),
      a.optional_tensor(8, "dweight"), a.optional_tensor(9, "dbias"), a.boolean(10, "residual"),
      batch_norm_options(a, 11));
  return wrap_all(a, dx, dresidual);
}

}  // namespace

void init_nn(Napi::Object exports) {
  define(exports, "conv2d", [](const Args& a) {
    return wrap(a, ops::conv2d(a.tensor(0, "x"), a.read_only_tensor(1, "weight"), a.integer(2, "outChannels"),
                               a.integer(3, "inChannels"), a.integer(4, "stride"), a.integer(5, "padding")));
  });
  define(exports, "packWeights", [](const Args& a) {
    ops::pack_weights(a.read_only_tensors(0, "weights"), a.integers(1, "outChannels", 1 << 20),
                      a.integers(2, "inChannels", 1 << 20), a.dtype(3, "dtype"));
    return a.env().Undefined();
  });
  define(exports, "conv2dBackwardData", [](const Args& a) {
    return wrap(a, ops::conv2d_backward_data(a.tensor(0, "dy"), a.read_only_tensor(1, "weight"), a.shape(2, "xShape"),
                                             a.integer(3, "stride"), a.integer(4, "padding")));
  });
  define(exports, "conv2dBackwardWeight", [](const Args& a) {
    ops::conv2d_backward_weight(a.tensor(0, "x"), a.tensor(1, "dy"), a.tensor(2, "dweight"), a.integer(3, "stride"),
                                a.integer(4, "padding"));
    return a.env().Undefined();
  });
  define(exports, "batchNorm", batch_norm);
  define(exports, "batchNormBackward", batch_norm_backward);
  define(exports, "maxPool2d", [](const Args& a) {
    auto [y, index] =
        ops::max_pool2d(a.tensor(0, "x"), a.integer(1, "kernelSize"), a.integer(2, "stride"), a.integer(3, "padding"));
    return wrap_all(a, y, index);
  });
  define(exports, "maxPool2dBackward", [](const Args& a) {
    return wrap(a,
                ops::max_pool2d_backward(a.tensor(0, "dy"), a.tensor(1, "index"), a.shape(2, "xShape"),
                                         a.integer(3, "kernelSize"), a.integer(4, "stride"), a.integer(5, "padding")));
  });
  define(exports, "globalAvgPool2d", [](const Args& a) { return wrap(a, ops::global_avg_pool2d(a.tensor(0, "x"))); });
  define(exports, "globalAvgPool2dBackward", [](const Args& a) {
    return wrap(a, ops::global_avg_pool2d_backward(a.tensor(0, "dy"), a.shape(1, "xShape"), a.dtype(2, "dtype")));
  });
  define(exports, "linear", [](const Args& a) {
    return wrap(a, ops::linear(a.tensor(0, "x"), a.tensor(1, "weight"), a.optional_tensor(2, "bias"),
                               a.integer(3, "outFeatures"), a.integer(4, "inFeatures")));
  });
  define(exports, "linearBackwardData", [](const Args& a) {
    return wrap(a, ops::linear_backward_data(a.tensor(0, "dy"), a.tensor(1, "weight"), a.integer(2, "inFeatures")));
  });
  define(exports, "linearBackwardWeight", [](const Args& a) {
    ops::linear_backward_weight(a.tensor(0, "x"), a.tensor(1, "dy"), a.tensor(2, "dweight"),
                                a.optional_tensor(3, "dbias"));
    return a.env().Undefined();
  });
}

}  // namespace slimclr
