// Element-wise ops, reductions and row-wise functions.
#include "addon/args.h"
#include "core/ops.h"

namespace slimclr {

void init_math(Napi::Object exports) {
  define(exports, "reshape",
         [](const Args& a) { return wrap(a, ops::reshape(a.tensor(0, "x"), a.shape(1, "shape"))); });
  define(exports, "indexSelect", [](const Args& a) {
    return wrap(a, ops::index_select(a.tensors(0, "inputs"), a.optional_tensor(1, "index")));
  });
  define(exports, "indexSelectBackward", [](const Args& a) {
    return wrap(a, ops::index_select_backward(a.tensor(0, "dy"), a.optional_tensor(1, "index"), a.integer(2, "first"),
                                              a.shape(3, "shape")));
  });
  define(exports, "relu", [](const Args& a) { return wrap(a, ops::relu(a.tensor(0, "x"))); });
  define(exports, "reluBackward",
         [](const Args& a) { return wrap(a, ops::relu_backward(a.tensor(0, "y"), a.tensor(1, "dy"))); });
  define(exports, "add", [](const Args& a) { return wrap(a, ops::add(a.tensor(0, "a"), a.tensor(1, "b"))); });
  define(exports, "accumulate", [](const Args& a) {
    ops::accumulate(a.tensor(0, "x"), a.tensor(1, "y"));
    return a.env().Undefined();
  });
  define(exports, "scale", [](const Args& a) {
    return wrap(a, ops::scale(a.tensor(0, "x"), a.number(1, "factor"), a.optional_tensor(2, "scalar")));
  });
  define(exports, "sum", [](const Args& a) { return wrap(a, ops::sum(a.tensor(0, "x"), a.number(1, "factor"))); });
  define(exports, "broadcast", [](const Args& a) {
    return wrap(a, ops::broadcast(a.tensor(0, "scalar"), a.number(1, "factor"), a.shape(2, "shape")));
  });
  define(exports, "cast", [](const Args& a) { return wrap(a, ops::cast(a.tensor(0, "x"), a.dtype(1, "dtype"))); });
  define(exports, "clone", [](const Args& a) { return wrap(a, ops::clone(a.tensor(0, "x"))); });
  define(exports, "fill", [](const Args& a) {
    ops::fill(a.tensors(0, "tensors"), a.number(1, "value"));
    return a.env().Undefined();
  });
  define(exports, "l2Normalize", [](const Args& a) {
    auto [y, norm] = ops::l2_normalize(a.tensor(0, "x"), a.number(1, "eps"));
    return wrap_all(a, y, norm);
  });
  define(exports, "l2NormalizeBackward", [](const Args& a) {
    return wrap(
        a, ops::l2_normalize_backward(a.tensor(0, "y"), a.tensor(1, "norm"), a.tensor(2, "dy"), a.number(3, "eps")));
  });
  define(exports, "softmax", [](const Args& a) { return wrap(a, ops::softmax(a.tensor(0, "x"))); });
  define(exports, "softmaxCrossEntropy", [](const Args& a) {
    auto [loss, probabilities] =
        ops::softmax_cross_entropy(a.tensor(0, "logits"), a.tensor(1, "target"), a.number(2, "labelSmoothing"));
    return wrap_all(a, loss, probabilities);
  });
  define(exports, "softmaxCrossEntropyBackward", [](const Args& a) {
    return wrap(a, ops::softmax_cross_entropy_backward(a.tensor(0, "probabilities"), a.tensor(1, "target"),
                                                       a.tensor(2, "dloss"), a.number(3, "labelSmoothing")));
  });
}

}  // namespace slimclr
