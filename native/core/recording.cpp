#include "core/recording.h"

#include "core/backend.h"
#include "core/device.h"

namespace slimclr {

Recording::Recording(Device& device)
    : device_(device),
      stream_(device.stream_share()),
      memory_(device.memory_share()),
      pool_(std::make_shared<BlockPool>()),
      tasks_(std::make_shared<Stream::Recorded>()),
      threads_(device.backend().num_threads()) {
  device.check_not_recording("record", "another recording");
  stream_->record(tasks_);
  memory_->use(pool_);
  device.set_recording(this);
}

Recording::~Recording() {
  stop();
  memory_->close(*pool_);
  // Replays may wait on the stream. What their tasks own ends there too, in turn.
  stream_->enqueue([tasks = std::move(tasks_)] {});
}

void Recording::stop() {
  if (!recording_) return;
  recording_ = false;
  stream_->record(nullptr);
  memory_->use(nullptr);
  device_.set_recording(nullptr);
  forget_derived();
}

void Recording::hold(const std::shared_ptr<Buffer>& buffer) {
  if (buffer->pool() != pool_ && held_.insert(buffer).second) buffer->derived = nullptr;
}

void Recording::forget_derived() {
  for (const std::shared_ptr<Buffer>& buffer : held_) buffer->derived = nullptr;
}

void Recording::refuse(const char* op, const char* what) {
  if (refused_.empty())
    refused_ =
        concat('[', op, "] a recording cannot hold ", what, ": its replays would not repeat it; do it before or after");
  throw Error(ErrorKind::runtime, refused_);
}

void Recording::end() {
  stop();
  if (!refused_.empty()) throw Error(ErrorKind::runtime, refused_);
}

void Recording::replay() {
  device_.check_not_recording("replay", "another recording's replay");
  int threads = device_.backend().num_threads();
  check_range(threads == threads_, "replay", "expected the ", threads_, " threads of the recording, there are ",
              threads, "; record anew");
  forget_derived();  // any of it may be written
  stream_->replay(tasks_);
}

}  // namespace slimclr
