// One call of Stream. Two batches are in memory, the one that gRPC is sending and the next. Beside them, gRPC may hold
// small batches that it was to send together with what follows. Small batches that are ready one after the other then
// cost one write of kWriteBufferBytes instead of one each.
//
// Events drive the call, under its own mutex: a finished write or a cancellation on gRPC's threads, and new rows on the
// engine's. No thread waits for a client or for a segment.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/answers/shard_plan.h"
#include "server/batch_builder.h"
#include "server/call.h"
#include "server/calls.h"
#include "server/engine/engine.h"

namespace iterand {

// What gRPC may gather before it writes, in bytes: the server's GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE.
inline constexpr int kWriteBufferBytes = 512 << 10;

class StreamCall final : public CallBody, public std::enable_shared_from_this<StreamCall> {
 public:
  // `call` is not used after its end. The registry outlives this. For `part_names` see BatchBuilder.
  StreamCall(Call* call, CallRegistry* calls, std::shared_ptr<SharedStream> open, const ShardPlan& plan, int batch_size,
             bool provenance, std::vector<std::string> part_names);

  // Sets what it serves from. To be called before Start, by the owner that made the call.
  void set_reader(std::unique_ptr<SequenceReader> reader) { reader_ = std::move(reader); }

  // Starts what can be started: the next write, or the end.
  void Advance();

  void Start() override { Advance(); }
  void OnWriteDone(bool ok) override;
  void Cancel() override;
  void Drain() override;

 private:
  using Clock = std::chrono::steady_clock;

  // These run under mutex_.
  void Build();  // the next batch, as far as rows are ready
  void CountBatch();

  Call* const call_;
  CallRegistry* const calls_;
  const std::shared_ptr<SharedStream> open_;
  const int batch_size_;
  const std::uint64_t stride_;

  std::mutex mutex_;
  std::unique_ptr<SequenceReader> reader_;
  BatchBuilder builder_;
  grpc::ByteBuffer current_;              // being sent, if writing_
  std::optional<grpc::ByteBuffer> next_;  // ready to be sent
  std::uint64_t next_rows_ = 0;           // of next_, or of the batch being built
  std::uint64_t first_index_ = 0;         // of the batch being built
  LiveRows::Picks shown_;                 // rows of it that are offered to those who look at the page
  std::uint64_t after_next_ = 0;          // index after next_
  std::uint64_t resume_index_;            // index after all that was sent
  absl::Status error_;                    // that generation ended in
  bool begun_ = false;                    // something was sent
  bool writing_ = false;
  bool cancelled_ = false;
  bool draining_ = false;
  bool finished_ = false;
  bool waiting_ = false;  // the client is ready and the batch is not
  Clock::time_point waiting_since_;
};

}  // namespace iterand
