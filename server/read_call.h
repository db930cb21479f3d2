// One call of Read. Driven like a call of Stream: see server/stream_call.h.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/call.h"
#include "server/calls.h"
#include "server/engine/engine.h"

namespace iterand {

// The rows of one call. Used by one thread at a time.
class RequestedRows {
 public:
  virtual ~RequestedRows() = default;

  // Takes the rows that are ready. Returns whether all have come; if not, the engine reports when there are more.
  virtual absl::StatusOr<bool> Take() = 0;

  // The message with all rows.
  virtual grpc::ByteBuffer Finish() = 0;

  // Releases what the engine holds for the rows. Take must not be called afterwards.
  virtual void Close() = 0;
};

class ReadCall final : public CallBody, public std::enable_shared_from_this<ReadCall> {
 public:
  // `call` is not used after its end. The registry outlives this. The number of rows is checked.
  ReadCall(Call* call, CallRegistry* calls, std::shared_ptr<SharedStream> open, std::uint64_t rows)
      : call_(call), calls_(calls), open_(std::move(open)), number_(rows) {}

  // The rows first, first + stride, ...; for `part_names` see BatchBuilder. Called once, before Start. Errors: as
  // Engine::NewReader.
  absl::Status Read(Engine& engine, std::uint64_t first, std::uint64_t stride, bool provenance,
                    std::vector<std::string> part_names);

  // The rows of a list of indices, in its order. Called once instead. Errors: as Engine::NewIndexReader.
  absl::Status ReadIndices(Engine& engine, std::span<const std::uint64_t> indices, bool provenance,
                           const std::vector<std::string>& part_names);

  // Ends the call once all rows are ready.
  void Advance();

  void Start() override { Advance(); }
  void OnWriteDone(bool /*ok*/) override {}
  void Cancel() override;
  void Drain() override {}

 private:
  // What the engine calls when rows are ready. The call may be gone by then.
  std::function<void()> Notifier();

  Call* const call_;
  CallRegistry* const calls_;
  const std::shared_ptr<SharedStream> open_;
  const std::uint64_t number_;

  std::mutex mutex_;
  std::unique_ptr<RequestedRows> rows_;
  bool cancelled_ = false;
  bool finished_ = false;
};

}  // namespace iterand
