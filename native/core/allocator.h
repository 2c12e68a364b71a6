// A caching allocator for one device. Stream-ordered: a freed block may be handed out again at once, because the tasks
// that still use it run before any task enqueued later.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace slimclr {

struct MemoryStats {
  size_t tensors = 0;  // live buffers
  size_t bytes = 0;    // bytes in live buffers
  size_t cached_bytes = 0;
  size_t recorded_bytes = 0;  // in blocks that recordings keep for their replays
  size_t peak_bytes = 0;      // highest `bytes` since the start or the last reset_peak
};

// Where blocks come from: malloc on the CPU, cudaMalloc on a GPU.
struct RawMemory {
  std::function<void*(size_t bytes)> allocate;  // null when there is none
  std::function<void(void* block, size_t bytes)> release;
  std::function<void()> wait;  // until no task uses freed blocks
  size_t capacity = 0;         // bytes of the device
};

// The memory of a recording. Its replays write to fixed addresses, so blocks that are freed stay here, to be used again
// within the recording only.
struct BlockPool {
  std::map<size_t, std::vector<void*>> free;
  bool open = true;  // until the recording is disposed of
};

class Allocator {
 public:
  explicit Allocator(RawMemory raw) : raw_(std::move(raw)) {}
  ~Allocator();
  Allocator(const Allocator&) = delete;

  void* allocate(size_t bytes);
  void release(void* block, size_t bytes, const std::shared_ptr<BlockPool>& pool = nullptr);
  void trim();  // gives cached blocks back to the system
  MemoryStats stats() const;
  void reset_peak();
  size_t capacity() const { return raw_.capacity; }

  // From now on blocks belong to this pool; null: to none.
  void use(std::shared_ptr<BlockPool> pool) { pool_ = std::move(pool); }
  const std::shared_ptr<BlockPool>& pool() const { return pool_; }
  // The pool's free blocks become everybody's, as do those in use when they are freed.
  void close(BlockPool& pool);

  // The size of the block that serves a request: few distinct sizes, at most 1/8 larger than asked.
  static size_t block_size(size_t bytes);

 private:
  void trim_locked();

  RawMemory raw_;
  mutable std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  std::shared_ptr<BlockPool> pool_;  // of the thread that allocates
  MemoryStats stats_;
};

// A block of device memory; goes back to its allocator with the last owner.
class Buffer {
 public:
  Buffer(std::shared_ptr<Allocator> allocator, size_t bytes)
      : allocator_(std::move(allocator)),
        pool_(allocator_->pool()),
        data_(allocator_->allocate(bytes)),
        bytes_(bytes) {}
  ~Buffer() { allocator_->release(data_, bytes_, pool_); }
  Buffer(const Buffer&) = delete;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  const std::shared_ptr<Allocator>& allocator() const { return allocator_; }
  const std::shared_ptr<BlockPool>& pool() const { return pool_; }

  // What a backend keeps with the contents, such as a weight in another layout. Null again once they may have changed:
  // after any op that was given the buffer and does not promise to read only, and before a recording that uses it.
  std::shared_ptr<void> derived;

 private:
  std::shared_ptr<Allocator> allocator_;
  std::shared_ptr<BlockPool> pool_;  // null: of none
  void* data_;
  size_t bytes_;
};

}  // namespace slimclr
