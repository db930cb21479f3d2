"""Silences gRPC's own lines on standard error: what they tell of is raised as an exception.

gRPC reads the variable when it is imported, so this comes first. Who sets GRPC_VERBOSITY, or has imported gRPC before,
has it otherwise.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
