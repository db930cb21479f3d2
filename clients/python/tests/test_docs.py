"""The commands and programs of README.md and of the pages in docs/, run as they are printed.

A page becomes one shell script. Code blocks without a language are commands and stay as they are. A block of Python
runs in a process of its own, after the lines of FRAGMENTS if the page prints parts of a program. A block after a line
that ends with `NAME.EXT`: becomes that file. Four things differ from what a reader does: the ports, which may be taken
here; commands of DONE_BEFORE, which are left out; hosts that do not exist; and that servers are stopped at the end.

Not run here:
- cpp.md: tests/clients/consumer_test.cc builds and runs its example.
- server.md: its servers are in the foreground, on all networks. test_access.py and tests/clients have the same.
- frameworks.md: test_grain.py, test_ray.py and test_frameworks.py need its packages.
- What other pages print as figures of a command.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from server_program import REPOSITORY, binary

import iterand

PAGES = ["README.md", "docs/quickstart.md", "docs/which-preset.md", "docs/commands.md"]
PORTS = ("50051", "50052")
# Begins of lines that install, build or test everything, or take hours.
DONE_BEFORE = ("./run", "./check", "tools/wheel", "pip install", "sudo apt-get install", "iterand-study sweep")
# Pages whose programs are parts of a longer one, with what comes before them.
FRAGMENTS = {
    "docs/long-runs.md": """
import os, torch, iterand
from iterand.torch import StreamDataset, StreamLoader
model = torch.nn.Embedding(256, 8)
loader = StreamLoader(StreamDataset("up", length=64, batch_size=8))
if not os.path.exists("checkpoint.pt"):
    next(iter(loader))
""",
    "docs/pretrain-then-finetune.md": """
import iterand
from iterand.torch import StreamDataset, StreamLoader
loader = StreamLoader(StreamDataset("tasks", length=64, batch_size=8, count=16, loss_mask=True))
real = [[0] * 512] * 1000
""",
    "clients/python/README.md": """
import iterand
from iterand.torch import StreamDataset, StreamLoader
rank, world_size = 1, 2
""",
}
PAGES += FRAGMENTS  # its keys


class Block(NamedTuple):
    line: int  # of the opening fence
    language: str
    file: str | None  # that the text before the block names
    text: str


def blocks(page: str) -> Iterator[Block]:
    """The fenced code blocks of a page."""
    lines = (REPOSITORY / page).read_text().splitlines()
    opened, before = None, ""
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            if opened is None:
                opened = number
            else:
                named = re.search(r"`([\w.-]+\.\w+)`:$", before)
                text = "\n".join(lines[opened : number - 1])
                yield Block(opened, lines[opened - 1][3:], named and named.group(1), text)
                opened, before = None, ""
        elif opened is None and line:
            before = line
    assert opened is None, f"{page}:{opened}: the code block has no end"


def write_file(name: str, text: str) -> str:
    return f"cat > {shlex.quote(name)} << 'END_OF_FILE'\n{text}\nEND_OF_FILE"


def commands(text: str) -> str:
    """A block of commands. A server in the background is waited for."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if not line.startswith(DONE_BEFORE)]
    return "\n".join(
        f"{line}\nwait_for_port {server[1]}" if (server := re.match(r"iterand serve .*?:(\d+)\b.*&$", line)) else line
        for line in lines
    )


def script(page: str) -> str:
    """The whole page. It stops at the first failure, after the line of the block in which that is."""
    parts = [
        "set -euo pipefail",
        "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT",
        "wait_for_port() { for i in $(seq 300); do (: < /dev/tcp/127.0.0.1/$1) 2> /dev/null && return;",
        "sleep 0.1; done; echo no server >&2; return 1; }",
    ]
    before = FRAGMENTS.get(page)
    if before is not None and "server=" in (REPOSITORY / page).read_text():
        parts.append(commands(f"iterand serve --listen 127.0.0.1:{PORTS[0]} &"))
    for block in blocks(page):
        parts.append(f"echo '== {page}:{block.line}' >&2")
        if block.file is not None:
            parts.append(write_file(block.file, block.text))
        elif block.language == "python":
            program = (before or "") + block.text
            parts += [write_file(f"block-{block.line}.py", program), f"python block-{block.line}.py"]
        elif block.language != "json":  # see test_json_of_pages_is_valid
            assert block.language == "", f"{page}:{block.line}: no way to run {block.language}"
            parts.append(commands(block.text))
    text = "\n".join(parts)
    for port in PORTS:
        text = text.replace(port, str(free_port()))
    return text


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def clone(folder: Path) -> None:
    """What a clone has at the places that the pages name, after ./run: the program, the environment, the sources."""
    for name, target in {
        "build/release/clients/cli/iterand": Path(binary()),
        ".venv": Path(sys.prefix),
        "clients": REPOSITORY / "clients",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page_runs_as_printed(page: str, tmp_path: Path) -> None:
    clone(tmp_path)
    (tmp_path / "page.sh").write_text(script(page))
    environment = os.environ | {"PYTHONWARNINGS": "error::SyntaxWarning"}
    # Later pages assume the first lines of the quickstart.
    environment["PATH"] = f"{tmp_path}/build/release/clients/cli:{tmp_path}/.venv/bin:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "page.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    assert f"== {page}" in done.stderr


def test_a_failure_in_a_page_is_seen() -> None:
    """The script of a page ends at the first command or program that fails."""
    for text in ("false\necho after", "false | cat\necho after"):
        done = subprocess.run(["bash", "-c", f"set -euo pipefail\n{commands(text)}"], capture_output=True, check=False)
        assert done.returncode != 0
        assert done.stdout == b""


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_not_run_exist(page: str) -> None:
    """Those that install or build are programs of the repository, or of the system."""
    skipped = [line for block in blocks(page) for line in block.text.splitlines() if line.startswith(DONE_BEFORE)]
    for line in skipped:
        words = line.split("#")[0].split()
        if words[0] in ("pip", "sudo"):
            continue
        command = (
            [Path(sys.prefix) / "bin/iterand-study", "sweep"]
            if words[0] == "iterand-study"
            else [REPOSITORY / words[0]]
        )
        usage = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
        assert all(word in usage for word in words[1:] if word.startswith("-")), line


def json_blocks() -> list[tuple[str, Block]]:
    pages = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/**/*.md"))]
    names = [str(page.relative_to(REPOSITORY)) for page in pages]
    return [(name, block) for name in names for block in blocks(name) if block.language == "json"]


@pytest.mark.parametrize(("page", "block"), [pytest.param(*one, id=f"{one[0]}:{one[1].line}") for one in json_blocks()])
def test_json_of_pages_is_valid(page: str, block: Block) -> None:
    """Recipes resolve; a state has the keys of a real one."""
    found = json.loads(block.text)
    if "fingerprint" in found:
        assert found.keys() == iterand.stream("up").state_dict().keys()
    else:
        described = iterand.describe(found)
        assert described.stream is not None


@pytest.mark.slow
def test_the_part_of_a_program_in_cpp_compiles(tmp_path: Path) -> None:
    """That of docs/cpp.md."""
    found = [block.text for block in blocks("docs/cpp.md") if block.language == "cpp"]
    assert len(found) == 1
    includes, _, body = found[0].partition("\n\n")
    source = tmp_path / "part.cc"
    source.write_text(f"#include <vector>\n{includes}\nabsl::Status Run() {{\n{body}\nreturn status;\n}}\n")
    folders = ("iterate/include", "common/include", "common/rpc/include", "clients/cpp/include")
    compiler = ["c++", "-std=c++20", "-fsyntax-only", *(f"-I{REPOSITORY / folder}" for folder in folders)]
    done = subprocess.run([*compiler, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 90


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("limits.md", None),
        ("../LICENSE", None),
        ("server.md#tls-and-tokens", None),
        ("#install", None),
        ("https://example.org/gone", None),
        ("GONE_NAME.md", "there is no docs/GONE_NAME.md"),
        ("../../outside.md", "there is no ../outside.md"),
        ("server.md#gone", "docs/server.md has no heading for #gone"),
    ],
)
def test_links_are_checked(target: str, found: str | None) -> None:
    """tools/links accepts what exists and says what does not."""
    loader = importlib.machinery.SourceFileLoader("links", str(REPOSITORY / "tools/links"))
    specification = importlib.util.spec_from_loader("links", loader)
    assert specification is not None
    links = importlib.util.module_from_spec(specification)
    loader.exec_module(links)
    assert links.fault("docs/quickstart.md", target) == found
