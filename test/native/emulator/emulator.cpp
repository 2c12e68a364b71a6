// The fibers, one for each thread of a block.
#include "emulator.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/error.h"

// Saves the caller's registers on its stack, stores its stack pointer in *from and goes on at `to`.
extern "C" void emulator_switch(void** from, void* to);
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch, .-emulator_switch
)");

namespace emulator {

namespace {

constexpr size_t kStack = 96 * 1024;
constexpr size_t kSharedLimit = 99 * 1024;  // of the smallest device from sm_86 on
constexpr int kWarp = 32;

enum class State { ready, at_block_barrier, at_warp_barrier, done };

struct Fiber {
  Place place;
  void* stack_pointer;
  State state;
};

struct Warp {
  int alive, waiting;
  uint64_t words[kWarp];
};

struct Block {
  const char* op;
  const std::function<void()>* thread;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  int alive, waiting;
  void* scheduler;
};

std::mutex one_at_a_time;
Block block;
Fiber* running;
std::vector<std::unique_ptr<char[]>> stacks;
alignas(128) char shared[kSharedLimit];
size_t shared_bytes;

[[noreturn]] void stop(const char* why) {
  std::fprintf(stderr, "emulator: a kernel of [%s] %s\n", block.op, why);
  std::abort();
}

void release(State waiting) {
  for (Fiber& f : block.fibers)
    if (f.state == waiting) f.state = State::ready;
}

void release_warp(int warp) {
  for (int lane = 0; lane < kWarp; ++lane) {
    const size_t i = static_cast<size_t>(warp * kWarp + lane);
    if (i < block.fibers.size() && block.fibers[i].state == State::at_warp_barrier)
      block.fibers[i].state = State::ready;
  }
}

void yield() {
  Fiber* self = running;
  emulator_switch(&self->stack_pointer, block.scheduler);
}

// A thread that has returned counts as arrived at every barrier of the block.
void finish() {
  Fiber* self = running;
  self->state = State::done;
  --block.warps[static_cast<size_t>(self->place.warp)].alive;
  if (--block.alive > 0 && block.waiting == block.alive) {
    block.waiting = 0;
    release(State::at_block_barrier);
  }
  yield();
}

void enter() {
  (*block.thread)();
  finish();
}

void start(Fiber& f, size_t index) {
  while (stacks.size() <= index) stacks.push_back(std::make_unique<char[]>(kStack));
  auto top = reinterpret_cast<uintptr_t>(stacks[index].get() + kStack) & ~uintptr_t{15};
  void** p = reinterpret_cast<void**>(top);
  *--p = nullptr;                              // keeps the stack as after a call
  *--p = reinterpret_cast<void*>(&enter);      // where emulator_switch returns to
  for (int i = 0; i < 6; ++i) *--p = nullptr;  // the registers
  f.stack_pointer = p;
  f.state = State::ready;
}

void run_block(uint3 index, dim3 blocks, dim3 threads) {
  const int count = static_cast<int>(threads.x * threads.y * threads.z);
  block.fibers.resize(static_cast<size_t>(count));
  block.warps.assign(static_cast<size_t>((count + kWarp - 1) / kWarp), Warp{});
  block.alive = count;
  block.waiting = 0;
  std::memset(shared, 0xff, shared_bytes);
  for (int i = 0; i < count; ++i) {
    Fiber& f = block.fibers[static_cast<size_t>(i)];
    const unsigned u = static_cast<unsigned>(i);
    f.place.thread = {u % threads.x, u / threads.x % threads.y, u / threads.x / threads.y};
    f.place.block = index;
    f.place.threads = threads;
    f.place.blocks = blocks;
    f.place.lane = i % kWarp;
    f.place.warp = i / kWarp;
    ++block.warps[static_cast<size_t>(i / kWarp)].alive;
    start(f, static_cast<size_t>(i));
  }
  const bool backwards = (index.x + index.y + index.z) % 2 == 1;
  while (block.alive > 0) {
    bool moved = false;
    for (int i = 0; i < count; ++i) {
      Fiber& f = block.fibers[static_cast<size_t>(backwards ? count - 1 - i : i)];
      if (f.state != State::ready) continue;
      moved = true;
      running = &f;
      emulator_switch(&block.scheduler, f.stack_pointer);
    }
    if (!moved) stop("hangs: its threads wait at different barriers");
  }
}

Warp& whole_warp() {
  Warp& warp = block.warps[static_cast<size_t>(running->place.warp)];
  if (warp.alive != kWarp) stop("uses a whole warp after some of its threads have returned");
  return warp;
}

}  // namespace

const Place& here() { return running->place; }

void* shared_memory(unsigned long bytes) {
  if (bytes > shared_bytes) stop("uses more dynamic shared memory than it was launched with");
  return shared;
}

void block_barrier() {
  running->state = State::at_block_barrier;
  if (++block.waiting == block.alive) {
    block.waiting = 0;
    release(State::at_block_barrier);
  }
  yield();
}

void warp_barrier() {
  Warp& warp = whole_warp();
  running->state = State::at_warp_barrier;
  if (++warp.waiting == kWarp) {
    warp.waiting = 0;
    release_warp(running->place.warp);
  }
  yield();
}

uint64_t exchange(uint64_t word, int lane) {
  Warp& warp = whole_warp();
  warp.words[running->place.lane] = word;
  warp_barrier();
  const uint64_t other = warp.words[lane];
  warp_barrier();
  return other;
}

unsigned ballot(bool predicate) {
  Warp& warp = whole_warp();
  warp.words[running->place.lane] = predicate;
  warp_barrier();
  unsigned votes = 0;
  for (int lane = 0; lane < kWarp; ++lane) votes |= static_cast<unsigned>(warp.words[lane]) << lane;
  warp_barrier();
  return votes;
}

// SLIMCLR_EMULATOR_LAUNCHES: a file that gets a line for every launch, with the op's name.
void note_launch(const char* op) {
  static std::FILE* const file = [] {
    const char* name = std::getenv("SLIMCLR_EMULATOR_LAUNCHES");
    return name ? std::fopen(name, "w") : nullptr;
  }();
  if (!file) return;
  std::fprintf(file, "%s\n", op);
  std::fflush(file);
}

void run(const char* op, dim3 blocks, dim3 threads, size_t bytes, const std::function<void()>& thread) {
  std::lock_guard lock(one_at_a_time);
  note_launch(op);
  block.op = op;
  block.thread = &thread;
  shared_bytes = bytes;
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0 || blocks.x > 2147483647u || blocks.y > 65535u ||
      blocks.z > 65535u)
    stop("has a grid that no device takes");
  if (threads.x * threads.y * threads.z == 0 || threads.x * threads.y * threads.z > 1024)
    stop("has a block that no device takes");
  if (bytes > kSharedLimit) stop("uses more shared memory than every device has");
  for (unsigned z = 0; z < blocks.z; ++z)
    for (unsigned y = 0; y < blocks.y; ++y)
      for (unsigned x = 0; x < blocks.x; ++x) run_block({x, y, z}, blocks, threads);
}

}  // namespace emulator
