// The steady state allocates nothing: program objects, blocks and segments are reused from round to round.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "iterate/presets.h"
#include "iterate/stream.h"

namespace {

std::atomic<std::int64_t> allocations = 0;

void* Allocate(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}

void* AllocateAligned(std::size_t size, std::align_val_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  const auto align = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(align, (size + align - 1) / align * align)) return memory;
  throw std::bad_alloc();
}

}  // namespace

// Replaced for this whole test program; counting is all they add.
void* operator new(std::size_t size) { return Allocate(size); }
void* operator new[](std::size_t size) { return Allocate(size); }
void* operator new(std::size_t size, std::align_val_t alignment) { return AllocateAligned(size, alignment); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return AllocateAligned(size, alignment); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t /*size*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t /*size*/, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

namespace iterand {
namespace {

TEST(AllocationTest, TheCounterCounts) {
  const std::int64_t before = allocations.load();
  delete new int(1);
  EXPECT_GT(allocations.load(), before);
}

TEST(AllocationTest, GeneratingAllocatesNothingOnceWarm) {
  for (const PresetEntry& preset : AllPresets()) {
    v1::Recipe recipe = *LoadPreset(preset.name);
    if (recipe.has_pool() && recipe.pool().endless()) continue;  // keeps snapshots of its pool by design
    auto stream = *Stream::Open(recipe, 0);
    auto workspace = stream->NewWorkspace();
    Segment segment;
    std::int64_t before = 0;
    for (std::uint64_t s = 0; s < 24; ++s) {
      if (s == 16) before = allocations.load();
      ASSERT_TRUE(stream->GenerateSegment(0, s, *workspace, nullptr, segment).ok());
    }
    EXPECT_EQ(allocations.load() - before, 0) << preset.name;
  }
}

}  // namespace
}  // namespace iterand
