// The addon's entry: a list of what is exported.
#include "addon/args.h"
#include "addon/environment.h"
#include "addon/native_tensor.h"

namespace slimclr {

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment(env);
  env.SetInstanceData(environment);
  env.AddCleanupHook([environment] { environment->close(); });
  // Cleanup hooks do not run at process.exit(); listeners of its event do.
  Napi::Object process = env.Global().Get("process").As<Napi::Object>();
  Napi::Function on_exit =
      Napi::Function::New(env, [environment](const Napi::CallbackInfo&) { environment->cancel(); });
  process.Get("on").As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), on_exit});
  environment->array_buffer_constructor = Napi::Persistent(env.Global().Get("ArrayBuffer").As<Napi::Function>());
  NativeTensor::init(env, exports);
  init_tensors(exports);
  init_nn(exports);
  init_math(exports);
  init_train(exports);
  init_recordings(exports);
  return exports;
}

NODE_API_MODULE(slimclr, init)

}  // namespace slimclr
