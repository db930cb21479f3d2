"""The programs that a user starts: the live view and the pretraining example."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Server
from terminal import in_terminal

pytest.importorskip("torch")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "pretrain.py"
SUMMARY = re.compile(r"^3 batches, 192 sequences, 12288 tokens, (\d+) tokens/s$")
ANY_SUMMARY = re.compile(r"\d+ batches, \d+ sequences, \d+ tokens, \d+ tokens/s")
LIVE = [sys.executable, "-m", "iterand.live", "--length", "64", "--server"]


def test_live_prints_plain_lines_into_a_pipe(address: str) -> None:
    done = subprocess.run([*LIVE, address, "--batches", "3"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert SUMMARY.match(lines[-1])
    assert lines[0].startswith("sequence 0: ")
    assert "\x1b" not in done.stdout


def test_live_draws_in_a_terminal(address: str) -> None:
    status, output = in_terminal([*LIVE, address, "--batches", "3"])
    assert status == 0
    assert "▀" in output
    assert "batch 3 of 3" in output
    assert SUMMARY.match(output.splitlines()[-1].removeprefix("\x1b[?25h"))


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "vt100"}, {"PYTHONIOENCODING": "ascii"}])
def test_live_draws_characters_without_colours(address: str, variables: dict[str, str]) -> None:
    status, output = in_terminal([*LIVE, address, "--batches", "3", "--recipe", "markov"], variables=variables)
    assert status == 0
    assert "▀" not in output
    assert "batch 3 of 3" in output
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    pictures = {line.strip(" │|") for line in plain.splitlines() if re.fullmatch(r"[│|] [.a-zA-Z0-9#]{64} +[│|]", line)}
    assert len(pictures) > 3  # of different sequences
    assert all("." in picture for picture in pictures)
    if "NO_COLOR" in variables:
        assert not re.search(r"\x1b\[[0-9;]*[34]8;", output)  # neither colours of letters nor of their ground


def test_live_writes_plain_lines_where_the_cursor_cannot_move(address: str) -> None:
    status, output = in_terminal([*LIVE, address, "--batches", "3"], variables={"TERM": "dumb"})
    assert status == 0
    assert "\x1b" not in output
    assert output.startswith("sequence 0: ")


def test_live_saves_colours_whatever_the_terminal_has(address: str, tmp_path: Path) -> None:
    picture = tmp_path / "stream.svg"
    command = [*LIVE, address, "--batches", "1", "--svg", str(picture)]
    done = subprocess.run(command, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "▀" in picture.read_text()


# Ctrl-C comes at each step of the thread that draws, after the first picture, in what finds the programs.
AT_EACH_STEP = """
import sys, threading
from rich.live import Live
from iterand import live

update, left = Live.update, 0

def step(frame, event, argument):
    global left
    if event in ("call", "return") and isinstance(frame.f_locals.get("self"), (live._Programs, threading.Condition)):
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

def shown(*arguments, **named):
    update(*arguments, **named)
    if left > 0:
        sys.setprofile(step)

Live.update = shown
for place in range(1, 13):
    left = place
    status = live.main(["--length", "64", "--server", sys.argv[1]])
    assert (status, left) == (0, 0), (place, status, left)
"""


def test_live_ends_at_an_interrupt_at_any_step_of_finding_programs(address: str) -> None:
    status, output = in_terminal([sys.executable, "-c", AT_EACH_STEP, address], seconds=60)
    assert status == 0, output[-2000:]
    assert len(ANY_SUMMARY.findall(output)) == 12


def test_live_ends_at_interrupt(address: str) -> None:
    status, output = in_terminal([*LIVE, address], interrupt=True)
    assert status == 0
    assert "Traceback" not in output
    assert output.rstrip().endswith("tokens/s")
    assert "\x1b[?25h" in output  # the cursor is back


def test_live_ends_at_sigterm(address: str) -> None:
    with subprocess.Popen([*LIVE, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, problems = process.communicate(timeout=30)
    assert (process.returncode, problems) == (0, "")


def test_live_says_what_is_wrong(address: str) -> None:
    for arguments, message in (
        (["--recipe", "no-such-preset"], "no-such-preset"),
        (["--tls-root", "ca.pem"], "(--tls-root is now --ca-file)"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate\n"),
        (["--tls-cert", "client.pem"], "both --tls-cert and --tls-key"),
        (["--connect-timeout", "-1"], "connect_timeout of Retry is -1.0"),
    ):
        done = subprocess.run([*LIVE, address, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_live_looks_at_its_files_first(tmp_path: Path) -> None:
    nobody = "127.0.0.1:1"
    for option, name in (("--svg", "--svg"), ("--token-file", "token file"), ("--ca-file", "TLS file")):
        command = [*LIVE, nobody, option, str(tmp_path / "nowhere" / "file")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert f"{name} {tmp_path}/nowhere/file" in done.stderr


def test_live_without_rich_draws_no_picture(address: str, tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise ImportError\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [*LIVE, address, "--batches", "1", "--svg", str(tmp_path / "stream.svg")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install '.[live]'" in done.stderr


def test_live_with_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("# Rotated in May.\n\nsecret\nolder secret\n")
    token.chmod(0o644)
    locked = Server("--token-file", str(token))
    try:
        command = [*LIVE, locked.address, "--batches", "3"]
        assert subprocess.run(command, capture_output=True, timeout=60).returncode == 1
        done = subprocess.run([*command, "--token-file", str(token)], capture_output=True, text=True, timeout=60)
        assert SUMMARY.match(done.stdout.splitlines()[-1])
        assert f"every user of this machine may read the secret in {token} (mode 0644): chmod o-r" in done.stderr
    finally:
        locked.stop()


def test_pretrain_looks_at_its_files_first(tmp_path: Path) -> None:
    for option, message in (("--save", "its folder does not exist"), ("--resume", "no such file")):
        command = [sys.executable, str(EXAMPLE), "--server", "127.0.0.1:1", option, str(tmp_path / "nowhere" / "m.pt")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert message in done.stderr


def test_live_writes_a_picture(address: str, tmp_path: Path) -> None:
    picture = tmp_path / "stream.svg"
    subprocess.run([*LIVE, address, "--batches", "1", "--svg", str(picture)], check=True, capture_output=True)
    assert picture.read_text().startswith("<svg")


@pytest.fixture
def pretrain(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[float]]:
    """Runs the example, in this process, and returns the losses that it prints."""
    small = ["--batch-size=16", "--length=64", "--width=32", "--depth=1", "--heads=2", "--log-every=5", "--warmup=5"]

    def run(*options: str) -> list[float]:
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--server", address, *small, *options])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        printed = capsys.readouterr().out
        assert "waiting for data" in printed
        return [float(found) for found in re.findall(r"loss ([\d.]+) bits", printed)]

    return run


def test_example_learns_from_structure_and_not_from_noise(pretrain: Callable[..., list[float]]) -> None:
    losses = pretrain("--recipe", "lstm", "--steps", "60", "--learning-rate", "0.01")
    assert losses[0] > 7.5
    assert losses[-1] < losses[0] - 0.3
    assert min(pretrain("--recipe", "uniform", "--steps", "10")) > 7.95


def test_example_resumes(pretrain: Callable[..., list[float]], tmp_path: Path) -> None:
    file = str(tmp_path / "model.pt")
    assert len(pretrain("--steps", "20", "--workers", "2")) == 4
    pretrain("--steps", "10", "--save", file)
    assert len(pretrain("--steps", "20", "--resume", file)) == 2
