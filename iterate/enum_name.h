// Names of enum values as people write them in a recipe's JSON.
#pragma once

#include <google/protobuf/descriptor.h>

#include <string>

namespace iterand {

// The name in lower case, without the enum's own name as a prefix: "sequence" for Recipe.RELABEL_SEQUENCE.
std::string EnumName(const google::protobuf::EnumValueDescriptor& value);

// The value of a name in any case, with or without the prefix; nullptr if there is none.
const google::protobuf::EnumValueDescriptor* FindEnumValue(const google::protobuf::EnumDescriptor& type,
                                                           const std::string& name);

// All names, separated by commas, without the first value, which stands for "not given".
std::string EnumNames(const google::protobuf::EnumDescriptor& type);

// The nearest of these names to one that is none of them, as DidYouMean (iterate/suggest.h) writes it.
std::string NearestEnumName(const google::protobuf::EnumDescriptor& type, const std::string& name);

}  // namespace iterand
