// What happens to a call before its request is served: token, slot, reading, parsing. Also what happens to peers that
// send no request, half of one, or an expensive one.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/request_gate.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

// A call whose parts are sent one by one. It ends with the object.
class RawCall {
 public:
  RawCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method, const std::string& token = "",
          bool gzip = false)
      : stub_(channel) {
    context_.set_deadline(std::chrono::system_clock::now() + seconds(30));
    if (!token.empty()) context_.AddMetadata("authorization", "Bearer " + token);
    if (gzip) context_.set_compression_algorithm(GRPC_COMPRESS_GZIP);
    call_ = stub_.PrepareCall(&context_, "/iterand.v1.NoiseService/" + method, &queue_);
    call_->StartCall(&context_);
    Await();
  }
  ~RawCall() {
    if (!ended_) {
      context_.TryCancel();
      End();
    }
  }

  void Send(const std::string& message) {
    const grpc::Slice slice(message);
    call_->Write(grpc::ByteBuffer(&slice, 1), &context_);
    Await();
  }

  void EndRequest() {
    call_->WritesDone(&context_);
    Await();
  }

  void Cancel() { context_.TryCancel(); }

  // Its status, once it has ended.
  grpc::Status End() {
    ended_ = true;
    for (;;) {
      grpc::ByteBuffer message;
      call_->Read(&message, &context_);
      if (!Await()) break;
    }
    grpc::Status status;
    call_->Finish(&status, &context_);
    Await();
    return status;
  }

 private:
  bool Await() {
    void* tag;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  bool ended_ = false;
};

#define EXPECT_END(call, code, matcher)                                 \
  do {                                                                  \
    const grpc::Status expect_end_status = (call).End();                \
    EXPECT_EQ(expect_end_status.error_code(), grpc::StatusCode::code);  \
    EXPECT_THAT(expect_end_status.error_message(), HasSubstr(matcher)); \
  } while (false)

class RequestIntake : public ServiceTest {
 protected:
  std::unique_ptr<RawCall> Start(const std::string& method, const std::string& token = "") {
    return std::make_unique<RawCall>(Channel(), method, token);
  }

  // A connection of its own.
  std::shared_ptr<grpc::Channel> Channel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), arguments);
  }

  std::uint64_t Ended(Method method, grpc::StatusCode code) const {
    return server_->stats().calls_ended[static_cast<std::size_t>(method)][code];
  }

  // Whether a stream can be opened and read; an error other than a lack of slots is a failure.
  bool CanStream() {
    v1::StreamRequest request = Cheap();
    request.set_count(1);
    const absl::Status status = Served(*client_, request).status();
    EXPECT_TRUE(status.ok() || absl::IsUnavailable(status)) << status;
    return status.ok();
  }
};

// ---- Token and slot -------------------------------------------------------------------------------------------------

TEST_F(RequestIntake, ACallWithoutTokenEndsBeforeItsRequestIsRead) {
  const std::string path = testing::TempDir() + "/intake_token_" + std::to_string(getpid());
  std::ofstream(path) << "secret\n";
  ServerOptions options;
  options.token_file = path;
  Restart(options);
  for (const char* method : {"Stream", "Read", "Describe", "Execute"}) {
    // Nothing is sent, and the call still ends.
    EXPECT_END(*Start(method), UNAUTHENTICATED, "this server needs a token");
    EXPECT_END(*Start(method, "wrong"), UNAUTHENTICATED, "is not this server's");
    const auto call = Start(method, "secret");
    call->EndRequest();
    EXPECT_END(*call, INVALID_ARGUMENT, "the call carries no request");
  }
  std::remove(path.c_str());
}

TEST_F(RequestIntake, ASlotIsTakenBeforeTheRequestIsRead) {
  ServerOptions options;
  options.max_streams = 1;
  Restart(options);
  for (const char* method : {"Stream", "Read", "Execute"}) {
    const auto call = Start(method);
    std::this_thread::sleep_for(milliseconds(50));  // or the stream below may take the slot first
    EXPECT_TRUE(WaitUntil([&] { return !CanStream(); }, seconds(5)));
    // Describe has slots of its own.
    EXPECT_TRUE(client_->Describe({}).ok());
    call->Cancel();
    EXPECT_END(*call, CANCELLED, "");
    EXPECT_TRUE(WaitUntil([&] { return CanStream(); }));
  }
  // Refused calls give their slots back before the client knows.
  for (int i = 0; i < 100; ++i) {
    v1::StreamRequest unknown;
    *unknown.mutable_stream() = PresetSpec("nope");
    EXPECT_EQ(StreamError(unknown).code(), absl::StatusCode::kNotFound);
  }
}

TEST_F(RequestIntake, EverySlotComesBack) {
  ServerOptions options;
  options.max_streams = 3;
  Restart(options);
  const std::string good = Cheap().SerializeAsString();
  for (int i = 0; i < 60; ++i) {
    for (const char* method : {"Stream", "Read", "Execute", "Describe"}) {
      const auto call = Start(method);
      switch (i % 6) {
        case 0:
          call->EndRequest();
          break;
        case 1:
          call->Cancel();
          break;
        case 2:
          call->Send("\xFF\xFF");
          break;
        case 3:
          call->Send(good);
          call->Cancel();
          break;
        case 4:
          call->Send(std::string(3 << 20, 'x'));
          break;
        default:
          call->Send("");
          call->EndRequest();
      }
      if (i % 6 == 1 || i % 6 == 3) {
        call->End();
      }  // else the object cancels it, if it has not ended
    }
  }
  std::vector<std::unique_ptr<RemoteStream>> readers;
  EXPECT_TRUE(WaitUntil([&] { return CanStream(); }));
  EXPECT_TRUE(WaitUntil([&] { return server_->stats().streams_open == 0; }));
  for (int i = 0; i < 3; ++i) {
    readers.push_back(*client_->Stream(Cheap()));
    Batch batch;
    EXPECT_TRUE(readers.back()->Next(batch)) << i << readers.back()->status();
  }
  EXPECT_FALSE(CanStream());
}

// ---- Requests that do not arrive ------------------------------------------------------------------------------------

TEST_F(RequestIntake, ARequestThatDoesNotArriveEndsItsCall) {
  ServerOptions options;
  options.max_streams = 1;
  options.request_timeout = milliseconds(300);
  Restart(options);
  for (const char* method : {"Stream", "Read", "Describe", "Execute"}) {
    EXPECT_END(*Start(method), DEADLINE_EXCEEDED, "the request did not arrive within 0.3 seconds");
  }
  EXPECT_TRUE(CanStream());
  // A request that has arrived may take longer.
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(kSlowRecipe);
  request.set_count(4);
  const auto call = Start("Stream");
  call->Send(request.SerializeAsString());
  std::this_thread::sleep_for(milliseconds(700));
  EXPECT_EQ(server_->stats().streams_open, 1);
}

TEST_F(RequestIntake, RequestsAreReadOneAfterAnother) {
  ServerOptions options;
  options.request_timeout = seconds(2);
  Restart(options);
  std::vector<std::unique_ptr<RawCall>> silent;
  const auto channel = Channel();
  silent.reserve(static_cast<std::size_t>(RequestGate::MaxReads(Method::kExecute)));
  for (int i = 0; i < RequestGate::MaxReads(Method::kExecute); ++i) {
    silent.push_back(std::make_unique<RawCall>(channel, "Execute"));
  }
  v1::ExecuteRequest request;
  request.add_programs()->set_text("+.");
  const std::string bytes = request.SerializeAsString();
  // Threads of the server may take calls that begin at the same moment in another order.
  std::this_thread::sleep_for(milliseconds(200));
  RawCall served(channel, "Execute");  // waits, though its request has arrived
  served.Send(bytes);
  std::this_thread::sleep_for(milliseconds(200));
  RawCall refused(channel, "Execute");  // waits too long
  EXPECT_TRUE(CanStream());             // each method waits for itself
  EXPECT_TRUE(client_->Describe({}).ok());
  silent[0]->Cancel();
  EXPECT_END(served, OK, "");
  silent[1]->Send(bytes);
  EXPECT_END(*silent[1], OK, "");
  EXPECT_END(refused, DEADLINE_EXCEEDED, "");  // was let through, and sent nothing
  silent.clear();
  // Again, while no call makes room.
  for (int i = 0; i < RequestGate::MaxReads(Method::kExecute); ++i) {
    silent.push_back(std::make_unique<RawCall>(channel, "Execute"));
  }
  std::this_thread::sleep_for(milliseconds(200));
  RawCall late(channel, "Execute");
  EXPECT_END(*silent[0], DEADLINE_EXCEEDED, "did not arrive");
  EXPECT_END(late, DEADLINE_EXCEEDED, "did not arrive");
}

TEST_F(RequestIntake, ACallThatIsCancelledAtOnceIsNoBadRequest) {
  const std::string good = Cheap().SerializeAsString();
  const auto channel = Channel();
  for (int i = 0; i < 100; ++i) {
    RawCall call(channel, "Stream");
    if (i % 2 == 0) call.Send(good);
    call.Cancel();
    call.End();
  }
  EXPECT_TRUE(WaitUntil([&] { return Ended(Method::kStream, grpc::StatusCode::CANCELLED) == 100; }))
      << Ended(Method::kStream, grpc::StatusCode::CANCELLED);
  EXPECT_EQ(Ended(Method::kStream, grpc::StatusCode::INVALID_ARGUMENT), 0U);
}

// ---- Requests that are made to cost much ----------------------------------------------------------------------------

TEST_F(RequestIntake, SmallSubmessagesDoNotGrow) {
  v1::StreamRequest request;
  for (int i = 0; i < 1'000'000; ++i) request.mutable_stream()->mutable_recipe()->add_families();
  EXPECT_ERROR(StreamError(request), absl::StatusCode::kInvalidArgument, HasSubstr("more than 65536 fields"));
  v1::ExecuteRequest execute;
  for (int i = 0; i < 8'000'000; ++i) execute.add_programs();
  EXPECT_ERROR(client_->Execute(execute, [](const v1::ExecuteResult&) { return true; }),
               absl::StatusCode::kInvalidArgument, HasSubstr("more than 65536 fields"));
}

TEST_F(RequestIntake, ACompressedRequestIsRefused) {
  RawCall call(Channel(), "Execute", "", /*gzip=*/true);
  call.Send(std::string(10 << 20, '\0'));
  EXPECT_END(call, UNIMPLEMENTED, "Compression algorithm 'gzip' is disabled");
}

TEST_F(RequestIntake, OthersAreServedWhileRequestsAreParsed) {
  // The most expensive requests of each kind, from many connections at once.
  v1::ExecuteRequest programs;
  for (int i = 0; i < 250; ++i) programs.add_programs()->set_text(std::string(65536, '+'));
  programs.mutable_programs(249)->set_text("]");  // refused, but only when the others are parsed
  std::string json = R"({"families":[)";
  while (json.size() < (1 << 20) - 100 && json.size() < 12 * 32000) json += R"({"lstm":{}},)";
  json += "7]}";
  v1::DescribeRequest describe;
  describe.mutable_stream()->set_recipe_json(json);
  std::vector<std::unique_ptr<RawCall>> calls;
  for (int i = 0; i < 12; ++i) {
    calls.push_back(Start(i % 3 == 0 ? "Execute" : "Describe"));
    calls.back()->Send(i % 3 == 0 ? programs.SerializeAsString() : describe.SerializeAsString());
    if (i % 4 == 0) calls.back()->Cancel();
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(client_->Describe({}).ok());
    EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(2));
  }
  // The end of the server does not wait for them.
  const auto begin = std::chrono::steady_clock::now();
  server_->Shutdown(milliseconds(100));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
}

TEST_F(RequestIntake, ADrainEndsCallsWithoutRequest) {
  const auto stream = Start("Stream");
  const auto execute = Start("Execute");
  execute->Send("");
  const auto describe = Start("Describe");
  std::this_thread::sleep_for(milliseconds(100));
  const auto begin = std::chrono::steady_clock::now();
  server_->Shutdown(seconds(10));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(5));
  EXPECT_END(*stream, UNAVAILABLE, "the server is stopping");
  EXPECT_END(*execute, INVALID_ARGUMENT, "programs: there are none");
  EXPECT_END(*describe, UNAVAILABLE, "the server is stopping");
}

}  // namespace
}  // namespace iterand
