#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "clients/cpp/connection.h"
#include "clients/cpp/named_stream.h"
#include "clients/cpp/requests.h"
#include "clients/cpp/rpc_client.h"
#include "common/recipe_source.h"

namespace iterand {
namespace {

constexpr char kStreamMethod[] = "/iterand.v1.NoiseService/Stream";

absl::Status CancelledError() { return absl::CancelledError("the stream was cancelled"); }

std::uint64_t WorldSize(const v1::StreamRequest& request) {
  return std::max<std::uint64_t>(request.shard().world_size(), 1);
}

}  // namespace

// One thread drives the call: the one that prefetches, or the one that calls Next.
struct RemoteStream::State {
  State(std::shared_ptr<Connection> to, v1::StreamRequest asked)
      : connection(std::move(to)), request(std::move(asked)), attempts(*connection, std::nullopt) {
    const std::uint64_t world_size = WorldSize(request);
    const std::uint64_t step = (request.shard().rank() + world_size - request.start() % world_size) % world_size;
    position = request.start() + step;  // the server refuses one beyond 2^64 - 1
  }

  ~State() {
    Cancel();
    if (reader.joinable()) reader.join();
  }

  // Waits for the next batch, on another connection if one breaks. Returns false at the stream's end, with `end` OK,
  // and for an error, which is `end`.
  bool Receive(Batch& batch, absl::Status& end) {
    end = absl::OkStatus();
    for (;;) {
      if (call == nullptr && !StartCall()) {
        end = CancelledError();
        return false;
      }
      grpc::ByteBuffer message;
      if (call->Read(message)) {
        end = Accept(message, batch);
        return end.ok();
      }
      if (IsCancelled()) {
        end = CancelledError();
        return false;
      }
      if (complete) return false;  // however the call ended
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
      end = attempts.Failed(*call, failure, pause);
      if (!end.ok()) return false;
      const std::lock_guard lock(mutex);
      call = nullptr;
    }
  }

  // Requests the rest of the stream. Returns false if it is cancelled.
  bool StartCall() {
    auto started = std::make_unique<ServerStream>(*connection, kStreamMethod, Serialize(request), std::nullopt);
    const std::lock_guard lock(mutex);
    if (cancelled) return false;
    call = std::move(started);
    return true;
  }

  // Takes the batch in `message`, which must be the next one. From then on the rest must be of the same stream.
  absl::Status Accept(grpc::ByteBuffer& message, Batch& batch) {
    if (absl::Status parsed = batch.Parse(message); !parsed.ok()) return parsed;
    const std::uint64_t world_size = WorldSize(request);
    const auto rows = static_cast<std::uint64_t>(batch.rows());
    if (batch.first_index() != position || batch.stride() != world_size || complete ||
        (request.has_count() && rows > request.count())) {
      return absl::DataLossError(absl::StrCat("the server sent ", rows, " rows ", batch.first_index(), " + i * ",
                                              batch.stride(), "; expected were rows ", position, " + i * ",
                                              world_size));
    }
    request.mutable_stream()->set_expected_fingerprint(batch.fingerprint_);
    std::uint64_t step = 0;
    complete = __builtin_mul_overflow(rows, world_size, &step) || __builtin_add_overflow(position, step, &position);
    request.set_start(position);
    if (request.has_count()) {
      request.set_count(request.count() - rows);
      complete = complete || request.count() == 0;
    }
    attempts.Succeeded(*call->link());
    return absl::OkStatus();
  }

  // Starts a thread that reads up to `batches` ahead. When it is that far ahead it waits until half of them are taken,
  // since waking it costs the taker more than all other work.
  void StartPrefetch(int batches) {
    limit = static_cast<std::size_t>(batches);
    reader = std::thread([this] {
      std::vector<Batch> garbage;
      for (bool more = true; more; garbage.clear()) {
        Batch batch;
        absl::Status received;
        more = Receive(batch, received);
        std::unique_lock lock(mutex);
        if (more) {
          ahead.push_back(std::move(batch));
        } else {
          ended = std::move(received);
        }
        changed.notify_all();
        if (ahead.size() == limit) changed.wait(lock, [&] { return ahead.size() <= limit / 2 || cancelled; });
        garbage.swap(spent);
      }
    });
  }

  // Waits for the next batch and takes it. Returns false as Receive does, again at every later call.
  bool Take(Batch& batch, absl::Status& status) {
    std::unique_lock lock(mutex);
    if (reader.joinable()) changed.wait(lock, [&] { return !ahead.empty() || ended || cancelled; });
    if (cancelled) {
      status = CancelledError();
      return false;
    }
    if (ahead.empty() && ended) {
      status = *ended;
      return false;
    }
    if (!reader.joinable()) {
      lock.unlock();
      const bool more = Receive(batch, status);
      if (!more) ended = status;
      return more;
    }
    spent.push_back(std::exchange(batch, std::move(ahead.front())));
    ahead.pop_front();
    if (ahead.size() == limit / 2) changed.notify_all();
    return true;
  }

  // Drops the batches that were read ahead.
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
  bool complete = false;       // the last row has come
  Attempts attempts;

  std::thread reader;  // if it reads ahead
  std::mutex mutex;    // guards what follows; the thread that sets `call` reads it without
  std::condition_variable changed;
  std::unique_ptr<ServerStream> call;
  std::deque<Batch> ahead;
  std::size_t limit = 0;              // of `ahead`
  std::vector<Batch> spent;           // for the reading thread to free
  std::optional<absl::Status> ended;  // how the stream ended, after `ahead`
  bool cancelled = false;
};

absl::StatusOr<std::unique_ptr<RemoteStream>> RpcClient::Stream(const v1::StreamRequest& request, int prefetch) {
  if (prefetch < 0) return absl::InvalidArgumentError(absl::StrCat("prefetch: is ", prefetch, ", must be 0 or more"));
  auto state = std::make_unique<RemoteStream::State>(connection_, request);
  state->StartCall();
  if (prefetch > 0) state->StartPrefetch(prefetch);
  return std::unique_ptr<RemoteStream>(new RemoteStream(std::move(state), request.start()));
}

RemoteStream::RemoteStream(std::unique_ptr<State> state, std::uint64_t start)
    : state_(std::move(state)), next_index_(start) {}

RemoteStream::~RemoteStream() = default;

void RemoteStream::Cancel() { state_->Cancel(); }

bool RemoteStream::Next(Batch& batch) {
  if (!state_->Take(batch, status_)) {
    status_ = AnnotateRecipeError(RecipeSource{.preset = {}, .json = {}, .path = recipe_path_}, status_);
    return false;
  }
  next_index_ = batch.first_index() + static_cast<std::uint64_t>(batch.rows()) * batch.stride();
  return true;
}

}  // namespace iterand
