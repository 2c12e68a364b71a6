#include "addon/environment.h"

#include "addon/args.h"
#include "core/backend.h"

namespace slimclr {

struct Environment::Pending {
  Environment* environment;
  Napi::Promise::Deferred deferred;
  Napi::Reference<Napi::Value> value;
  std::exception_ptr error;
};

Environment::Environment(Napi::Env env) : completion_(Completion::New(env, "slimclr", 0, 1)) {
  completion_.Unref(env);  // an idle device does not keep the process alive
}

void Environment::close() {
  for (auto& [name, device] : devices_) device->stream().drain();
}

void Environment::cancel() {
  for (auto& [name, device] : devices_) device->stream().cancel();
}

void Environment::account(Napi::Env env, int64_t bytes) {
  constexpr int64_t kStep = int64_t{1} << 30;
  live_bytes_ += bytes;
  int64_t change = live_bytes_ - reported_bytes_;
  if (change < kStep && change > -kStep) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, change);
  reported_bytes_ = live_bytes_;
}

Device& Environment::device(const std::string& name) {
  std::string canonical = name == "cuda" ? "cuda:0" : name;
  if (auto it = devices_.find(canonical); it != devices_.end()) return *it->second;
  std::unique_ptr<Device> device;
  if (canonical == "cpu") {
    device = make_cpu_device();
  } else if (canonical.rfind("cuda:", 0) == 0 && canonical.size() > 5 && canonical.size() <= 8 &&
             canonical.find_first_not_of("0123456789", 5) == std::string::npos) {
    device = make_cuda_device(std::stoi(canonical.substr(5)));
  } else {
    fail(ErrorKind::range, "device", "expected 'cpu', 'cuda' or 'cuda:N', received '", name.substr(0, 64), "'");
  }
  return *(devices_[canonical] = std::move(device));
}

void Environment::settle(Napi::Env env, Napi::Function, std::nullptr_t*, Pending* raw) {
  std::unique_ptr<Pending> pending(raw);
  if (env == nullptr) return;  // the environment is closing
  Environment& environment = *pending->environment;
  if (--environment.pending_ == 0) environment.completion_.Unref(env);
  try {
    Napi::HandleScope scope(env);
    if (pending->error)
      pending->deferred.Reject(to_js_error(env, pending->error).Value());
    else
      pending->deferred.Resolve(pending->value.IsEmpty() ? env.Undefined() : pending->value.Value());
  } catch (const Napi::Error&) {
    // A worker that is being terminated runs no JavaScript any more; nobody waits for the promise.
  }
}

Napi::Promise Environment::when_done(Device& device, Napi::Value value) {
  Napi::Env env = value.Env();
  auto pending = std::make_unique<Pending>(
      Pending{this, Napi::Promise::Deferred::New(env), Napi::Reference<Napi::Value>(), nullptr});
  if (value.IsObject()) pending->value = Napi::Reference<Napi::Value>::New(value, 1);
  Napi::Promise promise = pending->deferred.Promise();
  if (pending_++ == 0) completion_.Ref(env);
  device.stream().on_done([this, raw = pending.release()](std::exception_ptr error) {
    raw->error = error;
    if (completion_.NonBlockingCall(raw) != napi_ok) delete raw;
  });
  return promise;
}

}  // namespace slimclr
