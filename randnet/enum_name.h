// Names of enum values as people write them in a recipe's JSON.
#pragma once

#include <google/protobuf/descriptor.h>

#include <string>
#include <string_view>
#include <vector>

namespace iterand {

// The name in lower case, without the enum's own name as a prefix: "sequence" for Recipe.RELABEL_SEQUENCE.
std::string EnumName(const google::protobuf::EnumValueDescriptor& value);

// The same of a name in any case that may be none of the enum's.
std::string EnumName(const google::protobuf::EnumDescriptor& type, std::string_view name);

// The value of a name in any case, with or without the prefix; nullptr if there is none.
const google::protobuf::EnumValueDescriptor* FindEnumValue(const google::protobuf::EnumDescriptor& type,
                                                           std::string_view name);

// All names, without the first value, which stands for "not given".
std::vector<std::string> EnumNames(const google::protobuf::EnumDescriptor& type);

}  // namespace iterand
