// Lists of buffers that one launch works through. A list is a table in device memory: each entry says where its chunks
// of kChunk elements begin among all, so that a block finds its entry by bisection.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace slimclr::cuda {

constexpr int64_t kChunk = 4096;

SLIMCLR_HOST_DEVICE inline int64_t chunks_of(int64_t size) { return (size + kChunk - 1) / kChunk; }

// Item: has its `size` in elements, which is not 0, and `begin`, the chunks of the entries before.
template <typename Item>
struct ListOf {
  const Item* items = nullptr;  // in device memory
  int64_t count = 0, chunks = 0;

  // Of a launch: each takes a chunk, or several in turn where there are many.
  unsigned blocks(int processors) const {
    const int64_t most = static_cast<int64_t>(processors) * 8;
    return static_cast<unsigned>(chunks < most ? chunks : most);
  }

  // The entry that holds a chunk.
  SLIMCLR_HOST_DEVICE const Item& item_of(int64_t chunk) const {
    int64_t low = 0, high = count - 1;
    while (low < high) {
      const int64_t middle = (low + high + 1) / 2;
      if (items[middle].begin <= chunk)
        low = middle;
      else
        high = middle - 1;
    }
    return items[low];
  }
};

}  // namespace slimclr::cuda
