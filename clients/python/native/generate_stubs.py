"""Generates the Python stubs of proto/: generate_stubs.py PROTO_FOLDER OUTPUT_FOLDER NAME..."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc


def main(root: str, out: str, *names: str) -> int:
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    files = [f"iterand/v1/{name}.proto" for name in names]
    return int(
        protoc.main(["protoc", f"-I{root}", f"-I{well_known}", f"--python_out={out}", f"--pyi_out={out}", *files])
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
