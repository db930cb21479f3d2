#include "server/read_call.h"

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "server/call_errors.h"

namespace iterand {

ReadCall::ReadCall(Call* call, CallRegistry* calls, std::shared_ptr<SharedStream> open, const v1::ReadRequest& request,
                   std::vector<std::string> part_names)
    : call_(call),
      calls_(calls),
      open_(std::move(open)),
      rows_(request.rows()),
      builder_(open_->stream(), request.provenance(), std::move(part_names)) {
  builder_.Begin(request.first_index(), request.has_stride() ? request.stride() : 1, static_cast<int>(rows_));
}

void ReadCall::Advance() {
  absl::Status end;
  grpc::ByteBuffer batch;
  {
    std::lock_guard lock(mutex_);
    if (!reader_ || finished_) return;
    if (cancelled_) {
      end = CancelledByClientError();
    } else {
      const absl::StatusOr<int> taken =
          reader_->Take(builder_.missing(), [this](const std::shared_ptr<const Segment>& segment,
                                                   std::uint32_t offset) { builder_.Add(segment, offset); });
      if (!taken.ok()) {
        end = taken.status();
      } else if (builder_.missing() > 0) {
        return;
      } else {
        batch = builder_.Finish();
        CallCounters& counters = calls_->counters();
        counters.sequences += rows_;
        counters.tokens += rows_ * static_cast<std::uint64_t>(open_->stream().length());
        counters.batches += 1;
        counters.batch_bytes += batch.Length();
      }
    }
    finished_ = true;
    reader_->Close();
  }
  const std::string of = ToHex(open_->stream().fingerprint());
  if (end.ok()) {
    call_->EndWith(std::move(batch), of);
  } else {
    call_->End(end, of);
  }
}

void ReadCall::Cancel() {
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (reader_) reader_->Close();
  }
  Advance();
}

}  // namespace iterand
