#include "core/stream.h"

#include <future>
#include <utility>

namespace slimclr {

Stream::Stream(std::function<void()> settle, Capture capture)
    : settle_(std::move(settle)), capture_(std::move(capture)), thread_([this] { run(); }) {}

Stream::~Stream() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void Stream::push(Item item) {
  {
    std::lock_guard lock(mutex_);
    items_.push_back(std::move(item));
  }
  wake_.notify_one();
}

void Stream::enqueue(Task task) {
  if (recorded_)
    recorded_->tasks.push_back(std::move(task));
  else
    push({std::move(task), nullptr});
}

void Stream::replay(std::shared_ptr<Recorded> recorded) {
  enqueue([this, recorded = std::move(recorded)] {
    if (capture_) {
      if (!recorded->captured) recorded->captured = capture_(recorded->tasks);
      recorded->captured();
      return;
    }
    for (const Task& task : recorded->tasks) {
      if (cancelled_) return;
      task();
    }
  });
}

void Stream::on_done(std::function<void(std::exception_ptr)> completion) { push({nullptr, std::move(completion)}); }

void Stream::synchronize() {
  std::promise<void> done;
  on_done([&done](std::exception_ptr error) {
    if (error)
      done.set_exception(error);
    else
      done.set_value();
  });
  done.get_future().get();
}

void Stream::drain() {
  std::promise<void> done;
  on_done([this, &done](std::exception_ptr error) {
    error_ = error;
    done.set_value();
  });
  done.get_future().get();
}

void Stream::cancel() {
  cancelled_ = true;
  drain();
  cancelled_ = false;
}

void Stream::run() {
  for (;;) {
    Item item;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !items_.empty(); });
      if (items_.empty()) return;
      item = std::move(items_.front());
      items_.pop_front();
    }
    if (item.completion) {
      try {
        if (settle_) settle_();
      } catch (...) {
        if (!error_) error_ = std::current_exception();
      }
      item.completion(std::exchange(error_, nullptr));
    } else if (!error_ && !cancelled_) {
      try {
        item.task();
      } catch (...) {
        error_ = std::current_exception();
      }
    }
  }
}

}  // namespace slimclr
