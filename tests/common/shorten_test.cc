#include "common/shorten.h"

#include <gtest/gtest.h>

namespace iterand {
namespace {

TEST(Shorten, CutsBetweenCharacters) {
  EXPECT_EQ(Shorten("abc", 3), "abc");
  EXPECT_EQ(Shorten("abcd", 3), "abc...");
  EXPECT_EQ(Shorten("a\xC3\xA4z", 2), "a...");  // not in the middle of a character
  EXPECT_EQ(Shorten("a\xC3\xA4z", 3), "a\xC3\xA4...");
}

}  // namespace
}  // namespace iterand
