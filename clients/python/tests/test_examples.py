"""Every public name has an example, and every example does what it prints: docstrings, the schema, C++, the commands.

The examples of docstrings are doctests. `iterand` and `np` are imported, and the working folder has the files that they
name.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import itertools
import re
import shlex
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from server_program import REPOSITORY, binary

import iterand
import iterand.client
import iterand.errors
import ray_cluster

MODULES = ("iterand", "iterand.torch", "iterand.live")
OTHERS = ("iterand.hf", "iterand.grain", "iterand.ray")  # which need packages of other projects
SOURCES = sorted((REPOSITORY / "clients/python/src/iterand").glob("*.py"))


def aliases() -> dict[str, str]:
    """The texts after assignments at the top of the package's modules, which document public aliases of types."""
    found = {}
    for path in SOURCES:
        for one, after in itertools.pairwise(ast.parse(path.read_text()).body):
            target = one.targets[0] if isinstance(one, ast.Assign) else getattr(one, "target", None)
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                found[target.id] = inspect.cleandoc(str(text.value))
    return found


def text_of(module: str, name: str) -> str:
    """The documentation of a public name."""
    value = getattr(importlib.import_module(module), name)
    own = isinstance(value, type) or inspect.isfunction(value)
    return aliases().get(name) or (inspect.getdoc(value) if own else None) or ""


def exported(module: str) -> list[str]:
    """`__all__`, which is read without importing what a module needs."""
    path = REPOSITORY / "clients/python/src" / Path(*module.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    lists = [one.value for one in tree.body if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "__all__"]
    assert len(lists) == 1, f"{module} has no __all__"
    names: list[str] = ast.literal_eval(lists[0])
    return names


PUBLIC = [(module, name) for module in MODULES for name in exported(module)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the files that examples name."""
    (tmp_path / "tokens.txt").write_text("a-secret-of-32-characters-or-so--\n")
    (tmp_path / "tokens.txt").chmod(0o600)
    (tmp_path / "mine.json").write_text('{"families": [{"markov": {}}]}')
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=noise -keyout key.pem -out ca.pem"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ITERAND_SERVER", raising=False)
    return tmp_path


def run_example(module: str, name: str) -> None:
    test = doctest.DocTestParser().get_doctest(
        text_of(module, name), {"iterand": iterand, "np": np}, f"{module}.{name}", None, 0
    )
    assert test.examples, f"{module}.{name} has no example"
    output: list[str] = []
    handler = signal.getsignal(signal.SIGTERM)  # which iterand.live.main replaces
    try:
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=output.append)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert result.failed == 0, "".join(output)


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_every_public_name_has_an_example_that_runs(module: str, name: str, folder: Path) -> None:
    run_example(module, name)


@pytest.mark.integrations
@pytest.mark.parametrize(("module", "name"), [(module, name) for module in OTHERS for name in exported(module)])
def test_adapters_have_examples_that_run(module: str, name: str, folder: Path) -> None:
    package = pytest.importorskip({"hf": "datasets"}.get(module.split(".")[1], module.split(".")[1]))
    if module != "iterand.ray":
        return run_example(module, name)
    ray_cluster.start(num_cpus=2)
    try:
        run_example(module, name)
    finally:
        package.shutdown()


def test_public_modules_export_all_that_they_define() -> None:
    """Classes of `client` and `errors` are names of the package, which have examples."""
    for module in (iterand.client, iterand.errors):
        defined = [
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
        ]
        assert set(defined) <= set(iterand.__all__), module.__name__


def test_every_method_is_in_an_example() -> None:
    """Public methods and properties of public classes occur in a docstring's example, a page or an example program."""
    doctests = "\n".join(
        line for path in SOURCES for line in path.read_text().splitlines() if ">>>" in line or "..." in line
    )
    pages = [REPOSITORY / "README.md", *REPOSITORY.glob("docs/**/*.md"), REPOSITORY / "clients/python/README.md"]
    blocks = [block for page in pages for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S)]
    programs = [path.read_text() for path in (REPOSITORY / "clients/python/examples").glob("*.py")]
    shown = "\n".join([doctests, *blocks, *programs])
    missing = [
        f"{name}.{member}"
        for module, name in PUBLIC
        if isinstance(value := getattr(importlib.import_module(module), name), type)
        for member, found in vars(value).items()
        if not member.startswith("_")
        and (inspect.isfunction(found) or isinstance(found, property))
        and not re.search(rf"\.{member}\b", shown)
    ]
    assert missing == []


def schema_examples() -> list[tuple[str, str]]:
    """The call and the line of each example in the schema of the service."""
    text = (REPOSITORY / "proto/iterand/v1/noise_service.proto").read_text()
    service = text[text.index("service NoiseService {") : text.index("enum Dtype")]
    return [
        (call, line.split("  #")[0].strip())
        for comment, call in re.findall(r"((?:  //.*\n)+)  rpc (\w+)\(", service)
        for line in re.findall(r"^  //     (.+)$", comment, re.M)
    ]


def test_every_call_of_the_schema_has_examples() -> None:
    text = (REPOSITORY / "proto/iterand/v1/noise_service.proto").read_text()
    assert {call for call, _ in schema_examples()} == set(re.findall(r"^  rpc (\w+)\(", text, re.M))


@pytest.mark.parametrize(("call", "line"), schema_examples())
def test_examples_of_the_schema_run(call: str, line: str, address: str) -> None:
    line = line.replace("localhost:50051", address)
    if line.startswith("iterand "):
        subprocess.run([binary(), *shlex.split(line)[1:]], check=True, capture_output=True)
    else:
        found = eval(line, {"iterand": iterand})
        if isinstance(found, iterand.Stream):
            assert next(found).shape == (64, 512)
            found.close()


def public_names(header: str) -> set[str]:
    """What a C++ header declares for its users: types, enumerators, functions, methods, and fields of structs."""
    text = re.sub(r"//.*", "", header)
    names: set[str] = set()
    for private in re.findall(r"\n private:.*?\n\};", text, re.S):
        text = text.replace(private, "\n};")
    names.update(re.findall(r"^ *(?:class|struct|enum class) (\w+)[^;\n]*\{", text, re.M))
    names.update(re.findall(r"^using (\w+) =", text, re.M))
    names.update(re.findall(r"\b(k[A-Z]\w+)(?= = \d|,)", text))
    names.update(
        re.findall(
            r"^ *(?:\[\[nodiscard\]\] )?(?:static |constexpr )*[\w:<>,\s&*]+?[ &*>](\w+)\([^;{]*[;{]", text, re.M
        )
    )
    names.update(re.findall(r"^  (?!return|using|friend)[\w:<>,*& ()]+? (\w+)(?: =[^;=]*|\{\d+\})?;", text, re.M))
    return names - {"break", "noexcept"}


def test_every_public_name_of_cpp_is_in_an_example() -> None:
    """The program clients/cpp/examples/every_call.cc, which tests/clients/consumer_test.cc builds and runs."""
    headers = [path for path in REPOSITORY.glob("*/**/include/iterand/*.h") if "build" not in path.parts]
    assert len(headers) >= 6
    names = set().union(*(public_names(path.read_text()) for path in headers))
    assert {"LocalStream", "ConnectToAny", "kStepLimit", "DtypeName", "keepalive_time", "next_index"} <= names
    text = (REPOSITORY / "clients/cpp/examples/every_call.cc").read_text()
    assert sorted(name for name in names if not re.search(rf"\b{name}\b", text)) == []


def options_of(command: str) -> set[str]:
    usage = subprocess.run([binary(), *command.split(), "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^  (--[\w-]+)", usage, re.M))


def test_every_option_is_in_an_example() -> None:
    """docs/commands.md, which test_docs.py runs. The options of a connection are the same for all commands."""
    usage = subprocess.run([binary(), "--help"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^  (\w+) ", usage.split("Subcommands:")[1], re.M)
    page = (REPOSITORY / "docs/commands.md").read_text().replace("\\\n", " ")
    lines = "\n".join(re.findall(r"^```\n(.*?)^```", page, re.M | re.S)).splitlines()
    connection = options_of("presets") - {"--json"}
    missing = []
    for command in commands:
        used = " ".join(line for line in lines if re.search(rf"\biterand {command}\b", line)).split()
        assert used, f"no example of {command}"
        shared = connection if command != "serve" else set()
        missing += [f"{command} {option}" for option in sorted(options_of(command) - shared) if option not in used]
    everything = " ".join(lines).split()
    missing += [option for option in sorted(connection) if option not in everything]
    assert missing == []
