"""A server that Python starts and stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server_program import binary

import iterand
from iterand._server import Server, ServerProcess


def gone(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_listens_once_it_is_made_and_ends_with_its_block(tmp_path: Path) -> None:
    with ServerProcess(binary(), "--threads", "1") as first, ServerProcess(binary()) as second:
        assert first.address != second.address
        for server in (first, second):
            assert iterand.describe(server=server.address).engine_version >= 1
    assert first.process.returncode == second.process.returncode == 0
    with ServerProcess(binary(), listen=f"unix:{tmp_path}/socket") as third:
        assert third.address == f"unix:{tmp_path}/socket"
    assert third.stop() == 0  # stopped already


def script(folder: Path, text: str) -> Path:
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


def test_a_program_that_ends_is_reported(tmp_path: Path) -> None:
    with pytest.raises(iterand.Error, match="program serve ended at once, with exit status 3"):
        ServerProcess(script(tmp_path, "exit 3"))
    with pytest.raises(iterand.Error, match="ended at once, with exit status"):
        ServerProcess(binary(), "--no-such-option", stderr=-3)
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        ServerProcess(tmp_path / "no-such-program")


def test_a_program_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    """An address file that is still empty is not an address."""
    number = tmp_path / "number"
    program = script(tmp_path, f'trap "" TERM; : > "$5"; echo $$ > {number}; exec sleep 60')
    with pytest.raises(iterand.Error, match=r"serve did not listen within 1 seconds"):
        ServerProcess(program, timeout=1)
    assert gone(int(number.read_text()))


def test_a_program_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    program = script(tmp_path, 'trap "" TERM; echo 127.0.0.1:1 > "$5"; while :; do sleep 0.1; done')
    server = ServerProcess(program)
    assert server.address == "127.0.0.1:1"
    assert server.stop(timeout=0.5) == -9
    assert gone(server.process.pid)


@pytest.fixture(autouse=True)
def own_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITERAND_BINARY", binary())


def test_a_server_is_shared_by_its_address_and_ends_with_its_block() -> None:
    with Server(threads=1) as server:
        assert repr(server) == f"<Server at {server.address}>"
        with iterand.stream("uniform", length=32, batch_size=4, count=8, server=server) as stream:
            assert [batch.shape for batch in stream] == [(4, 32)] * 2
        address = server.address
    with pytest.raises(iterand.Error, match="was stopped"):
        _ = server.address
    with pytest.raises(iterand.Unavailable):
        iterand.describe(server=address, retry=iterand.Retry(attempts=0, connect_timeout=0.1))
    server.stop()  # does nothing


def test_a_server_on_a_socket_of_its_own_leaves_nothing_behind() -> None:
    with Server(listen="unix:", options=["--log-level", "error"]) as server:
        folder = Path(server.address.removeprefix("unix:")).parent
        assert folder.stat().st_mode & 0o077 == 0
        assert iterand.read("uniform", range(3), length=32, server=server).shape == (3, 32)
    assert not folder.exists()


def test_stopping_does_not_wait_for_streams() -> None:
    server = Server()
    stream = iterand.stream("uniform", length=32, server=server, retry=iterand.Retry(attempts=0, connect_timeout=0.1))
    next(stream)
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < 10
    with pytest.raises(iterand.Unavailable):
        for _ in stream:
            pass


def test_wrong_arguments_of_a_server_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(iterand.InvalidArgument, match="threads is 0"):
        Server(threads=0)
    with pytest.raises(iterand.InvalidArgument, match="listen is 5"):
        Server(listen=5)  # type: ignore[arg-type]
    monkeypatch.setenv("ITERAND_BINARY", "/no/such/program")
    with pytest.raises(FileNotFoundError, match="/no/such/program"):
        Server()


@pytest.mark.parametrize("ends", ["pass", "raise SystemExit(3)", "raise ValueError", "os.kill(os.getpid(), 9)"])
def test_a_server_ends_with_its_process_however_that_ends(ends: str) -> None:
    code = f"import os, iterand; server = iterand.Server(); print(server._running.process.pid, flush=True); {ends}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    number = int(done.stdout)
    end = time.monotonic() + 20
    while not gone(number) and time.monotonic() < end:
        time.sleep(0.05)
    assert gone(number)


def test_a_forked_process_does_not_stop_the_server() -> None:
    with Server() as server:
        child = os.fork()
        if child == 0:
            server.stop()
            os._exit(0)
        os.waitpid(child, 0)
        assert iterand.describe(server=server).engine_version >= 1


def test_twenty_servers_are_killed_and_started_again_at_once(tmp_path: Path) -> None:
    """What a killed server leaves behind does not stop the next one on the same socket."""
    for _ in range(20):
        server = Server(listen=f"unix:{tmp_path}/socket")
        assert server._running is not None
        server._running.process.send_signal(signal.SIGKILL)
        server._running.process.wait()
    with Server(listen=f"unix:{tmp_path}/socket") as server:
        assert iterand.describe(server=server).engine_version >= 1
