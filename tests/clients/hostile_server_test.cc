// What a hostile server sends must not command the terminal of a user who asks it.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "iterand/v1/noise_service.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "tests/clients/command_line.h"

namespace iterand::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kHostile[] = "a\"\n\x1b]0;owned\a\x7f\xc2\x9b\xe2\x80\xae\xe2\x80\xa8z";
constexpr char kEscaped[] = R"(a"\n\u001b]0;owned\u0007\u007f\u009b\u202e\u2028z)";

class HostileService final : public v1::NoiseService::Service {
 public:
  grpc::Status Describe(grpc::ServerContext* /*context*/, const v1::DescribeRequest* request,
                        v1::DescribeResponse* response) override {
    if (request->has_stream() && request->stream().seed() == 1) {
      return {grpc::StatusCode::INVALID_ARGUMENT, kHostile};
    }
    response->set_engine_version(5);
    v1::Preset* preset = response->add_presets();
    preset->set_name(kHostile);
    preset->set_description(kHostile);
    v1::FamilyInfo* family = response->add_families();
    family->set_name(kHostile);
    family->set_summary(kHostile);
    if (!request->has_stream()) return grpc::Status::OK;
    v1::StreamInfo* info = response->mutable_stream();
    info->set_dtype(v1::DTYPE_UINT8);
    info->mutable_recipe()->set_length(4);
    info->mutable_recipe()->set_vocab_size(256);
    info->mutable_recipe()->set_lanes(1);
    info->mutable_recipe()->set_description(kHostile);
    info->add_parts()->set_name(kHostile);
    info->set_recipe_json(absl::StrCat("{\n \"description\": \"\xe2\x80\xae\x7f\xf3\xa0\x81\x81\"\n}"));
    info->set_fingerprint(std::string(32, 'f'));
    return grpc::Status::OK;
  }

  grpc::Status Stream(grpc::ServerContext* /*context*/, const v1::StreamRequest* request,
                      grpc::ServerWriter<v1::Batch>* writer) override {
    v1::Batch batch;
    batch.set_rows(1);
    batch.set_length(4);
    batch.set_dtype(v1::DTYPE_UINT8);
    batch.set_stride(1);
    batch.set_tokens("abcd");
    v1::Provenance* from = batch.add_provenance();
    from->set_family(kHostile);
    from->set_part(kHostile);
    batch.set_parts(std::string(1, '\0'));
    writer->Write(batch);
    return request->count() <= 1 ? grpc::Status::OK : grpc::Status(grpc::StatusCode::INTERNAL, kHostile);
  }
};

class HostileServer : public ::testing::Test {
 protected:
  HostileServer() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    address_ = absl::StrCat("127.0.0.1:", port);
  }

  // Runs it, and checks that only printable ASCII and newlines come out.
  CommandResult Run(const std::string& command) {
    CommandResult result = RunIterand(command + " --server " + address_);
    for (const char character : result.out + result.err) {
      EXPECT_TRUE(character == '\n' || (character >= ' ' && character != '\x7f')) << command << "\n" << result.out;
    }
    return result;
  }

  HostileService service_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(HostileServer, Errors) {
  const CommandResult result = Run("describe up --seed 1");
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_EQ(result.err, absl::StrCat("iterand: ", kEscaped, "\n"));
  EXPECT_THAT(Run("sample --count 2").err, HasSubstr(kEscaped));
}

TEST_F(HostileServer, ListsAndDescriptions) {
  EXPECT_THAT(Run("presets").out, HasSubstr(kEscaped));
  EXPECT_EQ(nlohmann::json::parse(Run("presets --json").out)["presets"][0]["name"], kHostile);
  EXPECT_THAT(Run("describe up").out, HasSubstr(kEscaped));
  EXPECT_EQ(nlohmann::json::parse(Run("describe up --json").out)["recipe"]["description"],
            "\xe2\x80\xae\x7f\xf3\xa0\x81\x81");
  // JSON's own escapes are used, so the meaning stays.
  EXPECT_EQ(nlohmann::json::parse(Run("describe up --recipe-json").out)["description"],
            "\xe2\x80\xae\x7f\xf3\xa0\x81\x81");
}

TEST_F(HostileServer, Provenance) {
  EXPECT_THAT(Run("sample --count 1").out, HasSubstr(absl::StrCat("part ", kEscaped, ", ", kEscaped, ", depth")));
  const nlohmann::json row = nlohmann::json::parse(Run("sample --count 1 --format jsonl").out);
  EXPECT_EQ(row["provenance"]["family"], kHostile);
  EXPECT_EQ(row["provenance"]["part"], kHostile);
  EXPECT_THAT(Run("sample --count 1 --stats").out, HasSubstr(kEscaped));
}

}  // namespace
}  // namespace iterand::testing
