#include "server/http/page_explain.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <span>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "iterate/plan.h"
#include "randnet/run_control.h"
#include "server/engine/generation_error.h"

namespace iterand {
namespace {

using Json = nlohmann::ordered_json;

// Stops a computation after some time, unless it is destroyed before.
class Deadline {
 public:
  Deadline(RunControl* control, std::chrono::milliseconds patience)
      : thread_([this, control, patience] {
          std::unique_lock lock(mutex_);
          if (ended_.wait_for(lock, patience, [this] { return over_; })) return;
          passed_ = true;
          control->Stop();
        }) {}
  ~Deadline() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    ended_.notify_all();
    thread_.join();
  }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

  bool passed() const { return passed_; }

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;
  std::atomic<bool> passed_{false};
  std::thread thread_;  // last: it uses the others
};

std::string Base64(std::span<const std::uint16_t> symbols) {
  return absl::Base64Escape(
      std::string(reinterpret_cast<const char*>(symbols.data()), symbols.size() * sizeof(std::uint16_t)));
}

Json StepJson(const ExplainedStep& step) {
  Json json = {{"round", step.round},
               {"row", step.row},
               {"family", step.family},
               {"program", step.program},
               {"input", step.input},
               {"prompt_length", step.prompt_length},
               {"prompt_offset", step.prompt_offset}};
  if (!step.read.empty()) json["read"] = Base64(step.read);
  return json;
}

}  // namespace

absl::StatusOr<Json> ExplanationJson(const Stream& stream, const std::vector<std::string>& parts, std::uint64_t index,
                                     std::chrono::milliseconds patience, HttpExchange& exchange) {
  RunControl control;
  exchange.OnCancel([&control] { control.Stop(); });
  absl::StatusOr<Explanation> explanation;
  {
    const Deadline deadline(&control, patience);
    explanation = stream.Explain(index, {.control = &control, .rows = true});
    if (absl::IsCancelled(explanation.status()) && deadline.passed()) {
      explanation = absl::DeadlineExceededError(
          absl::StrCat("the index was not explained within ", patience.count() / 1000, " s; use iterand explain"));
    }
  }
  exchange.OnCancel(nullptr);
  if (!explanation.ok()) return WithGenerationReason(explanation.status());
  const RowProvenance& from = explanation->provenance;
  Json json = {{"fingerprint", ToHex(stream.fingerprint())},
               {"index", absl::StrCat(index)},
               {"lane", from.lane},
               {"segment", absl::StrCat(from.segment)},
               {"offset", explanation->position.offset},
               {"round", from.round},
               {"row", from.row},
               {"family", stream.family_name(from)},
               {"depth", from.depth},
               {"reproduced", explanation->reproduced},
               {"dtype", DtypeName(stream.dtype())},
               {"vocab_size", stream.recipe().vocab_size()},
               {"relabelled", stream.plan().part(from.part).recipe().relabel() != v1::Recipe::RELABEL_NONE}};
  if (!parts.empty()) json["part"] = parts[from.part];
  json["steps"] = Json::array();
  for (const ExplainedStep& step : explanation->steps) json["steps"].push_back(StepJson(step));
  json["made"] = Base64(explanation->made);
  json["tokens"] = absl::Base64Escape(
      std::string(reinterpret_cast<const char*>(explanation->tokens.data()), explanation->tokens.size()));
  return json;
}

}  // namespace iterand
