#include "randnet/enum_name.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace iterand {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;

namespace {

// "factor_mode_" of FactorMode.
std::string Prefix(const EnumDescriptor& type) {
  std::string prefix;
  for (const char c : type.name()) {
    if (absl::ascii_isupper(static_cast<unsigned char>(c)) && !prefix.empty()) prefix += '_';
    prefix += absl::ascii_tolower(static_cast<unsigned char>(c));
  }
  return prefix + "_";
}

}  // namespace

std::string EnumName(const EnumValueDescriptor& value) { return EnumName(*value.type(), value.name()); }

std::string EnumName(const EnumDescriptor& type, std::string_view name) {
  const std::string lower = absl::AsciiStrToLower(std::string(name));
  return std::string(absl::StripPrefix(lower, Prefix(type)));
}

const EnumValueDescriptor* FindEnumValue(const EnumDescriptor& type, std::string_view name) {
  const std::string text(name);
  for (int i = 0; i < type.value_count(); ++i) {
    const EnumValueDescriptor* value = type.value(i);
    if (absl::EqualsIgnoreCase(value->name(), text) || absl::EqualsIgnoreCase(EnumName(*value), text)) return value;
  }
  return nullptr;
}

std::vector<std::string> EnumNames(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 1; i < type.value_count(); ++i) names.push_back(EnumName(*type.value(i)));
  return names;
}

}  // namespace iterand
