// Requests of Execute: any bytes. A valid request is checked and run, with fewer steps than it may ask for. Results
// come in order and within the limits, and are the same a second time.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "iterand/v1/noise_service.pb.h"
#include "server/answers/execute.h"
#include "tests/fuzz/expect.h"

namespace iterand {
namespace {

constexpr std::uint64_t kMaxSteps = 20000;
constexpr int kMaxPrograms = 40;

// All results of a request that has been accepted.
std::vector<v1::ExecuteResult> RunAll(const v1::ExecuteRequest& request) {
  Execution execution = *Execution::Make(request);
  std::vector<v1::ExecuteResult> results;
  while (!execution.done()) {
    v1::ExecuteResponse response;
    execution.Advance(response);
    results.insert(results.end(), response.results().begin(), response.results().end());
  }
  return results;
}

void Run(v1::ExecuteRequest request) {
  const absl::StatusOr<Execution> asked = Execution::Make(request);
  if (!asked.ok()) {
    Expect(absl::IsInvalidArgument(asked.status()), "a bad request is an InvalidArgument");
    Expect(!asked.status().message().empty(), "a refusal says why");
    return;
  }
  if (request.programs_size() > kMaxPrograms) {
    request.mutable_programs()->DeleteSubrange(kMaxPrograms, request.programs_size() - kMaxPrograms);
  }
  request.set_max_steps(request.has_max_steps() ? std::min(request.max_steps(), kMaxSteps) : kMaxSteps);
  const std::vector<v1::ExecuteResult> results = RunAll(request);
  Expect(results.size() == static_cast<std::size_t>(request.programs_size()), "a result a program");
  const std::size_t max_output = request.has_max_output() ? request.max_output() : 4096;
  const std::uint32_t symbols = request.has_symbols() ? request.symbols() : 256;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const v1::ExecuteResult& result = results[i];
    Expect(result.program() == i, "results in order");
    Expect(result.steps() <= request.max_steps(), "no more steps than allowed");
    Expect(result.output().size() <= max_output, "no more output than allowed");
    Expect(result.halt() != v1::ExecuteResult::HALT_UNSPECIFIED, "a reason");
    Expect((result.halt() == v1::ExecuteResult::OUTPUT_LIMIT) == (result.output().size() == max_output),
           "stopped for its output if that is full");
    Expect(std::all_of(result.output().begin(), result.output().end(),
                       [&](char c) { return static_cast<unsigned char>(c) < symbols; }),
           "symbols of the machine");
  }
  const std::vector<v1::ExecuteResult> again = RunAll(request);
  Expect(std::equal(results.begin(), results.end(), again.begin(), again.end(),
                    [](const v1::ExecuteResult& a, const v1::ExecuteResult& b) {
                      return a.SerializeAsString() == b.SerializeAsString();
                    }),
         "the same again");
}

}  // namespace
}  // namespace iterand

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  iterand::v1::ExecuteRequest request;
  if (request.ParseFromArray(data, static_cast<int>(size))) iterand::Run(request);
  return 0;
}
