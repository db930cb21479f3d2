// A client gives the same whether it reads ahead or not.
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
  std::unique_ptr<BatchReader> Open(const v1::StreamRequest& request) {
    absl::StatusOr<std::unique_ptr<BatchReader>> reader = client_->Stream(request, GetParam());
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
  const std::unique_ptr<BatchReader> reader = Open(request);
  std::string bytes;
  Batch batch;
  absl::StatusOr<bool> more = reader->Next(batch);
  for (std::uint64_t next = 5; more.ok() && *more; more = reader->Next(batch)) {
    EXPECT_EQ(batch.first_index(), next);
    next += static_cast<std::uint64_t>(batch.rows());
    EXPECT_EQ(reader->next_index(), next);
    const std::size_t before = bytes.size();
    bytes.resize(before + batch.token_bytes());
    batch.CopyTo(bytes.data() + before);
    if (next % 3 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the reader gets ahead
  }
  ASSERT_TRUE(more.ok()) << more.status();
  EXPECT_TRUE(bytes == *expected);
  EXPECT_FALSE(*reader->Next(batch));  // and so it stays
}

TEST_P(Prefetch, TheServersVerdictComesWithTheFirstBatch) {
  v1::StreamRequest request;
  request.mutable_stream()->set_preset("nowhere");
  const std::unique_ptr<BatchReader> reader = Open(request);
  Batch batch;
  EXPECT_EQ(reader->Next(batch).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(reader->Next(batch).status().code(), absl::StatusCode::kNotFound);
}

TEST_P(Prefetch, CancelDropsWhatWasReadAhead) {
  const std::unique_ptr<BatchReader> reader = Open(Cheap());
  Batch batch;
  ASSERT_TRUE(reader->Next(batch).ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  reader->Cancel();
  EXPECT_EQ(reader->Next(batch).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(reader->Next(batch).status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }, std::chrono::seconds(5)));
}

TEST_P(Prefetch, CancelWakesAWaitingNext) {
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kSlowRecipe);
  const std::unique_ptr<BatchReader> reader = Open(request);
  std::jthread canceller([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    reader->Cancel();
  });
  Batch batch;
  EXPECT_EQ(reader->Next(batch).status().code(), absl::StatusCode::kCancelled);
}

TEST_P(Prefetch, AFullReaderCanBeDestroyed) {
  {
    const std::unique_ptr<BatchReader> reader = Open(Cheap());
    Batch batch;
    ASSERT_TRUE(reader->Next(batch).ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }, std::chrono::seconds(5)));
}

INSTANTIATE_TEST_SUITE_P(Batches, Prefetch, testing::Values(0, 1, 2, 3, 8), testing::PrintToStringParamName());

using PrefetchRange = ServiceTest;

TEST_F(PrefetchRange, BelowZeroIsRefused) {
  const absl::Status status = client_->Stream(Cheap(), -1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "prefetch -1: 0 or more is wanted");
}

}  // namespace
}  // namespace iterand
