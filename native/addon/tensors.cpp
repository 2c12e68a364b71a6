// Tensors from and to JavaScript, devices, memory.
#include "addon/args.h"
#include "addon/environment.h"
#include "addon/native_tensor.h"
#include "core/backend.h"
#include "core/ops.h"

namespace slimclr {

namespace {

struct Bytes {
  const uint8_t* data;
  size_t size;
};

std::optional<DType> typed_array_dtype(Napi::TypedArray array) {
  switch (array.TypedArrayType()) {
    case napi_float32_array:
      return DType::f32;
    case napi_int32_array:
      return DType::i32;
    case napi_bigint64_array:
      return DType::i64;
    case napi_uint8_array:
    case napi_uint8_clamped_array:
      return DType::u8;
    default:
      return std::nullopt;
  }
}

// The bytes of a typed array that holds exactly `n` elements of `dtype`; float32 also serves types of 16 bits.
Bytes typed_array(const Args& args, size_t i, DType dtype, int64_t n) {
  Napi::Value value = args.value(i);
  check_type(value.IsTypedArray(), args.op(), "expected data to be a typed array, received ", describe_js(value));
  Napi::TypedArray array = value.As<Napi::TypedArray>();
  std::optional<DType> held = typed_array_dtype(array);
  DType expected = is_half(dtype) ? DType::f32 : dtype;
  check_type(held == expected, args.op(), "expected data for ", name_of(dtype), " to be a typed array of ",
             name_of(expected), ", received one of ", held ? name_of(*held) : "another type");
  check_type(array.ArrayBuffer().IsArrayBuffer(), args.op(),
             "expected data in memory that no other thread writes, received an array on a SharedArrayBuffer; copy it "
             "with slice()");
  check_range(static_cast<int64_t>(array.ElementLength()) == n, args.op(), "expected data of ", n,
              " elements, received ", array.ElementLength());
  return {static_cast<const uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset(), array.ByteLength()};
}

void write(const Tensor& dst, Bytes bytes, const char* op) {
  dst.device->check_not_recording(op, "values from JavaScript");
  if (dst.size() == 0) return;
  if (!is_half(dst.dtype) && dst.block == 1) {
    dst.device->backend().write(dst, bytes.data, bytes.size);
    return;
  }
  check_type(dst.block == 1 || dst.dtype != DType::u8, op, "expected a destination in plain layout");
  Tensor plain = dst.device->empty(op, dst.shape, is_half(dst.dtype) ? DType::f32 : dst.dtype);
  dst.device->backend().write(plain, bytes.data, bytes.size);
  dst.device->backend().convert(plain, dst);
}

Napi::Value from_data(const Args& args) {
  Device& device = args.device(3);
  DType dtype = args.dtype(2, "dtype");
  Shape shape = args.shape(1, "shape");
  Bytes bytes = typed_array(args, 0, dtype, count(args.op(), shape));
  Tensor t = device.empty(args.op(), shape, dtype);
  write(t, bytes, args.op());
  return wrap(args, t);
}

Napi::Value copy_from(const Args& args) {
  Tensor dst = args.tensor(0, "destination");
  if (args.value(1).IsTypedArray())
    write(dst, typed_array(args, 1, dst.dtype, dst.size()), args.op());
  else
    ops::copy(args.tensor(1, "source"), dst);
  return args.env().Undefined();
}

// Memory for JavaScript, made by its own constructor: that throws where none is left, napi_create_arraybuffer would end
// the process.
Napi::ArrayBuffer new_array_buffer(const Args& args, size_t bytes) {
  Napi::Value made;
  try {
    made = Environment::of(args.env())
               .array_buffer_constructor.New({Napi::Number::New(args.env(), static_cast<double>(bytes))});
  } catch (const Napi::Error&) {
    // told below
  }
  check_range(made.IsArrayBuffer() && made.As<Napi::ArrayBuffer>().ByteLength() == bytes, args.op(),
              "out of memory: no ", bytes, " bytes for a copy in JavaScript; read less at a time");
  return made.As<Napi::ArrayBuffer>();
}

// Enqueues a plain copy of the tensor into a new typed array (types of 16 bits as float32).
Napi::Value enqueue_read(const Args& args, const Tensor& t) {
  t.device->check_not_recording(args.op(), "a copy to JavaScript");
  Napi::Env env = args.env();
  Tensor plain = t;
  if (t.size() > 0 && (is_half(t.dtype) || t.block != 1)) {
    DType dtype = is_half(t.dtype) ? DType::f32 : t.dtype;
    check_type(t.block == 1 || dtype == DType::f32, args.op(), "expected a tensor in plain layout to read");
    plain = t.device->empty(args.op(), t.shape, dtype);
    t.device->backend().convert(t, plain);
  }
  check_range(plain.bytes() < (size_t{1} << 32), args.op(), "expected a tensor below 4 GiB to read, received ",
              plain.bytes(), " bytes; read it in parts");
  Napi::ArrayBuffer memory = new_array_buffer(args, plain.bytes());
  if (plain.size() > 0) t.device->backend().read(plain, memory.Data());
  size_t n = static_cast<size_t>(plain.size());
  switch (plain.dtype) {
    case DType::i32:
      return Napi::Int32Array::New(env, n, memory, 0);
    case DType::i64:
      return Napi::BigInt64Array::New(env, n, memory, 0);
    case DType::u8:
      return Napi::Uint8Array::New(env, n, memory, 0);
    default:
      return Napi::Float32Array::New(env, n, memory, 0);
  }
}

Napi::Value read(const Args& args) {
  Tensor t = args.tensor(0, "tensor");
  return Environment::of(args.env()).when_done(*t.device, enqueue_read(args, t));
}

Napi::Value read_sync(const Args& args) {
  Tensor t = args.tensor(0, "tensor");
  Napi::Value array = enqueue_read(args, t);
  t.device->stream().synchronize();
  return array;
}

Napi::Value synchronize(const Args& args) {
  Device& device = args.device(0);
  device.check_not_recording(args.op(), "a wait");
  return Environment::of(args.env()).when_done(device, args.env().Undefined());
}

Napi::Value zeros(const Args& args) {
  return wrap(args, ops::zeros(args.device(2), args.shape(0, "shape"), args.dtype(1, "dtype")));
}

Napi::Value randn(const Args& args) {
  constexpr int64_t most = 9007199254740991;
  return wrap(args, ops::randn(args.device(6), args.shape(0, "shape"), args.natural(1, "seed", most),
                               static_cast<uint32_t>(args.natural(2, "stream", 0xffffffffLL)),
                               args.natural(3, "offset", most), args.number(4, "mean"), args.number(5, "std")));
}

// Another handle on the same memory.
Napi::Value alias(const Args& args) { return wrap(args, args.tensor(0, "tensor")); }

Napi::Value memory_stats(const Args& args) {
  MemoryStats s = args.device(0).memory().stats();
  Napi::Object o = Napi::Object::New(args.env());
  o.Set("tensors", static_cast<double>(s.tensors));
  o.Set("bytes", static_cast<double>(s.bytes));
  o.Set("cachedBytes", static_cast<double>(s.cached_bytes));
  o.Set("recordedBytes", static_cast<double>(s.recorded_bytes));
  o.Set("peakBytes", static_cast<double>(s.peak_bytes));
  return o;
}

Napi::Value trim_memory(const Args& args) {
  Device& device = args.device(0);
  device.memory().trim();
  device.memory().reset_peak();
  return args.env().Undefined();
}

Napi::Value device_info(const Args& args) {
  Napi::Object o = Napi::Object::New(args.env());
  for (auto& [key, value] : args.device(0).backend().info()) o.Set(key, value);
  return o;
}

// Why the device cannot compute in a precision; null where it can.
Napi::Value unsupported(const Args& args) {
  std::string why;
  bool ok = args.device(0).backend().supports(args.dtype(1, "dtype"), &why);
  return ok ? args.env().Null() : Napi::String::New(args.env(), why);
}

Napi::Value set_num_threads(const Args& args) {
  int64_t n = args.integer(1, "threads");
  check_range(n >= 1 && n <= 256, args.op(), "expected threads in 1…256, received ", n);
  Device& device = args.device(0);
  device.check_not_recording(args.op(), "another number of threads");
  device.backend().set_num_threads(static_cast<int>(n));
  return args.env().Undefined();
}

Napi::Value num_threads(const Args& args) {
  return Napi::Number::New(args.env(), args.device(0).backend().num_threads());
}

}  // namespace

void init_tensors(Napi::Object exports) {
  define(exports, "fromData", from_data);
  define(exports, "copyFrom", copy_from);
  define(exports, "read", read);
  define(exports, "readSync", read_sync);
  define(exports, "synchronize", synchronize);
  define(exports, "zeros", zeros);
  define(exports, "randn", randn);
  define(exports, "alias", alias);
  define(exports, "memoryStats", memory_stats);
  define(exports, "trimMemory", trim_memory);
  define(exports, "deviceInfo", device_info);
  define(exports, "unsupported", unsupported);
  define(exports, "setNumThreads", set_num_threads);
  define(exports, "numThreads", num_threads);
  define(exports, "cudaStatus",
         [](const Args& args) -> Napi::Value { return Napi::String::New(args.env(), cuda_status()); });
}

}  // namespace slimclr
