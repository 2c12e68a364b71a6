// The addon's entry: a list of what is exported.
#include "addon/args.h"
#include "addon/environment.h"
#include "addon/native_tensor.h"

namespace slimclr {

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment(env);
  env.SetInstanceData(environment);
  env.AddCleanupHook([environment] { environment->close(); });
  NativeTensor::init(env, exports);
  init_tensors(exports);
  init_nn(exports);
  init_math(exports);
  init_train(exports);
  return exports;
}

NODE_API_MODULE(slimclr, init)

}  // namespace slimclr
