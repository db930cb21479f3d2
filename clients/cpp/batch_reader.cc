#include <condition_variable>
#include <deque>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "clients/cpp/client.h"
#include "clients/cpp/connection.h"
#include "clients/cpp/requests.h"

namespace iterand {
namespace {

constexpr char kStreamMethod[] = "/iterand.v1.NoiseService/Stream";

}  // namespace

// Driven by one thread, the reading one. Without prefetching it is the thread that calls Next.
struct BatchReader::State {
  State(std::shared_ptr<Connection> to, const v1::StreamRequest& asked)
      : connection(std::move(to)), request(asked), attempts(*connection, std::nullopt) {
    const std::uint64_t world_size = std::max<std::uint64_t>(request.shard().world_size(), 1);
    const std::uint64_t step = (request.shard().rank() + world_size - request.start() % world_size) % world_size;
    position = request.start() + step;  // beyond 2^64 - 1 it is the server's to refuse
  }

  ~State() {
    Cancel();
    if (reader.joinable()) reader.join();
  }

  // Waits for the next batch, on another connection if one breaks: false at the stream's end, or how it ended.
  absl::StatusOr<bool> Receive(Batch& batch) {
    for (;;) {
      if (call == nullptr && !Start()) return absl::CancelledError("the stream was cancelled");
      grpc::ByteBuffer message;
      if (call->Read(message)) {
        if (absl::Status taken = TakeIn(message, batch); !taken.ok()) return taken;
        return true;
      }
      if (IsCancelled()) return absl::CancelledError("the stream was cancelled");
      if (whole) return false;  // however the call ended
      absl::Status failure = call->status();
      if (failure.ok()) {
        if (request.has_count() && request.count() == 0) return false;
        failure = absl::UnavailableError(
            absl::StrCat(call->link()->where, ": the server ended the stream at index ", position));
      }
      const auto pause = [this](std::chrono::milliseconds time) {
        std::unique_lock lock(mutex);
        changed.wait_for(lock, time, [this] { return cancelled; });
      };
      if (absl::Status verdict = attempts.Failed(*call, failure, pause); !verdict.ok()) return verdict;
      const std::lock_guard lock(mutex);
      call = nullptr;
    }
  }

  // Asks for the rest of the stream. False if it is cancelled.
  bool Start() {
    auto started = std::make_unique<ServerStream>(*connection, kStreamMethod, Serialize(request), std::nullopt);
    const std::lock_guard lock(mutex);
    if (cancelled) return false;
    call = std::move(started);
    return true;
  }

  // The batch must be the one that follows. The rest must be of the same stream.
  absl::Status TakeIn(grpc::ByteBuffer& message, Batch& batch) {
    if (absl::Status parsed = batch.Parse(message); !parsed.ok()) return parsed;
    const std::uint64_t world_size = std::max<std::uint64_t>(request.shard().world_size(), 1);
    const auto rows = static_cast<std::uint64_t>(batch.rows());
    if (batch.first_index() != position || batch.stride() != world_size || whole ||
        (request.has_count() && rows > request.count())) {
      return absl::DataLossError(absl::StrCat("the server sent ", rows, " rows ", batch.first_index(), " + i * ",
                                              batch.stride(), "; expected were rows ", position, " + i * ",
                                              world_size));
    }
    request.mutable_stream()->set_expected_fingerprint(batch.fingerprint());
    std::uint64_t step = 0;
    whole = __builtin_mul_overflow(rows, world_size, &step) || __builtin_add_overflow(position, step, &position);
    request.set_start(position);
    if (request.has_count()) {
      request.set_count(request.count() - rows);
      whole = whole || request.count() == 0;
    }
    attempts.Succeeded(*call->link());
    return absl::OkStatus();
  }

  // Has a thread of its own read up to `batches` ahead. When it is that far ahead it goes on only after half of them
  // are taken, since waking it costs the taker more than all else.
  void StartPrefetch(int batches) {
    limit = static_cast<std::size_t>(batches);
    reader = std::thread([this] {
      std::vector<Batch> garbage;
      for (absl::StatusOr<bool> more = true; more.ok() && *more; garbage.clear()) {
        Batch batch;
        more = Receive(batch);
        std::unique_lock lock(mutex);
        if (more.ok() && *more) {
          ahead.push_back(std::move(batch));
        } else {
          end = more;
        }
        changed.notify_all();
        if (ahead.size() == limit) changed.wait(lock, [&] { return ahead.size() <= limit / 2 || cancelled; });
        garbage.swap(spent);
      }
    });
  }

  // The next batch, waiting for it, as Receive. An end stays one.
  absl::StatusOr<bool> Take(Batch& batch) {
    std::unique_lock lock(mutex);
    if (reader.joinable()) changed.wait(lock, [&] { return !ahead.empty() || end || cancelled; });
    if (cancelled) return absl::CancelledError("the stream was cancelled");
    if (ahead.empty() && end) return *end;
    if (!reader.joinable()) {
      lock.unlock();
      absl::StatusOr<bool> more = Receive(batch);
      if (!more.ok() || !*more) end = more;
      return more;
    }
    spent.push_back(std::exchange(batch, std::move(ahead.front())));
    ahead.pop_front();
    if (ahead.size() == limit / 2) changed.notify_all();
    return true;
  }

  // What was read ahead is dropped.
  void Cancel() {
    const std::lock_guard lock(mutex);
    cancelled = true;
    if (call != nullptr) call->Cancel();
    changed.notify_all();
  }

  bool IsCancelled() {
    const std::lock_guard lock(mutex);
    return cancelled;
  }

  const std::shared_ptr<Connection> connection;
  v1::StreamRequest request;   // for what has not come yet
  std::uint64_t position = 0;  // index of the next row
  bool whole = false;          // the last row has come
  Attempts attempts;

  std::thread reader;  // if it reads ahead
  std::mutex mutex;    // of what follows; `call` is read without it by the thread that sets it
  std::condition_variable changed;
  std::unique_ptr<ServerStream> call;
  std::deque<Batch> ahead;
  std::size_t limit = 0;                    // of `ahead`
  std::vector<Batch> spent;                 // for the reading thread to free
  std::optional<absl::StatusOr<bool>> end;  // after `ahead`, as Receive says
  bool cancelled = false;
};

std::unique_ptr<BatchReader> BatchReader::Start(std::shared_ptr<Connection> connection,
                                                const v1::StreamRequest& request, int prefetch) {
  auto state = std::make_unique<State>(std::move(connection), request);
  state->Start();
  if (prefetch > 0) state->StartPrefetch(prefetch);
  return std::unique_ptr<BatchReader>(new BatchReader(std::move(state), request.start()));
}

BatchReader::BatchReader(std::unique_ptr<State> state, std::uint64_t start)
    : state_(std::move(state)), next_index_(start) {}

BatchReader::~BatchReader() = default;

void BatchReader::Cancel() { state_->Cancel(); }

absl::StatusOr<bool> BatchReader::Next(Batch& batch) {
  if (const absl::StatusOr<bool> more = state_->Take(batch); !more.ok() || !*more) return more;
  next_index_ = batch.first_index() + static_cast<std::uint64_t>(batch.rows()) * batch.stride();
  return true;
}

}  // namespace iterand
