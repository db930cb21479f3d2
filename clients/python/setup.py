"""Generates the stubs of proto/ when the package is built or installed; they are never committed."""

from __future__ import annotations

import pathlib

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = pathlib.Path(__file__).resolve().parent
PROTOS = tuple(f"iterand/v1/{name}.proto" for name in ("recipe", "families", "knobs", "noise_service", "errors"))


def proto_root() -> pathlib.Path:
    """The schema: beside this file in a source distribution, at the root of the repository otherwise."""
    for root in (HERE / "proto", HERE.parent.parent / "proto"):
        if (root / PROTOS[0]).is_file():
            return root
    raise FileNotFoundError(f"{PROTOS[0]} is neither under {HERE / 'proto'} nor under {HERE.parent.parent / 'proto'}")


def generate() -> None:
    import grpc_tools
    from grpc_tools import protoc

    root = proto_root()
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    out = HERE / "src"
    arguments = ["protoc", f"-I{root}", f"-I{well_known}", f"--python_out={out}", f"--pyi_out={out}", *PROTOS]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed: " + " ".join(arguments))


class BuildPy(build_py):
    def run(self) -> None:
        generate()
        super().run()


class Sdist(sdist):
    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        for name in PROTOS:
            target = pathlib.Path(base_dir) / "proto" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((proto_root() / name).read_bytes())


setup(cmdclass={"build_py": BuildPy, "sdist": Sdist})
