// One call of Read. Driven like a call of Stream: see server/stream_call.h.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "iterand/v1/noise_service.pb.h"
#include "server/batch_builder.h"
#include "server/call.h"
#include "server/calls.h"
#include "server/engine/engine.h"

namespace iterand {

class ReadCall final : public CallBody, public std::enable_shared_from_this<ReadCall> {
 public:
  // `call` is not used after its end. The registry outlives this. The request's rows and stride are checked. For
  // `part_names` see BatchBuilder.
  ReadCall(Call* call, CallRegistry* calls, std::shared_ptr<SharedStream> open, const v1::ReadRequest& request,
           std::vector<std::string> part_names);

  // Sets what it serves from. To be called before Start, by the owner that made the call.
  void set_reader(std::unique_ptr<SequenceReader> reader) { reader_ = std::move(reader); }

  // Ends the call once all rows are ready.
  void Advance();

  void Start() override { Advance(); }
  void OnWriteDone(bool /*ok*/) override {}
  void Cancel() override;
  void Drain() override {}

 private:
  Call* const call_;
  CallRegistry* const calls_;
  const std::shared_ptr<SharedStream> open_;
  const std::uint64_t rows_;

  std::mutex mutex_;
  std::unique_ptr<SequenceReader> reader_;
  BatchBuilder builder_;
  bool cancelled_ = false;
  bool finished_ = false;
};

}  // namespace iterand
