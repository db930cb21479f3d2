// A client gives the same sequences whether it reads ahead or not.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "tests/server/fixture.h"

namespace iterand {
namespace {

class Prefetch : public ServiceTest, public testing::WithParamInterface<int> {
 protected:
  std::unique_ptr<RemoteStream> Open(const v1::StreamRequest& request) {
    absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client_->Stream(request, GetParam());
    EXPECT_TRUE(reader.ok()) << reader.status();
    return reader.ok() ? *std::move(reader) : nullptr;
  }
};

TEST_P(Prefetch, TheSameBatchesToTheEnd) {
  v1::StreamRequest request = Cheap();
  request.set_start(5);
  request.set_count(300);
  request.set_batch_size(7);
  const absl::StatusOr<std::string> expected = Served(*client_, request);
  ASSERT_TRUE(expected.ok()) << expected.status();
  const std::unique_ptr<RemoteStream> reader = Open(request);
  std::string bytes;
  Batch batch;
  for (std::uint64_t next = 5; reader->Next(batch);) {
    EXPECT_EQ(batch.first_index(), next);
    next += static_cast<std::uint64_t>(batch.rows());
    EXPECT_EQ(reader->next_index(), next);
    const std::size_t before = bytes.size();
    bytes.resize(before + batch.token_bytes());
    batch.CopyTo(std::as_writable_bytes(std::span(bytes)).subspan(before));
    if (next % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the reader gets ahead
  }
  ASSERT_TRUE(reader->status().ok()) << reader->status();
  EXPECT_TRUE(bytes == *expected);
  EXPECT_FALSE(reader->Next(batch));  // the end stays
  EXPECT_TRUE(reader->status().ok()) << reader->status();
}

TEST_P(Prefetch, TheServersVerdictComesWithTheFirstBatch) {
  v1::StreamRequest request;
  request.mutable_stream()->set_preset("nowhere");
  const std::unique_ptr<RemoteStream> reader = Open(request);
  Batch batch;
  EXPECT_FALSE(reader->Next(batch));
  EXPECT_EQ(reader->status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(reader->Next(batch));
  EXPECT_EQ(reader->status().code(), absl::StatusCode::kNotFound);
}

TEST_P(Prefetch, CancelDropsWhatWasReadAhead) {
  const std::unique_ptr<RemoteStream> reader = Open(Cheap());
  Batch batch;
  ASSERT_TRUE(reader->Next(batch)) << reader->status();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  reader->Cancel();
  EXPECT_FALSE(reader->Next(batch));
  EXPECT_EQ(reader->status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(reader->Next(batch));
  EXPECT_EQ(reader->status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }, std::chrono::seconds(5)));
}

TEST_P(Prefetch, CancelWakesAWaitingNext) {
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kSlowRecipe);
  const std::unique_ptr<RemoteStream> reader = Open(request);
  std::jthread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    reader->Cancel();
  });
  Batch batch;
  EXPECT_FALSE(reader->Next(batch));
  EXPECT_EQ(reader->status().code(), absl::StatusCode::kCancelled);
}

TEST_P(Prefetch, AFullReaderCanBeDestroyed) {
  {
    const std::unique_ptr<RemoteStream> reader = Open(Cheap());
    Batch batch;
    ASSERT_TRUE(reader->Next(batch)) << reader->status();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }, std::chrono::seconds(5)));
}

INSTANTIATE_TEST_SUITE_P(Batches, Prefetch, testing::Values(0, 1, 2, 3, 8), testing::PrintToStringParamName());

using PrefetchRange = ServiceTest;

TEST_F(PrefetchRange, BelowZeroIsRefused) {
  const absl::Status status = client_->Stream(Cheap(), -1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "prefetch: is -1, must be 0 or more");
}

}  // namespace
}  // namespace iterand
