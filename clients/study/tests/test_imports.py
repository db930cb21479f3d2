"""How the modules of the package depend on one another."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import iterand_study

FOLDER = Path(iterand_study.__file__).parent


def imports(file: Path) -> set[str]:
    """The modules of the package that a module imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            package, _, module = node.module.partition(".")
            if package == "iterand_study":
                names |= {module} if module else {alias.name for alias in node.names}
    return names


def test_there_is_no_import_cycle() -> None:
    graph = {file.stem: imports(file) for file in FOLDER.glob("*.py")}
    assert "config" in graph["data"]
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("config") < order.index("training") < order.index("pretrain") < order.index("sweep")


def test_the_command_starts_without_torch() -> None:
    """A wrong argument or configuration is reported before torch is imported, which takes seconds."""
    program = "import sys\nfrom iterand_study import cli\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
