// Recordings: made by calling back, so that JavaScript cannot leave one open.
#include "addon/args.h"
#include "addon/environment.h"
#include "core/recording.h"

namespace slimclr {

namespace {

// Distinguishes our objects from those wrapped by others.
constexpr napi_type_tag kTag = {0x3e1f0c5d92a84b67ULL, 0xb84d27f16c0e93a5ULL};

using Owner = std::unique_ptr<Recording>;  // empty once disposed of

// An object without properties that owns the recording.
Napi::Value wrap_recording(Napi::Env env, Owner recording) {
  Napi::Object object = Napi::Object::New(env);
  auto owner = std::make_unique<Owner>(std::move(recording));
  auto finalize = [](napi_env, void* data, void*) { delete static_cast<Owner*>(data); };
  napi_status status = napi_wrap(env, object, owner.get(), finalize, nullptr, nullptr);
  if (status != napi_ok) throw Napi::Error::New(env);
  owner.release();
  object.TypeTag(&kTag);
  return object;
}

Owner& unwrap_recording(const Args& args, size_t i) {
  Napi::Value value = args.value(i);
  void* data = nullptr;
  bool ours = value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag) &&
              napi_unwrap(args.env(), value, &data) == napi_ok;
  check_type(ours, args.op(), "expected a recording, received ", describe_js(value));
  return *static_cast<Owner*>(data);
}

// Calls a function and records what it enqueues on the device.
Napi::Value record(const Args& args) {
  Device& device = args.device(0);
  check_type(args.value(1).IsFunction(), args.op(), "expected work to be a function, received ",
             describe_js(args.value(1)));
  auto recording = std::make_unique<Recording>(device);
  args.value(1).As<Napi::Function>().Call({});
  recording->end();
  return wrap_recording(args.env(), std::move(recording));
}

Napi::Value replay(const Args& args) {
  Owner& recording = unwrap_recording(args, 0);
  check_type(recording != nullptr, args.op(), "expected a live recording, received one that was disposed of");
  recording->replay();
  return args.env().Undefined();
}

Napi::Value dispose_recording(const Args& args) {
  unwrap_recording(args, 0).reset();
  return args.env().Undefined();
}

}  // namespace

void init_recordings(Napi::Object exports) {
  define(exports, "record", record);
  define(exports, "replay", replay);
  define(exports, "disposeRecording", dispose_recording);
}

}  // namespace slimclr
