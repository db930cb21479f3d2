// Errors have a reason in a form for programs, over the wire too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <map>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/rpc/error_info.h"
#include "common/rpc/grpc_status.h"
#include "server/call_errors.h"
#include "tests/server/fixture.h"

namespace iterand {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Metadata = std::map<std::string, std::string>;

ClientOptions WithToken(const std::string& token) {
  ClientOptions options;
  options.token = token;
  return options;
}

ClientOptions WithTokenFile(const std::string& file) {
  ClientOptions options;
  options.token_file = file;
  return options;
}

Metadata MetadataOf(const absl::Status& status) {
  const std::optional<ErrorInfo> info = ErrorInfoOf(status);
  return info ? info->metadata : Metadata{{"no", "reason"}};
}

// The details of a status, of which only the bytes count here.
grpc::Status WithDetails(const std::string& details) { return {grpc::StatusCode::OUT_OF_RANGE, "far", details}; }

TEST(ErrorInfo, IsReadFromTheStatus) {
  const absl::Status plain = absl::NotFoundError("none");
  EXPECT_EQ(ReasonOf(plain), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(ReasonOf(absl::OkStatus()), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_FALSE(ErrorInfoOf(plain));
  const absl::Status status =
      WithReason(v1::UNKNOWN_PRESET, plain, {{"preset", "up"}, {"long", std::string(999, 'x')}});
  EXPECT_EQ(status.message(), plain.message());
  EXPECT_EQ(ReasonOf(status), v1::UNKNOWN_PRESET);
  EXPECT_EQ(MetadataOf(status), (Metadata{{"preset", "up"}, {"long", absl::StrCat(std::string(256, 'x'), "...")}}));

  EXPECT_EQ(ReasonOf(WithDefaultReason(v1::STARVED, plain)), v1::STARVED);
  EXPECT_EQ(ReasonOf(WithDefaultReason(v1::STARVED, status)), v1::UNKNOWN_PRESET);
  EXPECT_TRUE(WithDefaultReason(v1::STARVED, absl::OkStatus()).ok());
}

TEST(ErrorInfo, SurvivesTheWire) {
  for (int number = v1::ErrorReason_MIN + 1; number <= v1::ErrorReason_MAX; ++number) {
    const auto reason = static_cast<v1::ErrorReason>(number);
    const absl::Status sent = WithReason(reason, absl::OutOfRangeError("far"), {{"field", "start"}});
    const absl::Status received = ToAbsl(ToGrpc(sent));
    EXPECT_EQ(received, sent);
    EXPECT_EQ(ReasonOf(received), reason);
  }
  EXPECT_TRUE(ToAbsl(ToGrpc(absl::OkStatus())).ok());
  const absl::Status plain = absl::NotFoundError("none");
  EXPECT_EQ(ToAbsl(ToGrpc(plain)), plain);
  EXPECT_EQ(ToGrpc(plain).error_details(), "");
}

// The bytes are those of Google's own messages, so that other libraries read ours.
TEST(ErrorInfo, HasTheWireFormatOfGoogles) {
  const grpc::Status status = ToGrpc(WithReason(v1::STARVED, absl::FailedPreconditionError("dry"), {{"k", "v"}}));
  EXPECT_EQ(absl::CHexEscape(status.error_details()),
            absl::CHexEscape(std::string("\x08\x09\x12\x03"
                                         "dry\x1a\x46\x0a\x28type.googleapis.com/google.rpc.ErrorInfo\x12\x1a\x0a\x07"
                                         "STARVED\x12\x07iterand\x1a\x06\x0a\x01k\x12\x01v")));
}

TEST(ErrorInfo, FromElsewhereIsMadeSafeOrIgnored) {
  for (const std::string& details :
       {std::string("\xff"), std::string("\x1a\x03"), std::string("\x1a\x00", 2), std::string(100, '\0')}) {
    const absl::Status status = ToAbsl(WithDetails(details));
    EXPECT_EQ(status, absl::OutOfRangeError("far")) << absl::CHexEscape(details);
    EXPECT_FALSE(ErrorInfoOf(status)) << absl::CHexEscape(details);
  }
  v1::ErrorInfo info;
  info.set_reason("A_REASON_OF_TOMORROW");
  info.set_domain("iterand");
  (*info.mutable_metadata())["field"] = "a\xE2\x80\xAE\nb";
  v1::RichStatus rich;
  rich.add_details()->set_type_url("type.googleapis.com/google.rpc.DebugInfo");
  google::protobuf::Any& detail = *rich.add_details();
  detail.set_type_url(kErrorInfoType);
  detail.set_value(info.SerializeAsString());
  const absl::Status later = ToAbsl(WithDetails(rich.SerializeAsString()));
  EXPECT_EQ(ReasonOf(later), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(MetadataOf(later), (Metadata{{"field", "a\\u202e\\nb"}}));

  info.set_domain("googleapis.com");
  detail.set_value(info.SerializeAsString());
  EXPECT_FALSE(ErrorInfoOf(ToAbsl(WithDetails(rich.SerializeAsString()))));
}

TEST(ErrorInfo, LongMessagesFitAHeader) {
  for (const std::string unit : {"x", "%", "\xC3\xB6", "\xF0\x9F\x90\x8D", "\xff"}) {
    for (const std::size_t units : {0, 1, 1000, 1500, 2000, 2500, 3000, 5000, 100'000}) {
      std::string message;
      for (std::size_t i = 0; i < units; ++i) message += unit;
      for (const bool reason : {false, true}) {
        absl::Status status = absl::InvalidArgumentError(message);
        if (reason) status = WithReason(v1::INVALID_RECIPE, std::move(status));
        const grpc::Status sent = ToGrpc(status);
        std::size_t bytes = (sent.error_details().size() + 2) / 3 * 4;
        for (const char c : sent.error_message()) bytes += c < ' ' || c > '~' || c == '%' ? 3 : 1;
        EXPECT_LE(bytes, kMaxStatusHeader);
        if (units <= 1000 && unit.size() == 1 && unit[0] == 'x') {
          EXPECT_EQ(sent.error_message(), message);
        }
        if (units >= 5000) {
          EXPECT_GT(bytes, kMaxStatusHeader / 2);  // no more is cut off than need be
        }
        v1::RichStatus rich;
        EXPECT_TRUE(rich.ParseFromString(sent.error_details()));
        if (reason) {
          EXPECT_EQ(rich.message(), sent.error_message());
        }
      }
    }
  }
}

class ErrorReasons : public ServiceTest {
 protected:
  void Expect(const absl::Status& status, absl::StatusCode code, v1::ErrorReason reason, const Metadata& metadata) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_EQ(v1::ErrorReason_Name(ReasonOf(status)), v1::ErrorReason_Name(reason)) << status;
    EXPECT_EQ(MetadataOf(status), metadata) << status;
  }

  absl::Status OpenError(const v1::StreamSpec& spec) {
    v1::StreamRequest request;
    *request.mutable_stream() = spec;
    return StreamError(request);
  }
};

TEST_F(ErrorReasons, OfRequests) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  v1::StreamRequest request = Cheap();
  request.mutable_shard()->set_world_size(3);
  Expect(StreamError(request), kInvalid, v1::INVALID_REQUEST, {{"field", "shard.world_size"}});
  request.mutable_shard()->set_rank(3);
  Expect(StreamError(request), kInvalid, v1::INVALID_REQUEST, {{"field", "shard.rank"}});
  request = Cheap();
  request.set_batch_size(0);
  Expect(StreamError(request), kInvalid, v1::INVALID_REQUEST, {{"field", "batch_size"}});
  request = Cheap();
  request.mutable_stream()->set_expected_fingerprint("short");
  Expect(StreamError(request), kInvalid, v1::INVALID_REQUEST, {{"field", "stream.expected_fingerprint"}});
  Expect(OpenError({}), kInvalid, v1::INVALID_REQUEST, {{"field", "stream"}});

  v1::ReadRequest read;
  *read.mutable_stream() = SpecOf(kCheapRecipe);
  Expect(client_->Read(read).status(), kInvalid, v1::INVALID_REQUEST, {{"field", "rows"}});
  read.set_rows(1);
  read.set_stride(0);
  Expect(client_->Read(read).status(), kInvalid, v1::INVALID_REQUEST, {{"field", "stride"}});
  read.set_stride(1);
  read.set_rows(4);
  read.set_first_index(~std::uint64_t{0} - 1);
  Expect(client_->Read(read).status(), absl::StatusCode::kOutOfRange, v1::INDEX_OUT_OF_RANGE, {});

  v1::ExecuteRequest execute;
  const auto ignore = [](const v1::ExecuteResult&) { return true; };
  Expect(client_->Execute(execute, ignore), kInvalid, v1::INVALID_REQUEST, {{"field", "programs"}});
  execute.add_programs()->set_text("+");
  execute.add_programs()->set_text("?");
  Expect(client_->Execute(execute, ignore), kInvalid, v1::INVALID_REQUEST, {{"field", "programs[1]"}});
  execute.set_cells(0);
  Expect(client_->Execute(execute, ignore), kInvalid, v1::INVALID_REQUEST, {{"field", "cells"}});

  v1::DescribeRequest large;
  *large.mutable_stream() = SpecOf(std::string(2 << 20, ' '));
  Expect(client_->Describe(large).status(), absl::StatusCode::kResourceExhausted, v1::REQUEST_TOO_LARGE,
         {{"limit", absl::StrCat(2 << 20)}});
}

TEST_F(ErrorReasons, OfStreams) {
  Expect(OpenError(PresetSpec("no-such")), absl::StatusCode::kNotFound, v1::UNKNOWN_PRESET, {{"preset", "no-such"}});
  for (const char* wrong : {"{broken", R"({"nonsense": 1})", R"({"families": [{"uniform": {}}], "length": 3})",
                            R"({"families": [{"lstm": {"layers": 99}}]})", "{}"}) {
    Expect(OpenError(SpecOf(wrong)), absl::StatusCode::kInvalidArgument, v1::INVALID_RECIPE, {});
  }
  v1::StreamRequest request = Cheap();
  request.mutable_stream()->set_expected_fingerprint(std::string(32, '\x07'));
  const std::string actual = ToHex((*Stream::Open(RecipeOf(kCheapRecipe), 0))->fingerprint());
  Expect(StreamError(request), absl::StatusCode::kFailedPrecondition, v1::FINGERPRINT_MISMATCH,
         {{"expected", absl::BytesToHexString(std::string(32, '\x07'))}, {"actual", actual}});
  Expect(OpenError(
             SpecOf(R"({"families": [{"constant": {}}], "length": 64, "lanes": 2, "alphabet_size": 2, "distinct": true,
                              "starvation_rounds": 3})")),
         absl::StatusCode::kFailedPrecondition, v1::STARVED, {});
  request = Cheap();
  *request.mutable_stream() = SpecOf(kEndlessRecipe);
  request.set_start(std::uint64_t{1} << 60);
  Expect(StreamError(request), absl::StatusCode::kOutOfRange, v1::REPLAY_TOO_LONG, {});
}

TEST_F(ErrorReasons, OfLimits) {
  ServerOptions options;
  options.max_streams = 1;
  options.max_batch_bytes = 1024;
  options.max_stream_bytes = 1 << 20;
  Restart(options);
  Expect(OpenError(SpecOf(R"({"families": [{"uniform": {}}], "length": 2048})")), absl::StatusCode::kResourceExhausted,
         v1::STREAM_TOO_LARGE, {{"limit", "1024"}});
  Expect(OpenError(SpecOf(R"({"families": [{"uniform": {}}], "length": 64, "lanes": 1024,
                              "segment_sequences": 1024})")),
         absl::StatusCode::kInvalidArgument, v1::INVALID_REQUEST, {{"field", "batch_size"}});
  v1::StreamRequest request;
  *request.mutable_stream() = SpecOf(R"({"families": [{"uniform": {}}], "length": 64, "lanes": 1024,
                                         "segment_sequences": 1024})");
  request.set_batch_size(1);
  Expect(StreamError(request), absl::StatusCode::kResourceExhausted, v1::STREAM_TOO_LARGE, {{"limit", "1048576"}});

  request = Cheap();
  request.set_batch_size(1);
  const std::unique_ptr<RemoteStream> first = *client_->Stream(request);
  Batch batch;
  ASSERT_TRUE(first->Next(batch)) << first->status();
  Expect(StreamError(request), absl::StatusCode::kUnavailable, v1::SERVER_BUSY, {});
  server_->Shutdown(std::chrono::seconds(10));
  while (first->Next(batch)) {
  }
  Expect(first->status(), absl::StatusCode::kUnavailable, v1::SERVER_STOPPING,
         {{"next_index", absl::StrCat(first->next_index())}});
}

TEST_F(ErrorReasons, OfTokens) {
  const std::string file = ::testing::TempDir() + "/error_reasons_tokens_" + std::to_string(getpid());
  std::ofstream(file) << "# Rotated.\n\nfirst\nsecond\n";
  ServerOptions options;
  options.token_file = file;
  server_ = StartServer(options);
  client_ = Connect(*server_);
  Expect(StreamError(Cheap()), absl::StatusCode::kUnauthenticated, v1::TOKEN_MISSING, {});
  client_ = Connect(*server_, WithToken("third"));
  Expect(StreamError(Cheap()), absl::StatusCode::kUnauthenticated, v1::TOKEN_INVALID, {});
  for (const ClientOptions& accepted : {WithToken("second"), WithTokenFile(file)}) {
    client_ = Connect(*server_, accepted);
    EXPECT_TRUE(StreamError(Cheap()).ok());
  }
  ClientOptions both = WithToken("first");
  both.token_file = file;
  EXPECT_ERROR(RpcClient::Connect(server_->address(), both).status(), absl::StatusCode::kInvalidArgument,
               HasSubstr("use one of them"));
  EXPECT_ERROR(RpcClient::Connect(server_->address(), WithTokenFile(file + ".missing")).status(),
               absl::StatusCode::kNotFound,
               AllOf(HasSubstr("token file"), HasSubstr(".missing"), Not(HasSubstr("first"))));
}

}  // namespace
}  // namespace iterand
