// The method Execute: results, errors, cancelling, a server that stops, and its share of the cores.
#include "server/answers/execute.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "iterand/v1/noise_service.grpc.pb.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using testing::AllOf;
using testing::HasSubstr;

v1::ExecuteRequest Request(const std::vector<std::string>& texts) {
  v1::ExecuteRequest request;
  for (const std::string& text : texts) request.add_programs()->set_text(text);
  return request;
}

// Programs that never end: each executes `steps` instructions.
v1::ExecuteRequest Endless(int programs, std::uint64_t steps) {
  v1::ExecuteRequest request;
  for (int i = 0; i < programs; ++i) request.add_programs()->set_text("+[>+<]");
  request.set_max_steps(steps);
  return request;
}

class ExecuteTest : public ServiceTest {
 protected:
  absl::StatusOr<std::vector<v1::ExecuteResult>> Execute(const v1::ExecuteRequest& request) {
    std::vector<v1::ExecuteResult> results;
    absl::Status status = client_->Execute(request, [&](const v1::ExecuteResult& result) {
      results.push_back(result);
      return true;
    });
    if (!status.ok()) return status;
    return results;
  }

  void ExpectRefused(const v1::ExecuteRequest& request, const std::string& part) {
    EXPECT_ERROR(Execute(request).status(), absl::StatusCode::kInvalidArgument, HasSubstr(part));
  }
};

TEST_F(ExecuteTest, ResultsComeInOrder) {
  v1::ExecuteRequest request = Request({"+++.", ",[.,]", "+[]", "+[.+]", ""});
  request.mutable_programs(1)->set_input(std::string("ab\0", 3));
  request.set_max_output(10);
  request.set_max_steps(1000);
  const auto results = Execute(request);
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ(results->size(), 5U);
  for (std::uint32_t i = 0; i < 5; ++i) EXPECT_EQ((*results)[i].program(), i);
  const auto expect = [&](std::size_t i, const std::string& output, std::uint64_t steps, v1::ExecuteResult::Halt halt) {
    EXPECT_EQ((*results)[i].output(), output);
    EXPECT_EQ((*results)[i].steps(), steps);
    EXPECT_EQ((*results)[i].halt(), halt);
  };
  expect(0, "\3", 4, v1::ExecuteResult::ENDED);
  expect(1, "ab", 8, v1::ExecuteResult::ENDED);
  expect(2, "", 1000, v1::ExecuteResult::STEP_LIMIT);
  expect(3, "\1\2\3\4\5\6\7\10\11\12", 30, v1::ExecuteResult::OUTPUT_LIMIT);
  expect(4, "", 0, v1::ExecuteResult::ENDED);
  EXPECT_EQ(server_->stats().programs_executed, 5U);
  EXPECT_EQ(server_->stats().steps_executed, 1042U);
}

// In pieces or at once, a program does the same.
TEST_F(ExecuteTest, LongProgramsAreInterruptedUnseen) {
  const std::string text = "+[>,+[<.>-]<+]";
  const std::string input = "noise";
  v1::ExecuteRequest request;
  for (const std::uint32_t cells : {3U, 64U}) {
    request = Request({text, text});
    for (v1::ExecuteProgram& program : *request.mutable_programs()) program.set_input(input);
    request.set_max_steps(5'000'001);
    request.set_max_output(65536);
    request.set_cells(cells);
    request.set_repeat(true);
    const auto results = Execute(request);
    ASSERT_TRUE(results.ok()) << results.status();
    ASSERT_EQ(results->size(), 2U);
    std::vector<Symbol> output(65536);
    const std::vector<Symbol> tape(input.begin(), input.end());
    const TapeLimits limits{.max_steps = 5'000'001, .cells = static_cast<int>(cells), .symbols = 256, .repeat = true};
    const TapeResult whole = *TapeProgram::Parse(text)->Run(tape, limits, output);
    for (const v1::ExecuteResult& result : *results) {
      EXPECT_EQ(result.steps(), whole.steps);
      EXPECT_EQ(result.output(), std::string(output.begin(), output.begin() + static_cast<long>(whole.written)));
    }
  }
}

TEST_F(ExecuteTest, SeedsMakeInputTapes) {
  v1::ExecuteRequest request = Request({",.", ",.", ",."});
  for (int i = 0; i < 3; ++i) request.mutable_programs(i)->set_seed(i == 2 ? 2 : 1);
  request.set_repeat(true);
  request.set_symbols(7);
  request.set_max_output(5000);
  const auto results = Execute(request);
  ASSERT_TRUE(results.ok()) << results.status();
  const std::string& first = (*results)[0].output();
  ASSERT_EQ(first.size(), 5000U);
  EXPECT_EQ(first.substr(kRandomInputSymbols), first.substr(0, 5000 - kRandomInputSymbols));  // read again
  EXPECT_EQ(*std::max_element(first.begin(), first.end()), 6);
  EXPECT_EQ(first, (*results)[1].output());
  EXPECT_NE(first, (*results)[2].output());
}

TEST_F(ExecuteTest, RefusesBadRequests) {
  v1::ExecuteRequest request;
  ExpectRefused(request, "programs: there are none");
  request = Request({"+", "+ ]"});
  ExpectRefused(request, "programs[1]: program: position 2: ']' closes no loop");
  request.mutable_programs(1)->set_text("[[]");
  ExpectRefused(request, "programs[1]: program: position 0: '[' is never closed");
  request.mutable_programs(1)->set_text("+\xFF");
  ExpectRefused(request, "programs[1]: program: position 1: '\\xff' is not an instruction");
  request.mutable_programs(1)->set_text(std::string(65537, '+'));
  ExpectRefused(request, "programs[1]: program: has 65537 characters");
  request.mutable_programs(1)->set_text("+");
  request.mutable_programs(1)->set_input(std::string(65537, '+'));
  ExpectRefused(request, "programs[1].input: its size: is 65537");
  request.mutable_programs(1)->clear_input();
  request.set_max_steps(kMaxExecuteSteps + 1);
  ExpectRefused(request, "max_steps: is 67108865, must be in [1, 67108864]");
  request.set_max_steps(10);
  request.set_max_output(0);
  ExpectRefused(request, "max_output: is 0");
  request.clear_max_output();
  request.set_cells(65537);
  ExpectRefused(request, "cells: is 65537");
  request.clear_cells();
  request.set_symbols(1);
  ExpectRefused(request, "symbols: is 1");
  ExpectRefused(Endless(129, kMaxExecuteSteps), "which for 129 programs makes 8657043456 steps");
  ExpectRefused(Request(std::vector<std::string>(4097, "+")), "programs: their number: is 4097");
  EXPECT_EQ(server_->stats().programs_executed, 0U);
}

TEST_F(ExecuteTest, LargeRequestsPass) {
  const std::string large(60'000, '+');
  const auto results = Execute(Request(std::vector<std::string>(200, large)));
  ASSERT_TRUE(results.ok()) << results.status();
  EXPECT_EQ(results->size(), 200U);
  EXPECT_ERROR(Execute(Request(std::vector<std::string>(300, large))).status(), absl::StatusCode::kResourceExhausted,
               HasSubstr("16777216"));
}

TEST_F(ExecuteTest, WhatIsNoRequestIsRefused) {
  const auto channel = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
  const auto stub = v1::NoiseService::NewStub(channel);
  v1::ExecuteRequest request = Request({"+"});
  request.GetReflection()->MutableUnknownFields(&request)->AddLengthDelimited(1, "\377\377\377");
  grpc::ClientContext context;
  const auto reader = stub->Execute(&context, request);
  v1::ExecuteResponse response;
  EXPECT_FALSE(reader->Read(&response));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("the request is not an iterand.v1.ExecuteRequest"));
}

TEST_F(ExecuteTest, CancelledCallsEndAtOnce) {
  const v1::ExecuteRequest request = Endless(100, kMaxExecuteSteps);
  int seen = 0;
  const absl::Status status = client_->Execute(request, [&](const v1::ExecuteResult&) {
    ++seen;
    return false;
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(seen, 1);
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }, std::chrono::seconds(5)));
  EXPECT_LT(server_->stats().programs_executed, 10U);

  // Also in the middle of a program.
  const auto stub =
      v1::NoiseService::NewStub(grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const std::uint64_t before = server_->stats().steps_executed;
  const auto reader = stub->Execute(&context, request);
  ASSERT_TRUE(WaitUntil([&] { return server_->stats().steps_executed > before; }));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }, std::chrono::seconds(5)));
  EXPECT_TRUE(Execute(Request({"."})).ok());
}

TEST_F(ExecuteTest, AStoppingServerSaysWhereItStopped) {
  absl::Status status;
  std::uint32_t seen = 0;
  std::thread caller([&] {
    status = client_->Execute(Endless(100, kMaxExecuteSteps), [&](const v1::ExecuteResult& result) {
      EXPECT_EQ(result.program(), seen++);
      return true;
    });
  });
  ASSERT_TRUE(WaitUntil([&] { return server_->stats().programs_executed > 0; }));
  server_->Shutdown(std::chrono::seconds(20));
  caller.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("the server is stopping"), HasSubstr(absl::StrCat("from number ", seen, " on"))));
}

TEST_F(ExecuteTest, CountsAmongTheCalls) {
  ServerOptions options;
  options.max_streams = 1;
  Restart(options);
  absl::StatusOr<std::unique_ptr<RemoteStream>> reader = client_->Stream(Cheap());
  Batch batch;
  ASSERT_TRUE((*reader)->Next(batch)) << (*reader)->status();
  EXPECT_ERROR(Execute(Request({"."})).status(), absl::StatusCode::kUnavailable, HasSubstr("1 calls"));
}

// On one thread, a stream and an execution that both want all of it get half each.
TEST_F(ExecuteTest, SharesTheCoresWithStreams) {
  ServerOptions options;
  options.threads = 1;
  options.cache_bytes = 0;
  Restart(options);
  const std::unique_ptr<RpcClient> other = Connect(*server_);
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kNetworkRecipe);
  std::atomic<bool> stop = false;
  std::thread streaming([&] {
    absl::StatusOr<std::unique_ptr<RemoteStream>> reader = other->Stream(request);
    Batch batch;
    while (!stop && (*reader)->Next(batch)) {
    }
  });
  ASSERT_TRUE(WaitUntil([&] { return server_->stats().segments_generated > 4; }));
  std::thread executing([&] {
    EXPECT_EQ(client_->Execute(Endless(100, kMaxExecuteSteps), [&](const v1::ExecuteResult&) { return !stop; }).code(),
              absl::StatusCode::kCancelled);
  });
  ASSERT_TRUE(WaitUntil([&] { return server_->stats().steps_executed > 0; }));
  const ServerStats before = server_->stats();
  ASSERT_TRUE(WaitUntil([&] { return server_->stats().background_seconds > before.background_seconds + 1; }));
  const ServerStats after = server_->stats();
  const double segments = after.generation_seconds - before.generation_seconds;
  const double executions = after.background_seconds - before.background_seconds;
  EXPECT_GT(segments, 0.3 * executions);
  EXPECT_GT(executions, 0.3 * segments);
  stop = true;
  executing.join();
  streaming.join();
}

}  // namespace
}  // namespace iterand
