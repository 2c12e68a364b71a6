#include "addon/native_tensor.h"

#include "addon/args.h"
#include "addon/environment.h"
#include "core/recording.h"

namespace slimclr {

namespace {
// Distinguishes our objects from those wrapped by other addons.
constexpr napi_type_tag kTag = {0x51a9c1c3b7f04e2bULL, 0x9d6e0f2a84c7d315ULL};
}  // namespace

void NativeTensor::init(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(env, "NativeTensor",
                                           {
                                               InstanceAccessor<&NativeTensor::shape>("shape"),
                                               InstanceAccessor<&NativeTensor::dtype>("dtype"),
                                               InstanceAccessor<&NativeTensor::device>("device"),
                                               InstanceAccessor<&NativeTensor::disposed>("disposed"),
                                               InstanceMethod<&NativeTensor::dispose>("dispose"),
                                           });
  Environment::of(env).tensor_constructor = Napi::Persistent(constructor);
  exports.Set("NativeTensor", constructor);
}

NativeTensor::NativeTensor(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeTensor>(info) {
  if (!Environment::of(info.Env()).wrapping)
    throw Napi::TypeError::New(info.Env(), "[NativeTensor] tensors are made by tensor(), zeros(), randn() and ops");
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

Napi::Value NativeTensor::wrap(Napi::Env env, Tensor tensor) {
  Environment& environment = Environment::of(env);
  struct Wrapping {  // ends also where the constructor throws: a worker being terminated
    bool& flag;
    explicit Wrapping(bool& f) : flag(f) { flag = true; }
    ~Wrapping() { flag = false; }
  };
  Napi::Object object = [&] {
    Wrapping wrapping(environment.wrapping);
    return environment.tensor_constructor.New({});
  }();
  NativeTensor* self = NativeTensor::Unwrap(object);
  self->tensor_ = std::move(tensor);
  self->account(env, 1);
  return object;
}

Tensor NativeTensor::unwrap(Napi::Value value, const char* op, const std::string& what) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&kTag))
    fail(ErrorKind::type, op, "expected ", what, " to be a tensor, received ", describe_js(value));
  NativeTensor* self = NativeTensor::Unwrap(value.As<Napi::Object>());
  check_type(self->tensor_.buffer != nullptr, op, "expected ", what,
             " to be a live tensor, received one that was disposed of; keep() it, or use it inside its scope");
  if (Recording* recording = self->tensor_.device->recording()) recording->hold(self->tensor_.buffer);
  return self->tensor_;
}

void NativeTensor::account(Napi::Env env, int64_t sign) {
  if (tensor_.buffer) Environment::of(env).account(env, sign * static_cast<int64_t>(tensor_.bytes()));
}

void NativeTensor::Finalize(Napi::Env env) {
  account(env, -1);
  tensor_.buffer.reset();
}

void NativeTensor::dispose(const Napi::CallbackInfo& info) {
  account(info.Env(), -1);
  tensor_.buffer.reset();
}

Napi::Value NativeTensor::shape(const Napi::CallbackInfo& info) { return to_js(info.Env(), tensor_.shape); }
Napi::Value NativeTensor::dtype(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), name_of(tensor_.dtype));
}
Napi::Value NativeTensor::device(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), tensor_.device ? tensor_.device->name() : "");
}
Napi::Value NativeTensor::disposed(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), tensor_.buffer == nullptr);
}

}  // namespace slimclr
