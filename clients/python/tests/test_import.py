"""Importing the package: fast, and nothing else comes along. What it says on a processor that it cannot run on."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server_program import REPOSITORY

import iterand
from iterand import _processor


def loaded(code: str) -> set[str]:
    """The modules that a new interpreter has after `code`."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_imports_neither_torch_nor_grpc_nor_numpy() -> None:
    absent = {"torch", "grain", "ray", "grpc", "numpy", "google.protobuf", "iterand._core"}
    assert not absent & loaded("import iterand")


def test_a_stream_of_this_process_needs_neither_grpc_nor_protobuf() -> None:
    modules = loaded("import iterand\nnext(iterand.stream('uniform', length=16))")
    assert "iterand._core" in modules
    assert not {"torch", "grpc", "google.protobuf"} & modules


def test_the_native_module_carries_neither_grpc_nor_openmp() -> None:
    code = "import iterand\nnext(iterand.stream('uniform', length=16))\nprint(open('/proc/self/maps').read())"
    maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "/_core." in maps
    assert not re.search(r"libgrpc|libgomp|libssl|libspdlog|libprometheus", maps)


def test_importing_is_fast() -> None:
    """It takes a few hundredths of a second; numpy alone would take more than is allowed on a busy machine."""

    def seconds(code: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - begin

    seconds("import iterand")
    taken = [seconds("import iterand") - seconds("pass") for _ in range(7)]
    assert statistics.median(taken) < 0.15


def test_every_public_name_is_there() -> None:
    for name in iterand.__all__:
        assert getattr(iterand, name) is not None, name
    assert set(iterand.__all__) == set(iterand._MODULE_OF)
    assert set(iterand.__all__) <= set(dir(iterand))
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        iterand.no_such_name  # noqa: B018


def test_the_version_is_that_of_the_build() -> None:
    project = (REPOSITORY / "CMakeLists.txt").read_text()
    assert f"project(iterand VERSION {iterand.__version__} " in project


def test_a_processor_without_avx2_or_fma_is_refused_with_a_sentence(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Old\nflags\t\t: fpu sse4_2 avx fma\n\nprocessor\t: 1\nflags\t: avx2\n"
    )
    flags = _processor.processor_flags(str(cpuinfo))
    assert flags == {"fpu", "sse4_2", "avx", "fma"}
    for lacking in (flags, frozenset({"avx2"}), frozenset[str]()):
        with pytest.raises(ImportError, match=r"^iterand: this processor lacks AVX2 or FMA; [^\n]*$"):
            _processor.refuse_without(lacking)
    _processor.refuse_without(frozenset({"avx2", "fma", "sse"}))
    _processor.refuse_without(None)
    assert _processor.processor_flags(str(tmp_path / "none")) is None
    _processor.check()  # this processor


def test_importing_checks_the_processor() -> None:
    code = (
        "import builtins, io; real = open\n"
        "old = lambda: io.StringIO('flags : sse2')\n"
        "builtins.open = lambda file, *a, **k: old() if file == '/proc/cpuinfo' else real(file, *a, **k)\n"
        "import iterand"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: iterand: this processor lacks AVX2 or FMA;")
