#include "iterate/suggest.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace iterand {
namespace {

constexpr std::size_t kMaxWordBytes = 64;
constexpr std::size_t kMaxNames = 3;
// A shorter word is contained in too many names.
constexpr std::size_t kMinContained = 3;

std::string Fold(std::string_view text) {
  std::string folded = absl::AsciiStrToLower(std::string(text));
  std::ranges::replace(folded, '-', '_');
  return folded;
}

// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours.
std::size_t Distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::swap(before_last, last);
    std::swap(last, row);
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, changed});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::string DidYouMean(std::string_view word, std::span<const std::string> names, std::string_view prefix) {
  if (word.empty() || word.size() > kMaxWordBytes) return "";
  const std::string sought = Fold(word);
  std::vector<std::string> near;
  std::vector<std::string> containing;
  std::size_t least = kMaxWordBytes;
  for (const std::string& name : names) {
    const std::string folded = Fold(name);
    const std::size_t longer = std::max(sought.size(), folded.size());
    const std::size_t distance = Distance(sought, folded);
    if (distance <= std::max<std::size_t>(1, longer / 3) && distance < longer && distance <= least) {
      if (distance < least) near.clear();
      least = distance;
      near.push_back(name);
    } else if (sought.size() >= kMinContained && absl::StrContains(folded, sought)) {
      containing.push_back(name);
    }
  }
  std::vector<std::string>& found = near.empty() ? containing : near;
  if (found.empty()) return "";
  if (found.size() > kMaxNames) found.resize(kMaxNames);
  for (std::string& name : found) name.insert(0, prefix);
  const std::string last = found.back();
  found.pop_back();
  const std::string others = absl::StrJoin(found, ", ");
  return absl::StrCat(" (did you mean ", others, others.empty() ? "" : " or ", last, "?)");
}

}  // namespace iterand
