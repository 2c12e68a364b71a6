#include "addon/args.h"

#include <cmath>
#include <new>

#include "addon/environment.h"
#include "addon/native_tensor.h"

namespace slimclr {

Napi::Error to_js_error(Napi::Env env, std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::type) return Napi::TypeError::New(env, e.what());
    if (e.kind() == ErrorKind::range) return Napi::RangeError::New(env, e.what());
    return Napi::Error::New(env, e.what());
  } catch (const std::bad_alloc&) {
    return Napi::RangeError::New(env, "out of memory; use a smaller batch, image or queue, or dispose of tensors");
  } catch (const std::exception& e) {
    return Napi::Error::New(env, e.what());
  } catch (...) {
    return Napi::Error::New(env, "unknown native error");
  }
}

std::string describe_js(Napi::Value value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number:
      return concat(value.As<Napi::Number>().DoubleValue());
    case napi_string: {
      std::string s = value.As<Napi::String>().Utf8Value();
      return concat('\'', s.substr(0, 40), s.size() > 40 ? "…'" : "'");
    }
    case napi_symbol:
      return "a symbol";
    case napi_function:
      return "a function";
    case napi_bigint:
      return "a bigint";
    case napi_external:
      return "an external value";
    case napi_object:
      return value.IsArray() ? "an array" : value.IsTypedArray() ? "a typed array" : "an object";
  }
  return "an unknown value";
}

Napi::Value to_js(Napi::Env env, const Shape& shape) {
  Napi::Array array = Napi::Array::New(env, shape.size());
  for (uint32_t i = 0; i < shape.size(); ++i) array.Set(i, Napi::Number::New(env, static_cast<double>(shape[i])));
  return array;
}

Tensor Args::tensor(size_t i, const char* name) const {
  Tensor tensor = read_only_tensor(i, name);
  given_.push_back(tensor.buffer);
  return tensor;
}

Tensor Args::read_only_tensor(size_t i, const char* name) const { return NativeTensor::unwrap(info_[i], op_, name); }

std::optional<Tensor> Args::optional_tensor(size_t i, const char* name) const {
  if (info_[i].IsNull() || info_[i].IsUndefined()) return std::nullopt;
  return tensor(i, name);
}

std::pair<Napi::Array, uint32_t> Args::array(size_t i, const char* name, uint32_t most) const {
  check_type(info_[i].IsArray(), op_, "expected ", name, " to be an array, received ", describe_js(info_[i]));
  Napi::Array array = info_[i].As<Napi::Array>();
  uint32_t length = array.Length();
  check_range(length <= most, op_, "expected ", name, " of at most ", most, " elements, received ", length);
  return {array, length};
}

std::vector<Tensor> Args::tensors(size_t i, const char* name) const {
  std::vector<Tensor> out = read_only_tensors(i, name);
  for (const Tensor& tensor : out) given_.push_back(tensor.buffer);
  return out;
}

std::vector<Tensor> Args::read_only_tensors(size_t i, const char* name) const {
  auto [list, length] = array(i, name, 1 << 20);
  std::vector<Tensor> out;
  for (uint32_t j = 0; j < length; ++j)
    out.push_back(NativeTensor::unwrap(list.Get(j), op_, concat(name, '[', j, ']')));
  return out;
}

namespace {

int64_t to_integer(Napi::Value value, const char* op, const char* name) {
  check_type(value.IsNumber(), op, "expected ", name, " to be an integer, received ", describe_js(value));
  double v = value.As<Napi::Number>().DoubleValue();
  check_range(std::isfinite(v) && v == std::trunc(v) && std::fabs(v) <= 9007199254740991.0, op, "expected ", name,
              " to be an integer, received ", v);
  return static_cast<int64_t>(v);
}

}  // namespace

int64_t Args::integer(size_t i, const char* name) const { return to_integer(info_[i], op_, name); }

uint64_t Args::natural(size_t i, const char* name, int64_t most) const {
  int64_t v = integer(i, name);
  check_range(v >= 0 && v <= most, op_, "expected ", name, " in 0…", most, ", received ", v);
  return static_cast<uint64_t>(v);
}

double Args::number(size_t i, const char* name) const {
  check_type(info_[i].IsNumber(), op_, "expected ", name, " to be a number, received ", describe_js(info_[i]));
  return info_[i].As<Napi::Number>().DoubleValue();
}

bool Args::boolean(size_t i, const char* name) const {
  check_type(info_[i].IsBoolean(), op_, "expected ", name, " to be a boolean, received ", describe_js(info_[i]));
  return info_[i].As<Napi::Boolean>().Value();
}

std::string Args::string(size_t i, const char* name) const {
  check_type(info_[i].IsString(), op_, "expected ", name, " to be a string, received ", describe_js(info_[i]));
  return info_[i].As<Napi::String>().Utf8Value();
}

std::vector<int64_t> Args::integers(size_t i, const char* name, uint32_t most) const {
  auto [list, length] = array(i, name, most);
  std::vector<int64_t> out;
  for (uint32_t j = 0; j < length; ++j) out.push_back(to_integer(list.Get(j), op_, name));
  return out;
}

std::vector<float> Args::floats(size_t i, const char* name) const {
  auto [list, length] = array(i, name, 1 << 20);
  std::vector<float> out;
  for (uint32_t j = 0; j < length; ++j) {
    Napi::Value v = list.Get(j);
    check_type(v.IsNumber(), op_, "expected ", name, '[', j, "] to be a number, received ", describe_js(v));
    out.push_back(v.As<Napi::Number>().FloatValue());
  }
  return out;
}

DType Args::dtype(size_t i, const char* name) const {
  std::string s = string(i, name);
  for (DType t : {DType::f32, DType::bf16, DType::f16, DType::i32, DType::i64, DType::u8})
    if (s == name_of(t)) return t;
  fail(ErrorKind::range, op_, "expected ", name,
       " to be 'float32', 'bfloat16', 'float16', 'int32', 'int64' or 'uint8', received '", s.substr(0, 40), "'");
}

Device& Args::device(size_t i) const { return Environment::of(env()).device(string(i, "device")); }

Napi::Value wrap(const Args& args, const Tensor& tensor) { return NativeTensor::wrap(args.env(), tensor); }

Napi::Value wrap(const Args& args, const std::optional<Tensor>& tensor) {
  return tensor ? wrap(args, *tensor) : args.env().Null();
}

Napi::Value wrap(const Args& args, const std::vector<Tensor>& tensors) {
  Napi::Array array = Napi::Array::New(args.env(), tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) array.Set(i, wrap(args, tensors[i]));
  return array;
}

}  // namespace slimclr
