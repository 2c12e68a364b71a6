// A list of tasks that a device runs again and again.
#pragma once

#include <memory>
#include <string>
#include <unordered_set>

#include "core/allocator.h"
#include "core/stream.h"

namespace slimclr {

class Device;

class Recording {
 public:
  // From now on the device keeps what is enqueued instead of running it, until end() or until this goes.
  explicit Recording(Device& device);
  ~Recording();
  Recording(const Recording&) = delete;

  // Memory from before that tasks may use stays for as long as they. What was derived from it is not theirs to use, nor
  // is what they derive used without them.
  void hold(const std::shared_ptr<Buffer>& buffer);
  // What cannot be recorded throws, and so does end(), even if the first exception was caught.
  [[noreturn]] void refuse(const char* op, const char* what);

  void end();
  // Enqueues the tasks. They write to the same memory each time.
  void replay();

 private:
  void stop();
  void forget_derived();

  Device& device_;
  std::shared_ptr<Stream> stream_;
  std::shared_ptr<Allocator> memory_;
  std::shared_ptr<BlockPool> pool_;
  std::shared_ptr<Stream::Recorded> tasks_;
  std::unordered_set<std::shared_ptr<Buffer>> held_;
  std::string refused_;
  bool recording_ = true;  // until stop()
  int threads_;            // that tasks were planned for
};

}  // namespace slimclr
