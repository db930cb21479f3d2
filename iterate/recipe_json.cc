// A recipe's JSON: protobuf's mapping, with errors that say what would be right.
#include "iterate/recipe_json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "iterate/json_limits.h"
#include "iterate/limits.h"
#include "nlohmann/json.hpp"

namespace iterand {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Value;
using google::protobuf::util::JsonStringToMessage;

// The most bytes of the text that an error quotes.
constexpr std::size_t kMaxQuoteBytes = 60;

// The most bytes of protobuf's own words, which may quote a whole value.
constexpr std::size_t kMaxReasonBytes = 400;

// A value as it stood in the text, cut short.
std::string Quote(const Value& value) {
  std::string text;
  (void)google::protobuf::util::MessageToJsonString(value, &text);
  return Shorten(text, kMaxQuoteBytes);
}

std::string FieldNames(const Descriptor& type) {
  std::vector<std::string> names;
  names.reserve(static_cast<std::size_t>(type.field_count()));
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return absl::StrJoin(names, ", ");
}

std::string EnumNames(const EnumDescriptor& type) {
  std::vector<std::string> names;  // without the first, which stands for "not given"
  for (int i = 1; i < type.value_count(); ++i) names.push_back(type.value(i)->name());
  return absl::StrJoin(names, ", ");
}

bool IsInt64(const Value& value) {
  if (value.kind_case() == Value::kNumberValue) {
    const double number = value.number_value();
    return std::trunc(number) == number && -0x1p63 <= number && number < 0x1p63;
  }
  std::int64_t number = 0;
  return value.kind_case() == Value::kStringValue && absl::SimpleAtoi(value.string_value(), &number);
}

bool IsFinite(const Value& value) {
  double number = 0;
  return value.kind_case() == Value::kNumberValue ||
         (value.kind_case() == Value::kStringValue && absl::SimpleAtod(value.string_value(), &number) &&
          std::isfinite(number));
}

std::string FindMistake(const google::protobuf::Struct& object, const Descriptor& type, const std::string& path);

// What is wrong with a field's value, or "" if nothing is found; repeated fields element by element.
std::string FindMistake(const Value& value, const FieldDescriptor& field, const std::string& path) {
  const auto must_be = [&](const std::string& what) {
    return absl::StrCat(path, ": is ", Quote(value), ", must be ", what);
  };
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      if (value.kind_case() == Value::kStructValue) {
        return FindMistake(value.struct_value(), *field.message_type(), path);
      }
      const bool knob = field.message_type()->FindFieldByName("fixed") != nullptr;
      return must_be(knob && value.kind_case() == Value::kNumberValue
                         ? absl::StrCat("an object, such as {\"fixed\": ", Quote(value), "}")
                         : absl::StrCat("an object with fields of ", FieldNames(*field.message_type())));
    }
    case FieldDescriptor::CPPTYPE_ENUM:
      if ((value.kind_case() == Value::kNumberValue && std::abs(value.number_value()) < 0x1p31) ||
          (value.kind_case() == Value::kStringValue &&
           field.enum_type()->FindValueByName(value.string_value()) != nullptr)) {
        return "";
      }
      return must_be("one of " + EnumNames(*field.enum_type()));
    case FieldDescriptor::CPPTYPE_INT64:
      return IsInt64(value) ? "" : must_be("a whole number from -2^63 to 2^63 - 1");
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return IsFinite(value) ? "" : must_be("a number from -1.79e308 to 1.79e308");
    case FieldDescriptor::CPPTYPE_BOOL:
      return value.kind_case() == Value::kBoolValue ? "" : must_be("true or false");
    default:
      return value.kind_case() == Value::kStringValue ? "" : must_be("a text in quotes");
  }
}

std::string FindMistake(const google::protobuf::Struct& object, const Descriptor& type, const std::string& path) {
  const std::string where = path.empty() ? "recipe" : path;
  std::map<std::string, std::string> chosen;  // oneof, or field that is in none -> its field, as it stands
  // A Struct's fields have no order; the first mistake by name is told.
  const std::map<std::string, Value> fields(object.fields().begin(), object.fields().end());
  for (const auto& [name, value] : fields) {
    const FieldDescriptor* field = type.FindFieldByName(name);
    if (field == nullptr) field = type.FindFieldByCamelcaseName(name);
    if (field == nullptr) {
      return absl::StrCat(where, ": has no field \"", Shorten(name, kMaxQuoteBytes), "\", must be one of ",
                          FieldNames(type));
    }
    if (value.kind_case() == Value::kNullValue) continue;  // as if it were not there
    // A field may go by two names: vocab_size, vocabSize.
    const auto* oneof = field->real_containing_oneof();
    const auto [other, first] = chosen.emplace(oneof != nullptr ? oneof->full_name() : field->full_name(), name);
    if (!first) return absl::StrCat(where, ": has both ", other->second, " and ", name, ", must have one of them");
    const std::string below = path.empty() ? name : absl::StrCat(path, ".", name);
    if (!field->is_repeated() || value.kind_case() != Value::kListValue) {
      if (std::string mistake = FindMistake(value, *field, below); !mistake.empty()) return mistake;
      continue;
    }
    for (int i = 0; i < value.list_value().values_size(); ++i) {
      std::string mistake = FindMistake(value.list_value().values(i), *field, absl::StrCat(below, "[", i, "]"));
      if (!mistake.empty()) return mistake;
    }
  }
  return "";
}

// Protobuf's words for a field given twice, "(families[0]): invalid value oneof field '_weight' is already set. Cannot
// set 'weight' for type oneof", in ours. Others are returned as they are.
std::string Reword(const std::string& message) {
  const std::vector<std::string> quoted = absl::StrSplit(message, '\'');
  if (quoted.size() != 5 || !absl::EndsWith(quoted[0], "invalid value oneof field ")) return message;
  std::string where = "recipe";
  if (message.front() == '(') where = message.substr(1, message.find("): ") - 1);
  // Every scalar is a oneof of its own, whose name begins with "_".
  return absl::StrCat(
      where, ": has \"", quoted[3], "\" twice",
      quoted[1].starts_with('_') ? ", must have it once" : " or beside another such field, must have one of them");
}

// Where a text ceases to be JSON, as "line 3, column 14: ", or "" if it does not. Protobuf quotes what stands there,
// but not where that is.
std::string SyntaxErrorPlace(const std::string& text) {
  try {
    const nlohmann::json whole = nlohmann::json::parse(text);
    return "";
  } catch (const nlohmann::json::parse_error& error) {
    return absl::StrCat(TextPlace(text, error.byte > 0 ? error.byte - 1 : 0), ": ");
  } catch (const nlohmann::json::exception&) {  // a number beyond all bounds: JSON, though of no use
    return "";
  }
}

}  // namespace

absl::StatusOr<v1::Recipe> ParseRecipeJson(std::string_view json) {
  if (json.size() > kMaxRecipeJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("recipe: JSON text has ", json.size(), " bytes, may have at most ", kMaxRecipeJsonBytes));
  }
  // Some editors put a byte order mark before UTF-8.
  if (json.starts_with("\xEF\xBB\xBF")) json.remove_prefix(3);
  if (absl::Status status = CheckJsonLimits(json); !status.ok()) return status;
  v1::Recipe recipe;
  const std::string text(json);
  const auto status = JsonStringToMessage(text, &recipe);
  if (status.ok()) return recipe;
  // Protobuf says what it did not expect, and rarely what it did.
  if (Value whole; JsonStringToMessage(text, &whole).ok()) {
    if (whole.kind_case() != Value::kStructValue) {
      return absl::InvalidArgumentError(
          absl::StrCat("recipe: JSON text is ", Quote(whole),
                       R"(, must be an object in braces, such as {"families": [{"uniform": {}}]})"));
    }
    const std::string mistake = FindMistake(whole.struct_value(), *v1::Recipe::descriptor(), "");
    if (!mistake.empty()) return absl::InvalidArgumentError(mistake);
  }
  // Behind the first line come what stands there and a caret below it, which one line cannot show.
  std::string reason = std::string(status.message());
  reason = Shorten(reason.substr(0, reason.find('\n')), kMaxReasonBytes);
  if (reason.starts_with(": ")) reason = reason.substr(2);
  if (const std::string ours = Reword(reason); ours != reason) return absl::InvalidArgumentError(ours);
  return absl::InvalidArgumentError(
      absl::StrCat("recipe: not valid JSON of a recipe: ", SyntaxErrorPlace(text), reason));
}

std::string RecipeToJson(const v1::Recipe& recipe) {
  std::string json;
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  // Fails only for messages with Any or malformed timestamps, which a recipe does not have.
  (void)google::protobuf::util::MessageToJsonString(recipe, &json, options);
  return json;
}

}  // namespace iterand
