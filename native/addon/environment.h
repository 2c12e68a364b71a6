// What the addon keeps per JavaScript environment (the main thread and each worker have their own).
#pragma once

#include <napi.h>

#include <map>
#include <memory>
#include <string>

#include "core/device.h"

namespace slimclr {

class Environment {
 public:
  explicit Environment(Napi::Env env);
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  // "cpu", "cuda" or "cuda:N"; made on first use.
  Device& device(const std::string& name);
  // Waits for the streams: arrays that their tasks write to are about to go. Pending promises stay pending.
  void close();
  // Ends the streams' work early: process.exit() takes the libraries down that their tasks call.
  void cancel();

  // Resolves with `value` (or rejects) when all work enqueued on the device so far is done.
  Napi::Promise when_done(Device& device, Napi::Value value);

  // Tells V8 of native bytes, so that its collector keeps pace with tensors that nobody disposed of. Only of changes
  // beyond 1 GiB: a training step's rise and fall must not start a collection at every step.
  void account(Napi::Env env, int64_t bytes);

  Napi::FunctionReference tensor_constructor;
  Napi::FunctionReference array_buffer_constructor;  // JavaScript's
  bool wrapping = false;                             // guards the constructor against calls from JavaScript

 private:
  struct Pending;
  static void settle(Napi::Env env, Napi::Function, std::nullptr_t*, Pending* pending);
  using Completion = Napi::TypedThreadSafeFunction<std::nullptr_t, Pending, settle>;

  std::map<std::string, std::unique_ptr<Device>> devices_;
  Completion completion_;  // ends with its environment, before this object does: not ours to release
  size_t pending_ = 0;
  int64_t live_bytes_ = 0, reported_bytes_ = 0;
};

}  // namespace slimclr
