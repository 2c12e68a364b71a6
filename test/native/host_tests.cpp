// Host-side logic of the CUDA backend: the allocator, plan keys, stored plans, launch geometry, weight slices and
// packed ones, missing libraries.
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
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
#include "cuda/packed_weight.h"
#include "cuda/plan_store.h"

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

std::string contents(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}
void put(const std::string& file, const std::string& content) { std::ofstream(file, std::ios::binary) << content; }

cuda::ConvolutionShape shape_number(int64_t n) {
  return {cuda::ConvolutionPass::backward_data, cuda::Precision::bf16, n, 8, 32, 32, 16, 32, 32, 3, 3, 1, 1};
}

// A folder that goes with it.
struct Folder {
  std::string path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "slimclr-plans-XXXXXX").string();
    path = mkdtemp(name.data()) ? name : "";
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

void test_plan_store() {
  using namespace cuda;
  const Folder folder;
  const std::string where = folder.path + "/a/b", target = "NVIDIA H0 \"X\"/1 sm_90 cuDNN 9.1.0";
  int told = 0;
  auto tell = [&](const std::string&) { ++told; };
  const PlanChoice first{false, false, 11, {{2, 3}, {14, -1}}}, second{false, true, 0, {}}, product{true, false, 0, {}};
  ConvolutionShape pointwise = shape_number(4);
  pointwise.kernel_h = pointwise.kernel_w = 1;
  pointwise.padding = 0;
  std::string file;
  {
    PlanStore store(where, target, tell);
    file = store.file();
    expect(!store.find(shape_number(1)), "an empty store finds nothing");
    store.add(shape_number(1), first);
    expect(std::filesystem::exists(file), "the first choice is written at once");
    store.add(shape_number(2), second);
    store.add(pointwise, product);
  }
  {
    PlanStore store(where, target, tell);
    expect(store.find(shape_number(1)) == first && store.find(shape_number(2)) == second &&
               store.find(pointwise) == product,
           "choices come back");
    expect(!store.find(shape_number(3)), "another shape is not found");
  }
  expect(told == 0, "nothing is told where all is well");
  expect(std::distance(std::filesystem::directory_iterator(where), {}) == 1, "no temporary file is left");

  const std::string whole = contents(file);
  bool ignored = true;
  for (size_t length = 0; length < whole.size(); ++length) {
    put(file, whole.substr(0, length));
    told = 0;
    PlanStore store(where, target, tell);
    ignored = ignored && !store.find(shape_number(1)) && told == 1;
  }
  expect(ignored, "a file that is cut off anywhere is ignored, with one line");
  ignored = true;
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    put(file, damaged);
    told = 0;
    PlanStore store(where, target, tell);
    ignored = ignored && !store.find(shape_number(1)) && told == 1;
  }
  expect(ignored, "a file with a wrong bit anywhere is ignored, with one line");
  {
    PlanStore store(where, target, tell);
    store.add(shape_number(5), first);
  }
  expect(PlanStore(where, target, tell).find(shape_number(5)) == first, "it is replaced");

  {
    PlanStore store(where, "NVIDIA H0 cuDNN 9.2.0", tell);
    expect(store.file() != file && !store.find(shape_number(5)), "another version has another file");
    std::filesystem::copy_file(file, store.file());
  }
  told = 0;
  expect(!PlanStore(where, "NVIDIA H0 cuDNN 9.2.0", tell).find(shape_number(5)) && told == 1,
         "the file of another version is ignored, with one line");

  told = 0;
  put(folder.path + "/plain", "");
  {
    PlanStore store(folder.path + "/plain/below", target, tell);
    store.add(shape_number(1), first);
    store.save();
    expect(store.find(shape_number(1)) == first && told == 1,
           "a folder that cannot be made is told once, and no error");
  }
  {
    PlanStore store(folder.path, target, tell);
    store.add(shape_number(1), product);
  }
  told = 0;
  expect(!PlanStore(folder.path, target, tell).find(shape_number(1)) && told == 1,
         "a product for a window that is larger than 1x1 is not taken");
  PlanStore none("", target, tell);
  none.add(shape_number(1), first);
  expect(none.file().empty() && !none.find(shape_number(1)), "without a folder nothing is kept");
}

// Processes that write at the same time: whatever the order, the file is whole, and what each of them knew at its last
// save was there once it returned.
void test_plan_store_writers() {
  using namespace cuda;
  constexpr int kWriters = 4, kSaves = 20;
  const Folder folder;
  auto quiet = [](const std::string&) {};
  std::cout << std::flush;
  for (int w = 0; w < kWriters; ++w)
    if (fork() == 0) {
      PlanStore store(folder.path, "GPU", quiet);
      for (int i = 0; i < kSaves; ++i) {
        store.add(shape_number(w * 1000 + i + 1), {false, false, w, {{i, w}}});
        store.save();
        int told = 0;
        PlanStore reader(folder.path, "GPU", [&](const std::string&) { ++told; });
        reader.find(shape_number(1));
        if (told) _exit(1);
      }
      _exit(0);
    }
  bool whole = true;
  for (int w = 0; w < kWriters; ++w) {
    int status = 1;
    wait(&status);
    whole = whole && status == 0;
  }
  expect(whole, "every reader finds a whole file while others write");
  PlanStore store(folder.path, "GPU", quiet);
  int complete = 0;
  for (int w = 0; w < kWriters; ++w) {
    bool all = true;
    for (int i = 0; i < kSaves; ++i)
      all = all && store.find(shape_number(w * 1000 + i + 1)) == PlanChoice{false, false, w, {{i, w}}};
    complete += all;
  }
  expect(complete >= 1, "the file holds all that its last writer knew");
  expect(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 1, "no temporary file is left");
}

void test_cache_folder() {
  const char* names[] = {"SLIMCLR_CACHE", "XDG_CACHE_HOME", "HOME"};
  setenv("SLIMCLR_CACHE", "/s", 1);
  setenv("XDG_CACHE_HOME", "/x", 1);
  setenv("HOME", "/h", 1);
  const char* expected[] = {"/s", "/x/slimclr", "/h/.cache/slimclr", ""};
  for (int i = 0; i < 4; ++i) {
    expect(cuda::cache_folder() == expected[i], "the cache is where SLIMCLR_CACHE, XDG_CACHE_HOME or HOME says");
    if (i < 3) unsetenv(names[i]);
  }
  setenv("XDG_CACHE_HOME", "relative", 1);
  expect(cuda::cache_folder().empty(), "a relative XDG_CACHE_HOME does not count");
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

void test_packed_weights() {
  using namespace cuda;
  FakeMemory memory(1 << 20);
  {
    auto allocator = std::make_shared<Allocator>(memory.raw(1 << 20));
    auto pack = [&] { return PackedSlice{std::make_shared<Buffer>(allocator, 2048), std::make_shared<bool>(false)}; };
    const WeightSlice slice{12, 3, 16, 9, 16, 8}, narrow{6, 3, 16, 9, 8, 8};
    auto weight = std::make_shared<Buffer>(allocator, 1000);
    expect(!find_packed(*weight, Elem::f32, slice).memory, "a new weight has no packed slices");
    keep_packed(*weight, Elem::bf16, slice, pack());
    const PackedSlice found = find_packed(*weight, Elem::bf16, slice);
    expect(found.memory != nullptr, "a packed slice is found again");
    keep_packed(*weight, Elem::bf16, narrow, pack());
    expect(find_packed(*weight, Elem::bf16, slice).memory == found.memory &&
               find_packed(*weight, Elem::bf16, narrow).memory != found.memory,
           "a weight has several");
    expect(!find_packed(*weight, Elem::f16, slice).memory, "of another type it is another");
    expect(!find_packed(Buffer(allocator, 1000), Elem::bf16, slice).memory, "another weight has its own");
    expect(allocator->stats().bytes == 1000 + 2 * 2048, "they are counted");
    weight->derived = nullptr;
    expect(!find_packed(*weight, Elem::bf16, narrow).memory, "a weight that changes loses them");
    expect(allocator->stats().bytes == 1000 + 2048, "with their memory, but for what is in use");
    keep_packed(*weight, Elem::bf16, narrow, pack());
    weight.reset();
    expect(allocator->stats().bytes == 2048, "and so does one that goes");

    auto pool = std::make_shared<BlockPool>();
    allocator->use(pool);
    Buffer recorded(allocator, 1000);
    allocator->use(nullptr);
    keep_packed(recorded, Elem::bf16, slice, pack());
    expect(!find_packed(recorded, Elem::bf16, slice).memory, "one made within a recording keeps none");
    allocator->close(*pool);
  }
  expect(memory.used == 0, "nothing is left when the allocator ends");
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
  test_plan_store();
  test_plan_store_writers();
  test_cache_folder();
  test_batch_norm_grid();
  test_slices();
  test_packed_weights();
  test_library();
  std::cout << (failures ? "host tests: failed\n" : "host tests: passed\n");
  return failures ? 1 : 0;
}
