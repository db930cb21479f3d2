// Long inputs: recipes and programs of up to several megabytes. An input is text: the kind in the first line, then a
// prefix, a unit and a suffix, one per line, in which \n stands for a new line. The unit is repeated, and the time that
// the text takes must grow no faster than its size.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/thread_clock.h"
#include "iterand/v1/noise_service.pb.h"
#include "iterate/recipe.h"
#include "iterate/recipe_json.h"
#include "server/answers/execute.h"
#include "tests/fuzz/expect.h"

namespace iterand {
namespace {

constexpr std::size_t kShort = std::size_t{128} << 10;  // bytes
constexpr std::size_t kGrowth = 8;                      // to a megabyte, the most that a recipe may have
// Times below this are not worth a measurement.
constexpr double kMeasurableSeconds = 1;
// Linear time would take kGrowth times as long, quadratic time kGrowth ^ 2.
constexpr double kMaxGrowth = 3 * kGrowth;

// Seconds that the text takes, and a check of the result.
double Take(const std::string& kind, const std::string& text) {
  const double begin = ThreadSeconds();
  absl::Status status;
  if (kind == "recipe") {
    const absl::StatusOr<v1::Recipe> recipe = ParseRecipeJson(text);
    status = recipe.ok() ? ResolveRecipe(*recipe).status() : recipe.status();
  } else {
    v1::ExecuteRequest request;
    if (kind == "program") {
      request.add_programs()->set_text(text);
    } else {
      for (const std::string& line : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
        request.add_programs()->set_text(line);
      }
    }
    request.set_max_steps(1000);
    absl::StatusOr<Execution> execution = Execution::Make(request);
    status = execution.status();
    v1::ExecuteResponse response;
    while (execution.ok() && !execution->done()) execution->Advance(response);
  }
  Expect(status.ok() || absl::IsInvalidArgument(status), "what is refused is an InvalidArgument");
  Expect(status.message().size() < 10000, "a refusal is short");
  return ThreadSeconds() - begin;
}

void Run(const std::string& input) {
  const std::vector<std::string> lines = absl::StrSplit(input, '\n');
  if (lines.size() < 4 || (lines[0] != "recipe" && lines[0] != "program" && lines[0] != "programs")) return;
  std::vector<std::string> parts;
  for (int i = 1; i < 4; ++i) parts.push_back(absl::StrReplaceAll(lines[i], {{"\\n", "\n"}}));
  const std::string& unit = parts[1];
  if (unit.empty()) return;
  const auto text = [&](std::size_t bytes) {
    std::string made = parts[0];
    while (made.size() + unit.size() + parts[2].size() <= bytes) made += unit;
    return made + parts[2];
  };
  const double whole = Take(lines[0], text(kShort * kGrowth));
  if (whole < kMeasurableSeconds) return;
  const std::string small = text(kShort);
  const double part = std::max({Take(lines[0], small), Take(lines[0], small), 1e-3});
  if (whole > kMaxGrowth * part) {
    std::fprintf(stderr, "%g s for %zu bytes, %g s for %zu\n", part, kShort, whole, kShort * kGrowth);
    Expect(false, "the time grows no faster than the text");
  }
}

}  // namespace
}  // namespace iterand

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  iterand::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
