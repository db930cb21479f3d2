// Recipes as messages, which a client may send without JSON: any bytes of the wire format, or of the text format.
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <cstdint>
#include <string>

#include "iterand/v1/recipe.pb.h"
#include "tests/fuzz/check_recipe.h"

namespace iterand {
namespace {

// Keeps protobuf from logging each error.
class NoErrors final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int /*line*/, google::protobuf::io::ColumnNumber /*column*/, const std::string& /*message*/) override {}
};

void Run(const std::string& bytes) {
  v1::Recipe recipe;
  NoErrors errors;
  google::protobuf::TextFormat::Parser text;
  text.RecordErrorsTo(&errors);
  if (text.ParseFromString(bytes, &recipe) || recipe.ParseFromString(bytes)) CheckRecipe(recipe);
}

}  // namespace
}  // namespace iterand

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  iterand::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
