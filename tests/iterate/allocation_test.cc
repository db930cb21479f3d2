// The steady state allocates nothing: program objects, blocks and segments are reused from round to round.
#include <gtest/gtest.h>

#include "iterate/presets.h"
#include "iterate/stream.h"
#include "tests/support/allocations.h"

namespace iterand {
namespace {

TEST(AllocationTest, TheCounterCounts) {
  if (!CountsAllocations()) GTEST_SKIP() << "this sanitizer has an operator new of its own";
  const std::uint64_t before = Allocations();
  ::operator delete(::operator new(100));
  EXPECT_EQ(Allocations() - before, 1U);
}

TEST(AllocationTest, GeneratingAllocatesNothingOnceWarm) {
  for (const PresetEntry& preset : AllPresets()) {
    v1::Recipe recipe = *LoadPreset(preset.name);
    if (recipe.has_pool() && recipe.pool().endless()) continue;  // keeps snapshots of its pool by design
    auto stream = *Stream::Open(recipe, 0);
    auto workspace = stream->NewWorkspace();
    Segment segment;
    std::uint64_t before = 0;
    const std::uint64_t warm = recipe.mixture().empty() ? 16 : 192;  // each part of a mixture has some of the segments
    for (std::uint64_t s = 0; s < warm + 8; ++s) {
      if (s == warm) before = Allocations();
      ASSERT_TRUE(stream->GenerateSegment(0, s, *workspace, nullptr, segment).ok());
    }
    EXPECT_EQ(Allocations() - before, 0U) << preset.name;
  }
}

}  // namespace
}  // namespace iterand
