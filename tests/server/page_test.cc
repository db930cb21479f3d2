// The page for browsers: files, data, who may ask, and limits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "iterate/presets.h"
#include "server/http/page_files.h"
#include "server/live_rows.h"
#include "tests/server/fixture.h"
#include "tests/server/http_request.h"

namespace iterand {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

constexpr char kChain[] = R"({"families": [{"eca": {}}, {"markov": {}}], "mix": "round", "length": 64, "lanes": 4,
                              "segment_sequences": 8, "chain": {"rows": 4, "max_depth": 3}})";

class Page : public ServiceTest {
 protected:
  void SetUp() override { StartPage({}); }

  void StartPage(ServerOptions options) {
    options.http_listen = "127.0.0.1:0";
    Restart(options);
    page_ = server_->http_address();
  }

  HttpAnswer Preview(const std::string& recipe, int count = 8) {
    return Post(page_, "/api/preview", {{"recipe", recipe}, {"count", count}});
  }

  std::string page_;
};

TEST_F(Page, ServesItsFilesAndNothingElse) {
  for (const PageFile& file : PageFiles()) {
    const HttpAnswer answer = Ask(page_, {.path = std::string(file.path)});
    EXPECT_EQ(answer.status, 200) << file.path;
    EXPECT_EQ(answer.body, file.content);
    EXPECT_THAT(answer.head, HasSubstr(absl::StrCat("Content-Type: ", std::string(file.type))));
  }
  EXPECT_EQ(Ask(page_, {.path = "/?from=elsewhere"}).status, 200);
  for (const char* path : {"/none", "/../style.css", "//", "/api/none", "/index.html"}) {
    EXPECT_EQ(Ask(page_, {.path = path}).status, 404) << path;
  }
}

TEST_F(Page, SaysWhatBrowsersMayDo) {
  for (const char* path : {"/", "/api/live", "/none"}) {
    const std::string head = Ask(page_, {.path = path}).head;
    EXPECT_THAT(head, HasSubstr("Content-Security-Policy: default-src 'self'; base-uri 'none'"));
    EXPECT_THAT(head, HasSubstr("X-Content-Type-Options: nosniff"));
    EXPECT_THAT(head, HasSubstr("Cross-Origin-Resource-Policy: same-origin"));
    EXPECT_THAT(head, Not(HasSubstr("Access-Control")));
  }
  EXPECT_THAT(Ask(page_, {.path = "/api/live"}).head, HasSubstr("Cache-Control: no-store"));
}

TEST_F(Page, IsOffByDefault) {
  Restart({});
  EXPECT_EQ(server_->http_address(), "");
}

TEST_F(Page, ListsPresetsAndFamilies) {
  const json list = Ask(page_, {.path = "/api/presets"}).json();
  EXPECT_EQ(list["presets"].size(), AllPresets().size());
  EXPECT_EQ(list["default"], kDefaultPreset);
  EXPECT_GT(list["families"].size(), 15U);
  EXPECT_EQ(list["presets"][0]["recipe"], AllPresets()[0].json);
}

TEST_F(Page, PreviewsExactlyTheStream) {
  const json preview =
      Post(page_, "/api/preview", {{"recipe", kNetworkRecipe}, {"seed", 7}, {"first", "3"}, {"count", 20}}).json();
  std::string tokens;
  ASSERT_TRUE(absl::Base64Unescape(preview["tokens"].get<std::string>(), &tokens)) << preview;
  EXPECT_EQ(tokens, InProcess(RecipeOf(kNetworkRecipe), 7, 3, 1, 20));
  ASSERT_EQ(preview["rows"].size(), 20U);
  EXPECT_EQ(preview["rows"][0]["index"], "3");
  EXPECT_EQ(preview["rows"][0]["family"], "lstm");
  EXPECT_EQ(preview["fingerprint"],
            ToHex(ComputeFingerprint((*Stream::Open(RecipeOf(kNetworkRecipe), 7))->recipe(), 7)));
}

TEST_F(Page, PreviewsTheBeginningsOfLongSequences) {
  const json preview = Post(page_, "/api/preview", {{"recipe", kCheapRecipe}, {"count", 2}, {"tokens", 16}}).json();
  EXPECT_EQ(preview["shown"], 16);
  std::string tokens;
  ASSERT_TRUE(absl::Base64Unescape(preview["tokens"].get<std::string>(), &tokens));
  const std::string whole = InProcess(RecipeOf(kCheapRecipe), 0, 0, 1, 2);
  EXPECT_EQ(tokens, whole.substr(0, 16) + whole.substr(64, 16));
}

TEST_F(Page, DescribesWithTheServersOwnValidation) {
  const json description = Post(page_, "/api/describe", {{"preset", "up"}}).json();
  EXPECT_EQ(description["parts"].size(), 2U);
  EXPECT_EQ(description["length"], 512);
  EXPECT_THAT(description["recipe"].get<std::string>(), HasSubstr("starvation_rounds"));

  const auto error_of = [&](const std::string& recipe) {
    const HttpAnswer answer = Post(page_, "/api/describe", {{"recipe", recipe}});
    EXPECT_EQ(answer.status, 400);
    return answer.json()["error"];
  };
  json error = error_of(R"({"families": [{"lstm": {"hidden": 0}}]})");
  EXPECT_EQ(error["field"], "families[0].lstm.hidden.fixed");
  EXPECT_EQ(error["reason"], "INVALID_RECIPE");
  EXPECT_THAT(error["message"].get<std::string>(), HasSubstr("must be in [4, 1024]"));
  EXPECT_EQ(error_of(R"({"families": [{"lstm": {"hiden": 4}}]})")["field"], "families[0].lstm.hiden");
  error = error_of("{\"families\":\n [{\"lstm\": {}}");
  EXPECT_EQ(error["line"], 2);
  EXPECT_EQ(error["column"], 15);
}

TEST_F(Page, RefusesRequestsOfAnotherForm) {
  const auto status_of = [&](const json& body) { return Post(page_, "/api/preview", body).status; };
  EXPECT_EQ(status_of({{"recipe", kCheapRecipe}}), 200);
  EXPECT_EQ(status_of({{"recipe", kCheapRecipe}, {"count", 65}}), 400);
  EXPECT_EQ(status_of({{"recipe", kCheapRecipe}, {"count", 0}}), 400);
  EXPECT_EQ(status_of({{"recipe", kCheapRecipe}, {"count", -1}}), 400);
  EXPECT_EQ(status_of({{"recipe", kCheapRecipe}, {"first", "18446744073709551615"}}), 400);
  EXPECT_EQ(status_of({{"recipe", kCheapRecipe}, {"secret", 1}}), 400);
  EXPECT_EQ(status_of({{"recipe", kCheapRecipe}, {"preset", "up"}}), 400);
  EXPECT_EQ(status_of({{"preset", "none"}}), 404);
  EXPECT_EQ(status_of({{"recipe", 3}}), 400);
  EXPECT_EQ(status_of(json::array()), 400);
  EXPECT_EQ(Ask(page_, {.method = "POST",
                        .path = "/api/preview",
                        .body = std::string(100000, '['),
                        .headers = {"Content-Type: application/json"}})
                .status,
            400);
}

TEST_F(Page, HasStatistics) {
  const json found = Post(page_, "/api/statistics", {{"recipe", kNetworkRecipe}, {"count", 32}}).json();
  EXPECT_EQ(found["sequences"], 32) << found;
  EXPECT_EQ(found["code_bits"].size(), 4U);
  EXPECT_EQ(found["complexity"].size(), 32U);
  EXPECT_EQ(found["distances"].size(), found["mutual_information"].size());
  const json mixture = Post(page_, "/api/statistics", {{"preset", "up"}, {"count", 64}}).json();
  EXPECT_EQ(mixture["parts"].size(), 2U);
  EXPECT_EQ(mixture["bands"][0]["low"], 0.03);
  EXPECT_GT(mixture["band_share"], 0.9);
  EXPECT_FALSE(found.contains("band_share"));
}

TEST_F(Page, ExplainsEachDepth) {
  const std::shared_ptr<Stream> stream = *Stream::Open(RecipeOf(kChain), 0);
  for (int index = 0; index < 8; ++index) {
    const json found = Post(page_, "/api/explain", {{"recipe", kChain}, {"index", index}}).json();
    EXPECT_EQ(found["reproduced"], true) << found;
    std::string tokens;
    ASSERT_TRUE(absl::Base64Unescape(found["tokens"].get<std::string>(), &tokens));
    EXPECT_EQ(tokens, InProcess(RecipeOf(kChain), 0, static_cast<std::uint64_t>(index), 1, 1));
    ASSERT_EQ(found["steps"].size(), found["depth"].get<std::size_t>());
    for (const json& step : found["steps"]) {
      EXPECT_EQ(step.contains("read"), step["input"] != "nothing");
      if (!step.contains("read")) continue;
      std::string row;
      ASSERT_TRUE(absl::Base64Unescape(step["read"].get<std::string>(), &row));
      EXPECT_EQ(row.size(), 128U);
    }
  }
}

// ---- Live.

TEST_F(Page, ShowsWhatStreamsSendOnlyWhileSomebodyLooks) {
  json live = Ask(page_, {.path = "/api/live"}).json();
  EXPECT_EQ(live["streams_open"], 0);
  EXPECT_EQ(live["threads"], 2);
  EXPECT_EQ(live["rows"].size(), 0U);
  v1::StreamRequest request = Cheap();
  request.set_count(20000);
  ASSERT_TRUE(Served(*client_, request).ok());
  live = Ask(page_, {.path = "/api/live"}).json();
  EXPECT_EQ(live["sequences"], 20000);
  const std::size_t rows = live["rows"].size();
  EXPECT_GT(rows, 0U);
  EXPECT_LE(rows, LiveRows::kRows);
  const std::uint64_t index = std::stoull(live["rows"][0]["index"].get<std::string>());
  std::string tokens;
  ASSERT_TRUE(absl::Base64Unescape(live["rows"][0]["tokens"].get<std::string>(), &tokens));
  EXPECT_EQ(tokens, InProcess(RecipeOf(kCheapRecipe), 0, index, 1, 1));
}

TEST(LiveRows, TakesNothingWhileNobodyLooks) {
  LiveRows live;
  EXPECT_TRUE(live.Pick(64).empty());
  EXPECT_EQ(live.Look().size(), 0U);
  const std::shared_ptr<Stream> stream = *Stream::Open(RecipeOf(kCheapRecipe), 0);
  Segment segment;
  ASSERT_TRUE(stream->GenerateSegment(0, 0, *stream->NewWorkspace(), nullptr, segment).ok());
  std::size_t taken = 0;
  for (LiveRows::Picks picks = live.Pick(64); !picks.empty(); picks = live.Pick(64)) {
    int rows = 0;
    for (int row = 0; row < 64; ++row) {
      if (!picks.Contains(row)) continue;
      live.Offer(*stream, 0, segment, 0);
      ++rows;
    }
    EXPECT_EQ(rows, LiveRows::kRowsPerBatch);
    taken += static_cast<std::size_t>(rows);
  }
  EXPECT_EQ(taken, LiveRows::kRows);
  EXPECT_EQ(live.Look().size(), LiveRows::kRows);
}

// ---- Who may ask.

TEST_F(Page, AnswersNoOtherSite) {
  const auto status_of = [&](std::vector<std::string> headers, const std::string& host = "localhost") {
    return Ask(page_, {.path = "/api/live", .headers = std::move(headers), .host = host}).status;
  };
  EXPECT_EQ(status_of({}), 200);
  EXPECT_EQ(status_of({"Origin: http://localhost"}), 200);
  EXPECT_EQ(status_of({"Origin: http://localhost:8080"}, "localhost:8080"), 200);
  EXPECT_EQ(status_of({"Origin: http://127.0.0.1:1"}, "127.0.0.1:1"), 200);
  EXPECT_EQ(status_of({}, "[::1]:8080"), 200);
  EXPECT_EQ(status_of({"Origin: http://evil.example"}), 403);
  EXPECT_EQ(status_of({"Origin: http://localhost:9"}, "localhost:8080"), 403);
  EXPECT_EQ(status_of({"Origin: https://localhost"}), 403);
  EXPECT_EQ(status_of({"Origin: null"}), 403);
  EXPECT_EQ(status_of({"Sec-Fetch-Site: cross-site"}), 403);
  EXPECT_EQ(status_of({"Sec-Fetch-Site: same-site"}), 403);
  EXPECT_EQ(status_of({"Sec-Fetch-Site: same-origin"}), 200);
  // A name of another site that resolves to this machine.
  for (const char* host :
       {"evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"}) {
    EXPECT_EQ(status_of({}, host), 403) << host;
  }
  EXPECT_EQ(status_of({}, ""), 400);
  // A link elsewhere may lead to the page.
  EXPECT_EQ(Ask(page_, {.headers = {"Sec-Fetch-Site: cross-site"}}).status, 200);
}

TEST_F(Page, ChangesNothingByGetAndTakesNoForms) {
  EXPECT_EQ(Ask(page_, {.path = "/api/preview"}).status, 405);
  EXPECT_EQ(Ask(page_, {.method = "POST", .path = "/api/live"}).status, 405);
  EXPECT_EQ(Ask(page_, {.method = "POST", .path = "/"}).status, 405);
  for (const char* method : {"PUT", "DELETE", "OPTIONS", "TRACE", "FETCH"}) {
    EXPECT_EQ(Ask(page_, {.method = method, .path = "/api/preview"}).status, 405) << method;
  }
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}) {
    EXPECT_EQ(
        Ask(page_,
            {.method = "POST", .path = "/api/preview", .body = "{}", .headers = {absl::StrCat("Content-Type: ", type)}})
            .status,
        415);
  }
}

TEST_F(Page, NeedsATokenOfTheServer) {
  const std::string file = ::testing::TempDir() + "/" + std::to_string(getpid()) + "page_tokens";
  std::ofstream(file) << "secret\n";
  ServerOptions options;
  options.token_file = file;
  StartPage(options);
  EXPECT_EQ(Ask(page_, {}).status, 200);
  for (const std::vector<std::string>& headers :
       {std::vector<std::string>{}, {"Authorization: Bearer other"}, {"Authorization: secret"}}) {
    const HttpAnswer answer = Ask(page_, {.path = "/api/live", .headers = headers});
    EXPECT_EQ(answer.status, 401);
    EXPECT_THAT(answer.head, HasSubstr("WWW-Authenticate: Bearer"));
    EXPECT_EQ(Post(page_, "/api/preview", {{"recipe", kCheapRecipe}}, headers).status, 401);
  }
  EXPECT_EQ(Ask(page_, {.path = "/api/live", .headers = {"Authorization: Bearer secret"}}).status, 200);
  std::ofstream(file) << "another\n";
  ASSERT_TRUE(server_->Reload().ok());
  EXPECT_EQ(Ask(page_, {.path = "/api/live", .headers = {"Authorization: Bearer secret"}}).status, 401);
  std::remove(file.c_str());
}

TEST_F(Page, FollowsTheRulesOfTheOtherPort) {
  const auto status_of = [](const std::string& listen, bool insecure) {
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.http_listen = listen;
    options.insecure_public = insecure;
    return Server::Start(options).status();
  };
  EXPECT_ERROR(status_of("0.0.0.0:0", false), absl::StatusCode::kInvalidArgument,
               HasSubstr("other machines can reach"));
  EXPECT_TRUE(status_of("0.0.0.0:0", true).ok());
  EXPECT_ERROR(status_of("unix:/tmp/page", false), absl::StatusCode::kInvalidArgument, HasSubstr("must be HOST:PORT"));
  EXPECT_ERROR(status_of("localhost", false), absl::StatusCode::kInvalidArgument, HasSubstr("must be HOST:PORT"));
  EXPECT_ERROR(status_of(page_, false), absl::StatusCode::kUnavailable, HasSubstr("cannot listen"));
}

}  // namespace
}  // namespace iterand
