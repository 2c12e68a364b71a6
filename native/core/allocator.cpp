#include "core/allocator.h"

#include "core/error.h"

namespace slimclr {

size_t Allocator::block_size(size_t bytes) {
  if (bytes <= 512) return 512;
  size_t top = size_t{1} << (63 - __builtin_clzll(bytes - 1));  // the power of two at or below
  size_t step = top / 8 < 512 ? 512 : top / 8;
  return (bytes + step - 1) / step * step;
}

Allocator::~Allocator() { trim(); }

void* Allocator::allocate(size_t bytes) {
  std::lock_guard lock(mutex_);
  auto too_much = [&] {
    fail(ErrorKind::range, "allocate", "out of memory: ", bytes, " bytes asked for, ", stats_.bytes, " in use by ",
         stats_.tensors, " tensors and ", stats_.recorded_bytes, " kept by recordings, of ", raw_.capacity,
         " on this device; use a smaller batch, image or queue, or dispose of tensors (scope())");
  };
  if (bytes > raw_.capacity) too_much();
  size_t size = block_size(bytes);
  void* block = nullptr;
  auto take = [&](std::map<size_t, std::vector<void*>>& free, size_t& counted) {
    auto it = free.find(size);
    if (it == free.end() || it->second.empty()) return false;
    block = it->second.back();
    it->second.pop_back();
    counted -= size;
    return true;
  };
  bool found = (pool_ && take(pool_->free, stats_.recorded_bytes)) || take(free_, stats_.cached_bytes);
  if (!found) {
    size_t kept = stats_.bytes + stats_.recorded_bytes;
    if (kept + stats_.cached_bytes + size > raw_.capacity) trim_locked();
    if (kept + size > raw_.capacity) too_much();
    block = raw_.allocate(size);
    if (!block) {
      trim_locked();
      block = raw_.allocate(size);
    }
    if (!block) too_much();
  }
  ++stats_.tensors;
  stats_.bytes += bytes;
  if (stats_.bytes > stats_.peak_bytes) stats_.peak_bytes = stats_.bytes;
  return block;
}

void Allocator::release(void* block, size_t bytes, const std::shared_ptr<BlockPool>& pool) {
  size_t size = block_size(bytes);
  std::lock_guard lock(mutex_);
  --stats_.tensors;
  stats_.bytes -= bytes;
  bool recorded = pool && pool->open;
  (recorded ? stats_.recorded_bytes : stats_.cached_bytes) += size;
  (recorded ? pool->free : free_)[size].push_back(block);
}

void Allocator::close(BlockPool& pool) {
  std::lock_guard lock(mutex_);
  pool.open = false;
  for (auto& [size, blocks] : pool.free) {
    stats_.recorded_bytes -= size * blocks.size();
    stats_.cached_bytes += size * blocks.size();
    free_[size].insert(free_[size].end(), blocks.begin(), blocks.end());
  }
  pool.free.clear();
}

void Allocator::trim() {
  std::lock_guard lock(mutex_);
  trim_locked();
}

void Allocator::trim_locked() {
  if (free_.empty()) return;
  raw_.wait();
  for (auto& [size, blocks] : free_)
    for (void* block : blocks) raw_.release(block, size);
  free_.clear();
  stats_.cached_bytes = 0;
}

MemoryStats Allocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void Allocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak_bytes = stats_.bytes;
}

}  // namespace slimclr
