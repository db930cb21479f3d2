// A recipe's JSON is read while it is parsed. Each value goes straight into the message, and the first mistake ends the
// reading with an error that says what would be right. Time and memory are therefore linear in the text.
#include "iterate/recipe_json.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/shorten.h"
#include "iterate/json_limits.h"
#include "iterate/limits.h"
#include "iterate/suggest.h"
#include "nlohmann/json.hpp"
#include "randnet/enum_name.h"

namespace iterand {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Json = nlohmann::ordered_json;

// Whole numbers up to this are exact in every JSON reader, also in those that hold numbers as doubles.
constexpr std::int64_t kMaxExactInteger = std::int64_t{1} << 53;

// The most bytes of the text that an error quotes.
constexpr std::size_t kMaxQuoteBytes = 60;

// The most bytes of the parser's own words, which may quote a whole value.
constexpr std::size_t kMaxReasonBytes = 400;

std::vector<std::string> FieldNames(const Descriptor& type) {
  std::vector<std::string> names;
  names.reserve(static_cast<std::size_t>(type.field_count()));
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  return names;
}

// The field `fixed` of a knob's message (Real, Integer); nullptr of other messages.
const FieldDescriptor* FixedOf(const Descriptor& type) {
  const FieldDescriptor* fixed = type.FindFieldByName("fixed");
  return fixed != nullptr && fixed->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE ? fixed : nullptr;
}

// The field `points` of a weight's message; nullptr of other messages.
const FieldDescriptor* PointsOf(const Descriptor& type) {
  return &type == v1::Weight::descriptor() ? type.FindFieldByNumber(v1::Weight::kPointsFieldNumber) : nullptr;
}

// What a field's value must be.
std::string Expected(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return absl::StrCat(FixedOf(*field.message_type()) != nullptr ? "a number, " : "",
                          PointsOf(*field.message_type()) != nullptr ? "a list of points, " : "",
                          FixedOf(*field.message_type()) != nullptr ? "or " : "", "an object with fields of ",
                          absl::StrJoin(FieldNames(*field.message_type()), ", "));
    case FieldDescriptor::CPPTYPE_ENUM:
      return "one of " + absl::StrJoin(EnumNames(*field.enum_type()), ", ");
    case FieldDescriptor::CPPTYPE_INT64:
      return "a whole number from -2^63 to 2^63 - 1";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number from -1.79e308 to 1.79e308";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    default:
      return "a text in quotes";
  }
}

// A scalar as the text has it.
struct Scalar {
  enum Kind { kNull, kBool, kNumber, kString } kind;
  std::string text;
  bool value = false;  // kBool

  std::string Quote() const {
    if (kind != kString) return Shorten(text, kMaxQuoteBytes);
    return Shorten(Json(text).dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace), kMaxQuoteBytes);
  }
};

std::optional<std::int64_t> ToInteger(const Scalar& scalar) {
  std::int64_t integer = 0;
  if (scalar.kind != Scalar::kNumber && scalar.kind != Scalar::kString) return std::nullopt;
  if (absl::SimpleAtoi(scalar.text, &integer)) return integer;
  double real = 0;  // 6.0, 1e3
  if (scalar.kind == Scalar::kString || !absl::SimpleAtod(scalar.text, &real)) return std::nullopt;
  if (std::trunc(real) != real || real < -0x1p63 || real >= 0x1p63) return std::nullopt;
  return static_cast<std::int64_t>(real);
}

std::optional<double> ToReal(const Scalar& scalar) {
  double real = 0;
  if (scalar.kind != Scalar::kNumber && scalar.kind != Scalar::kString) return std::nullopt;
  if (!absl::SimpleAtod(scalar.text, &real)) return std::nullopt;
  const bool named = scalar.text == "NaN" || scalar.text == "Infinity" || scalar.text == "-Infinity";
  return std::isfinite(real) || named ? std::optional(real) : std::nullopt;
}

std::optional<int> ToEnum(const Scalar& scalar, const FieldDescriptor& field) {
  if (scalar.kind == Scalar::kString) {
    const EnumValueDescriptor* value = FindEnumValue(*field.enum_type(), scalar.text);
    return value != nullptr ? std::optional(value->number()) : std::nullopt;
  }
  const std::optional<std::int64_t> number = ToInteger(scalar);
  if (!number || *number < INT32_MIN || *number > INT32_MAX) return std::nullopt;
  return static_cast<int>(*number);
}

// Sets a field, or adds to a repeated one. False if the value is not of the field's type.
bool Set(Message& message, const FieldDescriptor& field, const Scalar& scalar) {
  const Reflection& reflection = *message.GetReflection();
  const bool add = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      const FieldDescriptor* fixed = FixedOf(*field.message_type());
      if (fixed == nullptr || scalar.kind != Scalar::kNumber) return false;
      return Set(*(add ? reflection.AddMessage(&message, &field) : reflection.MutableMessage(&message, &field)), *fixed,
                 scalar);
    }
    case FieldDescriptor::CPPTYPE_ENUM:
      if (const std::optional<int> value = ToEnum(scalar, field)) {
        add ? reflection.AddEnumValue(&message, &field, *value) : reflection.SetEnumValue(&message, &field, *value);
        return true;
      }
      return false;
    case FieldDescriptor::CPPTYPE_INT64:
      if (const std::optional<std::int64_t> value = ToInteger(scalar)) {
        add ? reflection.AddInt64(&message, &field, *value) : reflection.SetInt64(&message, &field, *value);
        return true;
      }
      return false;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      if (const std::optional<double> value = ToReal(scalar)) {
        add ? reflection.AddDouble(&message, &field, *value) : reflection.SetDouble(&message, &field, *value);
        return true;
      }
      return false;
    case FieldDescriptor::CPPTYPE_BOOL:
      if (scalar.kind != Scalar::kBool) return false;
      add ? reflection.AddBool(&message, &field, scalar.value) : reflection.SetBool(&message, &field, scalar.value);
      return true;
    case FieldDescriptor::CPPTYPE_STRING:
      if (scalar.kind != Scalar::kString) return false;
      add ? reflection.AddString(&message, &field, scalar.text) : reflection.SetString(&message, &field, scalar.text);
      return true;
    default:
      return false;  // the schema has no other types
  }
}

// Takes nlohmann's parsing events. Every event returns false to end the parsing at a mistake.
class Reader final : public nlohmann::json_sax<Json> {
 public:
  Reader(std::string_view text, v1::Recipe& recipe) : text_(text), recipe_(recipe) {}

  const std::string& mistake() const { return mistake_; }

  bool null() override { return TakeScalar({.kind = Scalar::kNull, .text = "null"}); }
  bool boolean(bool value) override {
    return TakeScalar({.kind = Scalar::kBool, .text = value ? "true" : "false", .value = value});
  }
  bool number_integer(std::int64_t value) override {
    return TakeScalar({.kind = Scalar::kNumber, .text = absl::StrCat(value)});
  }
  bool number_unsigned(std::uint64_t value) override {
    return TakeScalar({.kind = Scalar::kNumber, .text = absl::StrCat(value)});
  }
  bool number_float(double /*value*/, const std::string& text) override {
    return TakeScalar({.kind = Scalar::kNumber, .text = text});
  }
  bool string(std::string& value) override { return TakeScalar({.kind = Scalar::kString, .text = value}); }
  bool binary(Json::binary_t& /*value*/) override { return false; }  // not in texts

  bool start_object(std::size_t /*elements*/) override {
    if (frames_.empty()) {
      frames_.push_back({.message = &recipe_});
      return true;
    }
    const Frame& top = frames_.back();
    const FieldDescriptor& field = *top.field;
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || (field.is_repeated() && !top.in_list)) {
      return MustBe("an object");
    }
    if (!Choose()) return false;
    const Reflection& reflection = *top.message->GetReflection();
    Message* below = field.is_repeated() ? reflection.AddMessage(top.message, &field)
                                         : reflection.MutableMessage(top.message, &field);
    frames_.push_back({.message = below});
    return true;
  }

  bool end_object() override {
    frames_.pop_back();
    return frames_.empty() || Next();
  }

  bool start_array(std::size_t /*elements*/) override {
    if (frames_.empty()) return NotAnObject("a list");
    if (!OpenPoints()) return false;
    Frame& top = frames_.back();
    if (!top.field->is_repeated() || top.in_list) return MustBe("a list");
    if (!Choose()) return false;
    top.in_list = true;
    top.element = 0;
    return true;
  }

  bool end_array() override {
    frames_.back().in_list = false;
    if (!frames_.back().only_points) return true;
    frames_.pop_back();
    return Next();
  }

  bool key(std::string& name) override {
    Frame& top = frames_.back();
    const Descriptor& type = *top.message->GetDescriptor();
    top.field = type.FindFieldByName(name);
    if (top.field == nullptr) top.field = type.FindFieldByCamelcaseName(name);
    if (top.field == nullptr) {
      const std::vector<std::string> names = FieldNames(type);
      return Fail(absl::StrCat(Where(frames_.size() - 1), ": has no field ",
                               Scalar{.kind = Scalar::kString, .text = name}.Quote(), DidYouMean(name, names),
                               ", must be one of ", absl::StrJoin(names, ", ")));
    }
    top.name = name;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token, const Json::exception& error) override {
    if (dynamic_cast<const Json::out_of_range*>(&error) != nullptr && !frames_.empty()) {
      return MustBe(Scalar{.kind = Scalar::kNumber, .text = token}.Quote());  // a number beyond all doubles
    }
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while parsing ... - what; ..."
    std::string_view reason = error.what();
    if (const std::size_t dash = reason.find(" - "); dash != std::string_view::npos) reason.remove_prefix(dash + 3);
    const std::string place = TextPlace(text_, position > 0 ? position - 1 : 0);
    return Fail(absl::StrCat("recipe: not valid JSON of a recipe: ", place, ": ", Shorten(reason, kMaxReasonBytes)));
  }

 private:
  // An object that is being read.
  struct Frame {
    Message* message;
    const FieldDescriptor* field = nullptr;  // of the last key
    std::string name{};                      // the key as written
    bool in_list = false;
    bool only_points = false;                    // the object is written as the list of its points
    int element = 0;                             // of the list
    std::map<std::string, std::string> given{};  // oneof, or field that is in none -> its key, as written
  };

  // The path of the object in frame `depth`, or "recipe".
  std::string Where(std::size_t depth) const {
    const std::string path = Path(depth);
    return path.empty() ? "recipe" : path;
  }

  // Path of what is at the present keys of the first `depth` frames.
  std::string Path(std::size_t depth) const {
    std::string path;
    for (std::size_t i = 0; i < depth; ++i) {
      absl::StrAppend(&path, i > 0 ? "." : "", frames_[i].name);
      if (frames_[i].in_list) absl::StrAppend(&path, "[", frames_[i].element, "]");
    }
    return path;
  }

  bool Fail(std::string mistake) {
    mistake_ = std::move(mistake);
    return false;
  }

  bool NotAnObject(const std::string& what) {
    return Fail(absl::StrCat("recipe: JSON text is ", what,
                             R"(, must be an object in braces, such as {"families": [{"uniform": {}}]})"));
  }

  // The value at the present key is `what`, and must be something else.
  bool MustBe(const std::string& what) {
    const Frame& top = frames_.back();
    const bool list = top.field->is_repeated() && !top.in_list;
    return Fail(absl::StrCat(
        Path(frames_.size()), ": is ", what, ", must be ",
        list ? absl::StrCat("a list; each element must be ", Expected(*top.field)) : Expected(*top.field)));
  }

  // Notes that the present key has a value. False if it, or another field of its oneof, had one before.
  bool Choose() {
    Frame& top = frames_.back();
    if (top.in_list) return true;
    const auto* oneof = top.field->real_containing_oneof();
    const auto [other, first] =
        top.given.emplace(oneof != nullptr ? oneof->full_name() : top.field->full_name(), top.name);
    if (first) return true;
    const std::string where = Where(frames_.size() - 1);
    if (other->second == top.name)
      return Fail(absl::StrCat(where, ": has \"", top.name, "\" twice, must have it once"));
    return Fail(absl::StrCat(where, ": has both ", other->second, " and ", top.name, ", must have one of them"));
  }

  // If the present key's value may be a list of points in place of an object, opens the object at its points.
  bool OpenPoints() {
    const Frame& top = frames_.back();
    if (top.field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || top.field->is_repeated()) return true;
    const FieldDescriptor* const points = PointsOf(*top.field->message_type());
    if (points == nullptr) return true;
    if (!Choose()) return false;
    Message* const below = top.message->GetReflection()->MutableMessage(top.message, top.field);
    frames_.push_back({.message = below, .field = points, .name = points->name(), .only_points = true});
    return true;
  }

  // After a value.
  bool Next() {
    if (frames_.back().in_list) ++frames_.back().element;
    return true;
  }

  bool TakeScalar(const Scalar& scalar) {
    if (frames_.empty()) return NotAnObject(scalar.Quote());
    Frame& top = frames_.back();
    if (scalar.kind == Scalar::kNull && !top.in_list) return true;  // as if the key were absent
    if (top.field->is_repeated() && !top.in_list) return MustBe(scalar.Quote());
    if (!Choose()) return false;
    if (Set(*top.message, *top.field, scalar)) return Next();
    const bool near = top.field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM && scalar.kind == Scalar::kString;
    const EnumDescriptor* type = top.field->enum_type();
    return MustBe(scalar.Quote() + (near ? DidYouMean(EnumName(*type, scalar.text), EnumNames(*type)) : ""));
  }

  std::string_view text_;
  v1::Recipe& recipe_;
  std::vector<Frame> frames_;
  std::string mistake_;
};

Json ToJson(const Message& message);

Json NumberToJson(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  // 1 rather than 1.0, as people write it.
  const bool whole = std::trunc(value) == value && std::abs(value) < static_cast<double>(kMaxExactInteger);
  return whole ? Json(static_cast<std::int64_t>(value)) : Json(value);
}

Json NumberToJson(std::int64_t value) {
  if (value >= -kMaxExactInteger && value <= kMaxExactInteger) return value;
  return absl::StrCat(value);
}

Json EnumToJson(const FieldDescriptor& field, int number) {
  const EnumValueDescriptor* value = field.enum_type()->FindValueByNumber(number);
  return value != nullptr ? Json(EnumName(*value)) : Json(number);
}

// The value of a field, or element `i` of a repeated one.
Json ValueToJson(const Message& message, const FieldDescriptor& field, int i) {
  const Reflection& reflection = *message.GetReflection();
  const bool list = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(list ? reflection.GetRepeatedMessage(message, &field, i) : reflection.GetMessage(message, &field));
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumToJson(
          field, list ? reflection.GetRepeatedEnumValue(message, &field, i) : reflection.GetEnumValue(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return NumberToJson(list ? reflection.GetRepeatedInt64(message, &field, i)
                               : reflection.GetInt64(message, &field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return NumberToJson(list ? reflection.GetRepeatedDouble(message, &field, i)
                               : reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return list ? reflection.GetRepeatedBool(message, &field, i) : reflection.GetBool(message, &field);
    default:
      return list ? reflection.GetRepeatedString(message, &field, i) : reflection.GetString(message, &field);
  }
}

Json ToJson(const Message& message) {
  const Reflection& reflection = *message.GetReflection();
  if (const FieldDescriptor* fixed = FixedOf(*message.GetDescriptor());
      fixed != nullptr && reflection.HasField(message, fixed)) {
    return ValueToJson(message, *fixed, 0);  // a fixed knob is its number
  }
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  Json json = Json::object();
  for (const FieldDescriptor* field : fields) {
    if (!field->is_repeated()) {
      json[field->name()] = ValueToJson(message, *field, 0);
      continue;
    }
    Json list = Json::array();
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) list.push_back(ValueToJson(message, *field, i));
    json[field->name()] = std::move(list);
  }
  return json;
}

}  // namespace

absl::StatusOr<v1::Recipe> ParseRecipeJson(std::string_view json) {
  if (json.size() > kMaxRecipeJsonBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("recipe: JSON text has ", json.size(), " bytes, may have at most ", kMaxRecipeJsonBytes));
  }
  // Some editors put a byte order mark before UTF-8.
  if (json.starts_with("\xEF\xBB\xBF")) json.remove_prefix(3);
  if (json.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return absl::InvalidArgumentError(
        R"(recipe: JSON text is empty, must be an object in braces, such as {"families": [{"uniform": {}}]})");
  }
  if (absl::Status status = CheckJsonLimits(json); !status.ok()) return status;
  v1::Recipe recipe;
  Reader reader(json, recipe);
  if (Json::sax_parse(json, &reader)) return recipe;
  return absl::InvalidArgumentError(reader.mistake());
}

std::string RecipeToJson(const v1::Recipe& recipe) {
  return ToJson(recipe).dump(/*indent=*/2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

}  // namespace iterand
