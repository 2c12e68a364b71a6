// The JavaScript object that owns a native tensor.
#pragma once

#include <napi.h>

#include "core/tensor.h"

namespace slimclr {

class NativeTensor : public Napi::ObjectWrap<NativeTensor> {
 public:
  static void init(Napi::Env env, Napi::Object exports);
  static Napi::Value wrap(Napi::Env env, Tensor tensor);
  // The tensor behind a value; throws where it is none, or disposed of. `what` names the argument.
  static Tensor unwrap(Napi::Value value, const char* op, const std::string& what);

  explicit NativeTensor(const Napi::CallbackInfo& info);
  void Finalize(Napi::Env env) override;

 private:
  Napi::Value shape(const Napi::CallbackInfo& info);
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value disposed(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info);
  void account(Napi::Env env, int64_t sign);

  Tensor tensor_;
};

}  // namespace slimclr
