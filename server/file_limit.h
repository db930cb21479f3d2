// The limit of open files of this process.
#pragma once

namespace iterand {

// Raises the soft limit of open files of this process to its hard limit.
void RaiseFileLimit();

// How many connections the limit of open files allows, each with two descriptors, when this many are asked for.
int ConnectionsThatFit(int wanted);

}  // namespace iterand
