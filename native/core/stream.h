// A device's stream: one worker thread that runs tasks in the order they were enqueued.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace slimclr {

class Stream {
 public:
  using Task = std::function<void()>;
  // Turns recorded tasks into one that does the same faster, such as a CUDA graph's launch.
  using Capture = std::function<Task(const std::vector<Task>&)>;
  struct Recorded {
    std::vector<Task> tasks;
    Task captured;  // worker thread only
  };

  // `settle` runs before each completion, on the worker thread: it waits for a device that works behind the tasks.
  // `capture` runs on the worker thread too, before a recording's first replay; without it replays run task by task.
  explicit Stream(std::function<void()> settle = nullptr, Capture capture = nullptr);
  ~Stream();  // runs what is enqueued, then ends the thread
  Stream(const Stream&) = delete;

  // Recorded tasks run many times. After a task has thrown, tasks are dropped until a completion has reported the
  // error.
  void enqueue(Task task);
  // From now on this thread's tasks go there, without running; null: no longer.
  void record(std::shared_ptr<Recorded> recorded) { recorded_ = std::move(recorded); }
  // Enqueues recorded tasks.
  void replay(std::shared_ptr<Recorded> recorded);
  // Runs after all earlier tasks, on the worker thread, with their first error (or null), which is then forgotten.
  void on_done(std::function<void(std::exception_ptr)> completion);
  // Waits for all earlier tasks; rethrows their first error.
  void synchronize();
  // Waits without looking at errors: for freeing memory that tasks may still use.
  void drain();
  // Waits for the running task and drops those that wait.
  void cancel();

 private:
  struct Item {
    Task task;
    std::function<void(std::exception_ptr)> completion;
  };
  void push(Item item);
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Item> items_;
  bool stop_ = false;
  std::atomic<bool> cancelled_{false};
  std::exception_ptr error_;  // worker thread only
  std::function<void()> settle_;
  Capture capture_;
  std::shared_ptr<Recorded> recorded_;  // enqueuing thread only
  std::thread thread_;
};

}  // namespace slimclr
