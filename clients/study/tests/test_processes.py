"""Several runs of a sweep at a time (`--jobs`)."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from study_helpers import small, with_text

from iterand_study import config, files, finetune, record, sweep
from iterand_study.model import Transformer
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


def test_other_starts_come_first_while_another_process_trains_from_scratch(address: str, tmp_path: Path) -> None:
    text, weights, scratch, out = (tmp_path / name for name in ("text", "model.pt", "scratch", "out"))
    text.write_bytes(b"ababab " * 1000)
    files.save_model(weights, Transformer(small(), 1))
    each = with_text(address, text)
    stage = dataclasses.replace(each.finetune[0], starts=["scratch", "pretrained"])
    with ThreadPoolExecutor(1) as pool:
        with files.lock(scratch):
            running = pool.submit(finetune.run, each, stage, weights, out, None, scratch)
            wait_for((out / "finetune-own" / "pretrained-0.01.json").exists)
            assert not scratch.exists()
        found = running.result()
    assert list(found["starts"]) == ["scratch", "pretrained"]
    alone = finetune.run(each, stage, weights, tmp_path / "alone", None)
    assert without_times(found) == without_times(alone)


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


def without_times(found: dict[str, Any]) -> Any:
    """A record without seconds."""
    return json.loads(
        json.dumps(found), object_hook=lambda item: {key: item[key] for key in item if "seconds" not in key}
    )


def test_a_run_begins_after_the_one_whose_weights_it_takes(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of the two trains would otherwise depend on which process is faster, and so would what is measured."""
    text = tmp_path / "text"
    text.write_bytes(b"ababab " * 1000)
    variants: dict[str, Any] = {
        "first": {"pretrain": {"recipe": "up-statistics"}},
        "other": {"pretrain": {"recipe": "uniform"}},
        "same": {"pretrain": {"recipe": "up-statistics"}, "evaluation": {"sets": ["rep-5"]}},
        "same again": {"pretrain": {"recipe": "up-statistics"}, "evaluation": {"sets": ["rep-5"]}},
        "further": {"pretrain": {"recipe": "uniform", "start": "first"}},
    }
    events: list[str] = []

    class Watched(Processes):
        def submit(self, function: Any, *arguments: Any) -> None:
            events.append(function.__self__.study.name)
            super().submit(function, *arguments)

        def wait(self) -> None:
            events.append("wait")
            super().wait()

    monkeypatch.setattr(sweep, "Processes", Watched)
    sweep.run(with_text(address, text, variants=variants, seeds=[0]), address, tmp_path / "out")
    names = [event.removesuffix("/seed-0") for event in events]
    assert names == ["first", "other", "wait", "same", "wait", "same again", "wait", "further", "wait"]


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
    assert without_times(record.from_folder(tmp_path / "two")) == without_times(record.from_folder(tmp_path / "one"))
    steps = [line for line in together.splitlines() if ": step " in line]
    assert len(steps) == sum(": step " in line for line in alone.splitlines())
    sweep.run(study, address, tmp_path / "two", jobs=2)
    assert ": step " not in capfd.readouterr().out
