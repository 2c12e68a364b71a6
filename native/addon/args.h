// Arguments from JavaScript, each checked: nothing here trusts its caller.
#pragma once

#include <napi.h>

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace slimclr {

Napi::Error to_js_error(Napi::Env env, std::exception_ptr error);
std::string describe_js(Napi::Value value);
Napi::Value to_js(Napi::Env env, const Shape& shape);

class Args {
 public:
  Args(const Napi::CallbackInfo& info, const char* op) : info_(info), op_(op) {}
  // An op may have written what it was given.
  ~Args() {
    for (const std::shared_ptr<Buffer>& buffer : given_) buffer->derived = nullptr;
  }
  Args(const Args&) = delete;
  Napi::Env env() const { return info_.Env(); }
  const char* op() const { return op_; }
  Napi::Value value(size_t i) const { return info_[i]; }

  // By value: reading a later argument can run JavaScript (getters) that disposes of the tensor.
  Tensor tensor(size_t i, const char* name) const;
  std::optional<Tensor> optional_tensor(size_t i, const char* name) const;  // null or undefined: none
  std::vector<Tensor> tensors(size_t i, const char* name) const;
  // What the op only reads: what was derived from it stays.
  Tensor read_only_tensor(size_t i, const char* name) const;
  std::vector<Tensor> read_only_tensors(size_t i, const char* name) const;
  int64_t integer(size_t i, const char* name) const;
  uint64_t natural(size_t i, const char* name, int64_t most) const;  // 0…most
  double number(size_t i, const char* name) const;
  bool boolean(size_t i, const char* name) const;
  std::string string(size_t i, const char* name) const;
  std::vector<int64_t> integers(size_t i, const char* name, uint32_t most) const;
  Shape shape(size_t i, const char* name) const { return integers(i, name, 16); }
  std::vector<float> floats(size_t i, const char* name) const;
  DType dtype(size_t i, const char* name) const;
  Device& device(size_t i) const;

 private:
  // With its length as checked: getters of elements may make it longer.
  std::pair<Napi::Array, uint32_t> array(size_t i, const char* name, uint32_t most) const;

  const Napi::CallbackInfo& info_;
  const char* op_;
  mutable std::vector<std::shared_ptr<Buffer>> given_;
};

// Registers `function(args)` as exports[name]; its errors become JavaScript's.
template <typename Function>
void define(Napi::Object exports, const char* name, Function function) {
  auto guarded = [name, function](const Napi::CallbackInfo& info) -> Napi::Value {
    try {
      return function(Args(info, name));
    } catch (const Napi::Error&) {
      throw;
    } catch (...) {
      throw to_js_error(info.Env(), std::current_exception());
    }
  };
  exports.Set(name, Napi::Function::New(exports.Env(), guarded, name));
}

Napi::Value wrap(const Args& args, const Tensor& tensor);
Napi::Value wrap(const Args& args, const std::optional<Tensor>& tensor);
Napi::Value wrap(const Args& args, const std::vector<Tensor>& tensors);
template <typename... T>
Napi::Value wrap_all(const Args& args, const T&... tensors) {
  Napi::Array array = Napi::Array::New(args.env(), sizeof...(tensors));
  uint32_t i = 0;
  (array.Set(i++, wrap(args, tensors)), ...);
  return array;
}

// One function per file of this folder; bindings.cpp calls them all.
void init_tensors(Napi::Object exports);
void init_nn(Napi::Object exports);
void init_math(Napi::Object exports);
void init_train(Napi::Object exports);
void init_recordings(Napi::Object exports);

}  // namespace slimclr
