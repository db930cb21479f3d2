#include "iterate/enum_name.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "iterate/suggest.h"

namespace iterand {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;

// "factor_mode_" of FactorMode.
std::string Prefix(const EnumDescriptor& type) {
  std::string prefix;
  for (const char c : type.name()) {
    if (absl::ascii_isupper(static_cast<unsigned char>(c)) && !prefix.empty()) prefix += '_';
    prefix += absl::ascii_tolower(static_cast<unsigned char>(c));
  }
  return prefix + "_";
}

std::vector<std::string> NameList(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 1; i < type.value_count(); ++i) names.push_back(EnumName(*type.value(i)));
  return names;
}

}  // namespace

std::string EnumName(const EnumValueDescriptor& value) {
  const std::string name = absl::AsciiStrToLower(value.name());
  return std::string(absl::StripPrefix(name, Prefix(*value.type())));
}

const EnumValueDescriptor* FindEnumValue(const EnumDescriptor& type, const std::string& name) {
  for (int i = 0; i < type.value_count(); ++i) {
    const EnumValueDescriptor* value = type.value(i);
    if (absl::EqualsIgnoreCase(value->name(), name) || absl::EqualsIgnoreCase(EnumName(*value), name)) return value;
  }
  return nullptr;
}

std::string EnumNames(const EnumDescriptor& type) { return absl::StrJoin(NameList(type), ", "); }

std::string NearestEnumName(const EnumDescriptor& type, const std::string& name) {
  const std::string folded = absl::AsciiStrToLower(name);
  return DidYouMean(std::string(absl::StripPrefix(folded, Prefix(type))), NameList(type));
}

}  // namespace iterand
