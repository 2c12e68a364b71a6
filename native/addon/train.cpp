// The contrastive loss, the optimizer, the queue, augmentations and kNN.
#include <cmath>
#include <cstring>

#include "addon/args.h"
#include "core/ops.h"

namespace slimclr {

namespace {

Napi::Value info_nce(const Args& a) {
  ops::InfoNceResult r =
      ops::info_nce(a.tensors(0, "queries"), a.tensor(1, "key"), a.tensor(2, "queue"), a.tensor(3, "weights"),
                    a.boolean(4, "wantGradients"),
                    {a.number(5, "temperature"), a.number(6, "teacherTemperature"), a.number(7, "studentTemperature"),
                     a.number(8, "aux"), a.boolean(9, "similarity"), a.boolean(10, "fullDistill")});
  return wrap_all(a, r.loss, r.per_width, r.gradients);
}

Napi::Value distill(const Args& a) {
  std::string name = a.string(0, "kind");
  std::optional<Distill::Kind> kind;
  for (auto [known, value] : {std::pair{"kd", Distill::Kind::kd},
                              {"mse", Distill::Kind::mse},
                              {"atkd", Distill::Kind::atkd},
                              {"dkd", Distill::Kind::dkd}})
    if (name == known) kind = value;
  check_range(kind.has_value(), a.op(), "expected kind to be 'kd', 'mse', 'atkd' or 'dkd', received '",
              name.substr(0, 40), "'");
  ops::DistillResult r = ops::distill(a.tensor(1, "student"), a.tensor(2, "teacher"), a.optional_tensor(3, "positives"),
                                      a.boolean(4, "wantGradient"),
                                      {*kind, a.number(5, "teacherTemperature"), a.number(6, "studentTemperature")});
  return wrap_all(a, r.loss, r.gradient);
}

AugmentRecipe published_recipe(const Args& a, const std::string& name) {
  std::string names;
  for (const char* const* n = kAugmentRecipeNames; *n; ++n) names += concat(names.empty() ? "" : ", ", *n);
  AugmentRecipe r;
  check_range(find_augment_recipe(name.c_str(), &r), a.op(), "expected recipe to be one of ", names, ", received '",
              name.substr(0, 40), "'");
  return r;
}

// A recipe by name, or as an object whose keys are `base`, the name of what it changes, and the fields of
// AugmentRecipe.
AugmentRecipe recipe(const Args& a, size_t i) {
  Napi::Value value = a.value(i);
  if (value.IsString()) return published_recipe(a, value.As<Napi::String>().Utf8Value());
  check_type(value.IsObject() && !value.IsArray() && !value.IsTypedArray() && !value.IsFunction(), a.op(),
             "expected recipe to be a name or an object, received ", describe_js(value));
  Napi::Object object = value.As<Napi::Object>();
  AugmentRecipe r;
  if (Napi::Value base = object.Get("base"); !base.IsUndefined()) {
    check_type(base.IsString(), a.op(), "expected recipe.base to be a name, received ", describe_js(base));
    r = published_recipe(a, base.As<Napi::String>().Utf8Value());
  }
  const std::pair<const char*, float*> fields[] = {
      {"cropMin", &r.crop_min},      {"cropMax", &r.crop_max},
      {"brightness", &r.brightness}, {"contrast", &r.contrast},
      {"saturation", &r.saturation}, {"hue", &r.hue},
      {"jitterP", &r.jitter_p},      {"grayP", &r.gray_p},
      {"blurP", &r.blur_p},          {"sigmaMin", &r.sigma_min},
      {"sigmaMax", &r.sigma_max},    {"solarizeP", &r.solarize_p},
      {"flipP", &r.flip_p},          {"solarizeThreshold", &r.solarize_threshold}};
  Napi::Array keys = object.GetPropertyNames();
  for (uint32_t k = 0, length = keys.Length(); k < length; ++k) {
    std::string key = keys.Get(k).ToString().Utf8Value();
    std::string shown = key.substr(0, 40);
    if (key == "base") continue;
    bool known = key == "grayFirst" || key == "centreResize";
    for (auto& field : fields) known = known || key == field.first;
    check_range(known, a.op(), "unknown key recipe.", shown);
    Napi::Value v = object.Get(key);
    if (v.IsUndefined()) continue;
    if (key == "grayFirst") {
      check_type(v.IsBoolean(), a.op(), "expected recipe.grayFirst to be a boolean, received ", describe_js(v));
      r.gray_first = v.As<Napi::Boolean>().Value();
      continue;
    }
    check_type(v.IsNumber(), a.op(), "expected recipe.", shown, " to be a number, received ", describe_js(v));
    double number = v.As<Napi::Number>().DoubleValue();
    check_range(number >= -1e6 && number <= 1e6, a.op(), "expected recipe.", shown, " to be a finite number, received ",
                number);
    if (key == "centreResize") {
      check_range(number >= 0 && number <= 16384 && number == std::trunc(number), a.op(),
                  "expected recipe.centreResize to be an integer in 0…16384, received ", number);
      r.centre_resize = static_cast<int>(number);
    }
    for (auto& [name, field] : fields)
      if (key == name) *field = static_cast<float>(number);
  }
  return r;
}

Napi::Value augment_params(const Args& a) {
  return wrap(a,
              ops::augment_params(recipe(a, 0), a.tensor(1, "sizes"), a.natural(2, "seed", 9007199254740991),
                                  static_cast<uint32_t>(a.natural(3, "stream", 0xffffffffLL)), a.tensor(4, "offset")));
}

Napi::Value augment(const Args& a) {
  Augment p{a.integer(4, "height"), a.integer(5, "width"), {}, {}};
  std::vector<float> mean = a.floats(6, "mean"), std = a.floats(7, "std");
  check_range(mean.size() == 3 && std.size() == 3, a.op(), "expected mean and std of 3 numbers, received ", mean.size(),
              " and ", std.size());
  std::memcpy(p.mean, mean.data(), sizeof p.mean);
  std::memcpy(p.std, std.data(), sizeof p.std);
  return wrap(a, ops::augment(a.tensor(0, "pixels"), a.tensor(1, "offsets"), a.tensor(2, "sizes"),
                              a.tensor(3, "params"), a.dtype(8, "dtype"), p));
}

Tensor skip(const Args& a, size_t i) { return a.optional_tensor(i, "skip").value_or(Tensor{}); }

}  // namespace

void init_train(Napi::Object exports) {
  define(exports, "slimInfoNCE", info_nce);
  define(exports, "distill", distill);
  define(exports, "sgd", [](const Args& a) {
    ops::sgd(a.tensors(0, "params"), a.tensors(1, "grads"), a.tensors(2, "momentumBuffers"), a.tensor(3, "lr"),
             {a.number(4, "momentum"), a.boolean(5, "nesterov"), a.floats(6, "weightDecay"), skip(a, 7)});
    return a.env().Undefined();
  });
  define(exports, "lars", [](const Args& a) {
    ops::lars(a.tensors(0, "params"), a.tensors(1, "grads"), a.tensors(2, "momentumBuffers"), a.tensor(3, "lr"),
              {a.number(4, "momentum"), a.number(5, "weightDecay"), a.number(6, "trustCoefficient"), skip(a, 7)});
    return a.env().Undefined();
  });
  define(exports, "adamw", [](const Args& a) {
    ops::adamw(
        a.tensors(0, "params"), a.tensors(1, "grads"), a.tensors(2, "expAvgs"), a.tensors(3, "expAvgSqs"),
        a.tensors(4, "steps"), a.tensor(5, "lr"),
        {a.number(6, "beta1"), a.number(7, "beta2"), a.number(8, "eps"), a.floats(9, "weightDecay"), skip(a, 10)});
    return a.env().Undefined();
  });
  define(exports, "rescale", [](const Args& a) {
    ops::rescale(a.tensors(0, "tensors"), a.number(1, "factor"));
    return a.env().Undefined();
  });
  define(exports, "clipGradNorm",
         [](const Args& a) { return wrap(a, ops::clip_grad_norm(a.tensors(0, "grads"), a.number(1, "maxNorm"))); });
  define(exports, "unscale",
         [](const Args& a) { return wrap(a, ops::unscale(a.tensors(0, "grads"), a.tensor(1, "scale"))); });
  define(exports, "updateScale", [](const Args& a) {
    ops::update_scale(a.tensor(0, "scale"), a.tensor(1, "goodSteps"), a.tensor(2, "found"),
                      {a.number(3, "growth"), a.number(4, "backoff"), a.integer(5, "interval")});
    return a.env().Undefined();
  });
  define(exports, "ema", [](const Args& a) {
    ops::ema(a.tensors(0, "targets"), a.read_only_tensors(1, "sources"), a.tensor(2, "m"));
    return a.env().Undefined();
  });
  define(exports, "enqueue", [](const Args& a) {
    ops::enqueue(a.tensor(0, "queue"), a.tensor(1, "keys"), a.tensor(2, "pointer"));
    return a.env().Undefined();
  });
  define(exports, "augmentParams", augment_params);
  define(exports, "augment", augment);
  define(exports, "augmentRaw", [](const Args& a) {
    return wrap(a, ops::augment_raw(a.tensor(0, "pixels"), a.tensor(1, "offsets"), a.tensor(2, "sizes"),
                                    a.tensor(3, "params"), a.integer(4, "height"), a.integer(5, "width")));
  });
  define(exports, "knn", [](const Args& a) {
    return wrap(a, ops::knn(a.tensor(0, "query"), a.tensor(1, "bank"), a.tensor(2, "labels"), a.integer(3, "k"),
                            a.number(4, "temperature"), a.integer(5, "classes")));
  });
}

}  // namespace slimclr
