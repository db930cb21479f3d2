#include "server/read_call.h"

#include <utility>

#include "absl/status/statusor.h"
#include "server/grpc_status.h"

namespace iterand {

ReadCall::ReadCall(CallRegistry* calls, std::shared_ptr<OpenStream> open, const v1::ReadRequest& request,
                   grpc::ByteBuffer* response)
    : calls_(calls),
      open_(std::move(open)),
      rows_(request.rows()),
      builder_(open_->stream(), request.provenance()),
      response_(response) {
  builder_.Begin(request.first_index(), request.has_stride() ? request.stride() : 1, static_cast<int>(rows_));
}

void ReadCall::Start(std::unique_ptr<Feed> feed) {
  {
    std::lock_guard lock(mutex_);
    feed_ = std::move(feed);
  }
  calls_->Add(shared_from_this());
  Advance();
}

void ReadCall::Advance() {
  grpc::Status end;
  {
    std::lock_guard lock(mutex_);
    if (!feed_ || finished_) return;
    if (cancelled_) {
      end = grpc::Status(grpc::StatusCode::CANCELLED, "the client cancelled the call");
    } else {
      const absl::StatusOr<int> taken =
          feed_->Take(builder_.missing(), [this](const std::shared_ptr<const Segment>& segment, std::uint32_t offset) {
            builder_.Add(segment, offset);
          });
      if (!taken.ok()) {
        end = ToGrpc(taken.status());
      } else if (builder_.missing() > 0) {
        return;
      } else {
        *response_ = builder_.Finish();
        CallCounters& counters = calls_->counters();
        counters.sequences += rows_;
        counters.tokens += rows_ * static_cast<std::uint64_t>(open_->stream().length());
        counters.batches += 1;
        counters.batch_bytes += response_->Length();
      }
    }
    finished_ = true;
    feed_->Close();
  }
  calls_->CountEnd(Method::kRead, end, ToHex(open_->stream().fingerprint()));
  Finish(end);
}

void ReadCall::OnCancel() {
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (feed_) feed_->Close();
  }
  Advance();
}

void ReadCall::OnDone() { calls_->Remove(shared_from_this()); }

}  // namespace iterand
