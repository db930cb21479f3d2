"""An optional package that is absent is named, with the extra that brings it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(text: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = f"import sys; sys.path.insert(0, {str(folder)!r})\n" if folder else "import sys\n"
    return subprocess.run([sys.executable, "-c", path + text], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("broken", [False, True])
def test_torch(tmp_path: Path, broken: bool) -> None:
    if broken:  # installed, but a library of its own is missing
        (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: cannot open shared object file')\n")
    absent = "" if broken else "sys.modules['torch'] = None\n"
    done = run(f"{absent}import iterand; iterand.read; import iterand.torch", tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError:" if broken else "ModuleNotFoundError:")
    assert "iterand.torch needs the package torch, which cannot be imported (" in last
    assert "pip install 'iterand[torch]'" in last
    assert ("libtorch.so" in last) == broken


def test_live(tmp_path: Path) -> None:
    program = "sys.modules['rich'] = None\nfrom iterand import live\n"
    done = run(f"{program}sys.exit(live.main(['--server', 'localhost:1', '--svg', {str(tmp_path / 'x.svg')!r}]))")
    assert done.returncode == 1
    assert "the picture needs the package rich" in done.stderr
    assert "pip install 'iterand[live]'" in done.stderr


@pytest.mark.parametrize(("module", "package"), [("grain", "grain"), ("ray", "ray[data]")])
def test_frameworks(module: str, package: str) -> None:
    done = run(f"sys.modules[{module!r}] = None\nimport iterand\niterand.{module}")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ModuleNotFoundError: iterand.")
    assert f"iterand.{module} needs the package {package}, which cannot be imported (" in last
    assert f"pip install 'iterand[{module}]'" in last
