// The method Execute: runs programs that a client gives on the byte machine of randnet/machines/tape_machine.h, within
// limits.
//
// A request is checked whole before anything is run. It then runs in pieces of a few milliseconds, so that the caller
// can do other work between them. A program longer than a piece is interrupted and resumed. Only one of the programs is
// compiled and has its tapes at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "iterand/v1/noise_service.pb.h"
#include "randnet/machines/tape_machine.h"

namespace iterand {

inline constexpr std::uint64_t kMaxExecutePrograms = 4096;
inline constexpr std::uint64_t kMaxExecuteSteps = std::uint64_t{1} << 26;       // of a program
inline constexpr std::uint64_t kMaxExecuteTotalSteps = std::uint64_t{1} << 33;  // of a request
inline constexpr std::uint64_t kMaxExecuteOutput = 65536;                       // symbols of a program
inline constexpr std::uint64_t kMaxExecuteInput = 65536;                        // bytes of an input tape
inline constexpr std::size_t kRandomInputSymbols = 4096;                        // of an input tape made from a seed

// A request in progress. For one thread at a time.
class Execution {
 public:
  // Errors: InvalidArgument naming the field, such as "programs[3]: program: position 5: ']' closes no loop"; Cancelled
  // soon after `*cancelled` is true.
  static absl::StatusOr<Execution> Make(const v1::ExecuteRequest& request,
                                        const std::atomic<bool>* cancelled = nullptr);

  // Continues for about a million steps, or until the finished results take about 64 KiB, and appends these to
  // `response`. Must not be called after the last program.
  void Advance(v1::ExecuteResponse& response);

  bool done() const { return next_ == programs_.size(); }
  std::size_t next_program() const { return next_; }  // the first whose result has not been handed out

  // Since the start.
  std::uint64_t steps() const { return steps_; }

 private:
  struct Entry {
    TapeProgram program;
    std::string input;
    std::optional<std::uint64_t> seed;
  };

  Execution() = default;
  TapeRun StartNext();

  std::vector<Entry> programs_;
  TapeLimits limits_;
  std::size_t next_ = 0;
  std::uint64_t steps_ = 0;
  std::optional<TapeRun> run_;  // of programs_[next_]
  std::vector<Symbol> input_;   // of run_
  std::vector<Symbol> output_;  // of run_
};

}  // namespace iterand
