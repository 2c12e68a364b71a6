// Host-side logic of the CUDA backend: the allocator, plan keys, launch geometry, weight slices, missing libraries.
#include <cstdlib>
#include <iostream>
#include <map>
#include <set>

#include "core/allocator.h"
#include "core/error.h"
#include "cuda/convolution_plan.h"
#include "cuda/kernels/batch_norm.h"
#include "cuda/kernels/optimizer.h"
#include "cuda/kernels/weights.h"
#include "cuda/library.h"

using namespace slimclr;

namespace {

int failures = 0;

void expect(bool ok, const char* what) {
  if (ok) return;
  ++failures;
  std::cout << "FAILED: " << what << '\n';
}

// Device memory that counts.
struct FakeMemory {
  size_t used = 0;
  int allocations = 0, waits = 0;
  size_t real_capacity;  // what the device truly has left

  explicit FakeMemory(size_t bytes) : real_capacity(bytes) {}
  RawMemory raw(size_t capacity) {
    RawMemory r;
    r.allocate = [this](size_t bytes) -> void* {
      if (used + bytes > real_capacity) return nullptr;
      used += bytes;
      ++allocations;
      return std::malloc(bytes);
    };
    r.release = [this](void* block, size_t bytes) {
      used -= bytes;
      std::free(block);
    };
    r.wait = [this] { ++waits; };
    r.capacity = capacity;
    return r;
  }
};

void test_allocator() {
  FakeMemory memory(1 << 20);
  {
    Allocator allocator(memory.raw(1 << 20));
    void* a = allocator.allocate(1000);
    allocator.release(a, 1000);
    expect(allocator.allocate(1020) == a, "a freed block serves a request of its size");
    expect(memory.allocations == 1, "no second allocation for it");
    allocator.release(a, 1020);
    expect(allocator.stats().bytes == 0 && allocator.stats().cached_bytes == 1024, "freed blocks are cached");

    void* large = allocator.allocate((1 << 20) - 512);
    expect(memory.waits == 1, "the cache is given back, after the device is idle, where memory is short");
    allocator.release(large, (1 << 20) - 512);
    allocator.trim();
    expect(memory.used == 0 && allocator.stats().cached_bytes == 0, "trim gives everything back");
    try {
      allocator.allocate(size_t{2} << 20);
      expect(false, "more than the device has is refused");
    } catch (const Error& e) {
      const std::string said = e.what();
      expect(
          said.find("2097152 bytes asked for") != std::string::npos && said.find("smaller batch") != std::string::npos,
          "the refusal names sizes and what to reduce");
    }
    // Another process holds memory: the raw allocation fails though the capacity would do.
    memory.real_capacity = 4096;
    void* b = allocator.allocate(2048);
    allocator.release(b, 2048);
    void* c = allocator.allocate(4096);
    expect(c != nullptr, "a failed allocation is tried again without the cache");
    allocator.release(c, 4096);
  }
  expect(memory.used == 0, "nothing is left when the allocator ends");
}

void test_recording_memory() {
  FakeMemory memory(1 << 20);
  {
    auto allocator = std::make_shared<Allocator>(memory.raw(1 << 20));
    const void* cached = Buffer(allocator, 1000).data();
    auto pool = std::make_shared<BlockPool>();
    allocator->use(pool);
    auto kept = std::make_unique<Buffer>(allocator, 1000);
    expect(kept->data() == cached, "a recording takes blocks from the cache");
    const void* freed = Buffer(allocator, 4096).data();
    expect(allocator->stats().recorded_bytes == 4096 && allocator->stats().cached_bytes == 0, "and keeps its own");
    expect(Buffer(allocator, 4000).data() == freed, "which are used again within");
    allocator->use(nullptr);
    {
      Buffer outside(allocator, 4096);
      expect(outside.data() != freed, "but not outside");
      allocator->trim();
      expect(allocator->stats().recorded_bytes == 4096, "trim leaves them");
      try {
        Buffer all(allocator, (1 << 20) - 8192);
        expect(false, "they count as taken");
      } catch (const Error&) {
      }
    }
    allocator->close(*pool);
    expect(allocator->stats().recorded_bytes == 0 && allocator->stats().cached_bytes == 8192, "until it ends");
    kept.reset();
    expect(allocator->stats().tensors == 0 && allocator->stats().cached_bytes == 8192 + 1024, "what lived on follows");
  }
  expect(memory.used == 0, "nothing is left when the allocator ends");
}

void test_block_sizes() {
  for (size_t bytes : {size_t{1}, size_t{512}, size_t{513}, size_t{100000}, size_t{1} << 30, (size_t{1} << 30) + 1}) {
    const size_t size = Allocator::block_size(bytes);
    expect(size >= bytes && size % 512 == 0, "blocks hold what is asked for, in multiples of 512");
    expect(size <= 1024 || size <= bytes + bytes / 8 + 512, "blocks are at most an eighth larger");
  }
}

void test_plan_keys() {
  using namespace cuda;
  const ConvolutionShape base{ConvolutionPass::forward, Precision::bf16, 64, 8, 32, 32, 16, 32, 32, 3, 3, 1, 1};
  std::set<ConvolutionShape> keys = {base};
  expect(keys.count(base) == 1, "a key finds itself");
  auto differs = [&](auto change) {
    ConvolutionShape other = base;
    change(other);
    keys.insert(other);
  };
  differs([](auto& s) { s.pass = ConvolutionPass::backward_data; });
  differs([](auto& s) { s.precision = Precision::f32; });
  differs([](auto& s) { s.n = 32; });
  differs([](auto& s) { s.c = 16; });
  differs([](auto& s) { s.k = 8; });
  differs([](auto& s) { s.kernel_h = 1; });
  differs([](auto& s) { s.stride = 2; });
  differs([](auto& s) { s.padding = 0; });
  differs([](auto& s) { s.oh = 16; });
  expect(keys.size() == 10, "every part of a shape makes another key");
}

void test_batch_norm_grid() {
  for (int64_t rows : {int64_t{1}, int64_t{7}, int64_t{25088}, int64_t{3211264}})
    for (int64_t pitch : {1, 5, 8, 16, 24, 64, 304, 2048})
      for (int processors : {1, 108, 132}) {
        const cuda::BatchNormGrid g = cuda::batch_norm_grid(rows, pitch, processors);
        expect(g.across * g.down == cuda::kThreads, "blocks are full");
        expect(g.columns * g.across * g.pack >= pitch, "every channel has a thread");
        expect((g.columns - 1) * g.across * g.pack < pitch, "no block is idle");
        expect(g.splits >= 1 && g.splits <= 65535, "the grid is one that devices take");
        expect(g.pack == 1 || pitch % g.pack == 0, "packs do not straddle rows");
        expect(g.columns * g.splits <= processors * 8 + g.columns, "no more blocks than the device can keep busy");
      }
}

void test_slices() {
  const cuda::WeightSlice slice{12, 3, 16, 9, 16, 8};
  expect(slice.packed() == 16 * 9 * 8, "a packed slice holds its padding");
  expect(cuda::chunks_of(0) == 0 && cuda::chunks_of(1) == 1 && cuda::chunks_of(cuda::kChunk) == 1 &&
             cuda::chunks_of(cuda::kChunk + 1) == 2,
         "an entry has as many chunks as its elements fill");
}

void test_library() {
  try {
    cuda::Library("cuTest", {"libslimclr-does-not-exist.so"});
    expect(false, "a missing library is refused");
  } catch (const Error& e) {
    const std::string said = e.what();
    expect(
        said.find("cuTest cannot be loaded") != std::string::npos && said.find("LD_LIBRARY_PATH") != std::string::npos,
        "the refusal names the library and the way out");
  }
  setenv("SLIMCLR_TEST_ROOT", "/opt/x", 1);
  const auto files = cuda::places("liby.so.9", {"SLIMCLR_TEST_ROOT"}, "/built");
  expect(files.size() == 4 && files[0] == "/opt/x/lib/liby.so.9" && files[2] == "liby.so.9" &&
             files[3] == "/built/liby.so.9",
         "a library is looked for in the variable's folders, by name, where the build found it");
}

}  // namespace

int main() {
  test_allocator();
  test_recording_memory();
  test_block_sizes();
  test_plan_keys();
  test_batch_norm_grid();
  test_slices();
  test_library();
  std::cout << (failures ? "host tests: failed\n" : "host tests: passed\n");
  return failures ? 1 : 0;
}
