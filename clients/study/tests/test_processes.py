"""Several runs of a sweep at a time (`--jobs`)."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from study_helpers import with_text

from iterand_study import config, files, record, sweep
from iterand_study.processes import Processes


def write_later(file: str, text: str) -> None:
    time.sleep(0.2)
    Path(file).write_text(text)


def fail(number: int) -> None:
    raise config.ConfigError(f"call {number} is wrong")


def sleep_long(started: str) -> None:
    Path(started).write_text(str(os.getpid()))
    time.sleep(600)


def leave(status: int) -> None:
    os._exit(status)


def hold(path: str, log: str) -> None:
    """Writes `in` and `out` into a file, with a lock between."""
    with files.lock(Path(path)), Path(log).open("a") as file:
        print("in", file=file, flush=True)
        time.sleep(0.2)
        print("out", file=file, flush=True)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_calls_end_before_the_context_does(tmp_path: Path) -> None:
    with Processes(2) as processes:
        for number in range(3):
            processes.submit(write_later, str(tmp_path / str(number)), str(number))
        processes.wait()
        assert len(list(tmp_path.iterdir())) == 3
        processes.submit(write_later, str(tmp_path / "last"), "last")
    assert (tmp_path / "last").read_text() == "last"


def test_an_error_of_a_call_ends_the_others(tmp_path: Path) -> None:
    started = tmp_path / "started"
    with pytest.raises(config.ConfigError, match="call 7 is wrong"), Processes(2) as processes:
        processes.submit(sleep_long, str(started))
        wait_for(started.exists)
        processes.submit(fail, 7)
    assert not is_alive(int(started.read_text()))


def test_a_worker_that_ends_by_itself_is_an_error() -> None:
    with pytest.raises(ChildProcessError, match="a process of --jobs ended by itself"), Processes(2) as processes:
        processes.submit(leave, 9)


def test_a_lock_keeps_other_processes_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Processes(2) as processes:
        for _ in range(2):
            processes.submit(hold, str(tmp_path / "held"), str(log))
    assert log.read_text().split() == ["in", "out"] * 2


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(how: signal.Signals, tmp_path: Path) -> None:
    """The parent ends its workers when it is interrupted; they end by themselves when it is killed."""
    started = tmp_path / "started"
    program = tmp_path / "program.py"
    program.write_text(
        "import os, time\n"
        "from pathlib import Path\n"
        "from iterand_study.processes import Processes\n"
        f"{inspect.getsource(sleep_long)}\n"
        "if __name__ == '__main__':\n"
        "    with Processes(2) as processes:\n"
        f"        processes.submit(sleep_long, {str(started)!r})\n"
    )
    with subprocess.Popen([sys.executable, str(program)], stderr=subprocess.DEVNULL) as parent:
        wait_for(lambda: started.exists() and started.read_text() != "")
        parent.send_signal(how)
        assert parent.wait(60) != 0
    wait_for(lambda: not is_alive(int(started.read_text())))


def assert_alike(found: Any, other: Any) -> None:
    """Equal but for seconds, and for the rounding of sums, which may depend on where arrays lie in memory."""
    if isinstance(found, dict):
        assert found.keys() == other.keys()
        for key in found:
            if "seconds" not in key:
                assert_alike(found[key], other[key])
    elif isinstance(found, list):
        assert len(found) == len(other)
        for one, two in zip(found, other, strict=True):
            assert_alike(one, two)
    elif isinstance(found, float):
        assert found == pytest.approx(other, rel=0.02, abs=0.02)
    else:
        assert found == other


def test_results_do_not_depend_on_the_number_of_processes(
    address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"ababab " * 1000)
    variants = {
        "first": {"pretrain": {"recipe": "up-statistics"}},
        "same": {"pretrain": {"recipe": "up-statistics"}, "evaluation": {"sets": ["rep-5"]}},
        "other": {"pretrain": {"recipe": "uniform"}},
        "further": {"pretrain": {"recipe": "uniform", "start": "first"}},
    }
    study = with_text(address, text, variants=variants, seeds=[0, 1])
    sweep.run(study, address, tmp_path / "one")
    alone = capfd.readouterr().out
    sweep.run(study, address, tmp_path / "two", jobs=2)
    together = capfd.readouterr().out
    found, other = (record.from_folder(tmp_path / name) for name in ("two", "one"))
    assert_alike({key: found[key] for key in ("runs", "baselines")}, {key: other[key] for key in ("runs", "baselines")})
    finals = [
        [(each["variant"], each["seed"], each["start"]) for each in every["finetuning"]] for every in (found, other)
    ]
    assert finals[0] == finals[1]
    steps = [line for line in together.splitlines() if ": step " in line]
    assert len(steps) == sum(": step " in line for line in alone.splitlines())
    sweep.run(study, address, tmp_path / "two", jobs=2)
    assert ": step " not in capfd.readouterr().out
