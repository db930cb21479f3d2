#include "server/stream_call.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "server/call_errors.h"

namespace iterand {

StreamCall::StreamCall(Call* call, CallRegistry* calls, std::shared_ptr<SharedStream> open, const ShardPlan& plan,
                       int batch_size, bool provenance, std::vector<std::string> part_names)
    : call_(call),
      calls_(calls),
      open_(std::move(open)),
      batch_size_(batch_size),
      stride_(plan.stride),
      builder_(open_->stream(), provenance, std::move(part_names)),
      resume_index_(plan.first) {}

void StreamCall::Advance() {
  const std::shared_ptr<StreamCall> self = shared_from_this();  // once a write is started, OnDone may come any time
  std::optional<absl::Status> end;
  std::uint64_t reached = 0;
  grpc::WriteOptions how;
  {
    std::lock_guard lock(mutex_);
    if (!reader_ || finished_ || writing_) return;
    if (cancelled_) {
      end = CancelledByClientError();
    } else if (draining_) {
      end = StreamStoppingError(resume_index_);
    } else {
      Build();
      if (next_) {
        current_ = *std::move(next_);
        next_.reset();
        resume_index_ = after_next_;
        writing_ = true;
        CountBatch();
        // If the batch after it is ready too, both may go in one write. Not the first: gRPC would hold back the initial
        // metadata with it.
        if (begun_ && current_.Length() < kWriteBufferBytes) Build();
        if (begun_ && next_) how.set_buffer_hint();
        begun_ = true;
      } else if (!error_.ok()) {
        end = error_;
      } else if (reader_->remaining() == 0 && !builder_.begun()) {
        end = absl::OkStatus();
      } else {
        if (!waiting_) waiting_since_ = Clock::now();
        waiting_ = true;
        return;
      }
    }
    if (end) {
      finished_ = true;
      reached = resume_index_;
      reader_->Close();
    }
  }
  if (end) {
    call_->End(*end, absl::StrCat(ToHex(open_->stream().fingerprint()), " at index ", reached));
    return;
  }
  call_->StartWrite(&current_, how);
  std::lock_guard lock(mutex_);
  if (!finished_ && !cancelled_ && !draining_) Build();
}

void StreamCall::OnWriteDone(bool ok) {
  {
    std::lock_guard lock(mutex_);
    writing_ = false;
    current_.Clear();
    if (!ok) cancelled_ = true;
  }
  Advance();
}

void StreamCall::Cancel() {
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    cancelled_ = true;
    next_.reset();
    if (reader_) reader_->Close();
  }
  Advance();
}

void StreamCall::Drain() {
  {
    std::lock_guard lock(mutex_);
    draining_ = true;
  }
  Advance();
}

void StreamCall::Build() {
  if (next_ || !error_.ok()) return;
  if (!builder_.begun()) {
    if (reader_->remaining() == 0) return;
    const std::uint64_t rows = std::min<std::uint64_t>(static_cast<std::uint64_t>(batch_size_), reader_->remaining());
    builder_.Begin(reader_->next_index(), stride_, static_cast<int>(rows));
    next_rows_ = rows;
    shown_ = calls_->live().Pick(static_cast<int>(rows));
    first_index_ = reader_->next_index();
  }
  const absl::StatusOr<int> taken =
      reader_->Take(builder_.missing(), [this](const std::shared_ptr<const Segment>& segment, std::uint32_t offset) {
        const int row = static_cast<int>(next_rows_) - builder_.missing();
        if (shown_.Contains(row)) {
          calls_->live().Offer(open_->stream(), first_index_ + static_cast<std::uint64_t>(row) * stride_, *segment,
                               offset);
        }
        builder_.Add(segment, offset);
      });
  if (!taken.ok()) {
    error_ = taken.status();
  } else if (builder_.missing() == 0) {
    next_ = builder_.Finish();
    after_next_ = reader_->next_index();
  }
}

void StreamCall::CountBatch() {
  CallCounters& counters = calls_->counters();
  counters.sequences += next_rows_;
  counters.tokens += next_rows_ * static_cast<std::uint64_t>(open_->stream().length());
  counters.batches += 1;
  counters.batch_bytes += current_.Length();
  if (waiting_) {
    counters.wait_nanoseconds += static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - waiting_since_).count());
    waiting_ = false;
  }
}

}  // namespace iterand
